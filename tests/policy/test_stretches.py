"""Evidence on several stretches: what is paired with what, starts, pooling, families with and without."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from lake.errors import ConfigError
from lake.store import Lake
from policy.comparison import stretches
from policy.simulation.history import load
from policy.simulation.panel import Cell
from policy.simulation.planner import prepare
from policy.strategies import forecast_covariance
from policy.strategies.registry import CompareConfig
from tests.policy.conftest import START, basket, fill, frames

MID = START + timedelta(days=15)
CELLS = (Cell("soft", "soft", 1e5, 1, gammas=(10.0,)), Cell("hard", "hard", 1e5, 1, tolerances=(0.02,)))


@pytest.fixture(scope="module")
def found(market_lake, end):
    config = CompareConfig(START, end, portfolios=3, cells=CELLS, draws=200, skill=0.7, threads=1)
    return stretches.run(market_lake, config, [(START, MID), (MID, end)], ("gas", "slippage"))


def test_ratios_are_given_by_stretch_and_pooled_for_both_ways_and_every_rival(found):
    rows = found["ratios"]
    windows = {r["window"] for r in rows}
    assert len(windows) == 3
    assert "pooled" in windows
    assert {r["b"] for r in rows} == {"past_best", *stretches.RIVALS}
    assert len(rows) == 3 * 2 * len(CELLS) * (1 + len(stretches.RIVALS))
    for cell in ("soft", "hard"):
        for way in stretches.WAYS:
            own = {r["window"]: r for r in rows if (r["scenario"], r["way"], r["b"]) == (cell, way, "gas_band")}
            parts = [r["ratio"] for w, r in own.items() if w != "pooled"]
            assert min(parts) <= own["pooled"]["ratio"] <= max(parts)
            assert own["pooled"]["weeks"] == sum(r["weeks"] for w, r in own.items() if w != "pooled")
    assert all(r["ci_low"] <= r["ratio"] + 1e-9 for r in rows)


def test_the_rival_chosen_before_is_one_of_the_bands(found):
    rows = found["ratios"]
    for r in (r for r in rows if r["b"] == "past_best" and r["window"] != "pooled"):
        same = [q for q in rows if all(q[k] == r[k] for k in ("scenario", "way", "window")) and q["b"] != "past_best"]
        assert any(q["ratio"] == r["ratio"] for q in same)


def test_families_are_judged_on_the_same_paths(found):
    rows = found["ablation"]
    assert {r["family"] for r in rows} == {"gas", "slippage"}
    assert {(r["a"], r["b"]) for r in rows} == {(f"with {f}", f"without {f}") for f in ("gas", "slippage")}
    assert all(0.5 < r["ratio"] < 2.0 for r in rows)
    assert all(r["ratio"] != 1.0 for r in rows if r["family"] == "gas")  # without forecasts it is another rule


def test_starts_of_the_recorded_path_lie_within_the_first_half(history):
    case = prepare(history, basket(4))
    at = stretches.starts(case)
    assert at.size == stretches.STARTS >= 30
    assert at[0] == case.first
    assert np.unique(at).size == at.size
    assert at[-1] <= (case.first + case.last) // 2


def test_an_unknown_family_is_refused(market_lake, end):
    with pytest.raises(ConfigError, match="no family mood; there are gas, drift, slippage"):
        stretches.run(market_lake, CompareConfig(START, end), [(START, end)], ("mood",))


def test_covariances_move_half_way_to_fresh_forecasts_and_know_none_issued_later(history, tmp_path):
    lake = Lake(str(tmp_path / "lake"))
    n, day = len(history.assets), int(history.day[history.first]) + 2
    step = int(np.searchsorted(history.day, day))
    base = {"target": "covariance", "horizon_s": 86_400, "model_version": "v", "abstain": False, "reason": None}
    rows = []
    for hours, factor in ((-3, 4.0), (1, 100.0)):  # the second is issued after the day began
        at = history.when(step) + timedelta(hours=hours)
        for i in range(n):
            for j in range(i + 1):
                key = "|".join(sorted((history.assets[i], history.assets[j])))
                value = factor * float(history.covariance[day, i, j])
                rows.append({**base, "key": key, "mean": value, "issued_at": at, "available_at": at})
    lake.write("forecasts", pl.DataFrame(rows, schema_overrides={"reason": pl.String}))
    moved = forecast_covariance.with_forecasts(history, lake)
    assert moved.covariance[day] == pytest.approx(2.5 * history.covariance[day], rel=1e-9)
    assert np.array_equal(moved.covariance[day - 1], history.covariance[day - 1])
    assert np.array_equal(moved.covariance[day + 3 :], history.covariance[day + 3 :])


def test_nothing_is_learnt_from_before_a_week_without_gas(tmp_path):
    tables = frames()
    gas = tables["gas"]
    hole = (START - timedelta(days=30), START - timedelta(days=20))
    tables["gas"] = gas.filter(~pl.col("ts").is_between(*hole))
    lake = fill(tmp_path / "lake", tables)
    found = load(lake, START, START + timedelta(days=5))
    assert found.when(found.gas_known) == pytest.approx(hole[1] + timedelta(hours=2), abs=timedelta(hours=2))
    short = gas.filter(~pl.col("ts").is_between(hole[0], hole[0] + timedelta(days=2)))
    whole = load(fill(tmp_path / "other", tables | {"gas": short}), START, START + timedelta(days=5))
    assert whole.when(whole.gas_known) < found.when(found.gas_known)
