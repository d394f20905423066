"""Exact no-trade bands for fixed, proportional and quadratic trading cost, in one or many dimensions.

In a scalar distance r from the target the relative cost-to-go inside the no-trade region is
``V(r) = A r^2 - B r^4``: the solution regular at 0 of ``a/2 (V'' + (n-1)/r V') + q/2 r^2 = J``, with
``B = q / (4 (n+2) a)``. Trading from outer radius D to inner d costs ``c(D-d) = g + k (D-d) + m (D-d)^2`` and is
optimal when ``V(D) - V(d) = c(D-d)`` and ``V'(D) = V'(d) = c'(D-d)``. With rho = D - d and S = D + d that is

    g - m rho^2 = B rho^3 S        k + 2 m rho = B S (S^2 - rho^2)

The first gives S for a rho, the second then falls in rho: one root, found by Newton inside a bracket. With m = 0 and
n = 1 these are ``g = (s/2) rho^3 S, k = 2 s D d S`` with ``s = q / (6 a)``; n enters only through B. Without gas
rho = 0 (trade to the edge: Janecek-Shreve 2004, Gerhold et al. arXiv 1108.1167), without fee d = 0 (quartic root).
Quadratic cost bounds a single trade: ``rho <= sqrt(g / m)``; what is larger is better split.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from policy.base import Matrix, Vector
from policy.solvers.trade_set import POWER

_ITERATIONS = 80
_CLOSE = 1e-13


@njit(cache=True, nogil=True)
def solve_one(g: float, k: float, m: float, B: float, guess: float = 0.0) -> tuple[float, float]:
    """Return (outer, inner) radius for fixed cost ``g``, proportional ``k``, quadratic ``m`` and stiffness ``B``.

    Costs are fractions of NAV (``k`` per unit radius, ``m`` per radius squared); ``B > 0``. ``guess`` of outer - inner
    speeds up a series of similar problems; 0 has none.
    """
    if g <= 0.0:
        half = 0.5 * (k / B) ** (1.0 / 3.0)
        return half, half
    # largest possible rho: S = rho, i.e. B rho^4 + m rho^2 = g
    high = math.sqrt(2.0 * g / (m + math.sqrt(m * m + 4.0 * B * g)))
    if k + 2.0 * m * high <= 0.0:  # neither fee nor impact: to the target
        return high, 0.0
    low = 0.0
    rho = high / (1.0 + (k / (B * high**3)) ** (1.0 / 3.0)) if k > 0.0 else 0.5 * high
    if 0.0 < guess < high:
        rho = guess
    for turn in range(_ITERATIONS):
        S = (g - m * rho * rho) / (B * rho**3)
        left, right = B * S * (S * S - rho * rho), k + 2.0 * m * rho
        if left > right:
            low = rho
        else:
            high = rho
        new = 0.5 * (low + high)
        if left > 0.0 and turn % 8 < 6:  # Newton on the logarithms: left falls like rho^-9 far from the root
            dS = -2.0 * m / (B * rho * rho) - 3.0 * S / rho
            slope = dS * (3.0 * S * S - rho * rho) / (S * (S * S - rho * rho)) - 2.0 * rho / (S * S - rho * rho)
            step = math.log(left / right) / (slope - 2.0 * m / right)
            new = rho - step if low < rho - step < high else new
        if abs(new - rho) <= _CLOSE * rho:
            rho = new
            break
        rho = new
    S = (g - m * rho * rho) / (B * rho**3)
    return 0.5 * (S + rho), max(0.5 * (S - rho), 0.0)


@njit(cache=True, nogil=True)
def _solve(g: Vector, k: Vector, m: Vector, B: Vector, outer: Vector, inner: Vector) -> None:
    guess = 0.0
    for i in range(g.shape[0]):
        outer[i], inner[i] = solve_one(g[i], k[i], m[i], B[i], guess)
        guess = outer[i] - inner[i]


def solve(g: float | Vector, k: float | Vector, B: float | Vector, m: float | Vector = 0.0) -> tuple[Vector, Vector]:
    """Return arrays (outer, inner) for broadcastable costs; see the module for the letters and equations."""
    full = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, dtype=np.float64)) for v in (g, k, m, B)))
    flat = [np.ascontiguousarray(a).ravel() for a in full]
    outer, inner = np.empty(flat[0].size), np.empty(flat[0].size)
    _solve(flat[0], flat[1], flat[2], flat[3], outer, inner)
    return outer.reshape(full[0].shape), inner.reshape(full[0].shape)


def stiffness(q: float | Vector, eta2: float | Vector, n: int = 1) -> float | Vector:
    """Return ``B = q / (4 (n+2) eta2)`` of n isotropic dimensions of variance ``eta2`` and penalty ``q/2 r^2``."""
    return q / (4.0 * (n + 2) * eta2)


def shapes(covariance: Matrix, target: Vector) -> tuple[Matrix, Vector]:
    """Return (M, growth) per covariance: the trading distance ``r^2 = x'Mx`` and the mean growth of r^2 a step.

    With gas only the optimal no-trade region is exactly the ellipsoid ``x'Mx <= sqrt(g/gamma)`` where, for deviations
    that diffuse with ``C = D Sigma D'`` (``D = diag(pi) - pi pi'``) and penalty ``gamma/2 x'Sigma x``,

        4 M C M + 2 tr(C M) M = Sigma / 2

    (insert ``V = g (2Q - Q^2)``, Q = x'Mx sqrt(gamma/g), into ``tr(C V'')/2 + gamma/2 x'Sigma x = J``; value and slope
    match at Q = 1; compare Atkinson-Wilmott 1995, Altarovici-Muhle-Karbe-Soner 2015). In this distance ``B = gamma``.
    Solved in the eigenbasis of ``C^1/2 Sigma C^1/2``: ``m_i = (sqrt(tau^2 + 2 s_i) - tau)/4``, tau = sum m_i.
    ``covariance`` is (D, n, n) per step, M (D, n, n) does not depend on its scale, ``growth`` (D,) is ``tr(C M)``.
    """
    n = target.size
    drift = np.diag(target) - np.outer(target, target)
    basis = simplex_basis(n)
    spread = basis.T @ drift
    C = spread @ covariance @ spread.T
    sigma = basis.T @ covariance @ basis
    values, vectors = np.linalg.eigh(C)
    values = np.maximum(values, np.maximum(values[:, -1:], 1e-300) * 1e-12)
    scaled = np.sqrt(values)[:, None, :]
    flip = np.swapaxes(vectors, 1, 2)
    root, inverse = (vectors * scaled) @ flip, (vectors / scaled) @ flip
    s, axes = np.linalg.eigh(root @ sigma @ root)
    s = np.maximum(s, 0.0)
    low, high = np.zeros(len(s)), np.sum(np.sqrt(2.0 * s), axis=1)
    for _ in range(60):
        tau = 0.5 * (low + high)
        under = np.sum(np.sqrt(tau[:, None] ** 2 + 2.0 * s) - tau[:, None], axis=1) > 4.0 * tau
        low, high = np.where(under, tau, low), np.where(under, high, tau)
    m = (np.sqrt(high[:, None] ** 2 + 2.0 * s) - high[:, None]) / 4.0
    lifted = basis @ inverse @ axes
    return (lifted * m[:, None, :]) @ np.swapaxes(lifted, 1, 2), np.sum(m, axis=1)


def mean_moves(M: Matrix, n: int) -> Vector:
    """Return (D, n) mean |x_i| at unit distance, over directions uniform on the ellipsoid ``x'Mx = 1``.

    A point is ``M^-1/2 v`` with v uniform on the unit sphere of d = n-1 dimensions, so ``E|x_i|`` is
    ``sqrt(pinv(M)_ii) Gamma(d/2) / (sqrt(pi) Gamma((d+1)/2))``.
    """
    d = n - 1
    mean = math.exp(math.lgamma(d / 2) - math.lgamma((d + 1) / 2)) / math.sqrt(math.pi)
    return np.asarray(mean * np.sqrt(_pinv_diagonal(M, n)), dtype=np.float64)


def mean_square_moves(M: Matrix, n: int) -> Vector:
    """Return (D, n) mean x_i^2 at unit distance: ``pinv(M)_ii / (n-1)``, for the quadratic cost."""
    return _pinv_diagonal(M, n) / (n - 1)


def _pinv_diagonal(M: Matrix, n: int) -> Vector:
    basis = simplex_basis(n)
    inner = np.linalg.inv(basis.T @ M @ basis)
    return np.asarray(np.einsum("ij,djk,ik->di", basis, inner, basis), dtype=np.float64)


def simplex_basis(n: int) -> Matrix:
    """Return (n, n-1) orthonormal columns spanning the deviations that sum to zero."""
    full, _ = np.linalg.qr(np.column_stack([np.ones(n), np.eye(n)[:, : n - 1]]))
    return np.asarray(full[:, 1:], dtype=np.float64)


_ALL_SIGNS_TO = 10  # 2^10 sign patterns; more assets draw as many at random


def box_moves(covariance: Matrix, target: Vector, tolerance: Vector, fee: Vector) -> tuple[Vector, Vector, Vector]:
    """Return (D,) exit hours, (D,) fee and (D, n) mean squared move per unit of the box distance max |x_i| / tol_i.

    ``exit`` is the mean time from the target to the edge; from distance r it is about ``exit * (1 - r^2)``. One
    dimension: 1 / v; d equal independent ones: d^-0.75 / v (within 3 % up to d = 3 of the square's 0.589 and the cube's
    0.450), with v the mean scaled variance and d the participation ratio of the scaled covariance's spectrum. The
    moves are averages over all sums of the principal deviations with either sign: free of chance and of asset order.
    """
    n = target.size
    drift = np.diag(target) - np.outer(target, target)
    C = drift @ covariance @ drift.T
    S = C / np.outer(tolerance, tolerance)
    trace = np.trace(S, axis1=1, axis2=2)
    d = trace**2 / np.sum(S * S, axis=(1, 2))
    exit_hours = n / (trace * d**0.75)
    values, vectors = np.linalg.eigh(C)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    x = np.abs(root @ _signs(n))
    x = x / np.max(x / tolerance[:, None], axis=1)[:, None, :]
    moves = x.mean(axis=2)
    return exit_hours, 0.5 * moves @ fee, np.mean(x * x, axis=2)


def exit_shapes(covariance: Matrix, target: Vector, tolerance: Vector) -> Matrix:
    """Return (D, n, n) diagonal matrices of ``v^(4/3)``, v_i = C_ii / tol_i^2 being asset i's scaled variance an hour.

    ``C = D Sigma D'`` as in ``shapes``; what ``trade_set.exit_square`` chooses the swaps of a box by.
    """
    drift = np.diag(target) - np.outer(target, target)
    own = np.diagonal(drift @ covariance @ drift.T, axis1=1, axis2=2)
    v = np.maximum(own, 0.0) / (tolerance * tolerance)
    return np.ascontiguousarray(v[:, :, None] ** POWER * np.eye(target.size))


def _signs(n: int) -> Matrix:
    """Return (n, K) patterns of +1 and -1."""
    if n > _ALL_SIGNS_TO:
        return np.random.default_rng(0).choice([-1.0, 1.0], size=(n, 2**_ALL_SIGNS_TO))
    bits = (np.arange(2**n)[None, :] >> np.arange(n)[:, None]) & 1
    return np.asarray(2.0 * bits - 1.0, dtype=np.float64)


INNER_GRID = np.linspace(0.0, 0.97, 98)


@njit(cache=True, nogil=True, error_model="numpy")
def _renewed(usual: Vector, k: Vector, m: Vector, exit_h: Vector, rate: Vector, inner: Vector) -> None:
    """Fill in the least cost rate and its inner level."""
    for i in range(usual.shape[0]):
        for d in INNER_GRID:
            step = 1.0 - d
            value = (usual[i] + k[i] * step + m[i] * step * step) / (exit_h[i] * (1.0 - d * d))
            if value < rate[i]:
                rate[i], inner[i] = value, d


def hard_band(
    now: Vector, usual: Vector, k: Vector, m: Vector, exit_h: Vector, *, early: bool
) -> tuple[Vector, Vector, Vector]:
    """Return (T,) outer, inner and cost rate an hour of the box distance for a hard cap at distance 1.

    A forced trade goes to the inner level d with the least ``(g + k (1-d) + m (1-d)^2) / (exit (1 - d^2))``: cost over
    expected time until the next breach (renewal reward), g being ``usual``. With ``early`` a trade at ``now`` is made
    before the breach where ``rate * exit * (1 - r^2) < usual - now + k (1 - r)``: what waiting is worth is less than
    what gas below usual saves (one step of policy improvement over trading at the cap only).
    """
    rate, inner = np.full(now.shape, np.inf), np.zeros(now.shape)
    _renewed(*(np.ascontiguousarray(v, dtype=np.float64) for v in (usual, k, m, exit_h)), rate, inner)
    outer = np.ones(now.shape)
    if early:  # the smaller root of worth y (2 - y) = saved + k y in y = 1 - r
        value, saved = rate * exit_h, np.maximum(usual - now, 0.0)
        b = np.maximum(2.0 * value - k, 0.0)
        y = (b - np.sqrt(np.maximum(b * b - 4.0 * value * saved, 0.0))) / (2.0 * value)
        outer = np.where(saved > 0.0, 1.0 - y, 1.0)
    return outer, inner, rate
