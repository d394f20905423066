"""The surface: what it is worth, what it refuses, and that it has arrived where the iteration leads."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.realtime.surface import FAST, MOVED, NODES, SLOW, learn, solve, trailing_log
from policy.solvers.bands import solve_one
from policy.solvers.dynamic_program import Terms

SOFT = Terms(gas=3e-4, fee=5e-4, impact=0.0, growth=2e-5, dims=1.5, gamma=3.0, hard=False)
HARD = Terms(gas=3e-4, fee=1e-5, impact=0.0, growth=0.02, dims=3.0, gamma=0.0, hard=True)
BUILT = 1_660_000_000
PER_HOUR = 12  # five-minute blocks keep the test cheap


def gas_path(days: int = 30, level: float = 3.0, seed: int = 0):
    """Log gas: a slow part of a day and a fast one of ten minutes."""
    rng = np.random.default_rng(seed)
    n = days * 24 * PER_HOUR
    slow, fast = np.zeros(n), np.zeros(n)
    for t in range(1, n):
        slow[t] = 0.9965 * slow[t - 1] + 0.03 * rng.standard_normal()
        fast[t] = 0.7 * fast[t - 1] + 0.12 * rng.standard_normal()
    return level + slow + fast


@pytest.fixture(scope="module")
def states():
    log = gas_path()
    found = learn(log, trailing_log(log, PER_HOUR), 300, BUILT)
    assert found is not None
    return found


def costs(states, terms):
    return terms.gas * states.price / math.exp(states.level)


def test_the_trailing_mean_knows_nothing_of_the_price_it_stands_before():
    log = gas_path(8)
    before = trailing_log(log, PER_HOUR)
    changed = log.copy()
    changed[500:] += 5.0
    assert np.array_equal(trailing_log(changed, PER_HOUR)[:501], before[:501])
    assert trailing_log(np.full(50, 2.0), PER_HOUR) == pytest.approx(2.0)


def test_states_are_counted_and_their_moves_are_probabilities(states):
    assert states.move.shape == (SLOW * FAST, SLOW * FAST)
    assert np.allclose(states.move.sum(axis=1), 1.0)
    assert states.move.min() > 0.0
    assert np.all(np.diff(states.price.reshape(SLOW, FAST), axis=1) > 0.0)  # dearer residual, dearer gas


def test_a_few_days_teach_nothing():
    log = gas_path(6)
    assert learn(log, trailing_log(log, PER_HOUR), 300, BUILT) is None


@pytest.mark.parametrize("terms", [SOFT, HARD])
def test_reservation_prices_rise_with_distance_and_trades_end_inside(states, terms):
    found = solve(terms, states, costs(states, terms), steps=3_000)
    seen = found.reserve[: NODES - 1]
    assert np.all(np.diff(seen, axis=0) > -1e-9)
    assert np.all(found.back <= found.node * np.arange(NODES)[:, None] + 1e-12)
    assert np.allclose(found.reserve[0], 0.0)
    cheap, dear = found.reserve[:, 0], found.reserve[:, -1]
    middle = NODES // 2
    assert cheap[middle] < dear[middle]  # where gas is low it will hardly be lower: only where it is high one waits


def test_in_still_gas_the_trigger_is_the_closed_band(states):
    """One price in every state: nothing to wait for, so the surface is the exact band, to the grid and the minute."""
    gas = np.full(states.price.size, SOFT.gas)
    found = solve(SOFT, states, gas, steps=20_000)
    outer, inner = solve_one(SOFT.gas, SOFT.fee, SOFT.impact, SOFT.gamma)
    r = found.node * np.arange(NODES)
    trigger = np.interp(SOFT.gas, found.reserve[:, 0], r)
    assert trigger == pytest.approx(outer, rel=0.06)
    back = np.interp(trigger, r, found.back[:, 0])
    assert abs(back - inner) < 1.5 * found.node


def test_the_next_surface_starts_where_the_last_one_ended(states):
    gas = costs(states, SOFT)
    whole = solve(SOFT, states, gas, steps=12_000)
    again = solve(SOFT, states, gas, before=whole)
    assert np.allclose(again.reserve, whole.reserve, rtol=0.02, atol=0.02 * SOFT.gas)
    assert again.digest != whole.digest
    assert solve(SOFT, states, gas, steps=12_000).digest == whole.digest


@settings(max_examples=60, deadline=None)
@given(st.integers(-400, 400).map(lambda n: n / 100 + 0.003), st.integers(-(10**6), 2 * 10**6))
def test_it_is_refused_when_old_ahead_of_its_time_or_off_its_level(states, shift, age):
    why = states.refused(BUILT + age, states.level + shift)
    fine = 0.0 <= age <= 8 * 86_400 and abs(shift) <= math.log(MOVED)
    assert (why is None) == fine
    if why is not None:
        assert "old" in why or "times the level" in why


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_an_unknown_level_or_clock_is_refused(states, bad):
    assert states.refused(BUILT + 10, bad) is not None
    assert states.refused(bad, states.level) is not None


def test_a_level_five_times_off_falls_back_to_the_band_in_the_ledger(fine_lake, fine_history):
    """Gas that jumps tenfold: from then on the surface decides nothing, and the block band's trades are its trades."""
    from policy.comparison import resolved
    from policy.realtime.looks import LOOKS
    from policy.simulation.block_world import build
    from policy.simulation.planner import prepare
    from tests.policy.conftest import basket
    from tests.realtime.conftest import END
    from tests.realtime.test_block_ledger import config

    names = ("gas_band_5m", "surface_5m")
    field = resolved.field_of(fine_lake, fine_history, config("5m", names))
    assert (field.state >= 0).mean() > 0.9
    world = build(fine_lake, fine_history).every(300)
    jumped = replace(world, gas_gwei=world.gas_gwei * 10.0, past_gwei=world.past_gwei)
    far = resolved.states_of(jumped)
    assert (far.state[-len(far.state) // 4 :] == -1).all()
    case = prepare(fine_history, basket(2, "soft", nav=1e5, end=END))
    log = np.log(jumped.gas_gwei)
    step = np.ptp(log) / (resolved.COLUMNS - 1)
    refused = replace(
        field, world=jumped, lowest=float(log.min()), step=step, gas_at=(log - log.min()) / step,
        state=np.full(log.size, -1, dtype=np.int64),
    )  # fmt: skip
    tables, surfaces = resolved.gas_tables(case, refused), resolved.surfaces_of(case, refused)
    week = fine_history.week()
    band, surface = (
        resolved.simulate(case, refused, week, look=LOOKS[n], table=tables, surfaces=surfaces) for n in names
    )
    assert band.trades == surface.trades
    assert np.array_equal(band.weekly, surface.weekly)
