"""The compiled ledger of one portfolio on several chains: flows of investors, transfers, trades, hour by hour.

Amounts are USD at a constant nominal net asset value: growth and flows are scaled away each hour, so holdings on all
chains and in transit sum to ``nav`` at every step. Costs are booked beside the holdings, as in ``step_kernel``.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from policy.base import Matrix, Vector
from policy.chains.netting import refills
from policy.chains.placement_kernel import best_first_move, best_split, least_cost, lines, rooms
from policy.simulation.chain_books import (
    DUST,
    FORCED,
    OUTFLOWS,
    SQUARE,
    TRACKING,
    ChainRules,
    ChainWorld,
    fetch,
    ready,
    scale,
    send,
    trade,
)
from policy.solvers.bands import solve_one
from policy.solvers.step_kernel import NOTHING, distance, move

MORE = 0.9  # of a band's cost: what another chain must bring it down to before it is counted on


@njit(cache=True, nogil=True)
def withdraw(H: Matrix, w: ChainWorld, rules: ChainRules, t: int, c: int, need: float, row: Vector, n: Vector) -> None:
    """Pay ``need`` USD out on chain c: from its cash, by a transfer where that is cheaper, else by a forced sale."""
    k = rules.cash
    n[OUTFLOWS] += 1.0
    if rules.fills and H[c, k] < need:
        short = need - H[c, k]
        a, price = cheapest_donor(H, w, rules, t, c, short)
        swap = w.base[t, c] + w.leg[t, c] * max(1, H.shape[1] - 2)
        if price < 2.0 * (swap + short * rules.swap_fee):  # what is sold is bought again
            goal = short + w.goal[t, c] * rules.nav
            most = max(short, H[a, k] - (w.low[t, a] + w.goal[t, a]) / 2.0 * rules.nav)
            fetch(H, w, rules, t, a, c, min(most, goal), row, n)
    if H[c, k] < need - DUST:
        risky = H[c].sum() - H[c, k]
        part = min(1.0, 1.01 * (need - H[c, k]) / max(risky, DUST))
        y = -part * H[c]
        y[k] = 0.0
        y[k] = -y.sum()
        if y[k] > DUST:
            trade(H, w, rules, t, c, y, row, n)
            n[FORCED] += 1.0
    while H[c, k] < need - DUST:
        a = richest(H, c, k)
        if a < 0:
            break
        fetch(H, w, rules, t, a, c, min(H[a, k], need - H[c, k]), row, n)
    H[c, k] -= min(need, H[c, k])


@njit(cache=True, nogil=True)
def cheapest_donor(H: Matrix, w: ChainWorld, rules: ChainRules, t: int, c: int, usd: float) -> tuple[int, float]:
    """Return the chain from which ``usd`` come to chain c at once for least, and at what cost; inf: none has it."""
    best, price = -1, np.inf
    for a in range(H.shape[0]):
        if a != c and H[a, rules.cash] >= usd:
            cost = w.send[t, a] + w.receive[t, c] + usd * (rules.fast_fee + rules.risk)
            if cost < price:
                best, price = a, cost
    return best, price


@njit(cache=True, nogil=True)
def richest(H: Matrix, but: int, k: int) -> int:
    """Return the chain but ``but`` with most cash, -1 where none has any."""
    a = -1
    for c in range(H.shape[0]):
        if c != but and H[c, k] > DUST and (a < 0 or H[c, k] > H[a, k]):
            a = c
    return a


@njit(cache=True, nogil=True)
def fill(H: Matrix, due: Matrix, w: ChainWorld, rules: ChainRules, t: int, row: Vector, n: Vector) -> None:
    """Fill up the chains whose cash is below their lower points from what others have above their own goals."""
    C = H.shape[0]
    fixed, rate, moves, coming = (
        np.empty((C, C)),
        np.full((C, C), rules.fee + rules.risk),
        np.empty((C, C)),
        np.empty(C),
    )
    for a in range(C):
        coming[a] = due[:, a].sum()
        for b in range(C):
            fixed[a, b] = w.send[t, a] + w.receive[t, b] + rules.overhead
    trigger = (w.early[t] if w.cheap[t] else w.low[t]) * rules.nav
    cash = H[:, rules.cash].copy()
    refills(cash, coming, trigger, w.low[t] * rules.nav, w.goal[t] * rules.nav, fixed, rate, moves)
    for a in range(C):
        for b in range(C):
            if moves[a, b] > DUST:
                send(H, due, w, rules, t, a, b, moves[a, b], row, n)


@njit(cache=True, nogil=True)
def wish(
    x: Vector, nav: float, w: ChainWorld, rules: ChainRules, t: int, gas: Vector, impact: Vector, out: Vector
) -> tuple[float, float]:
    """Write the deviation the band wants to ``out``; return what going there is worth in USD, and the distance left.

    Below 0 is waiting; the distance is a fraction of the one before.

    ``gas`` (3,) USD: of a rebalance, of each swap, of one of all swaps at usual gas; ``impact`` (n,) USD per USD^2.
    """
    d, size = w.day[t], x.shape[0]
    B, ones = rules.stiffness, np.ones(size)
    push = impact * nav
    m = 0.0
    for i in range(size):
        m += push[i] * w.unit_square[d, i]
    r = distance(x, w.shape[d], ones, False, size)
    outer, inner = solve_one((gas[0] + gas[1]) / nav, w.unit_fee[d], m, B)
    if r < outer or r <= inner:
        return -1.0, 1.0
    D, e = solve_one(gas[2] / nav, w.unit_fee[d], m, B)
    A = 2.0 * B * (D * D + D * e + e * e)
    reason = move(
        x, r, outer, rules.target, np.ones(size, dtype=np.bool_), w.shape[d], ones, False, False, inner, np.inf, False,
        A, B, gas[0] / nav, gas[1] / nav, rules.swap_fees, push, np.full(size, np.inf), 1.0, out,
    )  # fmt: skip
    if reason == NOTHING:
        return -1.0, 1.0
    q = distance(out, w.shape[d], ones, False, size)
    worth = B * (outer + inner) ** 2  # V(outer) - V(inner) of the cost-to-go, over outer^2 - inner^2
    return max(0.0, worth * (r * r - q * q)) * nav, q / r


@njit(cache=True, nogil=True)
def alone(H: Matrix, w: ChainWorld, rules: ChainRules, t: int, row: Vector, n: Vector) -> None:
    """Let every chain follow the band as a portfolio of its own."""
    after = np.empty(H.shape[1])
    for c in range(H.shape[0]):
        own = H[c].sum()
        if own < DUST:
            continue
        x = H[c] / own - rules.target
        gas = np.array([w.base[t, c], w.leg[t, c], w.usual[t, c]])
        if wish(x, own, w, rules, t, gas, w.impact[t, c], after)[0] >= 0.0:
            trade(H, w, rules, t, c, (after - x) * own, row, n)


@njit(cache=True, nogil=True)
def pooled(w: ChainWorld, rules: ChainRules, t: int, gas: Vector, impact: Vector) -> None:
    """Write gas (3,) and impact (n,) of the chains that one band is cheapest on: the cheapest one, or more for depth.

    A band that costs J a year has ``A = 2 B (D^2 + D d + d^2)`` in proportion to J: the set with the least A is taken.
    """
    C, n, d = w.base.shape[1], impact.shape[0], w.day[t]
    order = np.argsort(w.base[t] + w.leg[t])
    sums, depth, best = np.zeros(3), np.zeros(n), np.inf
    for j in range(C):
        c = order[j]
        sums[0] += w.base[t, c]
        sums[1] += w.leg[t, c]
        sums[2] += w.usual[t, c]
        m = 0.0
        for i in range(n):
            depth[i] += 1.0 / max(w.impact[t, c, i], 1e-300)
            m += rules.nav * w.unit_square[d, i] / depth[i]
        D, e = solve_one((sums[0] + sums[1]) / rules.nav, w.unit_fee[d], m, rules.stiffness)
        if D * D + D * e + e * e < MORE * best:
            best = D * D + D * e + e * e
            gas[:] = sums
            impact[:] = 1.0 / depth


@njit(cache=True, nogil=True)
def whole(H: Matrix, due: Matrix, w: ChainWorld, rules: ChainRules, t: int, row: Vector, n: Vector) -> None:
    """Follow the band as one portfolio: trade where it costs least, or send cash there first."""
    C, size = H.shape
    x, after, gas, impact = H.sum(axis=0) / rules.nav, np.empty(size), np.empty(3), np.empty(size)
    x[rules.cash] += due.sum() / rules.nav
    x -= rules.target
    pooled(w, rules, t, gas, impact)
    benefit, left = wish(x, rules.nav, w, rules, t, gas, impact, after)
    if benefit < 0.0:
        return
    y = (after - x) * rules.nav
    if rules.equal:
        restore(H, due, w, rules, t, row, n)
        return
    shares, cost, room, have = np.ones(C), np.empty((C, 3)), np.empty(C), H.copy()
    if C == 1:  # nothing to choose: what the policy wants is done
        trade(H, w, rules, t, 0, y, row, n)
        return
    open_ = np.ones((C, size), dtype=np.bool_)
    if rules.fills:
        for c in range(C):
            have[c, rules.cash] = max(0.0, H[c, rules.cash] - w.low[t, c] * rules.nav)
    fees = np.empty((C, size))
    fees[:, :] = rules.swap_fees
    lines(y, w.base[t], w.leg[t], fees, w.impact[t], cost)
    rooms(y, have, open_, room)
    benefit = max(benefit, (1.0 + 1e-9) * least_cost(cost))  # what the band wants is worth what it costs at best
    gain = best_split(cost, room, benefit, left, shares)
    first = np.zeros(3)
    if rules.fills and due.sum() < DUST:
        fixed, rate = np.empty((C, C)), np.full((C, C), rules.fee + rules.risk)
        for a in range(C):
            for b in range(C):
                fixed[a, b] = w.send[t, a] + w.receive[t, b] + rules.overhead
        drag = rules.half_gamma * square(x, w.day[t], rules) * rules.delay
        if best_first_move(y, rules.cash, have, open_, cost, benefit, left, fixed, rate, drag, rules.nav, first) > gain:
            send(H, due, w, rules, t, int(first[0]), int(first[1]), first[2], row, n)
            return
    for c in range(C):
        if gain > 0.0 and shares[c] > 0.0:
            trade(H, w, rules, t, c, y * shares[c], row, n)


@njit(cache=True, nogil=True)
def square(x: Vector, day: int, rules: ChainRules) -> float:
    """Return the expected squared tracking difference of an hour at deviation ``x``, times the NAV."""
    total = 0.0
    for i in range(x.shape[0]):
        for j in range(x.shape[0]):
            total += x[i] * rules.covariance[day, i, j] * x[j]
    return total * rules.nav


@njit(cache=True, nogil=True)
def restore(H: Matrix, due: Matrix, w: ChainWorld, rules: ChainRules, t: int, row: Vector, n: Vector) -> None:
    """Trade every chain to the target and to an equal part of the whole, sending the differences in cash."""
    C = H.shape[0]
    if due.sum() > DUST:
        return
    part = rules.nav / C
    for c in range(C):
        own = H[c].sum()
        keep = min(own, part)
        y = rules.target * keep - H[c]
        y[rules.cash] += own - keep
        trade(H, w, rules, t, c, y, row, n)
    for a in range(C):
        for b in range(C):
            m = min(H[a].sum() - part, part - H[b].sum() - due[:, b].sum(), H[a, rules.cash])
            if a != b and m > 50.0:
                send(H, due, w, rules, t, a, b, m, row, n)


@njit(cache=True, nogil=True)
def run(w: ChainWorld, rules: ChainRules, first: int, last: int, books: Matrix, n: Vector) -> None:
    """Simulate hours ``first`` to ``last`` (exclusive) from the target in equal parts.

    ``books`` (weeks, 8) and ``n`` (7,) are added to: see ``chain_books``.
    """
    C, size = w.base.shape[1], rules.target.shape[0]
    H, due = np.empty((C, size)), np.zeros((rules.delay + 1, C))
    for c in range(C):
        H[c] = rules.target * (rules.nav / C)
    for t in range(first, last):
        row = books[w.week[t]]
        ready(H, due, rules, t)
        for c in range(C):
            if w.flow[t, c] > 0.0:
                H[c, rules.cash] += w.flow[t, c] * rules.nav
            elif w.flow[t, c] < 0.0:
                withdraw(H, w, rules, t, c, -w.flow[t, c] * rules.nav, row, n)
        scale(H, due, rules.nav)
        if rules.fills and C > 1:
            fill(H, due, w, rules, t, row, n)
        if rules.netted:
            whole(H, due, w, rules, t, row, n)
        else:
            alone(H, w, rules, t, row, n)
        difference = 0.0
        for i in range(size):
            held = H[:, i].sum() + (due.sum() if i == rules.cash else 0.0)
            difference += (held / rules.nav - rules.target[i]) * w.returns[t, i]
            H[:, i] *= 1.0 + w.returns[t, i]
        row[SQUARE] += difference * difference
        row[TRACKING] += rules.half_gamma * difference * difference
        scale(H, due, rules.nav)
