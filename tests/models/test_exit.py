from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import NotEnoughData
from models.drift.excursions import (
    LEAST_CHANCE,
    Excursions,
    band_edges,
    exit_probability,
    fit_excursions,
    gaussian_exit_probability,
)

RNG = np.random.default_rng(11)


def walks(n: int, steps: int, sigma: float = 0.01) -> np.ndarray:
    return np.cumsum(sigma * RNG.standard_normal((n, steps)), axis=1)


@pytest.mark.parametrize(
    ("up", "down", "steps"), [(0.05, 0.05, 12), (0.02, 0.03, 24), (0.03, np.inf, 4), (0.01, 0.012, 1)]
)
def test_the_gaussian_probability_is_that_of_simulated_walks(up: float, down: float, steps: int) -> None:
    x = walks(60_000, steps)
    truth = ((x > up) | (x < -down)).any(axis=1).mean()
    got = gaussian_exit_probability(np.array([up]), np.array([down]), np.array([0.01]), steps)[0]
    assert got == pytest.approx(truth, abs=0.008)


def test_learnt_excursions_give_the_probability_of_other_bands_and_volatilities() -> None:
    steps = 12
    x = walks(40_000, steps, 0.004)
    scale = 0.004 * np.sqrt(steps)
    up, down = np.maximum(x.max(axis=1), 0), np.maximum(-x.min(axis=1), 0)
    models = [fit_excursions(v / scale) for v in (up, down, np.maximum(up, down))]
    y = walks(40_000, steps, 0.02)
    for above, below in ((0.05, 0.06), (0.1, 0.1), (0.15, np.inf), (0.03, 0.2)):
        truth = ((y > above) | (y < -below)).any(axis=1).mean()
        size = np.array([0.02 * np.sqrt(steps)])
        got = exit_probability(np.array([above]), np.array([below]), size, *models)[0]
        assert got == pytest.approx(truth, abs=0.015)


def test_edges_are_where_the_weight_leaves_its_band() -> None:
    target, tolerance = np.array([0.2, 0.5, 0.04]), np.array([0.05, 0.01, 0.05])
    up, down = band_edges(target, tolerance)
    assert np.allclose(target * np.exp(up), target + tolerance)
    assert np.allclose((target * np.exp(-down))[:2], (target - tolerance)[:2])
    assert np.isinf(down[2])  # a band that reaches zero cannot be left downwards


@given(st.floats(0.001, 0.3), st.floats(1.01, 4.0), st.floats(0.002, 0.05))
def test_a_wider_band_or_a_calmer_market_is_left_less_often(up: float, wider: float, sigma: float) -> None:
    a = fit_excursions(np.abs(np.random.default_rng(1).standard_t(4, 3000)))

    def chance(u: float, s: float) -> float:
        return float(exit_probability(np.array([u]), np.array([u]), np.array([s]), a, a, a)[0])

    base = chance(up, sigma)
    assert 0.0 <= base <= 1.0
    assert chance(up * wider, sigma) <= base + 1e-12
    assert chance(up, sigma * wider) >= base - 1e-12


def test_the_tail_is_a_power_law_of_the_right_index() -> None:
    x = np.random.default_rng(2).pareto(3.0, 50_000) + 1.0
    model = fit_excursions(x)
    assert model.tail_index == pytest.approx(3.0, abs=0.3)
    assert model.survival(np.array([20.0]))[0] == pytest.approx(20.0**-3, rel=0.5)
    assert model.survival(np.array([np.inf]))[0] == 0.0


def test_a_model_survives_being_written() -> None:
    model = fit_excursions(np.abs(RNG.standard_normal(500)))
    back = Excursions.of(json.loads(json.dumps(model.plain())))
    x = np.linspace(0, 6, 50)
    assert np.array_equal(model.survival(x), back.survival(x))


@pytest.mark.parametrize("steps", [2, 4, 12, 24])
def test_a_barrier_out_of_reach_is_never_met(steps: int) -> None:
    distance = np.linspace(5.5, 8.0, 40) * np.sqrt(steps) * 0.01
    far = gaussian_exit_probability(distance, np.full(40, np.inf), np.full(40, 0.01), steps)
    assert (far == LEAST_CHANCE).all()


def test_a_possible_exit_is_never_called_impossible() -> None:
    a = fit_excursions(np.abs(RNG.standard_normal(500)))
    far, near, never = np.array([5.0]), np.array([0.01]), np.array([np.inf])
    size = np.array([0.01])
    assert exit_probability(far, far, size, a, a, a)[0] == LEAST_CHANCE
    assert gaussian_exit_probability(far, never, size, 12)[0] == LEAST_CHANCE
    assert exit_probability(never, never, size, a, a, a)[0] == 0.0
    assert gaussian_exit_probability(never, never, size, 1)[0] == 0.0
    assert exit_probability(near, never, size, a, a, a)[0] > 0.1


def test_too_few_excursions_are_refused() -> None:
    with pytest.raises(NotEnoughData, match="99 known"):
        fit_excursions(np.concatenate([np.ones(99), np.full(50, np.nan)]))
