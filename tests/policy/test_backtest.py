from dataclasses import replace

import numpy as np
import pytest

from policy.costs import trade_cost
from policy.simulation.planner import NEVER, Partial, prepare, schedule
from policy.simulation.simulator import FEE, GAS, IMPACT, SQUARE, TRACKING, simulate
from policy.solvers import step_kernel
from policy.strategies.planner_policy import RulePolicy
from policy.strategies.reactive import REACTIVE, Threshold, memory_of, recalled
from tests.policy.conftest import basket, tracking_usd


def now(rule, case, step):
    """The rule with what it knows at ``step``; a rule of the test's own knows nothing."""
    return recalled(memory_of(rule, case, step)) if rule in REACTIVE else rule


def plain(case, rule, steps):
    """The simulator written out plainly: one State and Decision a step, costs from the ledger's own functions."""
    p = case.portfolio
    w, last = p.target.copy(), None
    sums = dict.fromkeys(("gas", "fee", "impact", "tracking"), 0.0)
    trades = violations = 0
    for t in range(case.first, case.first + steps):
        state = case.state(t, w, last)
        decision = RulePolicy(now(rule, case, t)).decide(state, {})
        if decision.action != "wait":
            cost = trade_cost(state.market, p.nav_usd, w, decision.weights)
            sums["gas"] += cost.gas_usd
            sums["fee"] += cost.fee_usd
            sums["impact"] += cost.impact_usd
            w, last, trades = decision.weights, state.ts, trades + 1
        violations += bool(np.any(np.abs(w - p.target) > p.tolerance + 1e-12)) and p.scenario == "hard"
        r = case.returns[t]
        sums["tracking"] += tracking_usd(p.gamma, p.nav_usd, w - p.target, r)
        w = w * (1 + r) / (w @ (1 + r))
    return {k: v / p.nav_usd for k, v in sums.items()}, trades, violations


@pytest.mark.parametrize("scenario", ["soft", "hard"])
@pytest.mark.parametrize("name", ["calendar_daily", "threshold_5pct", "threshold", "gas_band"])
def test_compiled_loop_equals_decisions_made_one_by_one(history, name, scenario):
    rule = next(r for r in REACTIVE if r.name == name)
    case = prepare(history, basket(4, scenario, nav=2e5, tolerance=0.02))
    steps = 250 if name != "threshold" else 60
    run = simulate(case, rule.levels_over(case), history.week(), span=(case.first, case.first + steps))
    sums, trades, violations = plain(case, rule, steps)
    total = run.weekly.sum(axis=0)
    for column, key in ((GAS, "gas"), (FEE, "fee"), (IMPACT, "impact"), (TRACKING, "tracking")):
        assert total[column] == pytest.approx(sums[key], rel=1e-9, abs=1e-15)
    assert (run.trades, run.violations) == (trades, violations)
    assert trades > 0 or (name, scenario) != ("gas_band", "soft")


def test_log_repeats_the_ledger(history):
    case = prepare(history, basket(5, nav=3e5))
    run = simulate(case, REACTIVE[-1].levels_over(case), history.week())
    cost = [
        trade_cost(case.state(int(t), b).market, 3e5, b, a)
        for t, b, a in zip(run.log.step, run.log.before, run.log.after, strict=True)
    ]
    assert sum(c.gas_usd for c in cost) / 3e5 == pytest.approx(run.weekly[:, GAS].sum())
    assert sum(c.impact_usd for c in cost) / 3e5 == pytest.approx(run.weekly[:, IMPACT].sum())
    assert sum(np.abs(a - b).sum() / 2 for a, b in zip(run.log.after, run.log.before, strict=True)) == pytest.approx(
        run.turnover
    )
    assert np.allclose(run.log.after.sum(axis=1), 1.0)


def test_hold_drifts_like_buy_and_hold(history):
    case = prepare(history, basket(3))
    run = simulate(case, REACTIVE[0].levels_over(case), history.week(), path=True)
    growth = history.close[case.last - 1, :3] / history.close[case.first, :3]
    expected = case.portfolio.target * growth
    assert run.trades == 0
    assert run.path[case.last - 1] == pytest.approx(expected / expected.sum())
    assert run.bp_a_year(TRACKING) == pytest.approx(1.5 * run.te_annual**2 * 1e4)


def test_forced_trades_leave_no_violation_and_a_shut_market_trades_nothing(history):
    case = prepare(history, basket(4, "hard", tolerance=0.01))
    run = simulate(case, REACTIVE[-1].levels_over(case), history.week())
    assert run.violations == 0
    assert set(np.unique(run.log.reason)) <= {step_kernel.TRADE, step_kernel.FORCED}
    assert step_kernel.FORCED in run.log.reason
    shut = replace(case, history=replace(history, tradable=np.zeros_like(history.tradable)))
    still = simulate(shut, REACTIVE[-1].levels_over(case), history.week())
    assert still.trades == 0
    assert still.violations > 0


def test_cap_splits_a_trade_and_resume_goes_on(history):
    case = prepare(history, basket(4))
    T = len(history.ts)
    whole = simulate(case, schedule(T, 0.04, 0.0, box=True, scale=np.ones(4), direct=True), history.week())
    split = simulate(
        case,
        schedule(T, 0.04, 0.0, partial=Partial(1e-3, 0.01), box=True, scale=np.ones(4), direct=True),
        history.week(),
    )
    moved = np.abs(split.log.after - split.log.before).sum(axis=1) / 2
    assert moved.max() <= 0.01 * (1 + 1e-9)
    assert split.trades > whole.trades
    assert step_kernel.SPLIT in split.log.reason
    assert split.weekly[:, IMPACT].sum() < whole.weekly[:, IMPACT].sum()
    assert np.any(np.diff(split.log.step) == 1)


def test_capped_forced_trade_still_ends_inside(history):
    case = prepare(history, basket(4, "hard", tolerance=0.01))
    T = len(history.ts)
    run = simulate(case, schedule(T, NEVER, 0.0, partial=Partial(cap=1e-4), box=True, must=True), history.week())
    assert run.trades > 0
    assert run.violations == 0


def test_weeks_add_up_and_span_is_respected(history):
    case = prepare(history, basket(3))
    plan = Threshold("t", 0.02).levels_over(case)
    middle = (case.first + case.last) // 2
    week = history.week()
    whole = simulate(case, plan, week)
    first = simulate(case, plan, week, span=(case.first, middle))
    assert first.steps == middle - case.first
    assert whole.weekly[: week[middle - 1]] == pytest.approx(first.weekly[: week[middle - 1]])
    assert whole.weekly[:, SQUARE].sum() > first.weekly[:, SQUARE].sum()
