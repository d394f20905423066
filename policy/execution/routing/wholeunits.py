"""Tokens whose smallest unit is worth a trade: they are bought and sold in whole units, and that is said.

A token with 0 decimals at 25,000 USD cannot be bought for 30,000 USD: one unit costs 25,000, and what is sent beyond
its price is lost to rounding. So the amount sold is the least that buys the whole units wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lake.units import BPS
from policy.execution.base import Verdict
from policy.execution.checks.rules import E10, VaultBook
from policy.execution.checks.verdicts import passed
from policy.execution.routing.router import Routing

COARSE_BPS = 10
"""A unit worth more than this share of a trade is coarse: rounding to it would cost as much as a pool's fee."""
_FINE = 10**6  # the least amount is found to a millionth of itself
E18 = 10**18

Route = Callable[[int], Routing | None]


@dataclass(frozen=True, slots=True)
class Whole:
    """What is traded in whole units: raw ``amount`` to sell (0: the trade waits), its way (None where the router is
    still to be asked) and the words.
    """

    amount: int
    way: Routing | None
    note: Verdict


def unit_value(book: VaultBook, i: int) -> int:
    """Return USD x 1e18 of one raw unit of token ``i``, rounded down."""
    return int(book.prices_e8[i] * E10 // 10 ** book.tokens[i].decimals)


def coarse(book: VaultBook, i: int, size: int) -> bool:
    """Return whether one raw unit of token ``i`` is worth more than COARSE_BPS of ``size`` (USD x 1e18)."""
    return unit_value(book, i) * BPS > COARSE_BPS * size


def in_whole_units(book: VaultBook, i: int, j: int, size: int, most_in: int, room: float, route: Route) -> Whole | None:
    """Return how ``size`` (USD x 1e18) of token ``i`` goes into token ``j`` in whole units; None: neither is coarse.

    ``most_in``: most raw units that may be sold. ``room``: the price may move so far (fraction) before the wanted
    units are no longer bought.
    """
    if coarse(book, i, size):
        amount = min(size // max(1, unit_value(book, i)), book.holdings[i])
        if amount == 0 or not coarse(book, j, size):
            return Whole(amount, None, _note(book, i, amount, size))
        most_in = min(most_in, amount)
    elif not coarse(book, j, size):
        return None
    for wanted in (size // max(1, unit_value(book, j)), size // max(1, unit_value(book, j)) - 1):
        way = _least(route, wanted, most_in, room) if wanted > 0 else None
        if way is not None:
            return Whole(way.amount_in, way, _note(book, j, wanted, size))
    return Whole(0, None, _note(book, j, 0, size))


def _least(route: Route, wanted: int, most_in: int, room: float) -> Routing | None:
    """Return the execution of the least amount that buys ``wanted`` units, with ``room`` on top; None if none does."""
    found = route(most_in)
    if found is None or found.out < wanted:
        return None
    low, high = 0, most_in
    while high - low > max(1, high // _FINE):
        middle = (low + high) // 2
        way = route(middle)
        if way is not None and way.out >= wanted:
            high, found = middle, way
        else:
            low = middle
    return route(min(most_in, high + int(high * room))) or found


def _note(book: VaultBook, i: int, units: int, size: int) -> Verdict:
    token, usd = book.tokens[i], unit_value(book, i) / E18
    words = f"{units} of them are traded" if units else f"{size / E18:,.0f} USD waits"
    reason = f"{token.symbol} comes in whole units of {usd:,.2f} USD: {words}"
    return passed("whole_units", reason, token=token.address, units=units, unit_usd=usd)
