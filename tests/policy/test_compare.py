import json
import pickle
from contextlib import nullcontext

import numpy as np
import polars as pl
import pytest

from lake.errors import ConfigError, NotEnoughData
from policy.comparison import bootstrap
from policy.comparison.compare import run, simulate_chunk
from policy.simulation.panel import Cell, portfolios
from policy.strategies.predictive import Predictive
from policy.strategies.reactive import REACTIVE
from policy.strategies.registry import CompareConfig, planners
from tests.policy.conftest import START

CELLS = (
    Cell("soft", "soft", 1e5, 1),
    Cell("hard", "hard", 1e5, 1, tolerances=(0.03, 0.04, 0.05)),
    Cell("soft_l2", "soft", 1e5, 8453),
)
NAMES = tuple(p.name for p in REACTIVE)


def config(end, **changes):
    return CompareConfig(**{"start": START, "end": end, "portfolios": 6, "policies": NAMES, "cells": CELLS, **changes})


@pytest.fixture(scope="module")
def found(market_lake, end):
    return run(market_lake, config(end))


def test_trades_are_priced_by_every_way_to_execute_them(found):
    for row in found.json["policies"]:
        ways = row["channels"]
        if not row["trades_per_year"]:
            assert ways is None
            continue
        assert set(ways) == {"pool_bp", "dutch_bp", "priority_bp", "cheapest_bp", "auction_share"}
        assert 0 < ways["cheapest_bp"] <= min(ways["pool_bp"], ways["dutch_bp"]) + 1e-9
        assert 0 <= ways["auction_share"] <= 1
        charged = row["gas_bp"] + row["fee_bp"] + row["impact_bp"]
        assert ways["pool_bp"] * row["turnover_per_year"] / 1e4 == pytest.approx(charged / 1e4, rel=0.05)


def figures(comparison):
    return json.dumps({k: v for k, v in comparison.json.items() if k != "timing"})


def backwards(work, chunks):
    """Another machine that happens to do the last chunk first."""
    packed = [pickle.loads(pickle.dumps(c)) for c in chunks]
    parts = [work(*c) for c in reversed(packed)]
    yield from reversed(parts)


def test_every_kind_is_learnt_about_once_wherever_the_panel_runs(market_lake, end, monkeypatch):
    learnt, learn = [], Predictive.learn
    monkeypatch.setattr(Predictive, "learn", lambda self, kind: learnt.append(kind) or learn(self, kind))
    names = ("gas_band", "predictive", "foresight_gas")
    cells = (Cell("hard", "hard", 1e5, 1, tolerances=(0.03, 0.04)), CELLS[2])
    dialled = config(end, skill=1.0, policies=names, cells=cells, portfolios=4)
    away = run(market_lake, dialled, engine=nullcontext(backwards))
    assert len(learnt) == len(set(learnt)) == 3
    here = run(market_lake, config(end, skill=1.0, policies=names, cells=cells, portfolios=4, seed=8, threads=2))
    again = run(market_lake, dialled)
    assert len(learnt) == 3  # the lake keeps them: the same past, the same lessons
    assert figures(again) == figures(away)
    assert figures(run(market_lake, dialled)) == figures(away) != figures(here)


def test_second_run_is_identical_whatever_the_engine(market_lake, end, found):
    seen = []
    engine = nullcontext(backwards)
    again = run(market_lake, config(end, threads=1), lambda done, total: seen.append((done, total)), engine)
    assert figures(again) == figures(found)
    assert again.trades.equals(found.trades)
    assert again.weekly.equals(found.weekly)
    assert seen[-1] == (18, 18)


def test_json_has_the_documented_fields(found):
    assert set(found.json) >= {"schema", "data", "policies", "pairs", "headroom", "forecasts", "timing"}
    row = {"policy", "scenario", "nav_usd", "total_bp", "gas_bp", "fee_bp", "impact_bp", "tracking_bp"}
    assert set(found.json["policies"][0]) >= row | {"trades_per_year", "violations", "te_annual"}
    assert set(found.json["pairs"][0]) >= {"scenario", "nav_usd", "a", "b", "ratio", "ci_low", "ci_high", "weeks"}
    steps = found.json["timing"]["portfolio_steps"]
    policies = {r["policy"] for r in found.json["policies"]}
    assert steps == len(policies) * sum(int((e - s).total_seconds() // 3600) for s, e in set_spans(found))


def set_spans(found):
    spans = found.portfolios.unique("portfolio_id").select("start", "end")
    return list(spans.iter_rows())


def test_every_figure_follows_from_trades_and_weeks(found):
    """Recompute the cost table from trades.parquet and weekly.parquet alone."""
    people = found.portfolios.unique("portfolio_id").with_columns(
        years=(pl.col("end") - pl.col("start")).dt.total_hours() / 8766, portfolio_id=pl.col("portfolio_id")
    )
    paid = (
        found.trades.with_columns(pl.col("portfolio_id", "policy").cast(pl.String))
        .group_by("portfolio_id", "policy")
        .agg(pl.col("gas_usd", "fee_usd", "impact_usd").sum())
        .join(people, on="portfolio_id")
        .with_columns(
            bp=(pl.col("gas_usd") + pl.col("fee_usd") + pl.col("impact_usd"))
            / pl.col("nav_usd")
            * 1e4
            / pl.col("years")
        )
    )
    weekly = (
        found.weekly.with_columns(pl.col("portfolio_id", "policy").cast(pl.String))
        .group_by("portfolio_id", "policy")
        .agg(pl.col("gas_bp", "fee_bp", "impact_bp", "tracking_bp", "tracking_square").sum())
        .join(people, on="portfolio_id")
    )
    for row in found.json["policies"]:
        mine = paid.filter((pl.col("scenario") == row["scenario"]) & (pl.col("policy") == row["policy"]))
        total = mine["bp"].sum() / 6
        track = weekly.filter((pl.col("scenario") == row["scenario"]) & (pl.col("policy") == row["policy"]))
        yearly = (track["tracking_bp"] / track["years"]).mean()
        assert total == pytest.approx(row["gas_bp"] + row["fee_bp"] + row["impact_bp"], rel=1e-9, abs=1e-12)
        assert yearly == pytest.approx(row["tracking_bp"], rel=1e-9)
        soft = row["scenario"].startswith("soft")
        assert row["total_bp"] == pytest.approx(total + (yearly if soft else 0.0), rel=1e-9, abs=1e-12)
        assert row["tracking_bp"] == pytest.approx(1.5 * row["te_annual"] ** 2 * 1e4, rel=1e-9)


def test_weights_in_trades_sum_to_one(found):
    sums = found.trades.group_by("portfolio_id", "policy", "ts").agg(pl.col("weight_after").sum())
    assert sums["weight_after"].to_numpy() == pytest.approx(1.0)


def test_ratios_are_ratios_of_the_table_and_intervals_hold_them(found):
    cost = {(r["scenario"], r["policy"]): r["total_bp"] for r in found.json["policies"]}
    for pair in found.json["pairs"]:
        assert pair["ratio"] == pytest.approx(cost[pair["scenario"], pair["a"]] / cost[pair["scenario"], pair["b_is"]])
        assert pair["ci_low"] <= pair["ratio"] * 1.05
        assert pair["ci_high"] >= pair["ratio"] * 0.95
    best = [p for p in found.json["pairs"] if p["b"] == "best_reactive" and p["scenario"] == "hard"]
    broken = {r["policy"]: r["violations"] for r in found.json["policies"] if r["scenario"] == "hard"}
    assert broken[best[0]["b_is"]] == broken["threshold"] == 0
    assert broken["hold"] > 0


def test_series_share_one_step_axis(found):
    for _, story in found.series.group_by("portfolio_id"):
        assert story.group_by("policy").agg(pl.col("step").max())["step"].n_unique() == 1
    last = found.series.filter(pl.col("policy") == "gas_band").group_by("portfolio_id").last()
    assert (last["cost_bp"] >= 0).all()


def test_panel_is_deterministic_and_varied(history, end):
    panel = portfolios(history, 12, 5, START, end, CELLS)
    again = portfolios(history, 12, 5, START, end, CELLS)
    assert [p.portfolio_id for p in panel] == [p.portfolio_id for p in again]
    assert all(np.array_equal(a.target, b.target) for a, b in zip(panel, again, strict=True))
    assert {len(p.assets) for p in panel} == {2, 3, 4, 5}
    assert len({p.start for p in panel}) > 1
    assert all(p.target.sum() == pytest.approx(1.0) and p.target.min() >= 0.04 - 1e-12 for p in panel)
    assert {float(p.tolerance[0]) for p in panel if p.scenario == "hard"} == {0.03, 0.04, 0.05}
    assert portfolios(history, 12, 6, START, end, CELLS)[0].assets is not None


def test_unknown_policies_are_named(market_lake, end, history):
    with pytest.raises(ConfigError, match="gas_band"):
        planners(history, market_lake, config(end, policies=("gasband",)))
    with pytest.raises(ConfigError):
        portfolios(history, 0, 1, START, end)


def test_one_asset_is_no_panel(market_lake, end):
    with pytest.raises(NotEnoughData, match="2 assets"):
        run(market_lake, config(end, assets=("ETH",)))


def test_chunks_do_not_matter(history, end):
    panel = list(enumerate(portfolios(history, 3, 5, START, end, CELLS)))
    whole = simulate_chunk(history, panel, REACTIVE[-2:])
    apart = [o for item in panel for o in simulate_chunk(history, [item], REACTIVE[-2:])]
    assert all(np.array_equal(a.run.weekly, b.run.weekly) for a, b in zip(whole, apart, strict=True))


def test_bootstrap_of_equal_costs_is_certain_and_of_noise_is_wide():
    drawn = bootstrap.counts(20, 500, 1)
    assert (drawn.sum(axis=1) == 20).all()
    a = np.random.default_rng(0).uniform(0.5, 1.5, 20)
    same = bootstrap.ratio(0.8 * a, a, drawn)
    assert (same.value, same.low, same.high) == (pytest.approx(0.8), pytest.approx(0.8), pytest.approx(0.8))
    noisy = bootstrap.ratio(np.random.default_rng(1).uniform(0.5, 1.5, 20), a, drawn)
    assert noisy.low < noisy.value < noisy.high
    half = bootstrap.captured(a, 0.75 * a, 0.5 * a, drawn)
    assert half.value == pytest.approx(0.5)
    assert np.isnan(bootstrap.ratio(a, np.zeros(20), drawn).value)


def test_the_premium_is_told_for_every_policy_and_counted_in_no_cost(market_lake, end, found):
    rows = found.json["premium"]
    assert [(r["policy"], r["scenario"], r["nav_usd"]) for r in rows] == [
        (r["policy"], r["scenario"], r["nav_usd"]) for r in found.json["policies"]
    ]
    for row, cost in zip(rows, found.json["policies"], strict=True):
        assert row["portfolios"] == 6
        paid = cost["gas_bp"] + cost["fee_bp"] + cost["impact_bp"]
        assert row["cost_bp"] == pytest.approx(paid, rel=1e-9, abs=1e-9)
        soft = cost["tracking_bp"] if cost["scenario"].startswith("soft") else 0.0
        assert cost["total_bp"] == pytest.approx(paid + soft)  # what it costs, whatever it earned
    held = [r["over_buy_and_hold_bp"] for r in rows if r["policy"] == "hold"]
    assert held == pytest.approx([0.0] * len(held), abs=1e-6)
    assert any(abs(r["over_buy_and_hold_bp"]) > 1 for r in rows if r["policy"] != "hold")
