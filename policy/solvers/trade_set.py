"""Along which way to trade: the cheapest set of swaps that reaches the inner level, or comes near enough.

A rebalance of all n assets costs n-1 swaps of gas. Often two or three assets hold most of the deviation. For each
number of swaps the set of assets that lowers the distance most is grown greedily, the best move within it is taken as
far as the inner level (or as far as it pays), and the candidate with the least gas + fee + impact + cost-to-go of
what it leaves wins. The full set keeps the direction of the deviation. ``M`` (n, n) is that of the soft distance, whose
cost-to-go is ``A r^2 - B r^4``. A box's is ``A exit_square``; its ``M`` carries the speeds of leaving, a diagonal.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from policy.base import Matrix, Vector

SHARES = 16  # a set that cannot reach the inner level tries this many fractions of its best move
POWER = 4.0 / 3.0  # in which the rates of leaving through several tolerances add up
EDGE = 1.0 - 1e-9  # a forced trade ends inside the tolerance, not on it


@njit(cache=True, nogil=True)
def radius(x: Vector, M: Matrix, scale: Vector, box: bool) -> float:
    """Return the scalar distance of ``x``: max |x_i| scale_i, or sqrt(x'Mx)."""
    n = x.shape[0]
    if box:
        r = 0.0
        for i in range(n):
            r = max(r, abs(x[i]) * scale[i])
        return r
    total = 0.0
    for i in range(n):
        row = 0.0
        for j in range(n):
            row += M[i, j] * x[j]
        total += row * x[i]
    return math.sqrt(max(total, 0.0))


@njit(cache=True, nogil=True)
def exit_square(x: Vector, shape: Matrix, scale: Vector) -> float:
    """Return how much shorter the expected time to a tolerance is from ``x`` than from the target, as a share of it.

    A single asset at u = |x_i| scale_i of its tolerance leaves after ``(1 - u^2) / v_i``; rates of leaving add up in
    the power 4/3 that the exit times of squares and cubes follow (``bands.box_moves``):
    ``1 - (sum v_i^p / sum (v_i / (1 - u_i^2))^p)^(1/p)``. The diagonal of ``shape`` holds ``v_i^p``. Equal deviations
    in all assets, or no speeds, give the largest u squared; else it is less. Assets without a scale do not count.
    """
    whole, now, largest = 0.0, 0.0, 0.0
    for i in range(x.shape[0]):
        u = abs(x[i]) * scale[i]
        largest = max(largest, u)
        if scale[i] > 0.0:
            whole += shape[i, i]
            now += shape[i, i] / max(1.0 - u * u, 1e-9) ** POWER
    if whole <= 0.0:
        return float(largest * largest)
    return float(1.0 - (whole / now) ** (1.0 / POWER))


@njit(cache=True, nogil=True)
def to_go(x: Vector, shape: Matrix, scale: Vector, box: bool, A: float, B: float) -> float:
    """Return the cost-to-go of the deviation ``x``; a soft one never falls with the distance."""
    if box:
        return float(A * exit_square(x, shape, scale))
    r = radius(x, shape, scale, box)
    flat = min(r * r, 0.5 * A / B) if B > 0.0 else r * r
    return float(A * flat - B * flat * flat)


@njit(cache=True, nogil=True)
def grow_box(x: Vector, scale: Vector, inside: Vector, move: Vector) -> bool:
    """Add the asset that most lowers the largest scaled deviation; write the move that evens the set out."""
    n = x.shape[0]
    best, best_level, best_size = -1, np.inf, -1.0
    for k in range(n):
        if inside[k] or scale[k] <= 0.0:
            continue
        rest, room, level = 0.0, 1.0 / scale[k], 0.0
        for i in range(n):
            if inside[i]:
                room += 1.0 / scale[i]
            elif i != k:
                rest += x[i]
                level = max(level, abs(x[i]) * scale[i])
        level = max(level, abs(rest) / room)
        size = abs(x[k]) * scale[k]
        if level < best_level - 1e-15 or (level < best_level + 1e-15 and size > best_size):
            best, best_level, best_size = k, level, size
    if best < 0:
        return False
    inside[best] = True
    rest, room = 0.0, 0.0
    for i in range(n):
        if inside[i]:
            room += 1.0 / scale[i]
        else:
            rest += x[i]
    for i in range(n):
        move[i] = -rest / room / scale[i] - x[i] if inside[i] else 0.0
    return True


@njit(cache=True, nogil=True)
def grow_risk(
    pull: Vector, M: Matrix, inside: Vector, anchor: int, used: Matrix, moved: Matrix, count: int, move: Vector
) -> bool:
    """Add the asset whose swap, made M-orthogonal to the earlier ones, lowers x'Mx most; extend the best move.

    ``pull`` is Mx; rows of ``used`` are the orthogonal directions so far, ``moved`` their images under M.
    """
    n = pull.shape[0]
    best, best_gain = -1, 0.0
    d, Md = np.empty(n), np.empty(n)
    for k in range(n):
        if inside[k]:
            continue
        _direction(k, anchor, M, used, moved, count, d, Md)
        slope, curve = 0.0, 0.0
        for i in range(n):
            slope += d[i] * pull[i]
            curve += d[i] * Md[i]
        if curve > 1e-300 and slope * slope / curve > best_gain:
            best, best_gain = k, slope * slope / curve
    if best < 0:
        return False
    inside[best] = True
    _direction(best, anchor, M, used, moved, count, d, Md)
    slope, curve = 0.0, 0.0
    for i in range(n):
        slope += d[i] * pull[i]
        curve += d[i] * Md[i]
    for i in range(n):
        used[count, i], moved[count, i] = d[i], Md[i]
        move[i] -= slope / curve * d[i]
    return True


@njit(cache=True, nogil=True)
def _direction(k: int, anchor: int, M: Matrix, used: Matrix, moved: Matrix, count: int, d: Vector, Md: Vector) -> None:
    n = d.shape[0]
    for i in range(n):
        d[i] = (1.0 if i == k else 0.0) - (1.0 if i == anchor else 0.0)
        Md[i] = M[i, k] - M[i, anchor]
    for c in range(count):
        top, bottom = 0.0, 0.0
        for i in range(n):
            top += d[i] * moved[c, i]
            bottom += used[c, i] * moved[c, i]
        for i in range(n):
            d[i] -= top / bottom * used[c, i]
            Md[i] -= top / bottom * moved[c, i]


@njit(cache=True, nogil=True)
def _anchor(x: Vector, M: Matrix, scale: Vector, box: bool) -> int:
    """Return the asset every set holds: the largest scaled deviation, or the best first swap's first asset."""
    n = x.shape[0]
    best, best_gain = 0, -1.0
    for i in range(n):
        if box:
            gain = abs(x[i]) * scale[i]
            if gain > best_gain:
                best, best_gain = i, gain
            continue
        for j in range(n):
            curve = M[i, i] + M[j, j] - 2.0 * M[i, j]
            if j == i or curve <= 1e-300:
                continue
            slope = 0.0
            for k in range(n):
                slope += (M[i, k] - M[j, k]) * x[k]
            if slope * slope / curve > best_gain * (1.0 + 1e-12):
                best, best_gain = i, slope * slope / curve
    return best


@njit(cache=True, nogil=True)
def reach(x: Vector, move: Vector, M: Matrix, scale: Vector, box: bool, level: float, trial: Vector) -> float:
    """Return the smallest share of ``move`` that brings the distance to ``level``; 2 when none does."""
    n = x.shape[0]
    for i in range(n):
        trial[i] = x[i] + move[i]
    if radius(trial, M, scale, box) > level:
        return 2.0
    low, high = 0.0, 1.0
    for _ in range(50):
        share = 0.5 * (low + high)
        for i in range(n):
            trial[i] = x[i] + share * move[i]
        if radius(trial, M, scale, box) > level:
            low = share
        else:
            high = share
    return high


@njit(cache=True, nogil=True)
def cheapest(
    x: Vector,
    M: Matrix,
    scale: Vector,
    box: bool,
    inner: float,
    forced: bool,
    A: float,
    B: float,
    gas_leg: float,
    fee: Vector,
    impact: Vector,
    out: Vector,
) -> None:
    """Write to ``out`` the deviation after the cheapest sufficient trade; see the module."""
    n = x.shape[0]
    level = min(inner, EDGE) if forced else inner
    inside = np.zeros(n, dtype=np.bool_)
    anchor = _anchor(x, M, scale, box)
    inside[anchor] = True
    move, trial, pull = np.zeros(n), np.empty(n), np.zeros(n)
    used, moved = np.zeros((n, n)), np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            pull[i] += M[i, j] * x[j]
    r = radius(x, M, scale, box)
    best = np.inf
    for i in range(n):  # in case nothing qualifies: all assets, keeping the direction
        out[i] = x[i] * min(level / r, 1.0)
    for legs in range(1, n):
        if legs == n - 1:
            for i in range(n):
                move[i] = -x[i]
        elif box:
            if not grow_box(x, scale, inside, move):
                break
        elif not grow_risk(pull, M, inside, anchor, used, moved, legs - 1, move):
            break
        way = 1.0 - level / r if legs == n - 1 else reach(x, move, M, scale, box, level, trial)
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
