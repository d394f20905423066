"""The time loop of a portfolio whose holders come and go: the shared step, on holdings that money moves beside it.

Money moves in the accounting asset, column 0. Requests are known before they settle. ``netting``, where the gas of a
trade is at least ``least`` of NAV: a trade is made only where the weights ask for one both as they are and as they will
be once all known requests are settled; it is the one of the latter, cut to the cash that is free (``policy.netting``
live). Else the step is asked about the holdings as they are. Either way a withdrawal that is due finds its cash: what
is missing is sold then and there, the most overweight assets first. Without flows a run equals ``step_kernel.run``, to
the bit.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from policy.base import Matrix, Vector
from policy.solvers.step_kernel import NOTHING, book, charge, distance, drift, leaves, move, wanted


@njit(cache=True, nogil=True)
def raise_cash(x: Vector, target: Vector, short: float, out: Vector) -> None:
    """Write to ``out`` the deviations after ``short`` of NAV is sold into column 0, the most overweight first."""
    n = x.shape[0]
    for i in range(n):
        out[i] = x[i]
    left = short
    for _ in range(n - 1):
        best = 1
        for i in range(2, n):
            if out[i] > out[best]:
                best = i
        floor, second = -target[best], -2.0  # sold down to the next most overweight, or to nothing
        for i in range(1, n):
            if i != best and out[i] < out[best] and out[i] > second:
                second = out[i]
        amount = min(left, out[best] - max(floor, second)) if second > floor else min(left, out[best] - floor)
        out[best] -= amount
        left -= amount
        if left <= 0.0:
            break
    for _ in range(n):  # ties and what is still missing: from whatever is held
        if left <= 0.0:
            break
        for i in range(1, n):
            amount = min(left, target[i] + out[i])
            out[i] -= amount
            left -= amount
    out[0] = x[0] + short - left


@njit(cache=True, nogil=True)
def settle(x: Vector, target: Vector, come: float, go: float) -> float:
    """Move ``come`` and ``go`` of NAV in column 0 of ``x``; return NAV after over NAV before."""
    growth = 1.0 + come - go
    for i in range(x.shape[0]):
        weight = target[i] + x[i]
        if i == 0:
            weight += come - go
        x[i] = weight / growth - target[i]
    return growth


@njit(cache=True, nogil=True)
def cut(x: Vector, target: Vector, change: Vector, leaving: float, reserve: float) -> None:
    """Cut purchases among the changes of weight to what sales bring and the cash that is free: ``netting.within``."""
    if change[0] >= 0.0:
        return
    free = max(0.0, target[0] + x[0] - leaving - reserve)
    sold, bought = 0.0, 0.0
    for i in range(1, x.shape[0]):
        if change[i] < 0.0:
            sold -= change[i]
        else:
            bought += change[i]
    if sold + free >= bought:
        return
    part, total = (sold + free) / bought, 0.0
    for i in range(1, x.shape[0]):
        if change[i] > 0.0:
            change[i] *= part
        total += change[i]
    change[0] = -total


@njit(cache=True, nogil=True)
def run(
    returns: Matrix,  # (T, n), and so on as in step_kernel.run
    day: Vector,
    M: Matrix,
    target: Vector,
    scale: Vector,
    box: bool,
    direct: bool,
    worth: Vector,
    stiff: float,
    must: bool,
    outer: Vector,
    inner: Vector,
    resume: Vector,
    cap: Vector,
    exit_part: Vector,
    tradable: Matrix,
    columns: Vector,
    limit: float,
    gas_base: Vector,
    gas_leg: Vector,
    fee: Vector,
    impact: Matrix,
    tolerance: Vector,
    half_gamma: float,
    first: int,
    last: int,
    week: Vector,
    come: Vector,  # (T,) fraction of NAV that settles in at the beginning of the step
    go: Vector,  # (T,) and out
    coming: Vector,  # (T,) requested, settled after the step
    leaving: Vector,  # (T,)
    reserve: Vector,  # (T,) cash not to be spent, fraction of NAV
    netting: bool,
    least: float,  # gas of a trade, fraction of NAV, from which requests are netted
    weekly: Matrix,  # (weeks, 6) out, as in step_kernel.run
    tallies: Vector,  # (6,) out: steps, trades, forced sales, turnover, NAV at the end over the first, hours outside
) -> int:
    """Simulate one portfolio from its target at ``first`` to ``last`` (exclusive); return the number of trades."""
    n = target.shape[0]
    x, after, seen, wish = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    here = np.ones(n, dtype=np.bool_)
    pushed, size = np.zeros(n), 1.0
    trades, sales, turnover, previous, outside = 0, 0, 0.0, -2, 0
    for t in range(first, last):
        shape = M[day[t]]
        base, leg = gas_base[t] / size, gas_leg[t] / size
        for i in range(n):
            pushed[i] = impact[t, i] * size
        if come[t] > 0.0 or go[t] > 0.0:
            short = go[t] - come[t] - (target[0] + x[0])
            if short > 0.0:
                raise_cash(x, target, short, after)
                gas, paid, slid, _ = charge(x, after, base, leg, fee, pushed)
                turnover = book(weekly[week[t]], gas, paid, slid, x, after, turnover)
                trades, sales = trades + 1, sales + 1
            size *= settle(x, target, come[t], go[t])
            base, leg = gas_base[t] / size, gas_leg[t] / size
            for i in range(n):
                pushed[i] = impact[t, i] * size
        net = netting and base + leg >= least and (coming[t] > 0.0 or leaving[t] > 0.0)
        growth = 1.0
        for i in range(n):
            seen[i] = x[i]
            here[i] = tradable[t, columns[i]]
        trigger = min(outer[t], resume[t]) if previous == t - 1 else outer[t]
        r = distance(x, shape, scale, box, n)
        asks = (must and r >= 1.0) or wanted(x, r, trigger, inner[t], shape, scale, box, exit_part[t])
        if net and asks:  # what the money will do by itself is not traded
            growth = settle(seen, target, coming[t], leaving[t])
            r = distance(seen, shape, scale, box, n)
            asks = (must and r >= 1.0) or wanted(seen, r, trigger, inner[t], shape, scale, box, exit_part[t])
        reason = NOTHING
        if asks:
            reason = move(
                seen, r, trigger, target, here, shape, scale, box, direct, inner[t], cap[t], must, worth[t], stiff,
                base, leg, fee, pushed, tolerance, limit, wish,
            )  # fmt: skip
        if reason != NOTHING:
            if net or (netting and reserve[t] > 0.0):
                for i in range(n):
                    wish[i] = growth * (wish[i] - seen[i])
                cut(x, target, wish, leaving[t], reserve[t])
                moved = 0.0
                for i in range(n):
                    moved = max(moved, abs(wish[i]))
                    after[i] = x[i] + wish[i]
                if moved < 1e-9:
                    reason = NOTHING
            else:
                for i in range(n):
                    after[i] = wish[i]
        if reason != NOTHING:
            gas, paid, slid, _ = charge(x, after, base, leg, fee, pushed)
            turnover = book(weekly[week[t]], gas, paid, slid, x, after, turnover)
            trades += 1
            previous = t
        outside += leaves(x, tolerance)
        difference = drift(x, target, returns[t], after)
        weekly[week[t], 4] += difference * difference
    for w in range(weekly.shape[0]):
        weekly[w, 3] = half_gamma * weekly[w, 4]
    tallies[0], tallies[1], tallies[2], tallies[3], tallies[4] = last - first, trades, sales, turnover, size
    tallies[5] = outside
    return trades
