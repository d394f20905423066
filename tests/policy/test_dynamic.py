"""The dynamic programme against closed forms, an independent evaluation and its own relations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policy.solvers import bands
from policy.solvers.dynamic_program import GasChain, Terms, factors, interpolate, levels_of, solve
from policy.strategies.foresight import foresee

TERMS = Terms(gas=2e-4, fee=5e-4, impact=0.0, growth=4e-6, dims=3.0, gamma=3.0, hard=False)


def chain(**changes) -> GasChain:
    """A chain without any movement, or with the given ones."""
    flat = {
        "usual": 1.0,
        "profile": np.ones(168),
        "slow": np.array([-1e-9, 1e-9]),
        "slow_move": np.eye(2),
        "white": np.ones(1),
        "speed": np.array([1.0 - 1e-9, 1.0 + 1e-9]),
        "speed_move": np.eye(2),
    }
    return GasChain(**{**flat, **changes})


def levels(solution, terms: Terms, gas: float, hour: int = 0, slow: float = 0.0, speed: float = 0.0):
    C = np.empty(solution.keep.shape[1])
    interpolate(solution.keep[hour], slow, speed, solution.chain.speed.size, C)
    return levels_of(C, gas, terms.fee, terms.impact, solution.step, solution.forced)


@pytest.mark.parametrize("fee", [0.0, 5e-4, 5e-3])
@pytest.mark.parametrize("dims", [1.0, 3.0])
def test_constant_gas_gives_the_closed_form_band(fee, dims):
    terms = replace(TERMS, fee=fee, dims=dims)
    outer, inner = levels(solve(terms, chain(), 4, 96), terms, terms.gas)
    D, d = bands.solve_one(terms.gas, terms.fee, 0.0, terms.gamma)
    assert outer == pytest.approx(D, rel=0.04)
    assert inner == pytest.approx(d, abs=0.03 * D)


def test_one_week_is_enough_from_the_closed_form():
    daily = chain(profile=np.exp(0.5 * np.sin(np.arange(168) / 24 * 2 * np.pi)), white=np.array([0.7, 0.95, 1.4]))
    short, long = (solve(TERMS, daily, n, 40) for n in (1, 40))
    for hour in (0, 7, 18):
        assert levels(short, TERMS, 0.6 * TERMS.gas, hour)[0] == pytest.approx(
            levels(long, TERMS, 0.6 * TERMS.gas, hour)[0], rel=0.02
        )


def test_dearer_gas_never_triggers_earlier_and_a_promise_of_cheaper_gas_makes_it_wait():
    daily = chain(profile=np.exp(0.5 * np.sin(np.arange(168) / 24 * 2 * np.pi)))
    solution, flat = solve(TERMS, daily, 2, 64), solve(TERMS, chain(), 2, 64)
    triggers = [levels(solution, TERMS, f * TERMS.gas, 0)[0] for f in (0.4, 0.6, 0.8, 1.0, 1.5)]
    assert all(a <= b for a, b in zip(triggers[:-1], triggers[1:], strict=True))
    assert levels(solution, TERMS, TERMS.gas, 0)[0] > 1.2 * levels(flat, TERMS, TERMS.gas, 0)[0]


def test_a_faster_market_waits_less():
    moving = chain(
        profile=np.exp(0.5 * np.sin(np.arange(168) / 24 * 2 * np.pi)),
        speed=np.array([0.3, 1.0, 8.0, 40.0]),
        speed_move=np.eye(4),
    )
    solution = solve(TERMS, moving, 2, 64)
    triggers = [levels(solution, TERMS, TERMS.gas, 0, speed=float(i))[0] for i in range(4)]
    assert triggers[-1] < triggers[0]


def test_hard_mandate_trades_early_only_when_gas_is_cheap_and_always_at_the_edge():
    terms = Terms(gas=2e-4, fee=1e-4, impact=0.0, growth=1 / 300, dims=3.0, gamma=0.0, hard=True)
    white = np.array([0.5, 1.0, 1.5])
    solution = solve(terms, chain(white=white), 4, 48)
    cheap, dear = (levels(solution, terms, f * terms.gas) for f in (0.4, 3.0))
    assert cheap[0] < 0.95
    assert dear[0] == pytest.approx(1.0)
    assert 0.0 <= cheap[1] < cheap[0]


def expected_cost(outer, inner, gas, k, growth, penalty, dims, h, nodes):
    """Return the expected cost of levels by carrying the density of r forward, apart from the backward programme."""
    lo, cp, den = np.empty(nodes), np.empty(nodes), np.empty(nodes)
    factors(nodes, h, dims, growth, lo, cp, den)
    A = np.zeros((nodes, nodes))  # lower times upper factor: (1 - generator)
    for j in range(nodes):
        A[j, j] += den[j]
        if j + 1 < nodes:
            A[j, j + 1] += den[j] * cp[j]
        if j > 0:
            A[j, j - 1] += lo[j]
            A[j, j] += lo[j] * cp[j - 1]
    move = np.linalg.inv(A)
    r = h * np.arange(nodes)
    p = np.zeros(nodes)
    p[0] = 1.0
    total = 0.0
    for t in range(gas.size):
        hit = (r >= outer[t] - 1e-12) & (r > inner[t])
        q = p[hit]
        to = round(inner[t] / h)
        total += float(q @ (gas[t] + k * (r[hit] - h * to)))
        p[hit] = 0.0
        p[to] += q.sum()
        total += float(p @ r**2) * penalty
        p = p @ move
    return total


def test_foresight_is_never_beaten_in_expectation():
    rng = np.random.default_rng(0)
    steps, nodes, dims, growth, k = 500, 64, 2.0, 2e-5, 5e-4
    gas = 1e-4 * np.exp(0.6 * rng.standard_normal(steps))
    penalty = 2.0 * (dims + 2.0) / dims * growth * 3.0
    D, _ = bands.solve_one(float(gas.mean()), k, 0.0, 3.0)
    h = 2.5 * D / (nodes - 1)
    outer, inner = np.empty(steps), np.empty(steps)
    arrays = (np.full(steps, v) for v in (k, 0.0, growth, penalty))
    least = foresee(gas, *arrays, dims, h, nodes, nodes + 1, np.zeros(nodes), outer, inner)
    best = expected_cost(np.full(steps, D), np.zeros(steps), gas, k, growth, penalty, dims, h, nodes)
    for scale in (0.6, 0.8, 1.0, 1.3):
        o, i = bands.solve(gas, k, 3.0)
        best = min(best, expected_cost(scale * o, i, gas, k, growth, penalty, dims, h, nodes))
    assert least <= best * (1 + 1e-9)
    assert expected_cost(outer, inner, gas, k, growth, penalty, dims, h, nodes) == pytest.approx(least, rel=0.03)
