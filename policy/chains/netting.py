"""Which cash moves where: the cheapest transfers that meet the chains' needs from the others' surpluses.

With a fixed cost a transfer the optimum lies at a vertex of the transport problem: a forest of transfers, so at most
chains - 1 of them, none in a circle and none in both directions. Every vertex is met by picking pairs one after the
other and sending all that either end has left, so with few chains all of them are looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from lake.errors import ConfigError
from policy.base import Matrix, Vector

MOST = 6
"""Chains netted at once: beyond it the vertices are too many to look at all."""
DUST = 1e-9  # of the largest amount: what is less is nothing
LEAST = 0.25  # of what a chain lacks: less is not worth a transfer


@dataclass(frozen=True, slots=True)
class CashMove:
    """USD of cash from one chain to another, both by their chain ids (of ``net``: by position)."""

    origin: int
    destination: int
    usd: float


@njit(cache=True, nogil=True)
def cheapest_moves(spare: Vector, lack: Vector, fixed: Matrix, rate: Matrix, out: Matrix) -> float:
    """Write the cheapest amounts (C, C) from ``spare`` (C,) that meet ``lack`` (C,) to ``out``, return their cost.

    A transfer of A from a to b costs ``fixed[a, b] + rate[a, b] A``; inf is no route. A chain has spare or lacks, not
    both. Where the spare does not suffice, or no route leads there, as much as can be is met: more is always better.
    """
    C = spare.shape[0]
    left, need = spare.copy(), lack.copy()
    total = min(left.sum(), need.sum())
    tiny = DUST * max(1e-300, left.max(), need.max())
    depth, cost, sent = 0, 0.0, 0.0
    best_cost, best_sent = 0.0, 0.0
    pair = np.full(C + 1, -1)  # pair tried at each depth
    amount = np.zeros(C + 1)
    moves, out[:, :] = np.zeros((C, C)), 0.0
    while depth >= 0:
        pair[depth] += 1
        if pair[depth] >= C * C:
            pair[depth] = -1
            depth -= 1
            if depth >= 0:
                a, b = pair[depth] // C, pair[depth] % C
                left[a] += amount[depth]
                need[b] += amount[depth]
                moves[a, b] -= amount[depth]
                cost -= fixed[a, b] + rate[a, b] * amount[depth]
                sent -= amount[depth]
            continue
        a, b = pair[depth] // C, pair[depth] % C
        m = min(left[a], need[b])
        if a == b or m <= tiny or not math.isfinite(fixed[a, b] + rate[a, b]):
            continue
        left[a] -= m
        need[b] -= m
        moves[a, b] += m
        cost += fixed[a, b] + rate[a, b] * m
        sent += m
        amount[depth] = m
        more = sent > best_sent + tiny * C
        if more or (sent > best_sent - tiny * C and cost < best_cost):
            best_cost, best_sent = cost, max(best_sent, sent)
            out[:, :] = moves
        if sent < total - tiny and depth < C - 1:
            depth += 1
            continue
        left[a] += m
        need[b] += m
        moves[a, b] -= m
        cost -= fixed[a, b] + rate[a, b] * m
        sent -= m
    return best_cost


@njit(cache=True, nogil=True)
def refills(
    cash: Vector, coming: Vector, trigger: Vector, low: Vector, goal: Vector, fixed: Matrix, rate: Matrix, out: Matrix
) -> None:
    """Write the transfers (C, C) that fill up every chain whose cash is below its ``trigger`` to its ``goal``.

    Cash comes from what others have above their own goals, where that is under half of what lacks also from what they
    have above a third of the way from ``low`` to it (Miller-Orr's return point). What is ``coming`` counts for its
    chain and is never sent on: a chain that waits for cash gives none. A quarter of what lacks is the least sent.
    """
    C = cash.shape[0]
    lack, spare, deep = np.zeros(C), np.zeros(C), np.zeros(C)
    out[:, :] = 0.0
    for c in range(C):
        if cash[c] + coming[c] < trigger[c]:
            lack[c] = max(0.0, goal[c] - cash[c] - coming[c])
        elif coming[c] <= 0.0:
            spare[c] = max(0.0, cash[c] - goal[c])
            deep[c] = max(0.0, cash[c] - (2.0 * low[c] + goal[c]) / 3.0)
    if lack.sum() <= 0.0:
        return
    cheapest_moves(spare if spare.sum() >= 0.5 * lack.sum() else deep, lack, fixed, rate, out)
    for a in range(C):
        for b in range(C):
            if out[a, b] <= LEAST * lack[b]:
                out[a, b] = 0.0


def net(surplus: Vector, fixed: Matrix, rate: Matrix) -> tuple[CashMove, ...]:
    """Return the cheapest transfers for ``surplus`` (C,) USD, a need where it is below 0; see ``cheapest_moves``.

    Raises ConfigError for more than MOST chains or amounts and prices that are no numbers.
    """
    C = surplus.size
    if C > MOST or fixed.shape != (C, C) or rate.shape != (C, C):
        raise ConfigError(
            f"{C} chains, prices {fixed.shape} and {rate.shape}: give at most {MOST} chains and a price each pair"
        )
    if not np.isfinite(surplus).all() or np.isnan(fixed).any() or np.isnan(rate).any():
        raise ConfigError("a surplus or a price of a transfer is no number; leave out the chain whose figures failed")
    out = np.zeros((C, C))
    cheapest_moves(np.maximum(surplus, 0.0), np.maximum(-surplus, 0.0), fixed, rate, out)
    return tuple(CashMove(int(a), int(b), float(out[a, b])) for a, b in np.argwhere(out > 0.0))
