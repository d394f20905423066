"""The compiled part of placement: which chains take which share of one trade, and whether cash should go first.

A trade is a vector y of USD that sums to 0 (sold below 0, bought above). Chain c taking the share s of it pays
``gas_c + fee_c s + impact_c s^2``, so over a set of chains the cheapest split makes the marginal costs equal, within
what each chain has to sell. All sets, in quarters of the trade, are looked at.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from policy.base import Matrix, Vector

QUARTERS = 4
LEAST = 0.02  # of a trade: doing less of it is not worth a transaction
SLICE = 0.05  # of a trade: a chain that can take less of it takes none
WAIT, TRADE, MOVE = 0, 1, 2
CENT = 0.01
FLAT = 1e-9  # USD of impact of a whole trade: less is none


@njit(cache=True, nogil=True)
def rooms(y: Vector, have: Matrix, open_: Matrix, out: Vector) -> None:
    """Write the largest share of ``y`` (n,) each chain can take to ``out`` (C,): all it sells must lie there.

    ``have`` (C, n) USD that may be sold, ``open_`` (C, n) what can be traded there.
    """
    for c in range(have.shape[0]):
        share = 1.0
        for k in range(y.shape[0]):
            if abs(y[k]) > CENT and not open_[c, k]:
                share = 0.0
            if y[k] < -CENT:
                share = min(share, max(have[c, k], 0.0) / -y[k])
        out[c] = share if share >= SLICE else 0.0


@njit(cache=True, nogil=True)
def lines(y: Vector, base: Vector, leg: Vector, fee: Matrix, impact: Matrix, out: Matrix) -> None:
    """Write (gas, fee, impact) of the whole trade on each chain to ``out`` (C, 3): see the module for the letters."""
    legs = -1
    for k in range(y.shape[0]):
        legs += abs(y[k]) > CENT
    for c in range(base.shape[0]):
        paid, pushed = 0.0, 0.0
        for k in range(y.shape[0]):
            paid += 0.5 * fee[c, k] * abs(y[k])
            pushed += impact[c, k] * y[k] * y[k]
        out[c, 0], out[c, 1], out[c, 2] = base[c] + leg[c] * max(1, legs), paid, pushed


@njit(cache=True, nogil=True)
def split(cost: Matrix, room: Vector, mask: int, wanted: float, out: Vector) -> float:
    """Write the cheapest shares of the chains in ``mask`` that sum to ``wanted``, or to all they can; return the sum.

    Chains are filled in the order of their marginal costs: at level l chain c has taken ``(l - fee_c) / (2 impact_c)``.
    """
    C = room.shape[0]
    left = wanted
    for c in range(C):
        out[c] = 0.0
    level = -1.0
    for _ in range(3 * C):
        slope, up, here = 0.0, np.inf, -1
        for c in range(C):
            if not (mask >> c) & 1 or out[c] >= room[c] - 1e-15:
                continue
            begin = cost[c, 1]
            if begin > level:
                up = min(up, begin)
            elif cost[c, 2] <= FLAT:
                here = c
            else:
                slope += 0.5 / cost[c, 2]
                up = min(up, cost[c, 1] + 2.0 * cost[c, 2] * room[c])
        if here >= 0:  # no impact: all of it at this level
            take = min(left, room[here] - out[here])
            out[here] += take
        elif slope > 0.0:
            rise = min(up - level, left / slope)
            for c in range(C):
                if (mask >> c) & 1 and out[c] < room[c] - 1e-15 and cost[c, 1] <= level and cost[c, 2] > FLAT:
                    out[c] = min(room[c], out[c] + 0.5 * rise / cost[c, 2])
                    if rise == up - level and up >= cost[c, 1] + 2.0 * cost[c, 2] * room[c]:
                        out[c] = room[c]
            level = up if rise == up - level else level + rise
        elif up < np.inf:
            level = up
        else:
            break
        left = wanted  # from what was taken: a level has few digits left where an impact is small beside a fee
        for c in range(C):
            left -= out[c]
        if left <= 1e-15:
            left = 0.0
            break
    return wanted - max(left, 0.0)


@njit(cache=True, nogil=True)
def shares_cost(cost: Matrix, shares: Vector) -> float:
    """Return USD of chains taking ``shares`` (C,) of the trade whose ``lines`` are ``cost``."""
    total = 0.0
    for c in range(shares.shape[0]):
        if shares[c] > 0.0:
            total += cost[c, 0] + cost[c, 1] * shares[c] + cost[c, 2] * shares[c] * shares[c]
    return total


@njit(cache=True, nogil=True)
def part_worth(done: float, left: float) -> float:
    """Return the share of a trade's worth that doing the share ``done`` of it brings.

    ``left`` is the distance from the target that the whole trade leaves, over the one before it: the cost of being away
    is quadratic, so the share is ``(1 - (1 - d + d left)^2) / (1 - left^2)``: a trade to the target brings most of its
    worth early, one from edge to edge of a narrow band step by step.
    """
    if left > 0.999:
        return done
    rest = 1.0 - done * (1.0 - left)
    return (1.0 - rest * rest) / (1.0 - left * left)


@njit(cache=True, nogil=True)
def best_split(cost: Matrix, room: Vector, benefit: float, left: float, out: Vector) -> float:
    """Write the shares with the greatest gain to ``out`` (C,) and return it; 0 and no share where none is worth it.

    ``benefit`` is what the whole trade is worth in USD, ``left`` what ``part_worth`` takes.
    """
    C = room.shape[0]
    shares, best = np.zeros(C), 0.0
    for c in range(C):
        out[c] = 0.0
    for mask in range(1, 2**C):
        for quarter in range(1, QUARTERS + 1):
            done = split(cost, room, mask, quarter / QUARTERS, shares)
            if done < LEAST:
                continue
            gain = benefit * part_worth(done, left) - shares_cost(cost, shares)
            if gain > best:
                best = gain
                for c in range(C):
                    out[c] = shares[c]
    return best


@njit(cache=True, nogil=True)
def least_cost(cost: Matrix) -> float:
    """Return USD of the whole trade where everything lay where it is wanted: the cheapest set of chains, no limits."""
    C = cost.shape[0]
    shares, room, best = np.zeros(C), np.ones(C), np.inf
    for mask in range(1, 2**C):
        split(cost, room, mask, 1.0, shares)
        best = min(best, shares_cost(cost, shares))
    return best


@njit(cache=True, nogil=True)
def best_first_move(
    y: Vector,
    cash: int,  # position of the cash asset
    have: Matrix,  # (C, n) USD that may be sold; of cash, above each chain's floor
    open_: Matrix,
    cost: Matrix,  # (C, 3) see ``lines``
    benefit: float,
    left: float,
    fixed: Matrix,  # (C, C) USD a transfer, inf without a route
    rate: Matrix,  # (C, C) fee and risk, fractions
    waiting: float,  # USD of tracking until it arrives
    most: float,  # USD a transfer may carry
    out: Vector,  # (3,) out: origin, destination, USD
) -> float:
    """Write the transfer after which trading on its destination gains most, return that gain; 0 where none does."""
    C = have.shape[0]
    best = 0.0
    room, shares, trial = np.zeros(C), np.zeros(C), have.copy()
    for b in range(C):
        lack = -y[cash] - have[b, cash]
        if y[cash] >= -CENT or lack <= CENT:
            continue
        for a in range(C):
            m = min(1.05 * lack, 0.9 * max(have[a, cash], 0.0), most)
            if a == b or m < 0.2 * lack or not np.isfinite(fixed[a, b] + rate[a, b]):
                continue
            trial[b, cash] = have[b, cash] + m
            rooms(y, trial, open_, room)
            trial[b, cash] = have[b, cash]
            done = split(cost, room, 1 << b, 1.0, shares)
            if done < LEAST:
                continue
            gain = benefit * part_worth(done, left) - shares_cost(cost, shares)
            gain -= fixed[a, b] + rate[a, b] * m + waiting
            if gain > best:
                best = gain
                out[0], out[1], out[2] = a, b, m
    return best
