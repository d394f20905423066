import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from policy.solvers import bands

COST = st.floats(1e-7, 1e-2)


def cost_rate(outer, inner, g, k, eta2, q, n=1):
    """Return the long-run cost a year of trading from ``outer`` to ``inner`` in n isotropic dimensions.

    ``eta2`` is each dimension's variance a year, ``q/2 r^2`` the penalty a year. Mean time between trades
    ``(D^2 - d^2)/(n eta2)``; mean squared radius ``n/(n+2) (D^2 + d^2)/2``.
    """
    trading = n * eta2 * (g + k * (outer - inner)) / (outer**2 - inner**2)
    return trading + 0.5 * q * n / (n + 2) * (outer**2 + inner**2) / 2


def brute(g, k, eta2, q, n=1):
    """Minimise the long-run cost rate over both levels directly."""

    def rate(z):
        outer = np.exp(z[0])
        inner = outer / (1 + np.exp(-z[1]))
        return float(cost_rate(outer, inner, g, k, eta2, q, n))

    found = [
        minimize(rate, [np.log(s), i], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-16, "maxiter": 4000})
        for s in (0.02, 0.1)
        for i in (-2.0, 1.0)
    ]
    best = min(found, key=lambda f: f.fun)
    outer = np.exp(best.x[0])
    return outer, outer / (1 + np.exp(-best.x[1])), best.fun


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(("g", "k"), [(1e-5, 1e-3), (1e-4, 1e-3), (1e-3, 5e-4), (3e-6, 3e-3)])
def test_levels_minimise_the_cost_rate(g, k, n):
    eta2, q = (0.7 * 0.25) ** 2, 3 * 0.49
    outer, inner = bands.solve(g, k, bands.stiffness(q, eta2, n))
    best_outer, best_inner, best = brute(g, k, eta2, q, n)
    assert cost_rate(outer[0], inner[0], g, k, eta2, q, n) <= best * (1 + 1e-9)
    assert outer[0] == pytest.approx(best_outer, rel=1e-2)
    assert inner[0] == pytest.approx(best_inner, rel=1e-2, abs=1e-4)


@given(COST, COST, st.floats(0.1, 20.0))
def test_solution_satisfies_both_equations(g, k, B):
    outer, inner = (v[0] for v in bands.solve(g, k, B))
    assert outer > inner >= 0
    assert B * (outer - inner) ** 3 * (outer + inner) == pytest.approx(g, rel=1e-6)
    assert 4 * B * outer * inner * (outer + inner) == pytest.approx(k, rel=1e-5)


@given(COST, COST, st.floats(1e-4, 10.0), st.floats(0.1, 20.0))
def test_impact_conditions_hold_and_bound_the_trade(g, k, m, B):
    outer, inner = (v[0] for v in bands.solve(g, k, B, m))
    rho, slope = outer - inner, k + 2 * m * (outer - inner)
    assert rho <= np.sqrt(g / m) * (1 + 1e-9)
    A = 2 * B * (outer**2 + outer * inner + inner**2)
    value = A * (outer**2 - inner**2) - B * (outer**4 - inner**4)
    assert value == pytest.approx(g + k * rho + m * rho**2, rel=1e-4)
    assert 2 * A * inner - 4 * B * inner**3 == pytest.approx(slope, rel=1e-3)
    assert 2 * A * outer - 4 * B * outer**3 == pytest.approx(slope, rel=1e-3)


def test_limits_and_spend_ratios():
    eta2, q = (0.7 * 0.25) ** 2, 3 * 0.49
    B = bands.stiffness(q, eta2)
    edge, back = (v[0] for v in bands.solve(0.0, 1e-3, B))
    assert edge == back == pytest.approx((3 * 1e-3 * eta2 / (2 * q)) ** (1 / 3))
    spend = 3 * 1e-3 * eta2 / (4 * edge) - 0.5 * q * edge**2 / 3  # J* less tracking of a reflected, uniform deviation
    assert spend / (0.5 * q * edge**2 / 3) == pytest.approx(2.0)
    outer, inner = (v[0] for v in bands.solve(1e-4, 0.0, B))
    assert inner == pytest.approx(0.0, abs=1e-9)
    assert outer == pytest.approx((12 * 1e-4 * eta2 / q) ** 0.25)
    gas, tracking = eta2 * 1e-4 / outer**2, 0.5 * q * outer**2 / 6
    assert gas / tracking == pytest.approx(1.0)
    for n in (2, 5):
        radius = bands.solve(1e-4, 0.0, bands.stiffness(q, eta2, n))[0][0]
        assert radius**4 == pytest.approx(4 * (n + 2) * 1e-4 * eta2 / q)


def test_example_of_a_million():
    """50/50, 70 % volatility, gamma 3, 10 USD a trade, 10 bp: 5.10 % / 1.78 %, 13 trades a year."""
    pi, sigma = 0.5, 0.7
    eta2, q = (sigma * pi * (1 - pi)) ** 2, 3 * sigma**2
    outer, inner = (v[0] for v in bands.solve(10 / 1e6, 1e-3, bands.stiffness(q, eta2)))
    assert (outer, inner) == (pytest.approx(0.0510, abs=5e-5), pytest.approx(0.0178, abs=5e-5))
    assert eta2 / (outer**2 - inner**2) == pytest.approx(13, abs=0.5)


@given(COST, COST, st.floats(1.01, 10))
def test_a_dearer_trade_widens_the_band(g, k, factor):
    outer, inner = bands.solve(np.array([g, g * factor, g]), np.array([k, k, k * factor]), 3.0)
    assert outer[1] > outer[0]
    assert outer[2] > outer[0]
    assert inner[1] < inner[0]


def random_covariance(n, rng):
    root = rng.standard_normal((n, n + 2)) * rng.uniform(0.5, 1.5, (n, 1))
    return root @ root.T * 1e-5


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_trading_distance_solves_its_matrix_equation(n):
    rng = np.random.default_rng(n)
    target = rng.dirichlet(np.full(n, 4.0))
    sigma = random_covariance(n, rng)
    M, growth = (v[0] for v in bands.shapes(sigma[None], target))
    D = np.diag(target) - np.outer(target, target)
    C = D @ sigma @ D.T
    P = np.eye(n) - 1 / n
    left = P @ (4 * M @ C @ M + 2 * np.trace(C @ M) * M) @ P
    assert np.allclose(left, P @ sigma @ P / 2, rtol=1e-6, atol=1e-9 * np.abs(sigma).max())
    assert growth == pytest.approx(np.trace(C @ M))
    scaled, faster = (v[0] for v in bands.shapes(9 * sigma[None], target))
    assert np.allclose(M, scaled)
    assert faster == pytest.approx(9 * growth)


def test_two_assets_reduce_to_the_closed_form():
    pi, sigma2 = 0.4, 3e-5
    M, _ = bands.shapes(np.diag([sigma2, 0.0])[None] + 1e-15 * np.eye(2), np.array([pi, 1 - pi]))
    x = np.array([1.0, -1.0])
    g, gamma = 2e-4, 3.0
    width = np.sqrt(np.sqrt(g / gamma) / (x @ M[0] @ x))
    assert width == pytest.approx((12 * g * pi**2 * (1 - pi) ** 2 / gamma) ** 0.25, rel=1e-6)


def test_mean_moves_match_sampling():
    rng = np.random.default_rng(5)
    target = np.array([0.2, 0.3, 0.5])
    M, _ = bands.shapes(random_covariance(3, rng)[None], target)
    basis = bands.simplex_basis(3)
    values, vectors = np.linalg.eigh(basis.T @ M[0] @ basis)
    v = rng.standard_normal((200_000, 2))
    v /= np.linalg.norm(v, axis=1)[:, None]
    x = (v / np.sqrt(values)) @ vectors.T @ basis.T
    assert bands.mean_moves(M, 3)[0] == pytest.approx(np.abs(x).mean(axis=0), rel=1e-2)
    assert bands.mean_square_moves(M, 3)[0] == pytest.approx((x**2).mean(axis=0), rel=1e-2)


def test_exit_time_matches_a_random_walk():
    """Mean hours from the target to the tolerance, within the formula's stated roughness."""
    rng = np.random.default_rng(2)
    for n in (2, 4):
        target, tolerance = np.full(n, 1 / n), np.full(n, 0.04)
        sigma = 4e-5 * (0.4 * np.ones((n, n)) + 0.6 * np.eye(n))
        hours = bands.box_moves(sigma[None], target, tolerance, np.full(n, 5e-4))[0][0]
        D = np.diag(target) - np.outer(target, target)
        step = np.linalg.cholesky(D @ sigma @ D.T + 1e-18 * np.eye(n))
        x, left = np.zeros((600, n)), np.zeros(600)
        alive = np.ones(600, dtype=bool)
        for t in range(1, int(12 * hours)):
            x += rng.standard_normal(x.shape) @ step.T
            out = alive & (np.abs(x / tolerance).max(axis=1) >= 1)
            left[out], alive = t, alive & ~out
        assert hours == pytest.approx(left[~alive].mean(), rel=0.15)


def test_hard_band_inner_is_the_best_of_its_grid_and_early_needs_cheap_gas():
    g, k = np.array([2e-4, 5e-5]), np.full(2, 2e-5)
    outer, inner, rate = bands.hard_band(g, np.full(2, 2e-4), k, np.zeros(2), np.full(2, 300.0), early=True)
    assert outer[0] == 1.0
    assert inner[1] < outer[1] < 1.0
    trial = np.linspace(0, 0.97, 98)
    assert rate[0] == pytest.approx(((2e-4 + 2e-5 * (1 - trial)) / (300 * (1 - trial**2))).min())
