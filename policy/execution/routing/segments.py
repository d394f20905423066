"""Pools and paths as concave curves made of Moebius segments, and the exact optimal split over them.

Inside one liquidity range every pool pays ``f(x) = Y x / (R + x)`` for x sold (v2: R = reserve_in / (1 - fee),
Y = reserve_out; v3: the same with the virtual reserves L/sqrt(p), L sqrt(p)). Two pools in a row compose to the same
form. With mu = 1 / sqrt(marginal price), the amount sold up to mu is linear: x = sqrt(R Y) mu - R. So the split that
equalises marginal prices (water-filling) needs no iteration: it is one interpolation between sorted breakpoints.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lake.units import Q96
from policy.execution.routing.amm import PIPS, Pool, V2Pool, V3Pool

Vector = npt.NDArray[np.float64]
_SHAVE = 1e-9
_ULPS = 8  # in which roots, quotients and differences of R and the amount may be wrong
_DUST = 1e-12  # what adding and subtracting the parts of an amount may leave of it


@dataclass(frozen=True, slots=True)
class Segment:
    """``f(x) = Y x / (R + x)`` for 0 <= x <= cap; raw units of the token sold (R, cap) and bought (Y)."""

    R: float
    Y: float
    cap: float

    def out(self, x: float) -> float:
        """Return what ``x`` buys."""
        return self.Y * x / (self.R + x) if x < float("inf") else self.Y

    def into(self, y: float) -> float:
        """Return what must be sold to buy ``y``; inf beyond the segment's reach."""
        return self.R * y / (self.Y - y) if y < self.Y else float("inf")

    def beyond(self, x: float) -> Segment:
        """Return what is left of the segment after selling ``x``."""
        return Segment(self.R + x, self.Y * self.R / (self.R + x), self.cap - x)


def curve(pool: Pool, token_in: str, at_most: float) -> list[Segment]:
    """Return the pool's segments, best price first, up to ``at_most`` raw units sold."""
    zero_for_one = token_in == pool.token0
    keep = 1 - pool.fee_pips / PIPS
    if isinstance(pool, V2Pool):
        r_in, r_out = (pool.reserve0, pool.reserve1) if zero_for_one else (pool.reserve1, pool.reserve0)
        return [Segment(r_in / keep, float(r_out), float("inf"))] if r_in > 0 and r_out > 0 else []
    return _curve_v3(pool, zero_for_one, keep, at_most)


def _curve_v3(pool: V3Pool, zero_for_one: bool, keep: float, at_most: float) -> list[Segment]:
    sqrt_p, liquidity = pool.sqrt_price_x96 / Q96, pool.liquidity  # an int: crossings cancel exactly
    if zero_for_one:
        ahead = [(t, -net) for t, net in reversed(pool.ticks) if t <= pool.tick]
        end = pool.known[0]
    else:
        ahead = [(t, net) for t, net in pool.ticks if t > pool.tick]
        end = pool.known[1]
    found: list[Segment] = []
    total = 0.0
    for tick, change in [*ahead, (end, 0)]:
        bound = 1.0001 ** (tick / 2)
        if liquidity > 0 and bound != sqrt_p:
            r, y = (
                (liquidity / sqrt_p, liquidity * sqrt_p) if zero_for_one else (liquidity * sqrt_p, liquidity / sqrt_p)
            )
            full = liquidity / bound if zero_for_one else liquidity * bound
            cap = max(0.0, full - r) / keep
            if cap > 0:
                found.append(Segment(r / keep, y, cap))
                total += cap
        if total >= at_most:
            break
        sqrt_p, liquidity = bound, liquidity + change
    if found and total < at_most:  # float caps must stay inside what the integers can fill
        last = found.pop()
        if last.cap > total * _SHAVE:
            found.append(Segment(last.R, last.Y, last.cap - total * _SHAVE))
    return found


def compose(first: Sequence[Segment], second: Sequence[Segment]) -> list[Segment]:
    """Return the segments of selling through ``first`` and then ``second``."""
    left, right = list(reversed(first)), list(reversed(second))
    found: list[Segment] = []
    while left and right:
        a, b = left.pop(), right.pop()
        reach = a.into(b.cap) if b.cap < float("inf") else float("inf")
        cap = min(a.cap, reach)
        found.append(Segment(a.R * b.R / (b.R + a.Y), a.Y * b.Y / (b.R + a.Y), cap))
        if a.cap > cap:
            left.append(a.beyond(cap))
        elif reach > cap or reach == float("inf"):
            used = a.out(cap)
            if used < b.cap:
                right.append(b.beyond(used))
    return found


def value(segments: Sequence[Segment], x: float) -> float:
    """Return what selling ``x`` over ``segments`` buys; NaN beyond their reach by more than rounding."""
    out = 0.0
    dust = x * _DUST
    for segment in segments:
        part = min(x, segment.cap)
        out += segment.out(part)
        x -= part
        if x <= dust:
            return out
    return float("nan")


@dataclass(frozen=True, slots=True)
class Split:
    """Amounts sold over the routes (0 for unused ones), what they buy and that less the fixed costs."""

    amounts: tuple[float, ...]
    out: float
    net: float


def best_split(
    routes: Sequence[Sequence[Segment]],
    amount: float,
    fixed: Sequence[float],
    *,
    most: int,
    disjoint: Callable[[tuple[int, ...]], bool] = lambda _: True,
) -> Split | None:
    """Return the split of ``amount`` that buys most after the fixed cost of every used route, None if none can fill.

    ``fixed``: gas of each route in raw units bought. Every subset of at most ``most`` routes that ``disjoint`` allows
    is solved exactly (vectorised over subsets); the routes must be few (10 make 1,023 subsets).
    """
    n = len(routes)
    subsets = [c for k in range(1, min(most, n) + 1) for c in itertools.combinations(range(n), k) if disjoint(c)]
    if not subsets:
        return None
    owner = np.repeat(np.arange(n), [len(r) for r in routes])
    R, Y, cap = (np.array([getattr(s, f) for r in routes for s in r]) for f in ("R", "Y", "cap"))
    start = np.concatenate([np.concatenate(([0.0], np.cumsum([s.cap for s in r])[:-1])) for r in routes])
    slope = np.sqrt(R * Y)
    reach = amount * (1 + _SHAVE) + _ULPS * np.spacing(R)  # beyond the amount by more than floats lose of a deep R
    ends = np.where(np.isfinite(cap), (R + cap) / slope, (R + reach) / slope)
    mu = np.unique(np.concatenate((R / slope, ends)))
    filled = np.clip(slope[:, None] * mu[None, :] - R[:, None], 0.0, cap[:, None])
    members = np.zeros((len(subsets), n))
    for i, subset in enumerate(subsets):
        members[i, list(subset)] = 1.0
    to_route = (owner[None, :] == np.arange(n)[:, None]).astype(float)
    by_route = to_route @ filled
    total = members @ by_route
    at = (total < amount).sum(axis=1)
    feasible = at < len(mu)
    if not feasible.any():
        return None
    high = np.minimum(at, len(mu) - 1)
    low = np.maximum(high - 1, 0)
    rows = np.arange(len(subsets))
    span = total[rows, high] - total[rows, low]
    share = np.where(span > 0, (amount - total[rows, low]) / np.where(span > 0, span, 1.0), 1.0)
    x = members * (by_route[:, low] + (by_route[:, high] - by_route[:, low]) * share[None, :]).T
    part = np.clip(x[:, owner] - start[None, :], 0.0, cap[None, :])
    out = (Y[None, :] * part / (R[None, :] + part)).sum(axis=1)
    net = np.where(feasible, out - members @ np.asarray(fixed, dtype=float), -np.inf)
    best = int(np.argmax(net))
    return Split(tuple(float(v) for v in x[best]), float(out[best]), float(net[best]))
