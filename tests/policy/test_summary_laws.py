"""What a comparison says of its runs: sums that add up, who is compared with whom, and what may not be claimed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.units import HOURS_PER_YEAR
from policy.comparison import bootstrap
from policy.comparison.summary import CostTable
from policy.names import BASELINE, BOUND, CLAIMANT, IDLE
from policy.simulation.simulator import FEE, GAS, IMPACT, TRACKING, Run

WEEKS, STEPS = 10, 24 * 7 * 10
CELL = ("soft", 1e5)
NAMES = (IDLE, "threshold", "band", BASELINE, CLAIMANT, BOUND)


def run(seed: int, *, violations: int = 0, could_not: int = 0, trades: int = 20, scale: float = 1.0) -> Run:
    weekly = np.random.default_rng(seed).uniform(1e-5, 1e-4, (WEEKS, 6)) * scale
    return Run(weekly, STEPS, trades, violations, 0.5, violations_could_not=could_not)


def costs(runs: list[Run], *, soft: bool) -> np.ndarray:
    last = TRACKING + soft
    each = [r.weekly[:, :last].sum(axis=1) * 1e4 * HOURS_PER_YEAR / r.steps for r in runs]
    return np.mean(each, axis=0)


def table(by_name: dict[str, list[Run]], cell: tuple[str, float] = CELL, *, soft: bool = True) -> CostTable:
    weekly = np.array([costs(runs, soft=soft) for runs in by_name.values()])
    half = np.arange(WEEKS) < WEEKS // 2
    splits = {"calm": half.astype(float), "volatile": (~half).astype(float)}
    return CostTable(
        tuple(by_name), {cell: list(by_name.values())}, {cell: weekly}, {cell: soft},
        bootstrap.counts(WEEKS, 200, 1), 0, splits,
    )  # fmt: skip


def panel(**changed: list[Run]) -> dict[str, list[Run]]:
    return {n: changed.get(n, [run(10 * i + k) for k in range(3)]) for i, n in enumerate(NAMES)}


@given(seeds=st.lists(st.integers(0, 999), min_size=1, max_size=5), soft=st.booleans())
def test_a_policy_s_parts_sum_to_its_total_and_its_weeks_too(seeds, soft):
    made = table({"band": [run(s) for s in seeds]}, soft=soft)
    [row] = made.policies()
    parts = row["gas_bp"] + row["fee_bp"] + row["impact_bp"]
    assert row["total_bp"] == pytest.approx(parts + (row["tracking_bp"] if soft else 0.0))
    assert made.weekly[CELL].sum() == pytest.approx(row["total_bp"])


@given(seed=st.integers(0, 999), factor=st.floats(0.1, 50.0))
def test_a_costlier_run_is_costlier_by_as_much(seed, factor):
    one, other = run(seed), run(seed, scale=factor)
    for column in (GAS, FEE, IMPACT, TRACKING):
        assert other.bp_a_year(column) == pytest.approx(factor * one.bp_a_year(column))
    assert other.te_annual == pytest.approx(math.sqrt(factor) * one.te_annual)
    assert one.total_bp(soft=True) >= one.total_bp(soft=False)


def test_figures_a_year_do_not_depend_on_how_long_the_run_was():
    one = run(1)
    twice = replace(one, weekly=np.concatenate([one.weekly, one.weekly]), steps=2 * STEPS)
    assert twice.bp_a_year(GAS) == pytest.approx(one.bp_a_year(GAS))
    assert twice.te_annual == pytest.approx(one.te_annual)


def test_violations_are_split_and_an_hour_in_breach_is_sixty_minutes():
    made = table(panel(band=[run(1, violations=7, could_not=5)]), soft=False)
    row = next(r for r in made.policies() if r["policy"] == "band")
    assert (row["violations"], row["violations_could_not"], row["violations_did_not"]) == (7, 5, 2)
    assert row["minutes_outside"] == pytest.approx(7 * 60 * HOURS_PER_YEAR / STEPS)


def test_every_two_policies_are_compared_once_and_the_idle_one_in_a_soft_mandate_only():
    for soft in (True, False):
        rows = table(panel(), soft=soft).pairs()
        plain = [(r["a"], r["b"]) for r in rows if not str(r["b"]).startswith("best_")]
        assert len(plain) == len(set(plain)) == (15 if soft else 10)
        assert any(b == IDLE for _, b in plain) == soft
        assert all(NAMES.index(a) > NAMES.index(b) for a, b in plain)


def test_a_pair_is_the_ratio_of_both_totals_and_its_interval_holds_it():
    made = table(panel())
    totals = {r["policy"]: r["total_bp"] for r in made.policies()}
    for row in made.pairs():
        assert row["ratio"] == pytest.approx(totals[row["a"]] / totals[row["b_is"]])
        assert row["ci_low"] <= row["ci_high"]
        assert (row["portfolios"], row["weeks"]) == (3, WEEKS)


def test_the_best_threshold_is_the_cheapest_that_keeps_the_mandate():
    cheap = [run(3, violations=9, scale=0.1)]
    dear = [run(4, violations=0)]
    made = table(panel(threshold=dear, band=cheap, **{BASELINE: [run(5, scale=0.5)]}), ("hard", 1e5), soft=False)
    assert made.best(("hard", 1e5), ("threshold", "band")) == "threshold"
    excused = [run(3, violations=9, could_not=9, scale=0.1)]
    made = table(panel(threshold=dear, band=excused), ("hard", 1e5), soft=False)
    assert made.best(("hard", 1e5), ("threshold", "band")) == "band"
    made = table(panel(threshold=dear, band=cheap))
    assert made.best(CELL, ("threshold", "band")) == "band"
    assert made.best(CELL, ("unheard of",)) is None


def test_no_policy_is_compared_with_a_best_it_is_itself():
    for row in table(panel()).pairs():
        if row["b"] == "best_threshold":
            assert row["a"] not in {"threshold", "threshold_5pct"}
        assert row["a"] != row["b_is"] or row["b"] == "best_reactive"


@settings(max_examples=30)
@given(share=st.floats(-0.5, 1.0))
def test_headroom_is_captured_as_far_as_it_is(share):
    base, best = [run(1)], [run(1, scale=0.6)]
    mine = [replace(base[0], weekly=base[0].weekly - share * (base[0].weekly - best[0].weekly))]
    made = table(panel(**{BASELINE: base, CLAIMANT: mine, BOUND: best}))
    [row] = made.headroom()
    assert row["captured"] == pytest.approx(share, abs=1e-9)
    assert row["headroom"] == pytest.approx(0.4)


@pytest.mark.parametrize("missing", [BASELINE, CLAIMANT, BOUND])
def test_without_baseline_claimant_or_bound_there_is_no_headroom(missing):
    made = table({n: r for n, r in panel().items() if n != missing})
    assert made.headroom() == []
    if missing == BASELINE:
        assert made.regimes().is_empty()


def test_regimes_part_the_weeks_and_each_has_its_own_ratio():
    made = table(panel())
    rows = made.regimes()
    assert set(rows["regime"]) == {"calm", "volatile"}
    assert set(rows["weeks"]) == {WEEKS // 2}
    own = rows.filter(policy=BASELINE)
    assert own["ratio"].to_list() == pytest.approx([1.0, 1.0])


def test_gas_a_trade_is_in_dollars_and_none_without_a_trade():
    made = table(panel(**{IDLE: [run(1, trades=0, scale=0.0)]}))
    rows = {r["policy"]: r for r in made.policies()}
    assert rows[IDLE]["gas_per_trade_usd"] == 0.0
    spent = sum(r.weekly[:, GAS].sum() for r in made.runs[CELL][1]) * CELL[1]
    assert rows["threshold"]["gas_per_trade_usd"] == pytest.approx(spent / 60)
