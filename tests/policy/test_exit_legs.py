"""Swaps of a box chosen by the exit time they leave, and reactive rules that use it: one step, live and compiled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policy.simulation.planner import apply, prepare
from policy.simulation.simulator import simulate
from policy.solvers import bands
from policy.solvers.trade_set import exit_square
from policy.strategies.planner_policy import RulePolicy
from policy.strategies.reactive import GAS_BAND, GAS_BAND_EXIT, GAS_TILT, Bands, memory_of, recalled
from tests.policy.conftest import basket

GAS_BAND_V1 = Bands("gas_band_v1", constant=False, exit_legs=False)  # the rule before: legs by the largest deviation
RULES = (GAS_BAND, GAS_BAND_V1, GAS_TILT, GAS_BAND_EXIT, Bands("band", constant=True))


def ones(case):
    return np.zeros(len(case.history.ts), dtype=np.int64)


def diagonal(v):
    return np.diag(np.asarray(v, dtype=np.float64) ** (4 / 3))


@pytest.mark.parametrize("seed", range(20))
def test_the_exit_distance_lies_between_nothing_and_the_largest_deviation(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    scale = 1 / rng.uniform(0.01, 0.05, n)
    x = rng.uniform(-1, 1, n) / scale
    shape = diagonal(rng.uniform(0.1, 3.0, n))
    largest = float(np.max(np.abs(x) * scale))
    found = exit_square(x, shape, scale)
    assert 0.0 <= found <= largest**2 + 1e-12
    assert exit_square(np.zeros(n), shape, scale) == pytest.approx(0.0, abs=1e-12)
    even = np.where(rng.random(n) < 0.5, -1.0, 1.0) * 0.7 / scale
    assert exit_square(even, shape, scale) == pytest.approx(0.49)  # as far in every asset: the distance itself
    assert exit_square(x, np.zeros((n, n)), scale) == largest**2  # no speeds: the distance decides
    nearer = x.copy()
    nearer[np.argmin(np.abs(x) * scale)] = 0.0
    assert exit_square(nearer, shape, scale) <= found + 1e-12  # the largest deviation alone does not see this


def test_the_exit_distance_ranks_as_simulated_exit_times_do():
    """Independent walks in a cube: the largest deviation is the same from the second start on, the exit time is not."""
    rng = np.random.default_rng(3)
    n, paths = 4, 800
    starts = np.array([[0.0, 0, 0, 0], [0.7, 0, 0, 0], [0.7, 0.7, 0, 0], [0.7, 0.7, 0.7, 0.7]])
    noise = 0.05 * rng.standard_normal((1000, paths, n))
    times = []
    for start in starts:
        x, alive, out = np.tile(start, (paths, 1)), np.ones(paths, dtype=bool), 0.0
        for move in noise:
            x += move
            alive &= np.abs(x).max(axis=1) < 1
            out += alive.mean()
        times.append(out)
    said = [exit_square(s, diagonal(np.ones(n)), np.ones(n)) for s in starts]
    assert times[0] > 1.2 * times[1] > 1.2**2 * times[2] > 1.2**3 * times[3]
    assert said[0] < said[1] < said[2] < said[3]


def test_speeds_of_a_day_are_those_of_a_state(history):
    case = prepare(history, basket(5, "hard", tolerance=0.03))
    p = case.portfolio
    for step in range(case.first, case.last, 131):
        day = history.day[step]
        alone = bands.exit_shapes(case.covariance[day][None], p.target, p.tolerance)[0]
        assert alone == pytest.approx(case.exits[day], rel=1e-12)
        D = np.diag(p.target) - np.outer(p.target, p.target)
        v = np.diag(D @ case.covariance[day] @ D.T) / p.tolerance**2
        assert np.diag(case.exits[day]) == pytest.approx(v ** (4 / 3), rel=1e-9)


@pytest.mark.parametrize("scenario", ["soft", "hard"])
@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_a_live_decision_makes_the_trade_the_simulator_makes(history, rule, scenario):
    case = prepare(history, basket(5, scenario, 1e5, 0.02))
    run = simulate(case, rule.levels_over(case), ones(case))
    assert run.trades > 3
    assert run.violations_did_not == 0
    for i in range(0, run.trades, max(1, run.trades // 12)):
        step = int(run.log.step[i])
        named = replace(rule, name="gas_band" if rule is GAS_BAND_V1 else rule.name)
        memory = memory_of(named, case, step)
        own = rule if rule is GAS_BAND_V1 else recalled(memory)
        state = case.state(step, run.log.before[i])
        assert apply(state, own.levels_at(state, {})).after == pytest.approx(run.log.after[i], abs=1e-12)
        assert RulePolicy(own, memory).decide(state, {}).action in {"trade", "forced"}


def test_between_trades_a_live_decision_waits_as_the_simulator_does(history):
    """Also where the trigger meets the exit distance: a deviation of one asset is left alone a while longer."""
    case = prepare(history, basket(5, "hard", 1e5, 0.02))
    waited = {}
    for rule in (GAS_BAND, GAS_BAND_EXIT):
        run = simulate(case, rule.levels_over(case), ones(case), path=True)
        quiet = [t for t in range(case.first, case.last, 23) if t not in set(run.log.step.tolist())]
        for t in quiet:
            state = case.state(t, run.path[t])
            assert apply(state, rule.levels_at(state, {})).reason == 0
        waited[rule.name] = run.trades
    assert waited["gas_band_exit"] <= waited["gas_band"]


def test_the_legs_differ_from_the_rule_before_and_soft_mandates_do_not_notice(history):
    hard, soft = (prepare(history, basket(5, s, 1e5, 0.02)) for s in ("hard", "soft"))
    new, old = (simulate(hard, r.levels_over(hard), ones(hard)) for r in (GAS_BAND, GAS_BAND_V1))
    assert new.trades != old.trades or not np.array_equal(new.log.after, old.log.after)
    new, old = (simulate(soft, r.levels_over(soft), ones(soft)) for r in (GAS_BAND, GAS_BAND_V1))
    assert np.array_equal(new.weekly, old.weekly)


def test_the_tilt_waits_in_dear_hours_and_knows_nothing_of_later_ones(history):
    case = prepare(history, basket(4, "soft"))
    base, plan = GAS_BAND.levels_over(case), GAS_TILT.levels_over(case)
    relative = np.log(history.gas_gwei / history.recent_gwei)
    moved = np.log(plan.outer / base.outer)[case.first : case.last]
    assert np.corrcoef(moved, relative[case.first : case.last])[0, 1] > 0.9
    assert abs(moved.mean()) < 0.05
    cut = case.first + 300
    gas = history.gas_gwei.copy()
    gas[cut + 1 :] *= 3.0
    later = prepare(replace(history, gas_gwei=gas), case.portfolio)
    assert np.array_equal(GAS_TILT.levels_over(later).outer[: cut + 1], plan.outer[: cut + 1])
