"""The compiled time loop at block resolution: the hourly simulator's trade and ledger, looked at every block.

What is decided at block b is carried out ``delay`` blocks later at that block's gas, which is known at b (the next base
fee follows from this block). With one block an hour and no delay it is ``step_kernel.run`` to the last digit.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from policy.base import Matrix, Vector
from policy.solvers.partial import can_end
from policy.solvers.step_kernel import NOTHING, charge, distance, move

HOURLY, TABLE, SURFACE = 0, 1, 2
BLOCKS, TRADED, HOURS_OUT, POWERLESS, TURNOVER, OUTSIDE, WAITED, UNFILLED = range(8)
NO_TABLE = -1  # state of a block at which no surface may decide: the gas table does
FORCED_AT = 1e8  # a reservation price above this has no ceiling: the trade is made whatever gas costs


@njit(cache=True, nogil=True, inline="always")
def at_row(table: Matrix, row: int, at: float) -> float:
    """Return ``table[row]`` interpolated at the fractional column ``at``, clipped to the table."""
    top = table.shape[1] - 1
    place = min(max(at, 0.0), top - 1e-9)
    j = int(place)
    part = place - j
    return float(table[row, j] * (1.0 - part) + table[row, j + 1] * part)


@njit(cache=True, nogil=True, inline="always")
def at_state(grid: Matrix, place: float, state: int) -> float:
    """Return ``grid`` (nodes, states) of ``state`` at the fractional node ``place``; beyond the last node the last."""
    top = grid.shape[0] - 1
    if place >= top:
        return float(grid[top, state])
    j = int(place)
    part = place - j
    if grid[j + 1, state] > FORCED_AT:
        return float(grid[j, state])
    return float(grid[j, state] * (1.0 - part) + grid[j + 1, state] * part)


@njit(cache=True, nogil=True)
def run(
    lanes: tuple[int, ...],  # any n numbers: the length is known when compiling, so loops over assets unroll
    returns: Matrix,  # (N, A) simple return of each block, all assets of the history
    columns: Vector,  # (n,) the portfolio's assets among them
    hour: Vector,  # (N,) step of the history each block lies in
    price: Vector,  # (N,) gas of each block, gwei
    gas_at: Vector,  # (N,) fractional column of that price in the gas tables
    day: Vector,  # (T,) row of M and of the gas tables
    M: Matrix,  # (D, n, n)
    target: Vector,
    scale: Vector,
    box: bool,
    direct: bool,
    worth: Vector,  # (T,)
    stiff: float,
    must: bool,
    mode: int,  # HOURLY, TABLE or SURFACE
    every: int,  # blocks between looks
    mark: int,  # first look, blocks after the hour; a look of an hourly rule
    delay: int,  # blocks from decision to execution: 0 or 1
    buffer: float,  # triggers at this share of the outer level and of a hard tolerance
    cap_at: float,  # gas limit order: columns from the present price to the order's cap; 0 places none
    patience: int,  # blocks an order is placed again before the present price is paid
    outer: Vector,  # (T,) levels of an HOURLY rule
    inner: Vector,
    resume: Vector,
    cap: Vector,
    table_outer: Matrix,  # (D, G) levels by gas of a TABLE rule
    table_inner: Matrix,
    window: Vector,  # (N,) surface in force, NO_TABLE without one
    state: Vector,  # (N,) its state at each block, NO_TABLE where it is refused
    reserve: Matrix,  # (W, nodes, Q) reservation price, fraction of NAV, by distance and state
    back: Matrix,  # (W, nodes, Q) level traded back to
    node: Vector,  # (W,) distance between nodes
    swaps: float,  # legs the surface's gas was taken for
    tradable: Matrix,  # (T, A)
    limit: float,
    gas_fixed: Matrix,  # (T, 2) gas of the base and of each leg that no price moves, fraction of NAV
    gas_unit: Matrix,  # (T, 2) the same per gwei
    fee: Vector,
    impact: Matrix,  # (T, n)
    tolerance: Vector,
    half_gamma: float,
    first: int,
    last: int,
    per_hour: int,
    week: Vector,
    weekly: Matrix,  # (weeks, 6) out
    tallies: Vector,  # (8,) out, see BLOCKS ... UNFILLED
    log_block: Vector,  # (K,) out: blocks of the trades; K = 0 keeps none
    log_reason: Vector,
    log_before: Matrix,
    log_after: Matrix,
) -> int:
    """Simulate one portfolio from its target at block ``first`` to ``last`` (exclusive); return the trades."""
    n = len(lanes)
    x, after, start = np.zeros(n), np.zeros(n), np.zeros(n)
    here = np.ones(n, dtype=np.bool_)
    shape = M[0]
    trades, turnover, outside, hours_out, powerless = 0, 0.0, 0, 0, 0
    waited, unfilled, difference = 0.0, 0, 0.0
    pending, order, since, wanted = False, False, -1, -1
    order_cap = 0.0
    to_inner, to_cap, to_trigger = 0.0, np.inf, 0.0
    capped = np.isfinite(tolerance).any()
    final = price.shape[0] - 1
    now, last_look, traded_look = -1, -2, -2
    for b in range(first, last):
        t = hour[b]
        if t != now:
            now = t
            if not box:
                shape = M[day[t]]
            for i in range(n):
                here[i] = tradable[t, columns[i]]
        r = distance(x, shape, scale, box, n)
        act_now = pending
        pending = False
        phase = (b - first) % per_hour if per_hour > 1 else 0
        if not act_now and ((mode != HOURLY and (b - mark) % every == 0) or phase == mark):
            ahead = min(b + delay, final)
            at = gas_at[ahead]
            d = day[t]
            trigger, to_cap, look = np.inf, np.inf, False
            if mode == HOURLY:
                trigger, to_inner, to_cap, look = outer[t] * buffer, inner[t], cap[t], True
                if traded_look == last_look:
                    trigger = min(trigger, resume[t])
            elif mode == SURFACE and window[b] >= 0 and state[b] >= 0:
                w = window[b]
                place = r / node[w]
                to_inner = at_state(back[w], place, state[b])
                cost = (
                    gas_fixed[t, 0] + swaps * gas_fixed[t, 1] + (gas_unit[t, 0] + swaps * gas_unit[t, 1]) * price[ahead]
                )
                if cost <= at_state(reserve[w], place, state[b]) and r > to_inner + 1e-9:
                    trigger = r
                look = True
            elif cap_at == 0.0:
                trigger, to_inner, look = at_row(table_outer, d, at) * buffer, at_row(table_inner, d, at), True
            else:  # hourly decisions; orders are looked up at every block
                to_inner = at_row(table_inner, d, at)
                if phase == mark:
                    order = False
                    due = r >= at_row(table_outer, d, at)
                    if due and since >= 0 and b - since >= patience:
                        trigger, look = r, True
                        unfilled += 1
                    elif r >= at_row(table_outer, d, at + cap_at):
                        order, order_cap = True, at + cap_at
                        if wanted < 0:
                            wanted = b
                        if due and since < 0:
                            since = b
                        elif not due:
                            since = -1
                    else:
                        since, wanted = -1, -1
                if order and at <= order_cap:
                    trigger, look = r, True
                look = look or must
            if look:
                last_look = b
                if (r >= trigger and r > to_inner) or (must and r >= buffer):
                    if wanted < 0:
                        wanted = b
                    act_now, pending, to_trigger = delay == 0, delay != 0, trigger
        reason = NOTHING
        if act_now:
            for i in range(n):
                start[i] = x[i]
            level = min(to_inner, 0.97 * buffer) if must else to_inner
            base = gas_fixed[t, 0] + gas_unit[t, 0] * price[b]
            leg = gas_fixed[t, 1] + gas_unit[t, 1] * price[b]
            reason = move(
                x, r, to_trigger if delay == 0 else 0.0, target, here, shape, scale, box, direct, level, to_cap, must,
                worth[t], stiff, base, leg,
                fee, impact[t], tolerance, limit, after,
            )  # fmt: skip
            if reason != NOTHING:
                gas, paid, pushed, _ = charge(x, after, base, leg, fee, impact[t])
                k = week[t]
                weekly[k, 0] += gas
                weekly[k, 1] += paid
                weekly[k, 2] += pushed
                weekly[k, 5] += 1.0
                waited += b - max(wanted, first)
                if trades < log_block.shape[0]:
                    log_block[trades], log_reason[trades] = b, reason
                    for i in range(n):
                        log_before[trades, i] = target[i] + x[i]
                        log_after[trades, i] = target[i] + after[i]
                for i in range(n):
                    turnover += 0.5 * abs(after[i] - x[i])
                    x[i] = after[i]
                trades += 1
                traded_look = last_look
            order, since, wanted = False, -1, -1
        if capped:
            out = False
            for i in range(n):
                out |= abs(x[i]) > tolerance[i] + 1e-12
            if out:
                outside += 1
                if phase == 0:
                    hours_out += 1
                    if reason == NOTHING:
                        for i in range(n):
                            start[i] = x[i]
                    powerless += not can_end(start, target, tolerance, here, limit)
        total = 0.0
        for i in range(n):
            step = returns[b, columns[i]]
            grown = (target[i] + x[i]) * (1.0 + step)
            total += grown
            difference += x[i] * step
            after[i] = grown
        if b + 1 == last or hour[b + 1] != t:  # the ledger's tracking difference is that of the hour
            weekly[week[t], 4] += difference * difference
            difference = 0.0
        growth = 1.0 / total
        for i in range(n):
            x[i] = after[i] * growth - target[i]
    for k in range(weekly.shape[0]):
        weekly[k, 3] = half_gamma * weekly[k, 4]
    tallies[0], tallies[1], tallies[2], tallies[3] = last - first, trades, hours_out, powerless
    tallies[4], tallies[5], tallies[6], tallies[7] = turnover, outside, waited, unfilled
    return trades
