"""What can still be done when not everything can be traded: assets without a market, a cap on the turnover of a trade.

``open_`` (n,) marks the assets that have a market now, ``limit`` is the most a trade may move, one-way, as a share of
NAV. A breach that one such trade can end is ended; where none can, the trade goes as near as any can (``nearest``).
All weights are deviations from the target; the untraded ones stay exactly where they are.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from policy.base import Matrix, Vector
from policy.solvers.trade_set import EDGE, SHARES, grow_box, grow_risk, radius, reach, to_go

NOTHING, TRADE, FORCED, SPLIT = 0, 1, 2, 3
NEAR = 0.01  # of the tolerance: a forced trade that ends nothing must come nearer by this much, or it only costs gas
ROUNDING = 1e-12  # of a weight


@njit(cache=True, nogil=True)
def needed(x: Vector, target: Vector, tolerance: Vector, open_: Vector, level: float) -> float:
    """Return the least turnover that brings every open asset within ``level`` tolerances; inf where no trade can.

    What the others hold is given, weights stay within 0 .. 1, and what is sold is bought.
    """
    low, high, total, over, under = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(x.shape[0]):
        if open_[i]:
            floor = -min(level * tolerance[i], target[i])
            top = min(level * tolerance[i], 1.0 - target[i])
            low += floor
            high += top
            total += x[i]
            over += max(x[i] - top, 0.0)
            under += max(floor - x[i], 0.0)
    if total < low - 1e-15 or total > high + 1e-15:
        return np.inf
    return max(over, under)


@njit(cache=True, nogil=True)
def can_end(x: Vector, target: Vector, tolerance: Vector, open_: Vector, limit: float) -> bool:
    """Return whether one admissible trade from ``x`` leaves no asset beyond its tolerance."""
    for i in range(x.shape[0]):
        if not open_[i] and abs(x[i]) > tolerance[i] + ROUNDING:
            return False
    return bool(needed(x, target, tolerance, open_, 1.0) <= limit)


@njit(cache=True, nogil=True)
def nearest(
    x: Vector, target: Vector, tolerance: Vector, open_: Vector, limit: float, floor: float, out: Vector
) -> float:
    """Write the deviation after the smallest trade to the least level of at least ``floor``, and return that level.

    A level is the largest deviation of an open asset in tolerances; the trade moves at most ``limit``.
    """
    n = x.shape[0]
    level = 0.0
    for i in range(n):
        out[i] = x[i]
        if open_[i]:
            level = max(level, abs(x[i]) / tolerance[i])
    if level <= floor:
        return level
    if needed(x, target, tolerance, open_, floor) <= limit:
        level = floor
    else:
        low = floor
        for _ in range(70):
            middle = 0.5 * (low + level)
            if needed(x, target, tolerance, open_, middle) <= limit:
                level = middle
            else:
                low = middle
    extra = 0.0  # bought more than sold so far
    for i in range(n):
        if open_[i]:
            out[i] = min(max(x[i], -min(level * tolerance[i], target[i])), level * tolerance[i], 1.0 - target[i])
            extra += out[i] - x[i]
    _spread(x, target, tolerance, open_, level, extra, out)
    return level


@njit(cache=True, nogil=True)
def _spread(
    x: Vector, target: Vector, tolerance: Vector, open_: Vector, level: float, extra: float, out: Vector
) -> None:
    """Take ``extra`` (below zero: add it) where there is most room, from assets that move anyway first."""
    n = x.shape[0]
    for moving in (True, False):
        for _ in range(n):
            best, room = -1, 0.0
            for i in range(n):
                if open_[i] and (out[i] != x[i]) == moving:
                    edge = level * tolerance[i]
                    own = out[i] + min(edge, target[i]) if extra > 0.0 else min(edge, 1.0 - target[i]) - out[i]
                    if own > room:
                        best, room = i, own
            if best < 0 or extra == 0.0:
                break
            step = min(room, abs(extra))
            out[best] += -step if extra > 0.0 else step
            extra += -step if extra > 0.0 else step


@njit(cache=True, nogil=True)
def act_among(
    x: Vector,
    target: Vector,
    open_: Vector,
    trigger: float,
    M: Matrix,
    scale: Vector,
    box: bool,
    direct: bool,
    inner: float,
    cap: float,
    must: bool,
    A: float,
    B: float,
    gas_base: float,
    gas_leg: float,
    fee: Vector,
    impact: Vector,
    tolerance: Vector,
    limit: float,
    out: Vector,
) -> int:
    """Write the deviation after the trade among the open assets to ``out`` and return the reason, NOTHING for none.

    The levels are those of ``step_kernel.act``; a box distance looks at the open assets only.
    """
    n = x.shape[0]
    own = np.zeros(n)
    count = 0
    for i in range(n):
        out[i] = x[i]
        if open_[i]:
            own[i] = scale[i]
            count += 1
    if count < 2:
        return NOTHING
    r = radius(x, M, own, box)
    breach = must and r >= 1.0
    if not (breach or (r >= trigger and r > inner)):
        return NOTHING
    if direct:
        _towards(x, open_, min(inner, EDGE) / r if breach else inner / r, out)
    else:
        _cheapest(x, M, open_, own, box, inner, breach, A, B, gas_base, gas_leg, fee, impact, count, out)
    if breach:
        return int(end_breach(x, target, tolerance, open_, limit, min(inner, EDGE), out))
    part = 1.0
    turnover = 0.0
    for i in range(n):
        turnover += 0.5 * abs(out[i] - x[i])
        if target[i] + out[i] < 0.0:
            part = min(part, (target[i] + x[i]) / (x[i] - out[i]))
    if turnover <= ROUNDING:
        for i in range(n):
            out[i] = x[i]
        return NOTHING
    most = min(cap, limit)
    reason = TRADE
    if part * turnover > most:
        part, reason = most / turnover, SPLIT
    if part < 1.0:
        for i in range(n):
            out[i] = x[i] + part * (out[i] - x[i])
    return reason


@njit(cache=True, nogil=True)
def end_breach(
    x: Vector, target: Vector, tolerance: Vector, open_: Vector, limit: float, floor: float, out: Vector
) -> int:
    """Keep the trade in ``out`` where it is admissible and ends the breach of the open assets, else the nearest one.

    NOTHING where no trade can end it and the nearest comes nearer by less than NEAR.
    """
    n = x.shape[0]
    turnover, before, after, least = 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        turnover += 0.5 * abs(out[i] - x[i])
        least = min(least, target[i] + out[i])
        if open_[i]:
            before = max(before, abs(x[i]) / tolerance[i])
            after = max(after, abs(out[i]) / tolerance[i])
    if ROUNDING < turnover <= limit and least >= -ROUNDING and after <= 1.0:
        return FORCED
    level = nearest(x, target, tolerance, open_, limit, floor, out)
    if level >= before or (level > 1.0 + 1e-12 and before - level < NEAR):
        for i in range(n):
            out[i] = x[i]
        return NOTHING
    return FORCED


@njit(cache=True, nogil=True)
def _towards(x: Vector, open_: Vector, left: float, out: Vector) -> None:
    """Move every open asset the same share of its way, the larger side scaled down: what is sold is bought."""
    bought, sold = 0.0, 0.0
    share = 1.0 - min(left, 1.0)
    for i in range(x.shape[0]):
        if open_[i]:
            bought += max(-share * x[i], 0.0)
            sold += max(share * x[i], 0.0)
    both = min(bought, sold)
    for i in range(x.shape[0]):
        if open_[i] and both > 0.0:
            side = sold if x[i] > 0.0 else bought
            out[i] = x[i] - share * x[i] * (both / side)


@njit(cache=True, nogil=True)
def _cheapest(
    x: Vector,
    M: Matrix,
    open_: Vector,
    scale: Vector,
    box: bool,
    inner: float,
    forced: bool,
    A: float,
    B: float,
    gas_base: float,
    gas_leg: float,
    fee: Vector,
    impact: Vector,
    count: int,
    out: Vector,
) -> None:
    """Write the deviation after the cheapest trade of open assets; ``out`` is left where none is worth its cost.

    As ``trade_set.cheapest``, of ``count`` open assets; ``scale`` is zero for the others. Not forced, a trade that does
    not reach the inner level must still save more cost-to-go than it costs.
    """
    n = x.shape[0]
    level = min(inner, EDGE) if forced else inner
    inside = np.zeros(n, dtype=np.bool_)
    anchor = _anchor(x, M, open_, scale, box)
    for i in range(n):
        inside[i] = i == anchor or (not open_[i] and not box)  # a box distance passes over a scale of zero
    move, trial, pull = np.zeros(n), np.empty(n), np.zeros(n)
    used, moved = np.zeros((n, n)), np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            pull[i] += M[i, j] * x[j]
    r = radius(x, M, scale, box)
    best = np.inf if forced else to_go(x, M, scale, box, A, B) - gas_base
    for legs in range(1, count):
        if box:
            if not grow_box(x, scale, inside, move):
                break
        elif not grow_risk(pull, M, inside, anchor, used, moved, legs - 1, move):
            break
        way = reach(x, move, M, scale, box, level, trial)
        tries = SHARES if way > 1.0 else 1
        for s in range(tries):
            share = way if tries == 1 else (s + 1.0) / SHARES
            cost = gas_leg * legs
            for i in range(n):
                dw = abs(share * move[i])
                cost += 0.5 * fee[i] * dw + impact[i] * dw * dw
                trial[i] = x[i] + share * move[i]
            left = radius(trial, M, scale, box)
            cost += to_go(trial, M, scale, box, A, B)
            if cost < best and left < r and not (forced and left > EDGE):
                best = cost
                for i in range(n):
                    out[i] = trial[i]


@njit(cache=True, nogil=True)
def _anchor(x: Vector, M: Matrix, open_: Vector, scale: Vector, box: bool) -> int:
    """Return the open asset every set holds, as ``trade_set.cheapest`` chooses it."""
    n = x.shape[0]
    best, best_gain = 0, -1.0
    for i in range(n):
        if not open_[i]:
            continue
        if box:
            gain = abs(x[i]) * scale[i]
            if gain > best_gain:
                best, best_gain = i, gain
            continue
        for j in range(n):
            curve = M[i, i] + M[j, j] - 2.0 * M[i, j]
            if j == i or not open_[j] or curve <= 1e-300:
                continue
            slope = 0.0
            for k in range(n):
                slope += (M[i, k] - M[j, k]) * x[k]
            if slope * slope / curve > best_gain * (1.0 + 1e-12):
                best, best_gain = i, slope * slope / curve
    return best
