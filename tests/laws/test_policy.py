"""Laws every policy keeps, whatever its cleverness: run on each rule on random states, through Policy.decide."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.base import Forecast, Market, State
from policy.costs import DEFAULT_FEE, chain_fees, trade_cost
from policy.names import BANDS
from policy.simulation.history import load
from policy.simulation.planner import prepare
from policy.strategies.experts import kind_of, width
from policy.strategies.foresight import Clairvoyant, ForesightGas
from policy.strategies.gas_outlook import HORIZONS_H, dialled, dialled_minima, of_values
from policy.strategies.gas_process import windows
from policy.strategies.gas_tilt import MINIMA_H
from policy.strategies.planner_policy import RulePolicy
from policy.strategies.predictive import Predictive
from policy.strategies.reactive import GAS_BAND, REACTIVE
from tests.policy.conftest import START, basket, fill, frames

NAMES = ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF", "GGG", "HHH")
POLICIES = [RulePolicy(p) for p in REACTIVE]
each = pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.name)


@st.composite
def states(draw, scenario=None):
    """A random portfolio of 2 to 8 assets at a random distance from its target."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    n = draw(st.integers(2, 8))
    target = rng.dirichlet(np.full(n, 6.0)) * 0.9 + 0.1 / n
    target /= target.sum()
    weights = target * np.exp(draw(st.floats(0.0, 0.5)) * rng.standard_normal(n))
    root = rng.standard_normal((n, n + 1)) * 0.004
    depth = np.full(n, np.inf) if draw(st.booleans()) else rng.uniform(1e6, 2e7, n)
    gas = draw(st.floats(2.0, 200.0))
    market = Market(
        gas, 1800.0, chain_fees(draw(st.sampled_from([1, 8453]))), rng.uniform(1e-4, 1e-3, n), depth,
        draw(st.floats(2.0, 200.0)),
    )  # fmt: skip
    return State(
        datetime(2023, 5, 1, draw(st.integers(0, 23)), tzinfo=UTC),  # a Monday
        NAMES[:n], weights / weights.sum(), target, np.full(n, draw(st.floats(0.005, 0.1))),
        draw(st.sampled_from([1e5, 1e6, 1e7])), draw(st.floats(0.5, 10.0)),
        scenario or draw(st.sampled_from(["soft", "hard"])), root @ root.T + 1e-7 * np.eye(n), market,
    )  # fmt: skip


@each
@settings(max_examples=40, deadline=None)
@given(state=states())
def test_weights_sum_to_one_and_no_asset_overshoots(policy, state):
    decision = policy.decide(state, {})
    assert decision.weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert decision.weights.min() >= -1e-12
    if decision.action == "wait":
        assert np.array_equal(decision.weights, state.weights)
        assert decision.value_of_waiting_usd >= 0.0
    else:
        assert decision.cost_usd > 0.0
        cost = trade_cost(state.market, state.nav_usd, state.weights, decision.weights)
        assert decision.cost_usd == pytest.approx(cost.total_usd)


@pytest.mark.parametrize(
    "policy", [p for p in POLICIES if p.name == "threshold" or p.name in BANDS], ids=lambda p: p.name
)
@settings(max_examples=60, deadline=None)
@given(state=states("hard"))
def test_a_breach_is_traded_at_once_to_within_every_cap(policy, state):
    decision = policy.decide(state, {})
    breached = np.any(np.abs(state.weights - state.target) > state.tolerance)
    if breached:
        assert decision.action == "forced"
    assert np.all(np.abs(decision.weights - state.target) <= state.tolerance * (1 + 1e-9))


@each
@settings(max_examples=25, deadline=None)
@given(state=states(), seed=st.integers(0, 1000))
def test_permuting_assets_permutes_the_decision(policy, state, seed):
    p = np.random.default_rng(seed).permutation(len(state.assets))
    market = replace(state.market, fee=state.market.fee[p], depth_usd=state.market.depth_usd[p])
    other = replace(
        state, assets=tuple(state.assets[i] for i in p), weights=state.weights[p], target=state.target[p],
        tolerance=state.tolerance[p], covariance=state.covariance[np.ix_(p, p)], market=market,
    )  # fmt: skip
    mine, theirs = policy.decide(state, {}), policy.decide(other, {})
    mine_cost, their_cost = mine.cost_usd, theirs.cost_usd
    assert their_cost == pytest.approx(mine_cost, rel=0.02, abs=1e-6)
    if len(state.assets) == 2 or policy.name not in BANDS:
        assert theirs.weights == pytest.approx(mine.weights[p], abs=1e-7)


@each
@settings(max_examples=25, deadline=None)
@given(state=states("soft"), factor=st.floats(1.0, 20.0))
def test_dearer_trading_never_triggers_sooner(policy, state, factor):
    """Gas and fee higher by a factor: what waited still waits."""
    fees = replace(
        state.market.fees, gas_base=int(state.market.fees.gas_base * factor),
        gas_per_leg=int(state.market.fees.gas_per_leg * factor),
    )  # fmt: skip
    dear = replace(state, market=replace(state.market, fees=fees, fee=state.market.fee * factor))
    if policy.decide(state, {}).action == "wait":
        assert policy.decide(dear, {}).action == "wait"


@each
@settings(max_examples=15, deadline=None)
@given(state=states())
def test_decide_is_pure_and_travels(policy, state):
    frozen = pickle.dumps(state)
    first = policy.decide(state, {})
    second = pickle.loads(pickle.dumps(policy)).decide(pickle.loads(frozen), {})
    assert pickle.dumps(state) == frozen
    assert np.array_equal(first.weights, second.weights)
    assert first.why == second.why


@each
def test_at_target_nothing_is_traded(policy):
    n = 4
    state = State(
        datetime(2023, 5, 1, tzinfo=UTC), NAMES[:n], np.full(n, 0.25), np.full(n, 0.25), np.full(n, 0.03), 1e6, 3.0,
        "hard", 1e-5 * np.eye(n), Market(1.0, 1800.0, chain_fees(1), np.full(n, 5e-4), np.full(n, 1e7), 50.0),
        datetime(2023, 5, 1, tzinfo=UTC) - timedelta(hours=1),
    )  # fmt: skip
    assert policy.decide(state, {}).action == "wait"
    assert policy.decide(replace(state, scenario="soft"), {}).action == "wait"


@settings(max_examples=20, deadline=None)
@given(state=states())
def test_without_a_future_or_a_forecast_the_late_policies_decide_as_gas_band(believer, state):
    base = RulePolicy(GAS_BAND).decide(state, {})
    for planner in (believer[0], ForesightGas(), Clairvoyant()):
        mine = RulePolicy(planner).decide(state, {})
        assert np.array_equal(mine.weights, base.weights), planner.name
        assert mine.action == base.action


@pytest.mark.parametrize("scenario", ["soft", "hard"])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), spread=st.floats(0.0, 0.3))
def test_the_predictive_policy_keeps_the_laws_in_its_own_market(believer, scenario, seed, spread):
    """On random weights at a random moment: a full portfolio, no overshoot, breaches traded, pure, permutable, lazy."""
    planner, history = believer
    rng = np.random.default_rng(seed)
    case = prepare(history, basket(3, scenario, 1e6))
    target = case.portfolio.target
    weights = target * np.exp(spread * rng.standard_normal(3))
    state = case.state(int(rng.integers(case.first, case.last)), weights / weights.sum())
    view = {
        (target, "1", h * 3600): Forecast(target, "1", state.ts, h * 3600, (1, 2, 3, 4, 5), 3.0, "v")
        for target, hours in (("gas", HORIZONS_H), ("gas_min", MINIMA_H))
        for h in hours
    }
    policy = RulePolicy(planner)
    decision = policy.decide(state, view)
    assert decision.weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert decision.weights.min() >= -1e-12
    assert policy.decide(state, view).why == decision.why
    if decision.action == "wait":
        assert np.array_equal(decision.weights, state.weights)
    if scenario == "hard":
        breached = np.any(np.abs(state.weights - target) > state.tolerance)
        assert decision.action == "forced" or not breached
        assert np.all(np.abs(decision.weights - target) <= state.tolerance * (1 + 1e-9))
    at_target = policy.decide(replace(state, weights=target), view)
    assert at_target.action == "wait"


@pytest.fixture(scope="module")
def believer(tmp_path_factory):
    """A predictive policy with full trust in half-true forecasts and members that have won, on a synthetic market."""
    history = load(fill(tmp_path_factory.mktemp("laws"), frames()), START, START + timedelta(days=25))
    own, values = windows(history), dialled(history, 0.5, 1)
    sure = np.ones(len(history.ts))
    planner = Predictive(
        history, replace(of_values(history, values, own, dialled_minima(history, 0.5, 1)), trust=sure, earned=sure)
    )
    lessons = {}
    for scenario in ("soft", "hard"):
        p = basket(3, scenario, 1e6)
        weights = np.zeros((len(own), width(scenario)))
        weights[:, -1] = 1.0
        lessons[kind_of(p, np.full(3, DEFAULT_FEE))] = weights
    return planner.taught(lessons), history
