"""The compiled step every policy shares, and the time loop of the simulator.

All costs here are fractions of NAV. ``x`` is the deviation (weight less target). A policy acts only through
four levels of a scalar distance r of x, known before the step: trade when ``r >= outer`` (or ``resume`` right after a
trade), back to ``inner``, moving at most ``cap`` of NAV. ``box``: r = max |x_i| scale_i; else r = sqrt(x'Mx). Of a box
the matrices M carry the speeds of ``trade_set.exit_square`` on their diagonals, or zeros: legs by the distance alone.
An asset that is not tradable in a step stays where it is, and the others trade without it (see ``partial``).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from policy.base import Action, Matrix, Vector
from policy.solvers import partial
from policy.solvers.partial import act_among, can_end, end_breach
from policy.solvers.trade_set import EDGE, cheapest, exit_square, radius

NOTHING, TRADE, FORCED, SPLIT = partial.NOTHING, partial.TRADE, partial.FORCED, partial.SPLIT
REASONS: tuple[Action, ...] = ("wait", "trade", "forced", "split")


@njit(cache=True, nogil=True, inline="always")
def distance(x: Vector, M: Matrix, scale: Vector, box: bool, n: int) -> float:
    """Return the scalar distance of deviation ``x`` of ``n`` assets."""
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
def wanted(
    x: Vector, r: float, trigger: float, inner: float, M: Matrix, scale: Vector, box: bool, exit_part: float
) -> bool:
    """Return whether the levels ask for a trade at ``x``, breaches apart.

    With ``exit_part`` e the trigger of a box meets ``r^(1-e) s^e`` in place of r, s^2 being ``exit_square``: one asset
    at its edge is less urgent than all of them. s never exceeds r.
    """
    if not (r >= trigger and r > inner):
        return False
    if not box or exit_part <= 0.0:
        return True
    s = math.sqrt(max(exit_square(x, M, scale), 0.0))
    return bool(r ** (1.0 - exit_part) * s**exit_part >= trigger)


@njit(cache=True, nogil=True)
def act(
    x: Vector,
    r: float,
    M: Matrix,
    scale: Vector,
    box: bool,
    direct: bool,
    inner: float,
    cap: float,
    forced: bool,
    A: float,
    B: float,
    gas_leg: float,
    fee: Vector,
    impact: Vector,
    out: Vector,
) -> int:
    """Write the deviation after the trade to ``out`` and return the reason; ``r > inner`` is the distance of ``x``.

    ``direct`` moves every asset the same share of its way to the target, otherwise the cheapest sufficient set moves.
    """
    n = x.shape[0]
    if direct:
        level = min(inner, EDGE) if forced else inner
        for i in range(n):
            out[i] = x[i] * min(level / r, 1.0)
    else:
        cheapest(x, M, scale, box, inner, forced, A, B, gas_leg, fee, impact, out)
    turnover = 0.0
    for i in range(n):
        turnover += 0.5 * abs(out[i] - x[i])
    reason = FORCED if forced else TRADE
    if turnover <= cap:
        return reason
    part = cap / turnover
    if forced:  # no smaller than what ends inside the tolerance
        high, trial = 1.0, np.empty(n)
        for _ in range(40):
            middle = 0.5 * (part + high)
            for i in range(n):
                trial[i] = x[i] + middle * (out[i] - x[i])
            if radius(trial, M, scale, box) > EDGE:
                part = middle
            else:
                high = middle
        part = high
    for i in range(n):
        out[i] = x[i] + part * (out[i] - x[i])
    return reason if forced else SPLIT


@njit(cache=True, nogil=True)
def move(
    x: Vector,
    r: float,
    trigger: float,
    target: Vector,
    open_: Vector,
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
    """Write the deviation after what is done at ``x`` to ``out`` and return the reason, NOTHING for waiting.

    ``r`` is the distance of ``x``; ``open_`` (n,) the assets with a market; ``limit`` the most one trade may move of
    NAV, one-way. A breach of ``tolerance`` that one such trade can end is ended.
    """
    for i in range(x.shape[0]):
        if not open_[i]:
            return int(act_among(
                x, target, open_, trigger, M, scale, box, direct, inner, cap, must, A, B, gas_base, gas_leg, fee,
                impact, tolerance, limit, out,
            ))  # fmt: skip
    breach = must and r >= 1.0
    if not (breach or (r >= trigger and r > inner)):
        return NOTHING
    reason = act(x, r, M, scale, box, direct, inner, min(cap, limit), breach, A, B, gas_leg, fee, impact, out)
    if breach and limit < 1.0:
        return int(end_breach(x, target, tolerance, open_, limit, min(inner, EDGE), out))
    return int(reason)


@njit(cache=True, nogil=True)
def charge(
    x: Vector, after: Vector, gas_base: float, gas_leg: float, fee: Vector, impact: Vector
) -> tuple[float, float, float, int]:
    """Return (gas, fee, impact, legs) of a trade as fractions of NAV; ``impact`` is the cost per squared weight."""
    moved, paid, pushed = 0, 0.0, 0.0
    for i in range(x.shape[0]):
        dw = abs(after[i] - x[i])
        if dw > 0.0:
            moved += 1
            paid += 0.5 * fee[i] * dw
            pushed += impact[i] * dw * dw
    legs = max(1, moved - 1)
    return gas_base + gas_leg * legs, paid, pushed, legs


@njit(cache=True, nogil=True)
def book(weekly: Vector, gas: float, paid: float, pushed: float, x: Vector, after: Vector, turnover: float) -> float:
    """Add a trade's costs to its week's row of ``weekly`` (6,), take ``after`` as ``x``, return the turnover so far."""
    weekly[0] += gas
    weekly[1] += paid
    weekly[2] += pushed
    weekly[5] += 1.0
    for i in range(x.shape[0]):
        turnover += 0.5 * abs(after[i] - x[i])
        x[i] = after[i]
    return turnover


@njit(cache=True, nogil=True)
def put(out: Vector, target: Vector, x: Vector) -> None:
    """Write the weights of the deviations ``x`` into ``out`` (n,)."""
    for i in range(x.shape[0]):
        out[i] = target[i] + x[i]


@njit(cache=True, nogil=True)
def leaves(x: Vector, tolerance: Vector) -> bool:
    """Return whether a deviation is beyond its tolerance."""
    outside = False
    for i in range(x.shape[0]):
        outside |= abs(x[i]) > tolerance[i] + 1e-12
    return outside


@njit(cache=True, nogil=True)
def drift(x: Vector, target: Vector, returns: Vector, scratch: Vector) -> float:
    """Let prices move the deviations ``x`` for an hour; return the hour's difference to the target portfolio."""
    total, difference = 0.0, 0.0
    for i in range(x.shape[0]):
        step = returns[i]
        grown = (target[i] + x[i]) * (1.0 + step)
        total += grown
        difference += x[i] * step
        scratch[i] = grown
    growth = 1.0 / total
    for i in range(x.shape[0]):
        x[i] = scratch[i] * growth - target[i]
    return difference


@njit(cache=True, nogil=True)
def run(
    lanes: tuple[int, ...],  # any n numbers: the length is known when compiling, so loops over assets unroll
    returns: Matrix,  # (T, n) simple return of the hour after each step
    day: Vector,  # (T,) row of M
    M: Matrix,  # (D, n, n), see the module
    target: Vector,
    scale: Vector,  # (n,) 1 / tolerance of the box distance
    box: bool,
    direct: bool,  # every asset moves the same share of its way
    worth: Vector,  # (T,) A of the cost-to-go A r^2 - B r^4 that weighs the number of swaps
    stiff: float,  # its B
    must: bool,  # a distance of 1 must be traded at once
    outer: Vector,
    inner: Vector,
    resume: Vector,
    cap: Vector,  # (T,) levels
    exit_part: Vector,  # (T,) see ``wanted``
    tradable: Matrix,  # (T, A) of the history: False where an asset has no market
    columns: Vector,  # (n,) the portfolio's assets among those of the history
    limit: float,  # most one trade may move, one-way, of NAV; 1 and above never binds
    gas_base: Vector,
    gas_leg: Vector,  # (T,) fractions of NAV
    fee: Vector,
    impact: Matrix,  # (T, n)
    tolerance: Vector,  # (n,) violations are counted against it
    half_gamma: float,
    first: int,
    last: int,
    week: Vector,  # (T,)
    weekly: Matrix,  # (weeks, 6) out: gas, fee, impact, tracking, squared tracking difference, trades
    tallies: Vector,  # (5,) out: steps, trades, violations, turnover, violations that no trade could have ended
    log_step: Vector,  # (K,) out: steps of the trades; K = 0 keeps none
    log_reason: Vector,
    log_before: Matrix,
    log_after: Matrix,
    path: Matrix,  # (T, n) out: weights before the trade of each step; zero rows keep none
) -> int:
    """Simulate one portfolio from its target at ``first`` to ``last`` (exclusive); return the number of trades."""
    n = len(lanes)
    x, after, start = np.zeros(n), np.zeros(n), np.zeros(n)
    here = np.ones(n, dtype=np.bool_)
    trades, violations, powerless, turnover = 0, 0, 0, 0.0
    previous = -2
    keep = path.shape[0] > 0
    capped = np.isfinite(tolerance).any()
    today = -1
    shape = M[0]
    for t in range(first, last):
        if day[t] != today:
            today = day[t]
            shape = M[today]
        if keep:
            put(path[t], target, x)
        r = distance(x, shape, scale, box, n)
        trigger = min(outer[t], resume[t]) if previous == t - 1 else outer[t]
        breach = must and r >= 1.0
        reason = NOTHING
        if breach or wanted(x, r, trigger, inner[t], shape, scale, box, exit_part[t]):
            for i in range(n):
                here[i] = tradable[t, columns[i]]
                start[i] = x[i]
            reason = move(
                x, r, trigger, target, here, shape, scale, box, direct, inner[t], cap[t], must, worth[t], stiff,
                gas_base[t], gas_leg[t], fee, impact[t], tolerance, limit, after,
            )  # fmt: skip
        if reason != NOTHING:
            gas, paid, pushed, _ = charge(x, after, gas_base[t], gas_leg[t], fee, impact[t])
            if trades < log_step.shape[0]:
                log_step[trades] = t
                log_reason[trades] = reason
                put(log_before[trades], target, x)
                put(log_after[trades], target, after)
            turnover = book(weekly[week[t]], gas, paid, pushed, x, after, turnover)
            trades += 1
            previous = t
        if capped and leaves(x, tolerance):
            violations += 1
            for i in range(n):
                here[i] = tradable[t, columns[i]]
                if reason == NOTHING:
                    start[i] = x[i]
            powerless += not can_end(start, target, tolerance, here, limit)
        difference = drift(x, target, returns[t], after)
        weekly[week[t], 4] += difference * difference
    for w in range(weekly.shape[0]):
        weekly[w, 3] = half_gamma * weekly[w, 4]
    tallies[0], tallies[1], tallies[2], tallies[3] = last - first, trades, violations, turnover
    tallies[4] = powerless
    return trades
