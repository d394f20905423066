from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import minimize

from policy.solvers import bands
from policy.solvers.trade_set import EDGE, cheapest, radius


def case(seed, n):
    rng = np.random.default_rng(seed)
    target = rng.dirichlet(np.full(n, 4.0))
    root = rng.standard_normal((n, n + 1))
    M = np.ascontiguousarray(bands.shapes((root @ root.T * 1e-5)[None], target)[0][0])
    x = rng.standard_normal(n) * 0.03
    return x - x.mean(), M, rng


def cost_of(x, after, M, scale, box, A, B, leg, fee, impact):
    dw = np.abs(after - x)
    left = radius(after, M, scale, box)
    flat = min(left, np.sqrt(0.5 * A / B)) if B else left
    return leg * max(1, np.count_nonzero(dw) - 1) + 0.5 * fee @ dw + impact @ dw**2 + A * flat**2 - B * flat**4


def run(x, M, scale, box, inner, forced, A, B, leg, fee, impact):
    out = np.empty_like(x)
    cheapest(x, M, scale, box, inner, forced, A, B, leg, fee, impact, out)
    return out


@pytest.mark.parametrize("n", [3, 4, 5])
@pytest.mark.parametrize("seed", range(6))
def test_soft_choice_is_near_the_best_of_all_sets(seed, n):
    """Against every subset with its best continuous move, at a band consistent with the costs."""
    x, M, _ = case(seed, n)
    scale, fee, impact, leg = np.ones(n), np.full(n, 5e-4), np.full(n, 1e-4), 5e-5
    k, m = 0.5 * bands.mean_moves(M[None], n)[0] @ fee, impact @ bands.mean_square_moves(M[None], n)[0]
    outer, inner = (v[0] for v in bands.solve(1.9 * leg, k, 3.0, m))
    x *= 1.02 * outer / radius(x, M, scale, False)
    A = 2 * 3.0 * (outer**2 + outer * inner + inner**2)
    out = run(x, M, scale, False, inner, False, A, 3.0, leg, fee, impact)
    mine = cost_of(x, out, M, scale, False, A, 3.0, leg, fee, impact)
    best = np.inf
    for size in range(2, n + 1):
        for chosen in combinations(range(n), size):
            free = list(chosen)

            def total(z, free=free):
                after = x.copy()
                after[free[:-1]] += z
                after[free[-1]] -= z.sum()
                flat = min(radius(after, M, scale, False), np.sqrt(0.5 * A / 3.0))
                dw = np.abs(after - x)
                return leg * (len(free) - 1) + 0.5 * fee @ dw + impact @ dw**2 + A * flat**2 - 3.0 * flat**4

            start = -x[free[:-1]]
            best = min(best, minimize(total, start, method="Nelder-Mead", options={"maxiter": 300}).fun)
    assert best * (1 - 1e-6) <= mine <= best * 1.05


@pytest.mark.parametrize("box", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_trades_sum_to_zero_come_nearer_and_forced_ones_end_inside(seed, box):
    n = 2 + seed % 6
    x, M, rng = case(seed, n)
    scale = np.full(n, 1 / 0.02)
    fee, impact = np.full(n, 5e-4), np.zeros(n)
    r = radius(x, M, scale, box)
    forced = box and r >= 1
    out = run(x, M, scale, box, 0.4 * r, forced, 1e-3, 0.0 if box else 1e-4, 1e-5, fee, impact)
    assert out.sum() == pytest.approx(0.0, abs=1e-12)
    assert radius(out, M, scale, box) < r
    if forced:
        assert np.abs(out).max() <= 0.02 * EDGE * (1 + 1e-12)


def test_free_swaps_reach_the_inner_level_and_dear_ones_are_few():
    x, M, _ = case(3, 5)
    scale, fee, impact = np.ones(5), np.full(5, 1e-9), np.zeros(5)
    r = radius(x, M, scale, False)
    A = 2 * 3.0 * r**2
    legs = []
    for leg in np.array([0.0, 0.02, 0.2, 2.0]) * A * r**2:
        out = run(x, M, scale, False, 0.2 * r, False, A, 3.0, leg, fee, impact)
        legs.append(np.count_nonzero(np.abs(out - x) > 1e-15) - 1)
        if leg == 0.0:
            assert radius(out, M, scale, False) == pytest.approx(0.2 * r, rel=1e-6)
    assert legs == sorted(legs, reverse=True)
    assert legs[0] > legs[-1] == 1


@pytest.mark.parametrize("box", [False, True])
def test_permuting_assets_permutes_the_trade(box):
    for seed in range(10):
        x, M, rng = case(seed, 5)
        scale, fee, impact = 1 / rng.uniform(0.01, 0.03, 5), rng.uniform(1e-4, 1e-3, 5), rng.uniform(0, 1e-2, 5)
        p = rng.permutation(5)
        r = radius(x, M, scale, box)
        out = run(x, M, scale, box, 0.3 * r, False, 1e-3, 0.0, 1e-5, fee, impact)
        other = run(
            x[p],
            np.ascontiguousarray(M[np.ix_(p, p)]),
            scale[p],
            box,
            0.3 * r,
            False,
            1e-3,
            0.0,
            1e-5,
            fee[p],
            impact[p],
        )
        assert np.allclose(other, out[p], atol=1e-9)
