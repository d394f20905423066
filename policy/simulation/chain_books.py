"""What the ledger of several chains knows and books: the world, the rules, and one trade or transfer at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from policy.base import Bools, Matrix, Vector
from policy.simulation.history import Ints
from policy.solvers.step_kernel import charge

GAS, FEE, IMPACT, TRACKING, SQUARE, TRADES, BRIDGE, RISK = range(8)
"""Columns of the books: fractions of NAV, the squared tracking difference, trades."""
PLANS, TRANSFERS, FAST, FORCED, MOVED, OUTFLOWS = range(6)
"""Tallies: trades, transfers, those of them at once, forced sales, what transfers moved (of NAV), withdrawals."""
DUST = 1.0  # USD: less is nothing


class ChainWorld(NamedTuple):
    """What a portfolio meets: arrays over T hours, D days, C chains and n assets."""

    returns: Matrix  # (T, n) of the hour after each step
    day: Ints  # (T,) row of the next three
    shape: Matrix  # (D, n, n) trading distance
    unit_fee: Vector  # (D,)
    unit_square: Matrix  # (D, n)
    week: Ints  # (T,)
    base: Matrix  # (T, C) USD of gas of a rebalance
    leg: Matrix  # (T, C) of each swap
    usual: Matrix  # (T, C) of one of all swaps at usual gas
    impact: Matrix  # (T, C, n) USD per squared USD
    flow: Matrix  # (T, C) deposits above 0 and withdrawals below, fractions of the whole NAV
    send: Matrix  # (T, C) USD of gas of a transfer away
    receive: Matrix  # (T, C) and of one that comes in
    low: Matrix  # (T, C) cash below which a chain is filled up, fraction of the whole NAV
    goal: Matrix  # (T, C) cash it is filled up to
    early: Matrix  # (T, C) as ``low``, where filling up is cheap now
    cheap: Bools  # (T,) whether it is


class ChainRules(NamedTuple):
    """What a policy does, and the prices that do not change; fees are fractions."""

    netted: bool  # weights are sums over chains; else every chain is a portfolio of its own
    equal: bool  # netted, but every chain is restored to an equal part
    fills: bool  # cash is kept on every chain by transfers
    stiffness: float  # of the cost-to-go, see ``bands``
    half_gamma: float
    nav: float
    cash: int  # position of the cash asset
    delay: int  # hours of a transfer
    fee: float  # of a transfer
    fast_fee: float  # of one that arrives at once
    risk: float  # charged on both
    overhead: float  # USD a transfer is taken to cost beyond its price; decides, is not booked
    swap_fee: float
    target: Vector
    swap_fees: Vector  # (n,)
    covariance: Matrix  # (D, n, n) an hour


@njit(cache=True, nogil=True)
def scale(H: Matrix, due: Matrix, nav: float) -> None:
    """Scale holdings (C, n) and money in transit (hours, C) to ``nav`` in all."""
    factor = nav / (H.sum() + due.sum())
    H *= factor
    due *= factor


@njit(cache=True, nogil=True)
def ready(H: Matrix, due: Matrix, rules: ChainRules, t: int) -> None:
    """Credit what arrives in hour ``t``."""
    slot = t % due.shape[0]
    H[:, rules.cash] += due[slot]
    due[slot] = 0.0


@njit(cache=True, nogil=True)
def pay(row: Vector, rules: ChainRules, gas: float, amount: float, fast: bool, n: Vector) -> None:
    """Book a transfer of ``amount`` USD whose gas on both chains is ``gas``."""
    row[BRIDGE] += (gas + amount * (rules.fast_fee if fast else rules.fee)) / rules.nav
    row[RISK] += amount * rules.risk / rules.nav
    n[TRANSFERS] += 1.0
    n[FAST] += fast
    n[MOVED] += amount / rules.nav


@njit(cache=True, nogil=True)
def send(
    H: Matrix, due: Matrix, w: ChainWorld, rules: ChainRules, t: int, a: int, b: int, amount: float,
    row: Vector, n: Vector,
) -> None:  # fmt: skip
    """Send ``amount`` USD of cash from chain a to b; it is credited ``delay`` hours on."""
    H[a, rules.cash] -= amount
    if rules.delay == 0:
        H[b, rules.cash] += amount
    else:
        due[(t + rules.delay) % due.shape[0], b] += amount
    pay(row, rules, w.send[t, a] + w.receive[t, b], amount, False, n)


@njit(cache=True, nogil=True)
def fetch(
    H: Matrix, w: ChainWorld, rules: ChainRules, t: int, a: int, b: int, amount: float, row: Vector, n: Vector
) -> None:
    """Send ``amount`` USD of cash from chain a to b by the bridge that arrives at once."""
    H[a, rules.cash] -= amount
    H[b, rules.cash] += amount
    pay(row, rules, w.send[t, a] + w.receive[t, b], amount, True, n)


@njit(cache=True, nogil=True)
def trade(H: Matrix, w: ChainWorld, rules: ChainRules, t: int, c: int, y: Vector, row: Vector, n: Vector) -> None:
    """Trade ``y`` (n,) USD, sold below 0 and bought above, on chain c."""
    moved = 0.0
    for i in range(y.shape[0]):
        moved += abs(y[i])
    if moved < DUST:
        return
    gas, paid, pushed, _ = charge(y, np.zeros(y.shape[0]), w.base[t, c], w.leg[t, c], rules.swap_fees, w.impact[t, c])
    row[GAS] += gas / rules.nav
    row[FEE] += paid / rules.nav
    row[IMPACT] += pushed / rules.nav
    row[TRADES] += 1.0
    n[PLANS] += 1.0
    for i in range(y.shape[0]):
        H[c, i] += y[i]
