"""Which listed options bring the gamma and vega of a book within limits at least cost: an integer programme.

Cost is what quotes and fees take beyond the marks: half a spread and the venue's fee, not the premium, which buys
something worth it. Quantities are whole lots, at most a share of the open interest. A linear programme over all listed
options bounds the cost from below and picks those the integer programme chooses from; the bound is reported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from policy.base import Matrix, Vector
from policy.hedging import book as books
from policy.hedging.book import Book, Greeks
from policy.hedging.instruments import Option

CHOICES = 40  # options the integer programme chooses from: those nearest to paying in the linear one
SECONDS = 5.0
FEE_CAP = 0.125  # most a fee may be of the option's price


@dataclass(frozen=True, slots=True)
class GreekLimit:
    """Bounds of one underlying, either sign, and how options may be traded; None: no bound.

    ``cash_gamma_usd`` per unit return squared, ``vega_usd_per_point`` per vol point; ``fee`` of the underlying a coin;
    ``open_share`` of the open interest at most in one leg, where it is known; ``least_days`` to expiry: the gamma of an
    option's last hours is gone before it is of use.
    """

    asset: str
    cash_gamma_usd: float | None = None
    vega_usd_per_point: float | None = None
    lot_coins: float = 0.1
    most_coins: float = 1_000.0
    legs: int = 6
    fee: float = 0.0003
    open_share: float = 0.1
    least_days: float = 2.0


@dataclass(frozen=True, slots=True)
class QuotedOption:
    """An option of quantity 1 with a two-sided quote in coins; ``open_coins`` is nan where it is not known."""

    option: Option
    bid_coin: float
    ask_coin: float
    open_coins: float


@dataclass(frozen=True, slots=True)
class OptionLeg:
    """One trade: ``quantity`` coins (signed) at ``price_coin``; cost beyond the mark with fee; Greeks it adds."""

    name: str
    quantity: float
    price_coin: float
    premium_usd: float
    cost_usd: float
    greeks: Greeks


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Gamma and vega of ``asset`` before and after ``legs``; ``reason`` says why there are none."""

    limit: GreekLimit
    before: tuple[float, float]
    after: tuple[float, float]
    legs: tuple[OptionLeg, ...]
    cost_usd: float
    least_usd: float | None
    reason: str


def suggest(book: Book, listed: Sequence[QuotedOption], limit: GreekLimit) -> Suggestion:
    """Return the cheapest legs of ``listed`` that bring ``limit.asset`` inside, or why none do."""
    sums = books.by_asset(book, books.lines(book)).get(limit.asset, Greeks())
    before = sums.cash_gamma_usd, sums.vega_usd_per_point
    bounds = limit.cash_gamma_usd, limit.vega_usd_per_point
    if all(b is None or abs(x) <= b for x, b in zip(before, bounds, strict=True)):
        return Suggestion(limit, before, before, (), 0.0, 0.0, "inside the limits: nothing to trade")
    if not listed:
        return Suggestion(limit, before, before, (), 0.0, None, "no option with a two-sided quote is listed")
    each = books.lines(Book(book.ts, book.spot, tuple(o.option for o in listed)))
    problem = _problem(book, listed, each, limit, before)
    least, near = _relaxed(problem)
    if least is None:
        reason = (
            f"no listed options bring it inside with at most {limit.most_coins:g} coins and "
            f"{100 * limit.open_share:g} % of the open interest a leg; raise these or the limits"
        )
        return Suggestion(limit, before, before, (), 0.0, None, reason)
    lots = _whole(problem, near, limit.legs)
    if lots is None:
        reason = (
            f"it can be done for {least:,.2f} USD in fractions, not in {limit.legs} legs of whole lots of "
            f"{limit.lot_coins:g}; allow more legs, smaller lots or wider limits"
        )
        return Suggestion(limit, before, before, (), 0.0, least, reason)
    legs = tuple(
        _leg(book, listed[i], each[i], lots[i] * limit.lot_coins, limit) for i in np.flatnonzero(lots).tolist()
    )
    added = books.total([leg.greeks for leg in legs])
    after = before[0] + added.cash_gamma_usd, before[1] + added.vega_usd_per_point
    return Suggestion(limit, before, after, legs, math.fsum(leg.cost_usd for leg in legs), least, "")


@dataclass(frozen=True, slots=True)
class _Problem:
    """``cost`` (2n,) USD of a lot bought and of one sold; ``rows`` (m, 2n) Greeks over their bounds; ``most`` (n,)."""

    cost: Vector
    rows: Matrix
    low: Vector
    high: Vector
    most: Vector


def _problem(
    book: Book, listed: Sequence[QuotedOption], each: Sequence[Greeks], limit: GreekLimit, before: tuple[float, float]
) -> _Problem:
    costs = np.array([_beyond(book, o, g, limit) for o, g in zip(listed, each, strict=True)])
    gamma, vega = ([getattr(g, n) for g in each] for n in ("cash_gamma_usd", "vega_usd_per_point"))
    rows, low, high = [], [], []
    for x, bound, per_coin in zip(before, (limit.cash_gamma_usd, limit.vega_usd_per_point), (gamma, vega), strict=True):
        if bound is not None:
            scale = max(abs(x), bound)  # numbers near one: the solver's tolerances are absolute
            one = limit.lot_coins * np.array(per_coin) / scale
            room = bound * (1.0 - 1e-6) / scale
            rows.append(np.concatenate([one, -one]))
            low.append(-room - x / scale)
            high.append(room - x / scale)
    open_coins = np.array([o.open_coins for o in listed])
    coins = np.minimum(limit.most_coins, np.where(np.isfinite(open_coins), limit.open_share * open_coins, np.inf))
    most = np.floor(coins / limit.lot_coins + 1e-9)
    return _Problem(limit.lot_coins * costs.T.ravel(), np.array(rows), np.array(low), np.array(high), most)


def _beyond(book: Book, o: QuotedOption, g: Greeks, limit: GreekLimit) -> tuple[float, float]:
    """Return (bought, sold) USD a coin paid beyond the mark, fee included; never below the fee."""
    S = books.price_of(book, o.option.asset)
    buy, sell = (S * p for p in (o.ask_coin, o.bid_coin))
    return (
        max(buy - g.value_usd, 0.0) + min(limit.fee * S, FEE_CAP * buy),
        max(g.value_usd - sell, 0.0) + min(limit.fee * S, FEE_CAP * sell),
    )


def _relaxed(p: _Problem) -> tuple[float | None, list[int]]:
    """Return the cost in fractions of lots (None: it cannot be done) and the options nearest to being used."""
    n = p.most.size
    found = linprog(
        p.cost, A_ub=np.vstack([p.rows, -p.rows]), b_ub=np.concatenate([p.high, -p.low]),
        bounds=[(0.0, most) for most in (*p.most.tolist(), *p.most.tolist())], method="highs",
    )  # fmt: skip
    if found.status != 0 or found.fun is None:
        return None, []
    reduced = np.asarray(found.lower.marginals + found.upper.marginals).reshape(2, n).min(axis=0)
    return float(found.fun), np.argsort(reduced, kind="stable")[:CHOICES].tolist()


def _whole(p: _Problem, near: Sequence[int], legs: int) -> Vector | None:
    """Return (n,) signed lots of least cost in at most ``legs`` options of ``near``; None where there are none."""
    n, k = p.most.size, len(near)
    both = [*near, *(n + i for i in near)]
    most, rows = p.most[list(near)], p.rows[:, both]
    pairs = np.hstack([np.eye(k), np.eye(k), -np.diag(most)])
    kept = np.hstack([rows, np.zeros((len(rows), k))])
    count = np.concatenate([np.zeros(2 * k), np.ones(k)])
    found = milp(
        np.concatenate([p.cost[both], np.zeros(k)]),
        integrality=np.ones(3 * k, dtype=np.int64),
        bounds=Bounds(np.zeros(3 * k), np.concatenate([most, most, np.ones(k)])),
        constraints=[
            LinearConstraint(kept, p.low, p.high), LinearConstraint(pairs, -np.inf, 0.0),
            LinearConstraint(count, 0, legs),
        ],
        options={"time_limit": SECONDS, "mip_rel_gap": 1e-3},
    )  # fmt: skip
    if found.x is None:
        return None
    lots = np.zeros(n)
    lots[list(near)] = np.round(found.x[:k]) - np.round(found.x[k : 2 * k])
    return lots


def _leg(book: Book, o: QuotedOption, g: Greeks, quantity: float, limit: GreekLimit) -> OptionLeg:
    S, price = books.price_of(book, o.option.asset), o.ask_coin if quantity > 0 else o.bid_coin
    bought, sold = _beyond(book, o, g, limit)
    added = Greeks(*(quantity * getattr(g, f.name) for f in fields(Greeks)))
    cost = abs(quantity) * (bought if quantity > 0 else sold)
    return OptionLeg(o.option.name, quantity, price, quantity * price * S, cost, added)
