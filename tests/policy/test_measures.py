from dataclasses import replace

import numpy as np
import pytest

from policy.comparison import rebalancing_premium
from policy.comparison.band_width_curve import curve
from policy.simulation.planner import prepare, schedule
from policy.simulation.simulator import simulate
from policy.strategies.reactive import REACTIVE, Calendar
from tests.policy.conftest import basket


def premium_of(case, plan):
    run = simulate(case, plan, case.history.week())
    prices = rebalancing_premium.PathPrices.of(case.returns[case.first : case.last], case.portfolio.target)
    return rebalancing_premium.premium(run, prices, case.first)


@pytest.mark.parametrize("rule", REACTIVE, ids=lambda r: r.name)
def test_growth_between_trades_is_that_of_the_hourly_weights(history, rule):
    case = prepare(history, basket(4))
    plan = rule.levels_over(case)
    run = simulate(case, plan, history.week(), path=True)
    held = run.path.copy()
    held[run.log.step] = run.log.after
    span = slice(case.first, case.last)
    hourly = np.log1p(np.sum(held[span] * case.returns[span], axis=1)).sum()
    found = premium_of(case, plan)
    years = (case.last - case.first) / 8766
    assert (found.rebalanced + found.cost) * years == pytest.approx(hourly, abs=1e-9)


def test_constant_weights_earn_the_excess_growth_over_the_growth_average(history):
    case = prepare(history, basket(4, nav=1e12))  # gas is nothing to it
    free = replace(case, fee=np.zeros(4), impact=np.zeros_like(case.impact))
    found = premium_of(free, schedule(len(history.ts), 0.0, 0.0, box=True, scale=np.ones(4), direct=True))
    assert found.over_growth_average == pytest.approx(found.excess_growth, rel=0.02)
    assert found.cost == pytest.approx(0.0, abs=1e-3)


def test_hold_earns_no_premium_over_buy_and_hold(history):
    case = prepare(history, basket(4))
    found = premium_of(case, REACTIVE[0].levels_over(case))
    assert found.over_buy_and_hold == pytest.approx(0.0, abs=1e-9)
    assert found.cost == 0.0


def test_premium_is_a_bet_against_dispersion():
    """Prices that return pay the rebalancer, prices that run away cost it, against the same buy-and-hold."""
    hours = 400
    target = np.array([0.5, 0.5])
    swing = 0.3 * np.sin(np.linspace(0, 8 * np.pi, hours + 1))
    run_away = np.linspace(0, 1.5, hours + 1)
    gains = []
    for path in (swing, run_away):
        returns = np.column_stack([np.exp(np.diff(path)) - 1, np.zeros(hours)])
        gross = np.log1p(returns @ target).sum()
        gains.append(gross - np.log(target @ np.exp([path[-1] - path[0], 0.0])))
    assert gains[0] > 0 > gains[1]


def test_tracking_error_of_the_run(history):
    case = prepare(history, basket(4))
    run = simulate(case, Calendar("c", weekly=True).levels_over(case), history.week(), path=True)
    held = run.path.copy()
    held[run.log.step] = run.log.after
    span = slice(case.first, case.last)
    difference = np.sum((held[span] - case.portfolio.target) * case.returns[span], axis=1)
    assert np.sqrt(np.mean(difference**2) * 8766) == pytest.approx(run.te_annual)
    assert np.abs(run.log.after - run.log.before).sum() / 2 == pytest.approx(run.turnover)


@pytest.mark.parametrize("nav", [1e5, 1e6, 1e7])
def test_width_curve_has_its_minimum_where_margins_meet(history, nav):
    case = prepare(history, basket(4, nav=nav))
    found = curve(case.state(case.first, case.portfolio.target))
    best = int(np.argmin(found.total_bp))
    assert found.width[best] == pytest.approx(found.best_width, rel=0.04)
    assert found.best_bp <= found.total_bp.min() * (1 + 1e-9)
    assert found.best_bp == pytest.approx(found.total_bp.min(), rel=1e-3)
    crossing = np.flatnonzero(np.diff(np.sign(found.benefit - found.burden)))
    assert any(abs(int(c) - best) <= 1 for c in crossing)


def test_dearer_gas_and_a_smaller_portfolio_want_a_wider_band(history):
    widths = []
    for nav in (1e5, 1e6):
        case = prepare(history, basket(4, nav=nav))
        state = case.state(case.first, case.portfolio.target)
        widths += [curve(state, 40.0).best_width, curve(state, 10.0).best_width]
    assert widths[0] > widths[1] > widths[2] > widths[3]
