from datetime import timedelta

import lightgbm as lgb
import numpy as np
import polars as pl
import pytest

from features.gas import TARGET_FEATURES
from lake.errors import ModelError, NotEnoughData
from lake.store import Lake
from models.base import GAS_HORIZONS_H, GAS_MIN_HORIZONS_H, label
from models.config import ModelConfig
from models.evaluation.labels import hide_unknown
from models.forecast_schema import QUANTILE_COLUMNS
from models.gas.baselines import gas_baselines
from models.gas.family import NOW, SEASON, GasFamily, GasModel, block, generic_features
from tests.models.market import START, fill, gas_rows

CFG = ModelConfig(("ETH", "BTC"), rounds=20)
END = START + timedelta(days=60)


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Lake:
    return fill(Lake(str(tmp_path_factory.mktemp("gas"))), 60)


@pytest.fixture(scope="module")
def panel(market) -> pl.DataFrame:
    return GasFamily().build(market, CFG, START, END)


@pytest.fixture(scope="module")
def model(panel) -> GasModel:
    cut = START + timedelta(days=45)
    return GasFamily().fit(hide_unknown(panel.filter(pl.col("ts") < cut), cut), CFG)


def brute(values: dict, ts, hours):
    found = [values.get(ts + timedelta(hours=k)) for k in hours]
    return None if any(v is None for v in found) else found


def test_labels_are_the_price_and_the_minimum_ahead(market, panel):
    known = dict(market.scan("gas").select("available_at", "base_fee_gwei").collect().iter_rows())
    for row in panel.sample(40, seed=1).iter_rows(named=True):
        assert row[NOW] == pytest.approx(known[row["ts"]])
        for h in GAS_HORIZONS_H:
            assert row[label("gas", 3600 * h)] == known.get(row["ts"] + timedelta(hours=h))
        for h in GAS_MIN_HORIZONS_H:
            ahead = brute(known, row["ts"], range(1, h + 1))
            assert row[label("gas_min", 3600 * h)] == (None if ahead is None else min(ahead))


def test_labels_over_holes_are_null_and_short_holes_are_carried(tmp_path):
    lake = Lake(str(tmp_path))
    hole = [START + timedelta(days=40, hours=h) for h in range(9)]
    rows = gas_rows(60).filter(~pl.col("available_at").is_in(hole))
    lake.write("gas", rows)
    panel = GasFamily().build(lake, CFG, START, END)
    here = {r["ts"]: r for r in panel.iter_rows(named=True)}
    assert all(hole[k] in here for k in range(6))  # carried
    assert all(hole[k] not in here for k in range(6, 9))  # too old
    assert here[hole[5]][NOW] == here[hole[0] - timedelta(hours=1)][NOW]
    before = here[hole[0] - timedelta(hours=2)]
    assert before[label("gas", 3600)] is not None
    assert before[label("gas", 2 * 3600)] is None
    assert before[label("gas_min", 4 * 3600)] is None


def test_a_single_decision_time_has_the_features_of_the_whole_history(market, panel):
    at = START + timedelta(days=50, hours=7)
    one = GasFamily().build(market, CFG, at, at + timedelta(hours=1))
    assert one.height == 1
    features = [
        *generic_features(panel)[: -len(TARGET_FEATURES)],
        *(c for c in panel.columns if c.startswith("t48_")),
        NOW,
        SEASON,
    ]
    a = panel.filter(pl.col("ts") == at).select(features).to_numpy()[0].astype(float)
    np.testing.assert_allclose(one.select(features).to_numpy()[0].astype(float), a, atol=1e-9, equal_nan=True)


def test_features_do_not_change_when_the_future_does(tmp_path, market, panel):
    cut = START + timedelta(days=40)
    other = Lake(str(tmp_path))
    for name, column in (("gas", "base_fee_gwei"), ("prices", "volume")):
        rows = market.scan(name).collect()
        late = pl.col("available_at") > cut
        other.write(
            name, rows.with_columns(pl.when(late).then(pl.col(column) * 7).otherwise(pl.col(column)).alias(column))
        )
    changed = GasFamily().build(other, CFG, START, END)
    features = [c for c in panel.columns if not c.startswith("y|")]
    past = pl.col("ts") <= cut
    assert changed.filter(past).select(features).equals(panel.filter(past).select(features))
    assert not changed.filter(~past).select(features).equals(panel.filter(~past).select(features))


def test_forecasts_are_sorted_positive_and_complete(panel, model):
    rows = model.predict(panel.tail(100))
    assert rows.height == 100 * (len(GAS_HORIZONS_H) + len(GAS_MIN_HORIZONS_H))
    q = rows.select(QUANTILE_COLUMNS).to_numpy()
    assert (np.diff(q, axis=1) >= 0).all()
    assert (q > 0).all()
    assert rows["mean"].is_finite().all()


def test_forecasts_scale_with_the_price_level(market, tmp_path, panel, model):
    other = Lake(str(tmp_path))
    other.write("gas", market.scan("gas").with_columns(pl.col("base_fee_gwei") * 1000).collect())
    other.write("prices", market.scan("prices").collect())
    at = START + timedelta(days=50)
    scaled = model.predict(GasFamily().build(other, CFG, at, at + timedelta(hours=1)))
    plain = model.predict(panel.filter(pl.col("ts") == at))
    np.testing.assert_allclose(
        scaled.select(QUANTILE_COLUMNS), plain.select(QUANTILE_COLUMNS).to_numpy() * 1000, rtol=1e-6
    )


def test_a_deterministic_season_is_learnt(tmp_path):
    lake = Lake(str(tmp_path))
    lake.write("gas", gas_rows(60, season=0.5, noise=0.01))
    panel = GasFamily().build(lake, CFG, START, END)  # no prices at all: their features are null
    cut = START + timedelta(days=45)
    model = GasFamily().fit(hide_unknown(panel.filter(pl.col("ts") < cut), cut), CFG)
    rows = model.predict(panel.filter(pl.col("ts") >= cut))
    rows = rows.join(GasFamily().outcomes(panel, CFG), on=["target", "key", "issued_at", "horizon_s"])
    gap = rows.select(((pl.col("q50") / pl.col("y")).log().abs()).mean()).item()
    naive = (
        panel.filter(pl.col("ts") >= cut)
        .select((pl.col(NOW) / pl.col(label("gas", 12 * 3600))).log().abs().mean())
        .item()
    )
    assert gap < 0.15 * naive


def test_save_and_load_predict_the_same_and_tampering_is_refused(tmp_path, panel, model):
    model.save(tmp_path / "m")
    again = GasModel.load(tmp_path / "m")
    assert again.predict(panel.tail(24)).equals(model.predict(panel.tail(24)))
    assert again.version == model.version
    text = next((tmp_path / "m").glob("*.txt"))
    text.write_text(text.read_text().replace("leaf_value=", "leaf_value=9 ", 1))
    with pytest.raises(ModelError, match=text.stem):
        GasModel.load(tmp_path / "m")
    with pytest.raises(ModelError, match="no complete model"):
        GasModel.load(tmp_path / "nothing")


def test_a_missing_feature_is_named(panel, model):
    with pytest.raises(ModelError, match="spread24"):
        model.predict(panel.drop("spread24"))


def test_training_is_deterministic(panel):
    cut = START + timedelta(days=30)
    rows = hide_unknown(panel.filter(pl.col("ts") < cut), cut)
    a, b = (GasFamily().fit(rows, CFG) for _ in range(2))
    assert [x.model_to_string() for x in a.bundle.boosters.values()] == [
        x.model_to_string() for x in b.bundle.boosters.values()
    ]


def test_importances_are_shares(model):
    shares = model.importances().group_by("target").agg(pl.col("gain").sum())
    np.testing.assert_allclose(shares["gain"], 1.0)


def test_seasonal_naive_is_yesterday_at_the_same_hour(market, panel):
    known = dict(market.scan("gas").select("available_at", "base_fee_gwei").collect().iter_rows())
    fitted = gas_baselines(GasFamily().targets)["seasonal"].fit(panel)
    point = fitted.points["gas", 12 * 3600](panel)
    low = fitted.points["gas_min", 12 * 3600](panel)
    for i in (500, 900, 1300):
        ts = panel["ts"][i]
        assert np.exp(point[i]) == pytest.approx(known[ts - timedelta(hours=12)])
        ahead = [known[ts + timedelta(hours=k - 24)] for k in range(1, 13)]
        assert np.exp(low[i]) == pytest.approx(min(ahead))


def test_baselines_are_honest_about_their_own_spread(panel):
    cut = START + timedelta(days=45)
    known = hide_unknown(panel.filter(pl.col("ts") < cut), cut)
    for name, baseline in gas_baselines(GasFamily().targets).items():
        rows = baseline.fit(known).predict(panel.filter(pl.col("ts") >= cut))
        rows = rows.join(GasFamily().outcomes(panel, CFG), on=["target", "key", "issued_at", "horizon_s"])
        inside = rows.select(pl.col("y").is_between("q05", "q95").mean()).item()
        assert 0.8 < inside < 0.97, name


def test_blocks_are_averaged_to_hours(tmp_path):
    lake = Lake(str(tmp_path))
    hourly = gas_rows(30)
    blocks = pl.concat(
        hourly.with_columns(
            pl.col("base_fee_gwei") * f,
            (pl.col("ts") + timedelta(minutes=m)).alias("ts"),
            (pl.col("ts") + timedelta(minutes=m)).alias("available_at"),
        )
        for f, m in ((0.5, 10), (1.5, 50))
    )
    lake.write("gas", blocks)
    panel = GasFamily().build(lake, CFG, START, START + timedelta(days=30))
    known = dict(hourly.select("available_at", "base_fee_gwei").iter_rows())
    assert panel[NOW][100] == pytest.approx(known[panel["ts"][100]])


def test_feature_matrices_have_one_layout_for_every_horizon(panel):
    features = generic_features(panel)
    assert not [f for f in features if "|" in f or f == NOW]
    shapes = {block(panel, features, 3600 * h).shape for h in GAS_HORIZONS_H}
    assert shapes == {(panel.height, len(features))}


def test_bare_lightgbm_can_read_the_saved_text(tmp_path, model):
    model.save(tmp_path)
    for text in tmp_path.glob("*.txt"):
        assert lgb.Booster(model_file=str(text)).num_trees() > 0


def test_a_price_that_never_moves_or_is_zero_is_forecast_as_such(tmp_path):
    for price in (0.0, 5.0):
        lake = Lake(str(tmp_path / str(price)))
        lake.write("gas", gas_rows(40).with_columns(base_fee_gwei=pl.lit(price)))
        panel = GasFamily().build(lake, CFG, START, END)
        cut = START + timedelta(days=35)
        rows = GasFamily().fit(hide_unknown(panel.filter(pl.col("ts") < cut), cut), CFG).predict(panel.tail(24))
        q = rows.select(*QUANTILE_COLUMNS, "mean").to_numpy()
        np.testing.assert_allclose(q, max(price, 1e-9), rtol=1e-3)


def test_history_full_of_holes_is_refused_with_the_horizons(tmp_path):
    lake = Lake(str(tmp_path))
    lake.write("gas", gas_rows(60).filter(pl.col("ts").dt.hour() < 2))
    panel = GasFamily().build(lake, CFG, START, END)
    with pytest.raises(NotEnoughData, match="of gas at"):
        GasFamily().fit(hide_unknown(panel, END), CFG)


def test_a_roll_up_is_forecast_together_with_its_l1(tmp_path):
    lake = Lake(str(tmp_path))
    for chain_id in (1, 8453):
        lake.write("gas", gas_rows(30, seed=chain_id, chain_id=chain_id))
    family, cfg = GasFamily(), ModelConfig(("ETH", "BTC"), chain_id=8453, rounds=8)
    assert family.keys(lake, cfg) == ["8453", "1"]
    assert family.keys(lake, CFG) == ["1"]
    panel = family.build(lake, cfg, START, END)
    assert panel.group_by("key").len()["len"].unique().len() == 1
    rows = family.fit(hide_unknown(panel, END), cfg).predict(panel.group_by("key").tail(5))
    assert set(rows["key"]) == {"1", "8453"}
