"""The reservation-price surface: the highest gas at which a rebalance pays now, by distance and state of gas.

The state is the mean of log gas over the last hour and the next block's price over that mean; its moves are counted on
the gas of the last 30 days. The dynamic programme over distance and that state gives, per state and distance r,

    g*(r) = keep(r) - min_y { keep(y) + k (r - y) + m (r - y)^2 }

so that a decision is one look-up: trade where the gas of the next block is at most g*(r), back to the minimising y. A
surface belongs to the level of gas it was built at: one that is old, or whose level gas has left, is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import numpy.typing as npt
from numba import njit

from policy.base import Matrix, Vector
from policy.solvers import bands
from policy.solvers.dynamic_program import Terms, factors

SLOW, FAST = 7, 7  # states of the hour's mean and of the next price over it
NODES = 48
REACH = 3.0  # soft: the grid ends at this multiple of the band at usual gas
STEP_S = 60  # of the programme, where blocks are finer
FIRST_STEPS, MORE_STEPS = 6_000, 1_500  # steps backward from the closed form, and from the surface before
PAST_DAYS, LEAST_DAYS = 30, 7
LIFE_S = 8 * 86_400  # an older surface is refused; one is built a week
MOVED = 5.0  # a surface is refused when the level of gas has moved this far, either way
NEVER = 1e9

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class GasStates:
    """How gas moves among SLOW x FAST states in ``step_s`` seconds, counted on the past of ``built_s`` (Unix time).

    ``price`` (Q,) mean gwei of each state, ``move`` (Q, Q) transition, edges in log gwei; ``level`` is the past's
    median log price, which the surface belongs to.
    """

    price: Vector
    move: Matrix
    slow_edges: Vector
    fast_edges: Vector
    level: float
    step_s: int
    built_s: int

    def refused(self, now_s: float, level: float, life_s: int = LIFE_S) -> str | None:
        """Return why no surface of these states may decide at ``now_s`` and log level ``level``; None when it may."""
        if not 0.0 <= now_s - self.built_s <= life_s:
            return f"the surface is {(now_s - self.built_s) / 3600:.1f} h old; it holds for {life_s // 3600} h"
        if not abs(level - self.level) <= math.log(MOVED):
            return f"gas is at {math.exp(level - self.level):.2f} times the level the surface was built at"
        return None

    def of(self, log_price: Vector, slow: Vector) -> Ints:
        """Return (N,) states of log prices and of the hour's mean before each."""
        a = np.searchsorted(self.slow_edges, slow)
        b = np.searchsorted(self.fast_edges, log_price - slow)
        return np.asarray(a * FAST + b, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class ReservationSurface:
    """``reserve`` and ``back`` (nodes, Q): the highest gas paid, fraction of NAV, and the level traded back to.

    ``value`` (nodes, Q) is the programme's, from which the next surface starts; ``node`` the distance between nodes.
    """

    reserve: Matrix
    back: Matrix
    value: Matrix
    node: float
    states: GasStates

    @property
    def digest(self) -> str:
        """Sha256 of the look-up, as a decision names the surface it was taken from."""
        parts = (self.reserve, self.back, np.array([self.node, self.states.level, self.states.built_s]))
        return sha256(b"".join(np.ascontiguousarray(p, dtype=np.float64).tobytes() for p in parts)).hexdigest()


@njit(cache=True, nogil=True)
def trailing_log(log_price: Vector, blocks: int) -> Vector:
    """Return (N,) the exponential mean of log prices over about ``blocks``, before each price."""
    a, out = 1.0 / blocks, np.empty(log_price.size)
    mean = log_price[0]
    for i in range(log_price.size):
        out[i] = mean
        mean = a * log_price[i] + (1.0 - a) * mean
    return out


def learn(log_price: Vector, slow: Vector, block_s: int, built_s: int) -> GasStates | None:
    """Return the states learnt from consecutive blocks' log gwei and their trailing means, all known at ``built_s``.

    None from less than LEAST_DAYS of blocks: regimes are not learnt from a few days.
    """
    if log_price.size * block_s < LEAST_DAYS * 86_400:
        return None
    slow_edges = np.quantile(slow, np.arange(1, SLOW) / SLOW)
    fast_edges = np.quantile(log_price - slow, np.arange(1, FAST) / FAST)
    states = GasStates(np.zeros(0), np.zeros((0, 0)), slow_edges, fast_edges, 0.0, block_s, built_s)
    s = states.of(log_price, slow)
    Q, k = SLOW * FAST, max(STEP_S // block_s, 1)
    seen = np.bincount(s[:-k] * Q + s[k:], minlength=Q * Q).reshape(Q, Q) + 1e-6
    count = np.bincount(s, minlength=Q)
    mean = np.bincount(s, np.exp(log_price), Q) / np.maximum(count, 1)
    price = np.where(count > 0, mean, np.exp(log_price).mean())
    move = seen / seen.sum(axis=1, keepdims=True)
    return GasStates(price, move, slow_edges, fast_edges, float(np.median(log_price)), k * block_s, built_s)


@njit(cache=True, nogil=True, fastmath=True)
def _sweep(
    V: Matrix, gas: Vector, onto: Matrix, lo: Vector, cp: Vector, den: Vector, penalty: Vector, k: float, m: float,
    h: float, forced: int, steps: int, reserve: Matrix, back: Matrix,
) -> None:  # fmt: skip
    nodes, Q = V.shape
    for _ in range(steps):
        E = np.dot(V, onto)
        for q in range(Q):
            E[0, q] /= den[0]
        for j in range(1, nodes):
            for q in range(Q):
                E[j, q] = (E[j, q] - lo[j] * E[j - 1, q]) / den[j]
        for j in range(nodes - 2, -1, -1):
            for q in range(Q):
                E[j, q] -= cp[j] * E[j + 1, q]
        for j in range(nodes):
            for q in range(Q):
                E[j, q] += penalty[j]
        for q in range(Q):
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
                stay = NEVER if j >= forced else E[j, q]
                reserve[j, q], back[j, q] = stay - best, y * h
                V[j, q] = min(stay, gas[q] + best)
        base = V[0, Q // 2]
        for j in range(nodes):
            for q in range(Q):
                V[j, q] -= base


def solve(
    terms: Terms, states: GasStates, gas: Vector, before: ReservationSurface | None = None, steps: int | None = None
) -> ReservationSurface:
    """Return the surface of a portfolio's ``terms`` at ``gas`` (Q,), a rebalance's cost in each state, part of NAV.

    The iteration starts from ``before``, or from the closed form: from a plain parabola it would not have arrived.
    """
    outer, inner = bands.solve_one(terms.gas, terms.fee, terms.impact, max(terms.gamma, 1e-12))
    top = 1.0 if terms.hard else REACH * outer
    h = top / (NODES - 1)
    r = h * np.arange(NODES)
    period = states.step_s / 3600.0
    if terms.hard:
        penalty: Vector = np.zeros(NODES)
        start: Vector = np.asarray((terms.gas + terms.fee) * r**2)
    else:
        penalty = np.asarray(2.0 * (terms.dims + 2.0) / terms.dims * terms.growth * period * terms.gamma * r**2)
        A = 2.0 * terms.gamma * (outer * outer + outer * inner + inner * inner)
        inside = np.minimum(r, outer)
        start = np.asarray(A * inside**2 - terms.gamma * inside**4 + terms.fee * np.maximum(r - outer, 0.0))
    lo, cp, den = (np.empty(NODES) for _ in range(3))
    factors(NODES, h, terms.dims, terms.growth * period, lo, cp, den)
    if before is None:
        V = np.repeat(start[:, None], gas.size, axis=1)
    else:
        grid = before.node * np.arange(NODES)
        V = np.column_stack([np.interp(r, grid, before.value[:, q]) for q in range(gas.size)])
    reserve, back = np.empty_like(V), np.empty_like(V)
    turns = steps or (FIRST_STEPS if before is None else MORE_STEPS)
    forced = NODES - 1 if terms.hard else NODES + 1
    onto = np.ascontiguousarray(states.move.T)
    _sweep(
        V, gas, onto, lo, cp, den, penalty, terms.fee, terms.impact, h, forced, turns, reserve, back
    )  # fmt: skip
    return ReservationSurface(reserve, back, V, h, states)
