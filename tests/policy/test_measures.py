from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import ConfigError
from policy.comparison import rebalancing_premium
from policy.comparison.band_width_curve import curve
from policy.mandate import Mandate, check_portfolio, fit
from policy.simulation.planner import prepare, schedule
from policy.simulation.simulator import simulate
from policy.strategies.reactive import REACTIVE, Calendar
from tests.policy.conftest import basket


def premium_of(case, plan):
    run = simulate(case, plan, case.history.week(), path=True)
    held = run.path.copy()
    held[run.log.step] = run.log.after
    span = slice(case.first, case.last)
    return rebalancing_premium.premium(run, held[span], case.portfolio.target, case.returns[span])


def test_constant_weights_earn_the_excess_growth_over_the_growth_average(history):
    case = prepare(history, basket(4, nav=1e12))  # gas is nothing to it
    free = replace(case, fee=np.zeros(4), impact=np.zeros_like(case.impact))
    found = premium_of(free, schedule(len(history.ts), 0.0, 0.0, box=True, scale=np.ones(4), direct=True))
    assert found.over_growth_average == pytest.approx(found.excess_growth, rel=0.02)
    assert found.cost == pytest.approx(0.0, abs=1e-3)


def test_hold_earns_no_premium_over_buy_and_hold(history):
    case = prepare(history, basket(4))
    found = premium_of(case, REACTIVE[0].plan(case))
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
    run = simulate(case, Calendar("c", weekly=True).plan(case), history.week(), path=True)
    held = run.path.copy()
    held[run.log.step] = run.log.after
    span = slice(case.first, case.last)
    assert rebalancing_premium.te_annual(held[span] - case.portfolio.target, case.returns[span]) == pytest.approx(
        run.te_annual
    )
    assert rebalancing_premium.turnover_a_year(run.log.before, run.log.after, run.steps) == pytest.approx(
        run.turnover * 8766 / run.steps
    )


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


@given(st.lists(st.floats(-1.0, 1.0), min_size=4, max_size=4), st.floats(0.0, 0.3), st.floats(0.0, 5e4), st.booleans())
def test_fitted_weights_keep_every_bound(wish, turnover, dust, only):
    state = STATE()
    weights = np.maximum(state.target + 0.2 * np.array(wish), 1e-3)
    weights /= weights.sum()
    mandate = Mandate(frozenset({"AAA", "BBB"}) if only else frozenset(), turnover, dust)
    after = fit(state, weights, mandate)
    change = after - state.weights
    assert after.sum() == pytest.approx(1.0)
    assert after.min() >= -1e-12
    assert np.abs(change).sum() / 2 <= turnover + 1e-12
    if only:
        assert np.all(change[2:] == 0.0)
    shrunk = turnover / max(
        float(np.abs(fit(state, weights, replace(mandate, max_turnover=9.0)) - state.weights).sum()) / 2, 1e-12
    )
    if shrunk >= 1.0:
        moved = np.abs(change[change != 0.0]) * state.nav_usd
        assert np.all(moved >= dust * (1 - 1e-9) - 1e-6)


_STATES = []


def STATE():
    return _STATES[0]


@pytest.fixture(autouse=True, scope="module")
def _state(history):
    case = prepare(history, basket(4))
    _STATES.append(case.state(case.first, np.array([0.2, 0.3, 0.24, 0.26])))


def test_a_wish_within_bounds_is_untouched():
    wish = np.array([0.25, 0.25, 0.25, 0.25])
    assert fit(STATE(), wish, Mandate()) == pytest.approx(wish)


def test_portfolio_errors_are_all_named():
    with pytest.raises(ConfigError) as error:
        check_portfolio(("A", "A"), np.array([0.5, 0.6]), np.array([0.0, 0.1]))
    assert all(word in str(error.value) for word in ("different", "sum to 1", "tolerances"))
    check_portfolio(("A", "B"), np.array([0.4, 0.6]), np.array([0.02, 0.1]))
