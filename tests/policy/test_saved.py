"""Laws of what a live portfolio saved: nothing against itself, the difference of the ledger against others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.comparison.saved import LEAST_WEEKS, LiveHour, lived, moved, replayed, savings, with_flow
from policy.simulation.planner import prepare
from policy.simulation.simulator import simulate
from policy.strategies.reactive import GAS_BAND, REACTIVE
from tests.policy.conftest import basket

RULES = {r.name: r for r in REACTIVE}
BOTH = (GAS_BAND, RULES["threshold_5pct"])


def live_of(case, run, nav=1e6):
    """The hours of a portfolio that traded as ``run`` did, charged by the ledger, with NAV as prices made it."""
    from policy.solvers import step_kernel

    hours, value, weights = [], nav, case.portfolio.target
    trades = {int(t): i for i, t in enumerate(run.log.step)}
    for t in range(case.first, case.last):
        after, paid = weights, (0.0, 0.0, 0.0)
        if t in trades:
            after = run.log.after[trades[t]]
            x, y = weights - case.portfolio.target, after - case.portfolio.target
            scale = case.portfolio.nav_usd / value
            gas, leg, impact = case.gas_base[t] * scale, case.gas_leg[t] * scale, case.impact[t] / scale
            paid = tuple(value * c for c in step_kernel.charge(x, y, gas, leg, case.fee, impact)[:3])
        hours.append(LiveHour(t, weights, after, value, paid))
        value *= float(after @ (1 + case.returns[t]))
        weights = moved(after, case.returns[t])
    return hours


@pytest.mark.parametrize("scenario", ["soft", "hard"])
@pytest.mark.parametrize("rule", [*BOTH, RULES["gas_band_exit"], RULES["calendar_weekly"]], ids=lambda r: r.name)
def test_the_replay_is_the_simulator(history, scenario, rule):
    case = prepare(history, basket(4, scenario, tolerance=0.02))
    plan = rule.levels_over(case)
    run = simulate(case, plan, history.week())
    same_nav = np.full(len(history.ts), 1e6)
    spent = replayed(case, plan, case.portfolio.target, same_nav, {}, case.last)
    assert spent.trades == run.trades > 0
    assert spent.split == pytest.approx([run.weekly[:, c].sum() * 1e6 for c in range(4)], rel=1e-9)
    if scenario == "hard":
        assert spent.hours_outside == run.violations


@pytest.mark.parametrize("scenario", ["soft", "hard"])
def test_a_portfolio_saves_nothing_against_the_rule_it_follows(history, scenario):
    rule = RULES["threshold_5pct"]  # its levels do not depend on NAV
    case = prepare(history, basket(4, scenario, tolerance=0.02))
    run = simulate(case, rule.levels_over(case), history.week())
    mine, [one] = savings(case, live_of(case, run), [rule], 200, 7)
    assert one.theirs.trades == mine.trades == run.trades > 0
    assert one.usd == pytest.approx(0.0, abs=1e-6)
    assert (one.low, one.high) == pytest.approx((0.0, 0.0), abs=1e-6)
    assert mine.split == pytest.approx(one.theirs.split)
    assert mine.hours_outside == one.theirs.hours_outside


def test_waste_is_counted_to_the_cent_and_makes_the_saving_negative(history):
    case = prepare(history, basket(4))
    run = simulate(case, GAS_BAND.levels_over(case), history.week())
    hours = live_of(case, run)
    wasteful = [replace(h, paid=(h.paid[0] + 10.0, *h.paid[1:])) for h in hours]
    plain, dear = savings(case, hours, BOTH, 200, 7)[1], savings(case, wasteful, BOTH, 200, 7)[1]
    for a, b in zip(plain, dear, strict=True):
        assert a.usd - b.usd == pytest.approx(10.0 * len(hours))
        assert b.usd < 0.0
        assert b.low <= b.usd <= b.high < 0.0


def test_it_says_when_it_is_too_short_to_say(history):
    case = prepare(history, basket(4))
    run = simulate(case, GAS_BAND.levels_over(case), history.week())
    hours = live_of(case, run)
    for days in (1, 5, 28):
        short = replace(case, last=case.first + 24 * days)
        [one] = savings(short, hours[: 24 * days], [GAS_BAND], 200, 7)[1]
        weeks = one.theirs.weekly.shape[0]
        assert (one.low is None) == (weeks < LEAST_WEEKS)
        assert np.isfinite(one.usd)


def test_a_portfolio_that_starts_in_cash_is_bought_by_the_rules_too(history):
    case = prepare(history, basket(4, tolerance=0.05))
    cash = np.array([1.0, 0.0, 0.0, 0.0])
    hold = [LiveHour(case.first, cash, cash, 1e6)]
    mine, [one] = savings(case, hold, [RULES["threshold_5pct"]], 200, 7)
    assert mine.trades == 0
    assert mine.split[:3] == (0.0, 0.0, 0.0)
    assert one.theirs.trades >= 1
    assert mine.hours_outside > one.theirs.hours_outside


def test_a_flow_reaches_the_rules_and_costs_them_what_it_moves(history):
    case = prepare(history, basket(4, tolerance=0.05))
    still = [LiveHour(case.first, case.portfolio.target, case.portfolio.target, 1e6)]
    middle = (case.first + case.last) // 2
    flow = np.array([5e5, 0.0, 0.0, 0.0])
    at = lived(case, still, case.last)[1][middle] + 5e5
    more = [*still, LiveHour(middle, case.portfolio.target, case.portfolio.target, at, flow_usd=flow)]
    rule = RULES["threshold_5pct"]
    without, [a] = savings(case, still, [rule], 200, 7)
    with_it, [b] = savings(case, more, [rule], 200, 7)
    assert without.split[:3] == with_it.split[:3]
    assert b.theirs.trades > a.theirs.trades  # a third of NAV arrived in one asset


weights = st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3).map(lambda w: np.array(w) / sum(w))


@settings(max_examples=50)
@given(weights, st.lists(st.floats(0, 1e6), min_size=3, max_size=3), st.floats(0, 0.9))
def test_what_goes_out_leaves_weights_alone_and_what_comes_in_adds_up(w, came, gone):
    came = np.array(came)
    nav = 1e6 + came.sum()
    made = with_flow(w, came, nav)
    assert made.sum() == pytest.approx(1.0)
    assert made * nav == pytest.approx(w * 1e6 + came)
    assert with_flow(w, -gone * 1e6 * np.array([1.0, 0.0, 0.0]), 1e6 * (1 - gone)) == pytest.approx(w)
