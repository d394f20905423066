"""The compiled time loop at block resolution: the hourly simulator's trade and ledger, looked at every block.

What is decided at block b is carried out ``delay`` blocks later at that block's gas, which is known at b (the next base
fee follows from this block). At five minutes a step, b is the block just before the next step, seen at the prices and
weights of five minutes earlier. With one block an hour and no delay it is ``step_kernel.run`` to the last digit.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from policy.base import Matrix, Vector
from policy.solvers.partial import can_end
from policy.solvers.step_kernel import NOTHING, charge, distance, move, wanted

HOURLY, TABLE, SURFACE, MIXED = 0, 1, 2, 3
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
def limit_order(
    r: float, row: int, at: float, b: int, placing: bool, cap_at: float, patience: int, outer: Matrix, order: Vector
) -> bool:
    """Return whether an hourly rule with gas limit orders trades at gas column ``at``, and keep its ``order``.

    ``placing`` is the hour's decision; ``order`` (5,) holds whether one is open, its cap, the block since when the
    present price was worth paying, the block since when a trade was wanted (both -1 for none), and orders given up.
    """
    if placing:
        order[0] = 0.0
        due = r >= at_row(outer, row, at)
        if due and order[2] >= 0.0 and b - order[2] >= patience:
            order[4] += 1.0
            return True
        if r >= at_row(outer, row, at + cap_at):
            order[0], order[1] = 1.0, at + cap_at
            if order[3] < 0.0:
                order[3] = b
            if not due:
                order[2] = -1.0
            elif order[2] < 0.0:
                order[2] = b
        else:
            order[2], order[3] = -1.0, -1.0
    return bool(order[0] > 0.0 and at <= order[1])


@njit(cache=True, nogil=True)
def reserved(
    r: float, inner: float, price: float, swaps: float, fixed: Vector, unit: Vector, reserve: Matrix, node: float,
    state: int,
) -> bool:  # fmt: skip
    """Return whether gas at ``price`` of a rebalance of ``swaps`` is within the reservation price at distance ``r``."""
    cost = fixed[0] + swaps * fixed[1] + (unit[0] + swaps * unit[1]) * price
    return bool(cost <= at_state(reserve, r / node, state) and r > inner + 1e-9)


@njit(cache=True, nogil=True)
def book(
    trades: int, b: int, reason: int, x: Vector, after: Vector, target: Vector, week: Vector, costs: tuple[float, ...],
    log_block: Vector, log_reason: Vector, log_before: Matrix, log_after: Matrix,
) -> float:  # fmt: skip
    """Write a trade to the ``week``'s ledger and to the log, move ``x`` and return the one-way turnover."""
    week[0] += costs[0]
    week[1] += costs[1]
    week[2] += costs[2]
    week[5] += 1.0
    if trades < log_block.shape[0]:
        log_block[trades], log_reason[trades] = b, reason
        log_before[trades], log_after[trades] = target + x, target + after
    moved = 0.0
    for i in range(x.shape[0]):
        moved += 0.5 * abs(after[i] - x[i])
        x[i] = after[i]
    return moved


@njit(cache=True, nogil=True)
def execute(
    x: Vector, r: float, trigger: float, target: Vector, here: Vector, shape: Matrix, scale: Vector, box: bool,
    direct: bool, inner: float, cap: float, must: bool, A: float, B: float, fixed: Vector, unit: Vector, price: float,
    fee: Vector, impact: Vector, tolerance: Vector, limit: float, after: Vector, trades: int, b: int, week: Vector,
    log_block: Vector, log_reason: Vector, log_before: Matrix, log_after: Matrix,
) -> tuple[int, float]:  # fmt: skip
    """Trade at gas ``price`` and book it; return the reason (NOTHING where there is nothing to do) and the turnover."""
    base, leg = fixed[0] + unit[0] * price, fixed[1] + unit[1] * price
    reason = move(
        x, r, trigger, target, here, shape, scale, box, direct, inner, cap, must, A, B, base, leg, fee, impact,
        tolerance, limit, after,
    )  # fmt: skip
    if reason == NOTHING:
        return reason, 0.0
    gas, paid, pushed, _ = charge(x, after, base, leg, fee, impact)
    costs = (gas, paid, pushed)
    return reason, book(
        trades, b, reason, x, after, target, week, costs, log_block, log_reason, log_before, log_after
    )  # fmt: skip


@njit(cache=True, nogil=True, inline="always")
def beyond(x: Vector, tolerance: Vector, n: int) -> bool:
    """Return whether any asset is beyond its tolerance."""
    out = False
    for i in range(n):
        out |= abs(x[i]) > tolerance[i] + 1e-12
    return out


@njit(cache=True, nogil=True, inline="always")
def drift(x: Vector, target: Vector, returns: Matrix, b: int, columns: Vector, after: Vector, n: int) -> float:
    """Let ``x`` drift by the block's returns and return its tracking difference; ``after`` is scratch."""
    total, difference = 0.0, 0.0
    for i in range(n):
        step = returns[b, columns[i]]
        grown = (target[i] + x[i]) * (1.0 + step)
        total += grown
        difference += x[i] * step
        after[i] = grown
    growth = 1.0 / total
    for i in range(n):
        x[i] = after[i] * growth - target[i]
    return difference


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
    mode: int,  # HOURLY, TABLE, SURFACE, or MIXED: the surface where its state is known, else the table once an hour
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
    exit_part: Vector,  # (T,) of an HOURLY rule, see ``step_kernel.wanted``
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
    here, shape = np.ones(n, dtype=np.bool_), M[0]
    trades, turnover, outside, hours_out, powerless = 0, 0.0, 0, 0, 0
    waited, difference, pending = 0.0, 0.0, False
    order = np.array([0.0, 0.0, -1.0, -1.0, 0.0])  # see limit_order
    to_inner, to_cap, to_trigger = 0.0, np.inf, 0.0
    capped = np.isfinite(tolerance).any()
    final = price.shape[0] - 1
    now, last_look, traded_look = -1, -2, -2
    for b in range(first, last):
        t = hour[b]
        if t != now:
            now = t
            shape = M[day[t]]
            for i in range(n):
                here[i] = tradable[t, columns[i]]
        r = distance(x, shape, scale, box, n)
        act_now, pending = pending, False
        phase = (b - first) % per_hour if per_hour > 1 else 0
        if not act_now and ((mode != HOURLY and (b - mark) % every == 0) or phase == mark):
            ahead = min(b + delay, final)
            at = gas_at[ahead]
            trigger, to_cap, look = np.inf, np.inf, mode != MIXED or phase == mark or state[b] >= 0
            if mode == HOURLY:
                trigger, to_inner, to_cap = outer[t] * buffer, inner[t], cap[t]
                if traded_look == last_look:
                    trigger = min(trigger, resume[t])
            elif mode >= SURFACE and window[b] >= 0 and state[b] >= 0:
                w = window[b]
                to_inner = at_state(back[w], r / node[w], state[b])
                if reserved(
                    r, to_inner, price[ahead], swaps, gas_fixed[t], gas_unit[t], reserve[w], node[w], state[b]
                ):  # fmt: skip
                    trigger = r
            else:
                to_inner = at_row(table_inner, day[t], at)
                if cap_at == 0.0:
                    trigger = at_row(table_outer, day[t], at) * buffer
                else:  # hourly decisions; orders are looked up at every block
                    fills = limit_order(r, day[t], at, b, phase == mark, cap_at, patience, table_outer, order)
                    trigger, look = r if fills else np.inf, fills or must
            if look:
                last_look = b
                if (must and r >= buffer) or wanted(
                    x, r, trigger, to_inner, shape, scale, box, exit_part[t] if mode == HOURLY else 0.0
                ):
                    if order[3] < 0.0:
                        order[3] = b
                    act_now, pending, to_trigger = delay == 0, delay != 0, trigger
        reason = NOTHING
        if act_now:
            start[:] = x
            level = min(to_inner, 0.97 * buffer) if must else to_inner
            reason, moved = execute(
                x, r, to_trigger if delay == 0 else 0.0, target, here, shape, scale, box, direct, level, to_cap, must,
                worth[t], stiff, gas_fixed[t], gas_unit[t], price[b], fee, impact[t], tolerance, limit, after,
                trades, b, weekly[week[t]], log_block, log_reason, log_before, log_after,
            )  # fmt: skip
            if reason != NOTHING:
                waited, turnover = waited + b - order[3], turnover + moved
                trades, traded_look = trades + 1, last_look
            order[0], order[2], order[3] = 0.0, -1.0, -1.0
        if capped and beyond(x, tolerance, n):
            outside += 1
            if phase == 0:
                hours_out += 1
                if reason == NOTHING:
                    start[:] = x
                powerless += not can_end(start, target, tolerance, here, limit)
        difference += drift(x, target, returns, b, columns, after, n)
        if b + 1 == last or hour[b + 1] != t:  # the ledger's tracking difference is that of the hour
            weekly[week[t], 4] += difference * difference
            difference = 0.0
    for k in range(weekly.shape[0]):
        weekly[k, 3] = half_gamma * weekly[k, 4]
    tallies[0], tallies[1], tallies[2], tallies[3] = last - first, trades, hours_out, powerless
    tallies[4], tallies[5], tallies[6], tallies[7] = turnover, outside, waited, order[4]
    return trades
