"""A hard mandate is never left while one admissible trade could have kept it, on paths with holes and turnover caps.

What an admissible trade could have done is asked of a linear programme, not of the code under test.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from policy.costs import chain_fees
from policy.simulation.history import History
from policy.simulation.planner import Partial, Portfolio, prepare, schedule
from policy.simulation.simulator import simulate
from policy.solvers import step_kernel
from policy.solvers.partial import NEAR
from policy.strategies.planner_policy import RulePolicy
from policy.strategies.reactive import REACTIVE

HOURS = 240
KEEPING = [r for r in REACTIVE if r.name in ("threshold", "band", "gas_band")]


def market(rng: np.random.Generator, n: int, sigma: float, holes: float, jumps: float) -> History:
    """Random prices of n assets, each with holes of some hours (its price stands still, then catches up), and gas."""
    moves = sigma * rng.standard_normal((HOURS + 1, n)) + sigma * 6 * (rng.random((HOURS + 1, n)) < jumps)
    close = np.exp(np.cumsum(moves, axis=0))
    tradable = np.ones((HOURS + 1, n), dtype=np.bool_)
    for i in range(n):
        for start in np.flatnonzero(rng.random(HOURS) < holes):
            stop = min(start + int(rng.integers(1, 40)), HOURS)
            tradable[start:stop, i] = False
            close[start:stop, i] = close[max(start - 1, 0), i] if rng.random() < 0.7 else close[start:stop, i]
    returns = np.zeros_like(close)
    returns[:-1] = close[1:] / close[:-1] - 1.0
    ts = 1_660_000_000_000_000 // 3_600_000_000 * 3_600_000_000 + np.arange(HOURS + 1) * 3_600_000_000
    day = ts // 86_400_000_000 - ts[0] // 86_400_000_000
    gas = 20.0 * np.exp(0.5 * rng.standard_normal(HOURS + 1))
    depth = np.full(close.shape, np.inf) if rng.random() < 0.5 else rng.uniform(1e5, 1e7, close.shape)
    flat = np.full(HOURS + 1, 20.0)
    root = rng.standard_normal((n, n + 1)) * sigma
    covariance = np.tile(root @ root.T / n + 1e-8 * np.eye(n), (int(day[-1]) + 1, 1, 1))
    names = tuple(f"A{i}" for i in range(n))
    return History(
        ts, names, close, returns, gas, np.full(HOURS + 1, 1500.0), depth, flat, flat, depth, covariance, day,
        tradable, 0, 0, (), "",
    )  # fmt: skip


@st.composite
def cases(draw):
    """A portfolio with its own caps in a market of its own, with a rule that keeps hard mandates."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    n = draw(st.integers(2, 6))
    history = market(
        rng, n, draw(st.sampled_from([0.005, 0.02, 0.05])), draw(st.sampled_from([0.0, 0.01, 0.05])),
        draw(st.sampled_from([0.0, 0.02])),
    )  # fmt: skip
    target = 0.3 / n + 0.7 * rng.dirichlet(np.ones(n))
    tolerance = rng.uniform(0.005, 0.12, n) if draw(st.booleans()) else np.full(n, draw(st.floats(0.005, 0.1)))
    limit = draw(st.sampled_from([1.0, 1.0, 0.25, 0.02, 0.004]))
    portfolio = Portfolio(
        "p", "hard", history.assets, target, tolerance, draw(st.sampled_from([1e4, 1e6, 1e8])), 3.0, chain_fees(1),
        history.when(0), history.when(HOURS), rng.uniform(0.0, 0.01, n), max_turnover=limit,
    )  # fmt: skip
    case = prepare(history, portfolio)
    if draw(st.booleans()):
        return case, draw(st.sampled_from(KEEPING)).levels_over(case)
    T = HOURS + 1
    inner = rng.uniform(0.0, 1.2, T)
    outer, partial = rng.uniform(0.3, 3.0, T), Partial(rng.uniform(0.1, 3.0, T), rng.uniform(1e-5, 0.3, T))
    return case, schedule(T, outer, inner, partial=partial, box=True, must=True, direct=draw(st.booleans()))


def best_level(w, case, open_) -> float:
    """Least largest deviation, in tolerances, of the open assets after one admissible trade from weights ``w``."""
    p, n = case.portfolio, len(w)
    # variables: bought, sold (n each), level
    eye = np.eye(n)
    up = np.hstack([eye, -eye, -p.tolerance[:, None]])[open_]
    down = np.hstack([-eye, eye, -p.tolerance[:, None]])[open_]
    x = (w - p.target)[open_]
    turn = np.r_[np.ones(n), np.zeros(n), 0.0][None, :]
    poor = np.hstack([-eye, eye, np.zeros((n, 1))])
    found = linprog(
        np.r_[np.zeros(2 * n), 1.0],
        A_ub=np.vstack([up, down, turn, poor]), b_ub=np.r_[-x, x, p.max_turnover, w],
        A_eq=np.r_[np.ones(n), -np.ones(n), 0.0][None, :], b_eq=[0.0],
        bounds=[(0.0, None if o else 0.0) for o in (*open_, *open_)] + [(0.0, None)],
    )  # fmt: skip
    assert found.status == 0
    return float(found.x[-1])


@settings(max_examples=150, deadline=None)
@given(given_=cases())
def test_no_breach_is_left_that_one_admissible_trade_could_have_ended(given_):
    case, plan = given_
    p, week = case.portfolio, case.history.week()
    run = simulate(case, plan, week, path=True)
    assert run.violations_did_not == 0
    assert run.violations_could_not == run.violations
    after = run.path.copy()
    after[run.log.step] = run.log.after
    moved = run.log.after - run.log.before
    shut = ~case.history.tradable[run.log.step]
    assert np.all(moved[shut] == 0.0)  # what has no market is not traded
    assert np.all(np.abs(moved).sum(axis=1) / 2 <= p.max_turnover * (1 + 1e-9))
    assert np.allclose(run.log.after.sum(axis=1), 1.0, atol=1e-12)
    broken = np.abs(after[: case.last] - p.target) > p.tolerance + 1e-12
    hours = np.flatnonzero(broken.any(axis=1))
    assert hours.size == run.violations
    for t in hours[:: max(1, hours.size // 6)]:
        open_ = case.history.tradable[t]
        if open_.sum() < 2:
            continue
        best = best_level(run.path[t], case, open_)
        far = np.abs(after[t] - p.target) / p.tolerance
        assert best > 1.0 - 1e-7 or np.any(far[~open_] > 1.0)  # no trade could have ended it
        assert far[open_].max() <= max(best, 1.0) + NEAR + 1e-6  # and the one made went as near as it can


@settings(max_examples=15, deadline=None)
@given(given_=cases())
def test_a_live_decision_with_an_untradable_asset_is_that_of_the_panel(given_):
    case, _ = given_
    rule = KEEPING[-1]
    run = simulate(case, rule.levels_over(case), case.history.week(), path=True)
    after, last = dict(zip(run.log.step, run.log.after, strict=True)), None
    for t in range(case.first, case.last, 5):
        last = case.history.when(t - 1) if t - 1 in after else None
        decision = RulePolicy(rule).decide(case.state(t, run.path[t], last), {})
        assert (decision.action != "wait") == (t in after)
        assert decision.weights == pytest.approx(after.get(t, run.path[t]), abs=1e-9)


def test_without_holes_and_caps_nothing_changes():
    """The partial step is entered only where it must be: open and unlimited, a run is the same to the last bit."""
    history = market(np.random.default_rng(1), 4, 0.02, 0.0, 0.0)
    portfolio = Portfolio(
        "p", "hard", history.assets, np.full(4, 0.25), np.full(4, 0.02), 1e6, 3.0, chain_fees(1), history.when(0),
        history.when(HOURS),
    )  # fmt: skip
    case = prepare(history, portfolio)
    runs = [
        simulate(c, KEEPING[-1].levels_over(c), history.week())
        for c in (case, replace(case, history=replace(history, tradable=np.ones(HOURS + 1, dtype=np.bool_))))
    ]
    assert runs[0].trades == runs[1].trades > 0
    assert np.array_equal(runs[0].log.after, runs[1].log.after)
    assert step_kernel.FORCED in runs[0].log.reason


def test_a_calendar_trades_what_it_can(history):
    """A rule without a mandate moves the open assets only, towards their targets."""
    shut = history.tradable.copy()
    shut[:, 0] = False
    gone = replace(history, tradable=shut)
    portfolio = Portfolio(
        "p", "soft", history.assets, np.full(5, 0.2), np.full(5, 0.02), 1e6, 3.0, chain_fees(1),
        history.when(history.first), history.when(len(history.ts) - 1),
    )  # fmt: skip
    case = prepare(gone, portfolio)
    for rule in REACTIVE:
        run = simulate(case, rule.levels_over(case), history.week())
        assert np.all(run.log.after[:, 0] == run.log.before[:, 0]), rule.name
        assert np.all(run.log.after >= 0.0)
        assert rule.name == "hold" or run.trades > 0, rule.name
