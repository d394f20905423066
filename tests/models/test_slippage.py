from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from lake.errors import NotEnoughData
from lake.store import Lake
from models.base import label
from models.config import ModelConfig
from models.evaluation.labels import hide_unknown
from models.evaluation.scores import losses
from models.forecast_schema import QUANTILE_COLUMNS
from models.slippage.family import SlippageFamily, SlippageFitted
from models.slippage.realised_impact import LIMITS, PRIOR_USD, impact_ratio
from models.slippage.rows import FEE, IMPACT_SHARE, NOW, around_quote
from tests.features.test_liquidity_sentiment import pool_rows
from tests.models.drift_market import START

FAMILY = SlippageFamily()
CFG = ModelConfig(("ETH",), rounds=40, trade_sizes_usd=(10_000.0, 500_000.0))


def split(lake: Lake, days: int, known: int) -> tuple[SlippageFitted, pl.DataFrame, pl.DataFrame]:
    panel = FAMILY.build(lake, CFG, START, START + timedelta(days=days))
    at = START + timedelta(days=known)
    past = hide_unknown(panel.filter(pl.col("ts") < at), at)
    return FAMILY.fit(past, CFG), past, panel.filter(pl.col("ts") >= at)


def skills(model: SlippageFitted, past: pl.DataFrame, ahead: pl.DataFrame, base: str = "last") -> dict[tuple, float]:
    outcomes = FAMILY.outcomes(ahead, CFG)
    own = losses(model.predict(ahead), outcomes, FAMILY.targets)
    other = losses(FAMILY.baselines(CFG)[base].fit(past).predict(ahead), outcomes, FAMILY.targets)
    keys = ["target", "horizon_s"]
    a, b = (x.group_by(keys).agg(pl.col("loss").sum()).sort(keys) for x in (own, other))
    return {(t, s // 3600): 1 - x / y for (t, s, x), y in zip(a.iter_rows(), b["loss"], strict=True)}


def test_depth_that_reverts_is_forecast_better_than_the_quote(lake: Lake) -> None:
    lake.write("pool_state", pool_rows(150))
    model, past, ahead = split(lake, 150, 100)
    found = skills(model, past, ahead)
    assert all(found["depth", h] > 0.03 for h in (4, 12, 24))
    assert all(found["slippage", h] > 0.03 for h in (4, 12, 24))
    assert found["depth", 1] > 0.0
    assert found["slippage", 1] > 0.0


def test_a_random_walk_of_depth_is_left_at_the_quote(lake: Lake) -> None:
    rows = pool_rows(120)
    walk = np.exp(np.cumsum(0.03 * np.random.default_rng(5).standard_normal(rows.height)))
    lake.write("pool_state", rows.with_columns(pl.Series("depth_1pct_usd", 1e6 * walk)))
    model, past, ahead = split(lake, 120, 80)
    assert skills(model, past, ahead)["depth", 1] > -0.01
    middle = model.predict(ahead).filter((pl.col("target") == "depth") & (pl.col("horizon_s") == 3600))
    now = ahead.select("key", pl.col("ts").alias("issued_at"), NOW)
    paired = middle.join(now, on=["key", "issued_at"])
    assert (paired["q50"] / paired[NOW]).log().abs().mean() < 0.01


def test_without_enough_history_the_forecast_is_the_quote(lake: Lake) -> None:
    lake.write("pool_state", pool_rows(12))
    model, _, ahead = split(lake, 12, 8)
    assert model.forests == {}
    rows = model.predict(ahead).filter((pl.col("target") == "depth") & (pl.col("horizon_s") == 4 * 3600))
    now = ahead.select("key", pl.col("ts").alias("issued_at"), NOW)
    paired = rows.join(now, on=["key", "issued_at"])
    assert np.allclose(paired["q50"], paired[NOW])
    early = FAMILY.build(lake, CFG, START, START + timedelta(hours=20))
    with pytest.raises(NotEnoughData, match="a day"):
        FAMILY.fit(hide_unknown(early, START + timedelta(hours=20)), CFG)


def test_costs_are_fee_plus_impact_and_mirror_depth(lake: Lake) -> None:
    lake.write("pool_state", pool_rows(60))
    model, _, ahead = split(lake, 60, 40)
    rows = model.predict(ahead).filter(pl.col("horizon_s") == 12 * 3600)
    depth = rows.filter(pl.col("target") == "depth").sort("issued_at")
    cost = rows.filter(pl.col("key") == "0xpool|500000").sort("issued_at")
    assert np.allclose(cost["q95"], 0.003 + IMPACT_SHARE * 500_000 / depth["q05"])
    small = rows.filter(pl.col("key") == "0xpool|10000").sort("issued_at")
    assert (small["mean"] < cost["mean"]).all()
    assert (np.diff(cost.select(QUANTILE_COLUMNS).to_numpy(), axis=1) >= 0).all()
    assert (small["q05"] > 0.003).all()
    outcome = FAMILY.outcomes(ahead, CFG)
    one = ahead.row(5, named=True)
    y = outcome.filter(
        (pl.col("issued_at") == one["ts"]) & (pl.col("horizon_s") == 3600) & (pl.col("key") == "0xpool|10000")
    )["y"].item()
    assert y == pytest.approx(one[FEE] / 1e6 + IMPACT_SHARE * 10_000 / one[label("depth", 3600)])


def test_an_unknown_fee_leaves_depth_alone(lake: Lake) -> None:
    lake.write("pool_state", pool_rows(40, fee=None))
    model, _, ahead = split(lake, 40, 30)
    assert set(model.predict(ahead)["target"]) == {"depth"}
    assert set(FAMILY.outcomes(ahead, CFG)["target"]) == {"depth"}


def test_a_saved_model_forecasts_the_same(lake: Lake, tmp_path) -> None:
    lake.write("pool_state", pool_rows(60))
    model, _, ahead = split(lake, 60, 45)
    model.save(tmp_path / "model")
    assert SlippageFitted.load(tmp_path / "model").predict(ahead).equals(model.predict(ahead))


def test_only_configured_pools_with_depth_are_forecast(lake: Lake) -> None:
    empty = pool_rows(3, pool="0xempty").with_columns(pl.lit(0.0).alias("depth_1pct_usd"))
    lake.write("pool_state", pl.concat([pool_rows(3), pool_rows(3, pool="0xother"), empty]))
    assert FAMILY.keys(lake, CFG) == ["0xother", "0xpool"]
    one = ModelConfig(("ETH",), pools=("0xpool",))
    assert FAMILY.keys(lake, one) == ["0xpool"]
    panel = FAMILY.build(lake, one, START, START + timedelta(days=3))
    assert set(panel["key"]) == {"0xpool"}


def test_the_quote_stands_in_the_middle() -> None:
    q = around_quote(np.random.default_rng(1).standard_normal(500) + 0.05)
    assert q[2] == 0.0
    assert (np.diff(q) >= 0).all()


def execution(hours: int, realised: dict, expected: dict, status: str = "landed", name: str = "d") -> dict:
    at = START + timedelta(hours=hours)
    return {
        "decision_id": f"{name}{hours}",
        "attempt": 0,
        "ts": at,
        "status": status,
        "realised": json.dumps(realised),
        "expected": json.dumps(expected),
        "available_at": at,
    }


def test_own_executions_correct_the_impact_from_when_they_are_known(lake: Lake) -> None:
    rows = [
        execution(10, {"impact_usd": 300.0}, {"impact_usd": 150.0}),
        execution(12, {"impact_usd": 1e9}, {"impact_usd": 1.0}, status="reverted"),
        execution(13, {"gas_usd": 3.0}, {"impact_usd": 5.0}),
        execution(20, {"impact_usd": 900.0}, {"impact_usd": 350.0}),
    ]
    frame = pl.DataFrame(rows).with_columns(pl.col("ts", "available_at").cast(pl.Datetime("us", "UTC")))
    lake.write("executions", frame)
    ratio = impact_ratio(lake, START, START + timedelta(hours=30)).tolist()
    assert ratio[9] == 1.0
    assert ratio[10] == pytest.approx((PRIOR_USD + 300) / (PRIOR_USD + 150))
    assert ratio[19] == ratio[10]
    assert ratio[20] == pytest.approx((PRIOR_USD + 1200) / (PRIOR_USD + 500))
    assert LIMITS[0] < ratio[20] < LIMITS[1]


def test_realised_costs_feed_the_forecast(lake: Lake) -> None:
    lake.write("pool_state", pool_rows(40))
    model, _, before = split(lake, 40, 30)
    rows = [execution(24 * 30, {"impact_usd": 2000.0}, {"impact_usd": 1000.0})]
    frame = pl.DataFrame(rows).with_columns(pl.col("ts", "available_at").cast(pl.Datetime("us", "UTC")))
    lake.write("executions", frame)
    _, _, after = split(lake, 40, 30)
    size = pl.col("key") == "0xpool|500000"
    a, b = (model.predict(p).filter(size)["q50"].to_numpy() - 0.003 for p in (before, after))
    assert np.allclose(b / a, 2100 / 1100)
    assert (
        model.predict(before)
        .filter(pl.col("target") == "depth")
        .equals(model.predict(after).filter(pl.col("target") == "depth"))
    )
