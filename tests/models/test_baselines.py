"""What a forecast has to beat: each baseline against the plain calculation it stands for, and served as champion."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from lake.errors import ModelError
from lake.store import Lake
from models.base import DRIFT_HORIZONS_H, SLIPPAGE_HORIZONS_H, label
from models.config import ModelConfig
from models.drift.baselines import drift_baselines
from models.drift.covariance import NORMAL_SHAPE
from models.drift.family import DriftFamily
from models.evaluation.labels import hide_unknown
from models.forecast_schema import QUANTILE_COLUMNS, QUANTILES
from models.gas.family import GasFamily
from models.registry.baseline_champion import BaselineModel
from models.slippage.baselines import slippage_baselines
from models.slippage.family import SlippageFamily
from models.slippage.rows import NOW
from tests.features.test_liquidity_sentiment import pool_rows
from tests.models.drift_market import ASSETS, START, bars, noise
from tests.models.market import START as GAS_START
from tests.models.market import gas_rows

DAYS = 45
DRIFT = ModelConfig(ASSETS, targets=dict.fromkeys(ASSETS, 1 / 3), tolerance=dict.fromkeys(ASSETS, 0.05))
DEPTH = ModelConfig(("ETH",), trade_sizes_usd=(10_000.0, 500_000.0))


@pytest.fixture(scope="module")
def drift(tmp_path_factory) -> pl.DataFrame:
    """A panel of independent assets of constant volatility."""
    lake = Lake(str(tmp_path_factory.mktemp("drift")))
    lake.write("prices", bars(noise(DAYS, 1)))
    end = START + timedelta(days=DAYS)
    return hide_unknown(DriftFamily().build(lake, DRIFT, START, end), end)


@pytest.fixture(scope="module")
def depth(tmp_path_factory) -> pl.DataFrame:
    """A panel of one pool whose depth reverts to its mean."""
    lake = Lake(str(tmp_path_factory.mktemp("depth")))
    lake.write("pool_state", pool_rows(DAYS))
    end = START + timedelta(days=DAYS)
    return hide_unknown(SlippageFamily().build(lake, DEPTH, START, end), end)


def of(rows: pl.DataFrame, target: str, h: int) -> pl.DataFrame:
    return rows.filter((pl.col("target") == target) & (pl.col("horizon_s") == h * 3600))


@pytest.mark.parametrize("name", list(drift_baselines(DRIFT)))
def test_every_drift_baseline_speaks_of_every_target_in_order_and_within_chance(drift, name):
    rows = drift_baselines(DRIFT)[name].fit(drift).predict(drift.tail(60))
    assert set(rows["target"]) == {"return", "drift", "band_exit", "covariance"}
    for target in ("return", "drift"):
        for h in DRIFT_HORIZONS_H:
            q = of(rows, target, h).select(QUANTILE_COLUMNS).drop_nulls().to_numpy()
            assert len(q)
            assert (np.diff(q, axis=1) >= -1e-12).all()
    chance = rows.filter(pl.col("target") == "band_exit")["mean"].drop_nulls().to_numpy()
    assert ((chance >= 0.0) & (chance <= 1.0)).all()


def test_climatology_is_the_quantiles_of_past_moves_of_the_same_asset(drift):
    rows = drift_baselines(DRIFT)["last"].fit(drift).predict(drift.tail(60))
    h = DRIFT_HORIZONS_H[0]
    for asset in ASSETS:
        moves = drift.filter(pl.col("key") == asset)[label("return", h * 3600)].drop_nulls().to_numpy()
        said = of(rows, "return", h).filter(pl.col("key") == asset).select(QUANTILE_COLUMNS).unique()
        assert said.height == 1  # it ignores the present
        assert said.row(0) == pytest.approx(np.quantile(moves, QUANTILES), abs=0.35 * moves.std())


def test_the_seasonal_one_knows_the_hour_of_the_day(tmp_path):
    """Volatility four times as high in one half of the day: quantiles follow the hour, all hours alike do not."""
    lake = Lake(str(tmp_path))
    calm = noise(DAYS, 2)
    loud = np.where(np.arange(24 * DAYS) % 24 < 12, 0.4, 1.6)
    lake.write("prices", bars({a: r * loud for a, r in calm.items()}))
    end = START + timedelta(days=DAYS)
    panel = hide_unknown(DriftFamily().build(lake, DRIFT, START, end), end)
    made = {n: drift_baselines(DRIFT)[n].fit(panel).predict(panel.tail(24 * 6 * 6)) for n in ("last", "seasonal")}
    h = DRIFT_HORIZONS_H[0]
    spread = {
        n: of(r, "return", h).with_columns(hour=pl.col("issued_at").dt.hour(), wide=pl.col("q95") - pl.col("q05"))
        for n, r in made.items()
    }
    assert spread["last"].group_by("key").agg(pl.col("wide").n_unique())["wide"].to_list() == [1] * len(ASSETS)
    by_hour = spread["seasonal"].group_by("hour").agg(pl.col("wide").mean()).sort("hour")
    inside = by_hour.filter(pl.col("hour").is_between(2, 9))["wide"].mean()
    outside = by_hour.filter(pl.col("hour").is_between(14, 21))["wide"].mean()
    assert max(inside, outside) > 2.5 * min(inside, outside)


def test_the_gaussian_walk_scales_with_the_root_of_time_and_is_centred(drift):
    rows = drift_baselines(DRIFT)["ewma94"].fit(drift).predict(drift.tail(60))
    keys = ["key", "issued_at"]
    first, last = DRIFT_HORIZONS_H[0], DRIFT_HORIZONS_H[-1]
    both = of(rows, "return", first).join(of(rows, "return", last), on=keys, suffix="_late").drop_nulls("q95")
    ratio = (both["q95_late"] / both["q95"]).to_numpy()
    assert ratio == pytest.approx(np.full(len(ratio), np.sqrt(last / first)), rel=1e-9)
    assert both["q50"].abs().max() == pytest.approx(0.0, abs=1e-12)
    assert (both["q95"] / both["q75"]).to_numpy() == pytest.approx(
        np.full(both.height, NORMAL_SHAPE[4] / NORMAL_SHAPE[3])
    )


def test_constant_volatility_is_found_by_every_memory(drift):
    """True hourly deviation 0.01: the 90 % interval of an hour's return is 1.645 times that."""
    for name in ("ar", "ewma94", "ewma_empirical"):
        rows = of(drift_baselines(DRIFT)[name].fit(drift).predict(drift.tail(300)), "return", DRIFT_HORIZONS_H[0])
        wide = rows["q95"].drop_nulls().median()
        assert wide == pytest.approx(0.01 * 1.645 * np.sqrt(DRIFT_HORIZONS_H[0]), rel=0.25), name


def test_nothing_a_baseline_says_depends_on_outcomes_it_could_not_know(drift):
    """Fitted on the first half it says the same, whatever the second half's outcomes are."""
    half = drift["ts"].min() + (drift["ts"].max() - drift["ts"].min()) / 2
    past = hide_unknown(drift.filter(pl.col("ts") < half), half)
    ahead = drift.filter(pl.col("ts") >= half)
    labels = [c for c in ahead.columns if c.startswith("y|")]
    wild = ahead.with_columns([(pl.col(c) * 100.0).alias(c) for c in labels])
    for name, baseline in drift_baselines(DRIFT).items():
        fitted = baseline.fit(past)
        assert fitted.predict(ahead).equals(fitted.predict(wild)), name


def test_the_quote_stays_the_quote_and_the_day_before_is_the_day_before(depth):
    made = {n: b.fit(depth).predict(depth.tail(48)) for n, b in slippage_baselines(DEPTH).items()}
    now = depth.tail(48).select("key", pl.col("ts").alias("issued_at"), NOW)
    for h in SLIPPAGE_HORIZONS_H:
        both = of(made["last"], "depth", h).join(now, on=["key", "issued_at"])
        assert both.height
        assert both["q50"].to_numpy() == pytest.approx(both[NOW].to_numpy())
    h = SLIPPAGE_HORIZONS_H[0]
    seasonal = of(made["seasonal"], "depth", h).join(now, on=["key", "issued_at"])
    change = depth.tail(48).select("key", pl.col("ts").alias("issued_at"), "day_before")
    moved = seasonal.join(change, on=["key", "issued_at"]).with_columns(
        said=(pl.col("q50") / pl.col(NOW)).log() - pl.col("day_before")
    )
    assert moved["said"].drop_nulls().std() == pytest.approx(0.0, abs=1e-9)  # the same errors about another point


def test_reversion_learns_how_much_of_it_comes_true(depth):
    """No more than all of it and no less than nothing; a pool that reverts gives a slope above zero at a day."""
    fitted = slippage_baselines(DEPTH)["ar"].fit(depth)
    assert all(0.0 <= slope <= 1.0 for slope in fitted.slopes.values())
    assert fitted.slopes[SLIPPAGE_HORIZONS_H[-1]] > 0.2
    shuffled = depth.with_columns(
        [pl.col(label("depth", h * 3600)).shuffle(seed=3).alias(label("depth", h * 3600)) for h in SLIPPAGE_HORIZONS_H]
    )
    assert slippage_baselines(DEPTH)["last"].fit(shuffled).slopes == dict.fromkeys(SLIPPAGE_HORIZONS_H, 1.0)


def test_less_than_a_day_of_outcomes_gives_no_quantiles(depth):
    few = depth.head(20)
    rows = slippage_baselines(DEPTH)["last"].fit(few).predict(depth.tail(5))
    assert rows.is_empty()  # unknown errors are no forecast, rather than a forecast without spread


def test_costs_are_largest_where_depth_is_least(depth):
    rows = slippage_baselines(DEPTH)["last"].fit(depth).predict(depth.tail(24))
    for target in ("depth", "slippage"):
        q = rows.filter(pl.col("target") == target).select(QUANTILE_COLUMNS).drop_nulls().to_numpy()
        assert (np.diff(q, axis=1) >= 0.0).all()
    small, large = (rows.filter(pl.col("key").str.ends_with(f"|{s:.0f}"))["q50"].sum() for s in DEPTH.trade_sizes_usd)
    assert large > small


@pytest.fixture(scope="module")
def gas(tmp_path_factory):
    """Gas rows with a daily season, as the gas family sees them, and its settings."""
    lake = Lake(str(tmp_path_factory.mktemp("gas")))
    lake.write("gas", gas_rows(30))
    cfg, end = ModelConfig(("ETH",)), GAS_START + timedelta(days=30)
    return hide_unknown(GasFamily().build(lake, cfg, GAS_START, end), end), cfg


@pytest.mark.parametrize("name", ["last", "seasonal", "ar"])
def test_a_baseline_that_serves_survives_a_restart(gas, tmp_path, name):
    panel, cfg = gas
    model = BaselineModel.fit(GasFamily(), cfg, name, panel)
    model.save(tmp_path / "model")
    again = BaselineModel.read(tmp_path / "model", GasFamily(), cfg)
    now = panel.tail(30)
    assert again.version == model.version
    assert again.predict(now).equals(model.predict(now))
    assert set(again.predict(now)["model_version"]) == {model.version}
    assert again.importances().is_empty()


def test_a_missing_torn_or_unknown_baseline_is_an_error_in_words(gas, tmp_path):
    panel, cfg = gas
    with pytest.raises(ModelError, match="gas has no baseline 'oracle'; it has"):
        BaselineModel.fit(GasFamily(), cfg, "oracle", panel)
    with pytest.raises(ModelError, match="holds no baseline"):
        BaselineModel.read(tmp_path / "nowhere", GasFamily(), cfg)
    folder = tmp_path / "model"
    BaselineModel.fit(GasFamily(), cfg, "last", panel).save(folder)
    whole = (folder / "baseline.json").read_text()
    (folder / "baseline.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="holds no baseline"):
        BaselineModel.read(folder, GasFamily(), cfg)
    (folder / "baseline.json").write_text(whole.replace('"last"', '"oracle"'))
    with pytest.raises(ModelError, match="no baseline 'oracle'"):
        BaselineModel.read(folder, GasFamily(), cfg)
    (folder / "baseline.json").write_text(whole)
    (folder / "known.parquet").write_bytes(b"PAR1")
    with pytest.raises(ModelError, match="holds no baseline"):
        BaselineModel.read(folder, GasFamily(), cfg)
    with pytest.raises(ModelError, match="read with its family"):
        BaselineModel.load(folder)
