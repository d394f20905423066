"""What outcomes prove of a forecast, and that a forecast without skill leaves the gas process alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.simulation.planner import prepare
from policy.strategies import gas_outlook as dial
from policy.strategies.gas_outlook import HORIZONS_H, dialled, dialled_minima, of_process, of_values, path
from policy.strategies.gas_process import windows
from policy.strategies.gas_tilt import leant_minima
from policy.strategies.predictive import Predictive
from policy.strategies.proven import LEAST_H, proven_slope
from tests.policy.conftest import basket


@given(seed=st.integers(0, 10**6), slope=st.floats(0.0, 1.0), noise=st.floats(0.01, 0.5))
@settings(max_examples=60, deadline=None)
def test_a_slope_is_proven_within_its_noise_and_never_above_what_least_squares_finds(seed, slope, noise):
    rng = np.random.default_rng(seed)
    said, plain = rng.standard_normal((2, 2_000))
    missed = slope * said + noise * rng.standard_normal(2_000)
    found = proven_slope(said, missed, plain)
    squares = float(np.linalg.lstsq(np.column_stack([said, plain, np.ones(2_000)]), missed, rcond=None)[0][0])
    assert 0.0 <= found <= min(max(squares, 0.0), 1.0)
    assert found == pytest.approx(min(squares, 1.0), abs=0.1 * noise + 0.02)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_noise_proves_next_to_nothing(seed):
    """Also beside a plain forecast that swings twice too far: its error is in both, and is not the noise's merit."""
    rng = np.random.default_rng(seed)
    truth, noise = rng.standard_normal((2, 2_000))
    plain = 0.5 * truth + rng.standard_normal(2_000)
    assert proven_slope(noise - plain, truth - plain, plain) < 0.05


def test_few_outcomes_unknown_ones_and_a_forecast_that_adds_nothing_prove_nothing():
    said, flat = np.linspace(-1.0, 1.0, LEAST_H), np.zeros(LEAST_H)
    assert proven_slope(said, said, flat) == pytest.approx(1.0)
    assert proven_slope(said[1:], said[1:], flat[1:]) == 0.0
    holes = said.copy()
    holes[3] = np.nan
    assert proven_slope(holes, said, flat) == proven_slope(said, holes, flat) == proven_slope(said, said, holes) == 0.0
    assert proven_slope(np.zeros(500), np.ones(500), np.ones(500)) == 0.0
    assert proven_slope(np.ones(500), np.ones(500), np.arange(500.0)) == 0.0  # a constant foretells nothing that moves
    assert proven_slope(-said, said, flat) == 0.0  # worse than nothing is nothing, not a reason to bet against it


def test_neighbouring_hours_that_share_an_outcome_count_as_one_day():
    rng = np.random.default_rng(3)
    days = rng.standard_normal((60, 2))
    said, other = np.repeat(days[:, 0], 24), np.repeat(days[:, 1], 24)
    flat = np.zeros(said.size)
    assert proven_slope(said, 0.1 * said + other, flat) == 0.0  # 60 days of such noise prove no slope of 0.1
    alone = rng.standard_normal(said.size)
    assert proven_slope(alone, 0.1 * alone + rng.standard_normal(said.size), flat) > 0.0  # 1,440 such hours do


def test_the_process_alone_is_what_forecasts_that_repeat_it_leave(history):
    own = windows(history)
    alone = of_process(history, own)
    assert not alone.shares.any()
    assert not alone.least_shares.any()
    first = own[0].first
    assert np.isfinite(path(history, own, alone.slow)[first : own[-1].last]).all()
    assert np.isfinite(alone.least[first:]).all()
    assert alone.tilt.issued[first:].all()


@pytest.mark.parametrize("scenario", ["soft", "hard"])
def test_forecasts_without_skill_decide_as_the_gas_process_alone(history, scenario):
    """Noise moves neither the state nor the least gas to come, so levels are those of the process to the bit."""
    own = windows(history)
    noise = of_values(history, dialled(history, 0.0, 4), own, dialled_minima(history, 0.0, 4))
    alone = of_process(history, own)
    assert noise.shares.max() < 0.1
    silent = not noise.shares.any() and not noise.least_shares.any()
    case = prepare(history, basket(4, scenario, 1e6))
    levels = [Predictive(history, o).levels_over(case) for o in (noise, alone)]
    part = slice(max(case.first, own[0].first), case.last)
    ratio = levels[0].outer[part] / levels[1].outer[part]
    assert np.abs(np.log(ratio)).mean() < (1e-12 if silent else 0.05)


def test_true_forecasts_move_the_process_towards_the_truth(history):
    own = windows(history)
    right = of_values(history, dialled(history, 1.0, 1), own, dialled_minima(history, 1.0, 1))
    alone = of_process(history, own)
    log_gas = np.log(history.gas_gwei)
    h = 4
    at = slice(own[-1].first, own[-1].last - h)
    column = HORIZONS_H.index(h)
    truth = log_gas[own[-1].first + h : own[-1].last]
    errors = [np.abs(path(history, own, o.slow)[at, column] - truth).mean() for o in (right, alone)]
    assert right.shares[-1] > 0.5
    assert errors[0] < errors[1]


def test_least_gas_moves_by_its_share_and_only_where_something_is_said():
    own, said = np.array([[2.0, 1.0], [2.0, 1.0]]), np.array([[3.0, 3.0], [np.nan, 2.0]])
    share = np.array([[0.5, 0.0], [0.5, 1.0]])
    assert leant_minima(own, said, share).tolist() == [[2.5, 1.0], [2.0, 2.0]]


def test_trust_is_in_the_path_decisions_rest_on_and_needs_a_fresh_forecast(history):
    values = dialled(history, 0.0, 9)
    values[-3:] = np.nan
    found = of_values(history, values, windows(history))
    assert found.trust[-3:].max() == 0.0
    assert (found.earned[: dial.LEAST_H] == 0.0).all()
