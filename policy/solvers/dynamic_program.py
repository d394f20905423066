"""The dynamic programme: distance x slow gas x market speed x hour of the week, solved backward in compiled code.

The portfolio is its scalar distance r (see ``bands.shapes`` and ``bands.box_moves``), a radial diffusion in ``dims``
dimensions whose r^2 grows by ``growth`` an hour. Gas is ``level x profile(hour of week) x exp(slow) x white`` and the
market runs ``speed`` times its usual variance. One hour backward:

    keep(r)  = penalty(r) + E[V(r', slow', speed', hour + 1)]
    V(r)     = E over white gas of min(keep(r), gas + min_y { keep(y) + k (r - y) + m (r - y)^2 })

``keep`` is what a decision needs: at the gas seen now, trade where the second term is below the first. Costs are
fractions of NAV. The diffusion is implicit (monotone, stable at any step); V is kept relative to the target's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from policy.base import Matrix, Vector
from policy.solvers import bands

WEEK_H = 168
NODES = 40  # of the radius grid: halving its step moves outer levels by under 1 %
REACH = 5.0  # soft: the grid ends at this multiple of the band at usual gas: beyond it nobody waits for cheaper gas
SWEEPS = 8  # weeks iterated from the closed form

Grid3 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Terms:
    """What the programme needs of one portfolio at one moment; costs are fractions of NAV."""

    gas: float  # a full rebalance at the usual gas price
    fee: float  # per unit of r
    impact: float  # per unit of r squared
    growth: float  # of r^2, an hour, at usual speed
    dims: float  # effective dimensions of the diffusion
    gamma: float  # soft: penalty; 0 with a hard mandate, where r = 1 must be traded
    hard: bool


@dataclass(frozen=True, slots=True)
class GasChain:
    """The gas process of the programme, relative to ``usual`` (USD per unit of gas), and the speed of the market.

    ``profile`` (168,) by hour of the week from Monday 00:00 UTC; ``slow`` (S,) log deviations with their hourly
    transition (S, S); ``white`` (K,) equally likely multipliers; ``speed`` (P,) with its transition (P, P).
    """

    usual: float
    profile: Vector
    slow: Vector
    slow_move: Matrix
    white: Vector
    speed: Vector
    speed_move: Matrix


@dataclass(frozen=True, slots=True)
class Solution:
    """``keep`` (168, nodes, S * P): cost of going on at each hour of the week; ``step`` is the radius grid's."""

    keep: Grid3
    step: float
    forced: int
    chain: GasChain


@njit(cache=True, nogil=True)
def factors(nodes: int, h: float, dims: float, growth: float, lo: Vector, cp: Vector, den: Vector) -> None:
    """Write the Thomas factors of (1 - generator) of the radial diffusion on r = 0, h, 2h, ...; top reflecting."""
    a = growth / dims / (2.0 * h * h)
    for j in range(nodes):
        if j == 0:
            up, down = 2.0 * dims * a, 0.0
        else:
            b = (dims - 1.0) / (2.0 * j)
            up, down = (a * (1.0 + b), a * (1.0 - b)) if b <= 1.0 else (a * (1.0 + 2.0 * b), a)
        if j == nodes - 1:
            up = 0.0
        diagonal = 1.0 + up + down
        if j == 0:
            den[j] = diagonal
        else:
            den[j] = diagonal + down * cp[j - 1]
        cp[j] = -up / den[j]
        lo[j] = -down


@njit(cache=True, nogil=True, fastmath=True)
def _expect(V: Matrix, slow_move: Matrix, speed_move: Matrix, F: Matrix, E: Matrix) -> None:
    nodes = V.shape[0]
    S, P = slow_move.shape[0], speed_move.shape[0]
    for j in range(nodes):
        for a in range(S):
            for b in range(P):
                total = 0.0
                for c in range(max(0, b - 1), min(P, b + 2)):
                    total += speed_move[b, c] * V[j, a * P + c]
                F[j, a * P + b] = total
        for a in range(S):
            for b in range(P):
                total = 0.0
                for c in range(max(0, a - 1), min(S, a + 2)):
                    total += slow_move[a, c] * F[j, c * P + b]
                E[j, a * P + b] = total


@njit(cache=True, nogil=True, fastmath=True)
def _diffuse(E: Matrix, lo: Matrix, cp: Matrix, den: Matrix) -> None:
    nodes, Q = E.shape
    P = lo.shape[1]
    for q in range(Q):
        E[0, q] /= den[0, q % P]
    for j in range(1, nodes):
        for a in range(Q // P):
            for b in range(P):
                q = a * P + b
                E[j, q] = (E[j, q] - lo[j, b] * E[j - 1, q]) / den[j, b]
    for j in range(nodes - 2, -1, -1):
        for a in range(Q // P):
            for b in range(P):
                q = a * P + b
                E[j, q] -= cp[j, b] * E[j + 1, q]


@njit(cache=True, nogil=True, fastmath=True)
def sweep(
    V: Matrix,  # (nodes, S * P) in and out
    hours: int,
    chain_gas: Matrix,  # (168, S) gas of a rebalance at each hour and slow state
    slow_move: Matrix,
    speed_move: Matrix,
    white: Vector,
    speed: Vector,
    penalty: Vector,  # (nodes,) an hour at usual speed
    lo: Matrix,
    cp: Matrix,
    den: Matrix,  # (nodes, P)
    k: float,
    m: float,
    h: float,
    forced: int,
    keep: Grid3,  # (168, nodes, S * P) out, of the last week swept
) -> None:
    """Iterate ``hours`` hours backward, ending at hour 0 of the week."""
    nodes, Q = V.shape
    P = speed.shape[0]
    E, F = np.empty((nodes, Q)), np.empty((nodes, Q))
    share = 1.0 / white.shape[0]
    for s in range(hours):
        how = (hours - 1 - s) % 168
        _expect(V, slow_move, speed_move, F, E)
        _diffuse(E, lo, cp, den)
        for j in range(nodes):
            for q in range(Q):
                E[j, q] += penalty[j] * speed[q % P]
                keep[how, j, q] = E[j, q]
        for q in range(Q):
            gas = chain_gas[how, q // P]
            y = 0
            for j in range(nodes):
                d = h * (j - y)
                best = E[y, q] + k * d + m * d * d
                while y < j:
                    d = h * (j - y - 1)
                    other = E[y + 1, q] + k * d + m * d * d
                    if other > best:
                        break
                    y += 1
                    best = other
                stay = E[j, q]
                if j >= forced:
                    stay = 1e300
                total = 0.0
                for z in range(white.shape[0]):
                    total += min(stay, gas * white[z] + best)
                V[j, q] = total * share
        base = V[0, 0]
        for j in range(nodes):
            for q in range(Q):
                V[j, q] -= base


@njit(cache=True, nogil=True)
def levels_of(C: Vector, gas: float, k: float, m: float, h: float, forced: int) -> tuple[float, float]:
    """Return (outer, inner) at gas ``gas`` for the cost of going on ``C`` on the radius grid, interpolated.

    Outer is off the grid when waiting is best everywhere.
    """
    nodes = C.shape[0]
    y = 0
    before = -gas
    for j in range(nodes):
        d = h * (j - y)
        best = C[y] + k * d + m * d * d
        while y < j:
            d = h * (j - y - 1)
            other = C[y + 1] + k * d + m * d * d
            if other > best:
                break
            y += 1
            best = other
        gain = C[j] - gas - best
        if j > y and (j >= forced or gain > 0.0):
            outer = h * j
            if gain > 0.0 and gain > before:
                outer = h * (j - 1 + min(1.0, max(0.0, -before / (gain - before))))
            inner = h * y
            if 0 < y < nodes - 1:
                left = C[y - 1] + k * h * (j - y + 1) + m * (h * (j - y + 1)) ** 2
                right = C[y + 1] + k * h * (j - y - 1) + m * (h * (j - y - 1)) ** 2
                bend = left - 2.0 * best + right
                if bend > 0.0:
                    inner += h * min(0.5, max(-0.5, 0.5 * (left - right) / bend))
            return outer, max(0.0, min(inner, outer))
        before = gain
    return h * nodes, h * y


@njit(cache=True, nogil=True)
def interpolate(keep: Matrix, a: float, b: float, P: int, out: Vector) -> None:
    """Write the cost of going on at fractional slow index ``a`` and speed index ``b`` from ``keep`` (nodes, S * P)."""
    S = keep.shape[1] // P
    i, j = min(int(a), S - 2), min(int(b), P - 2)
    u, v = a - i, b - j
    for r in range(keep.shape[0]):
        low = (1.0 - v) * keep[r, i * P + j] + v * keep[r, i * P + j + 1]
        high = (1.0 - v) * keep[r, (i + 1) * P + j] + v * keep[r, (i + 1) * P + j + 1]
        out[r] = (1.0 - u) * low + u * high


@njit(cache=True, nogil=True)
def levels_many(
    keep: Grid3,
    hour: npt.NDArray[np.int64],
    slow_at: Vector,
    speed_at: Vector,
    P: int,
    gas: Vector,
    k: Vector,
    m: Vector,
    h: float,
    forced: int,
    outer: Vector,
    inner: Vector,
) -> None:
    """Write outer and inner of each moment: hour of the week, fractional indices of slow gas and speed, and costs."""
    C = np.empty(keep.shape[1])
    for t in range(hour.shape[0]):
        interpolate(keep[hour[t]], slow_at[t], speed_at[t], P, C)
        outer[t], inner[t] = levels_of(C, gas[t], k[t], m[t], h, forced)


def solve(terms: Terms, chain: GasChain, sweeps: int = SWEEPS, nodes: int = NODES) -> Solution:
    """Return the programme's solution for a portfolio's ``terms`` on ``chain``, after ``sweeps`` weeks backward."""
    P = chain.speed.size
    outer, inner = bands.solve_one(terms.gas, terms.fee, terms.impact, max(terms.gamma, 1e-12))
    top = 1.0 if terms.hard else REACH * outer
    h = top / (nodes - 1)
    forced = nodes - 1 if terms.hard else nodes + 1
    r = h * np.arange(nodes)
    if terms.hard:
        penalty: Vector = np.zeros(nodes)
        start: Vector = np.asarray((terms.gas + terms.fee) * r**2)
    else:
        penalty = np.asarray(2.0 * (terms.dims + 2.0) / terms.dims * terms.growth * terms.gamma * r**2)
        A = 2.0 * terms.gamma * (outer * outer + outer * inner + inner * inner)
        inside = np.minimum(r, outer)
        start = np.asarray(A * inside**2 - terms.gamma * inside**4 + terms.fee * np.maximum(r - outer, 0.0))
    lo, cp, den = (np.empty((nodes, P)) for _ in range(3))
    for b, speed in enumerate(chain.speed):
        one = [np.empty(nodes) for _ in range(3)]
        factors(nodes, h, terms.dims, terms.growth * speed, *one)
        lo[:, b], cp[:, b], den[:, b] = one
    V = np.repeat(start[:, None], chain.slow.size * P, axis=1)
    keep = np.empty((WEEK_H, nodes, V.shape[1]))
    prices = terms.gas * chain.profile[:, None] * np.exp(chain.slow)[None, :]
    sweep(
        V, sweeps * WEEK_H, prices, chain.slow_move, chain.speed_move, chain.white, chain.speed, penalty, lo, cp, den,
        terms.fee, terms.impact, h, forced, keep,
    )  # fmt: skip
    return Solution(keep, h, forced, chain)
