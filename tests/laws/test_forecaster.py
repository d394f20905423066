"""Laws of every forecaster family: run on each, on the same small market."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from features.panel import feature_columns
from lake.store import Lake, check
from lake.tables import table
from models.base import Family
from models.config import ModelConfig
from models.drift.family import DriftFamily
from models.evaluation.labels import hide_unknown, label_columns, parse_label
from models.forecast_schema import FORECAST_COLUMNS, QUANTILE_COLUMNS
from models.gas.family import GasFamily
from models.serving.live import recent
from models.slippage.family import SlippageFamily
from tests.models.market import START, fill

CFG = ModelConfig(("ETH", "BTC"), rounds=8, trade_sizes_usd=(10_000.0,))
END = START + timedelta(days=50)
CUT = START + timedelta(days=40)
FAMILIES: dict[str, type] = {"gas": GasFamily, "drift": DriftFamily, "slippage": SlippageFamily}


def pool_rows(days: int) -> pl.DataFrame:
    """Hourly states of one pool: depth a slow log walk."""
    rng = np.random.default_rng(9)
    n = 24 * days
    ts = pl.datetime_range(START, START + timedelta(hours=n - 1), "1h", time_unit="us", time_zone="UTC", eager=True)
    depth = 3e6 * np.exp(np.cumsum(0.03 * rng.standard_normal(n)))
    return pl.DataFrame(
        {
            "ts": ts,
            "price": np.full(n, 1000.0),
            "depth_1pct_usd": depth,
            "volume_usd": np.exp(rng.standard_normal(n) + 13),
        }
    ).with_columns(
        pl.lit(1, pl.Int64).alias("chain_id"),
        pl.lit("0xpool").alias("pool"),
        pl.lit(3000, pl.Int64).alias("fee_pips"),
        (pl.col("ts") + timedelta(hours=1)).alias("available_at"),
    )


def execution(at: datetime) -> pl.DataFrame:
    """One landed execution whose impact was twice the quoted one."""
    impact = {"realised": '{"impact_usd": 300.0}', "expected": '{"impact_usd": 150.0}'}
    row = {"decision_id": "d", "attempt": 0, "ts": at, "status": "landed", **impact, "available_at": at}
    return pl.DataFrame([row]).with_columns(pl.col("ts", "available_at").cast(pl.Datetime("us", "UTC")))


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Lake:
    lake = fill(Lake(str(tmp_path_factory.mktemp("laws"))), 50)
    lake.write("pool_state", pool_rows(50))
    lake.write("executions", execution(START + timedelta(days=20)))
    return lake


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request) -> Family:
    return FAMILIES[request.param]()


@pytest.fixture(scope="module")
def panel(family, market) -> pl.DataFrame:
    return family.build(market, CFG, START, END)


@pytest.fixture(scope="module")
def fitted(family, panel):
    return family.fit(hide_unknown(panel.filter(pl.col("ts") < CUT), CUT), CFG)


@pytest.fixture(scope="module")
def rows(fitted, panel) -> pl.DataFrame:
    return fitted.predict(panel.filter(pl.col("ts") >= CUT))


def test_it_has_keys_where_there_is_data_and_none_in_an_empty_lake(family, market, tmp_path):
    assert family.keys(market, CFG)
    assert family.keys(Lake(str(tmp_path)), CFG) == []


def test_the_panel_is_one_row_per_key_and_full_hour_within_the_range(panel):
    assert panel.select(pl.struct("key", "ts").is_duplicated().any()).item() is False
    assert (panel["ts"].dt.truncate("1h") == panel["ts"]).all()
    assert panel["ts"].min() >= START
    assert panel["ts"].max() < END
    assert feature_columns(panel)
    assert all(panel.schema[c] == pl.Float64 for c in [*feature_columns(panel), *label_columns(panel)])


def test_labels_belong_to_declared_targets_and_are_unknown_at_the_end(family, panel):
    declared = {(s.name, h) for s in family.targets for h in s.horizons_s}
    for column in label_columns(panel):
        target, horizon_s = parse_label(column)
        if (target, horizon_s) in declared:
            known = panel.filter(pl.col(column).is_not_null())["ts"].max()
            assert known is not None
            assert known + timedelta(seconds=horizon_s) <= END


def test_no_feature_up_to_a_moment_changes_when_later_rows_do(family, market, panel, tmp_path):
    other = Lake(str(tmp_path))
    spoil = {
        "gas": ["base_fee_gwei"],
        "prices": ["open", "high", "low", "close"],
        "pool_state": ["depth_1pct_usd", "volume_usd"],
    }
    late = pl.col("available_at") > CUT
    for name, columns in spoil.items():
        changed = [pl.when(late).then(pl.col(c) * 1.7).otherwise(pl.col(c)).alias(c) for c in columns]
        other.write(name, market.scan(name).with_columns(changed).collect())
    again = family.build(other, CFG, START, END)
    past = pl.col("ts") <= CUT
    names = ["key", "ts", *feature_columns(panel)]
    assert again.filter(past).select(names).sort("key", "ts").equals(panel.filter(past).select(names).sort("key", "ts"))
    assert not again.select(names).sort("key", "ts").equals(panel.select(names).sort("key", "ts"))


@pytest.mark.parametrize("hours_ago", [1, 2, 190])
def test_the_row_of_a_decision_equals_the_batch_to_the_bit(family, market, panel, hours_ago):
    at = END - timedelta(hours=hours_ago)
    one = family.now(recent(market, at), CFG, at).frame()
    batch = panel.filter(pl.col("ts") == at).select(one.columns).sort("key")
    assert one.sort("key").equals(batch)
    assert one.height
    assert set(panel.columns) - set(one.columns) == set(label_columns(panel))


def test_forecasts_fit_the_table_and_belong_to_declared_targets(family, rows):
    assert set(rows.columns) == set(FORECAST_COLUMNS)
    assert not rows.is_empty()
    check(table("forecasts"), rows.with_columns(pl.col("issued_at").alias("available_at")))
    declared = {(s.name, h) for s in family.targets for h in s.horizons_s}
    assert set(rows.select("target", "horizon_s").unique().iter_rows()) == declared
    assert not rows.select(pl.struct("target", "key", "issued_at", "horizon_s").is_duplicated().any()).item()


def test_quantiles_do_not_cross_and_nothing_is_silently_missing(family, rows):
    spoken = rows.filter(~pl.col("abstain"))
    assert spoken["mean"].null_count() == 0
    assert spoken["mean"].is_finite().all()
    names = [s.name for s in family.targets if s.score == "pinball"]
    q = spoken.filter(pl.col("target").is_in(names)).select(QUANTILE_COLUMNS).to_numpy()
    assert np.isfinite(q).all()
    assert (np.diff(q, axis=1) >= 0).all()


def test_prediction_does_not_look_at_labels(fitted, panel, rows):
    blind = panel.filter(pl.col("ts") >= CUT).with_columns(
        pl.lit(None, pl.Float64).alias(c) for c in label_columns(panel)
    )
    assert fitted.predict(blind).equals(rows)


def test_every_forecast_can_be_scored(family, panel, rows):
    outcomes = family.outcomes(panel, CFG)
    joined = rows.join(outcomes, on=["target", "key", "issued_at", "horizon_s"])
    assert {(s.name, h) for s in family.targets for h in s.horizons_s} == set(
        joined.select("target", "horizon_s").unique().iter_rows()
    )


def test_baselines_speak_the_same_language(family, panel, rows):
    known = hide_unknown(panel.filter(pl.col("ts") < CUT), CUT)
    baselines = family.baselines(CFG)
    assert {"last", "seasonal", "ar"} <= set(baselines)
    for name, baseline in baselines.items():
        found = baseline.fit(known).predict(panel.filter(pl.col("ts") >= CUT))
        assert found.columns == rows.columns, name
        q = found.filter(pl.col("q50").is_not_null()).select(QUANTILE_COLUMNS).to_numpy()
        assert (np.diff(q, axis=1) >= 0).all(), name


def test_it_survives_a_restart(fitted, panel, rows, tmp_path):
    fitted.save(tmp_path / "model")
    assert not list((tmp_path / "model").rglob("*.pkl"))
    again = type(fitted).load(tmp_path / "model")
    assert again.version == fitted.version
    assert again.predict(panel.filter(pl.col("ts") >= CUT)).equals(rows)


def test_training_twice_gives_the_same_forecasts(family, panel, rows):
    again = family.fit(hide_unknown(panel.filter(pl.col("ts") < CUT), CUT), CFG)
    assert again.predict(panel.filter(pl.col("ts") >= CUT)).drop("model_version").equals(rows.drop("model_version"))


def test_importances_are_shares(fitted):
    found = fitted.importances()
    assert {"target", "horizon_s", "feature", "gain"} <= set(found.columns)
    assert found["gain"].min() >= 0


def test_target_names_are_shared_by_no_two_families():
    for a, b in itertools.combinations(FAMILIES.values(), 2):
        assert not {s.name for s in a().targets} & {s.name for s in b().targets}
