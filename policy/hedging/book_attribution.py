"""Where the change of a whole book's worth came from between two moments, by the Greeks at the first.

Positions are held over the interval and traded at its end: ``held`` is what was there, priced at the end, ``after``
what is there then. What the trade itself took (fees, spread, impact; deposits too) is the difference of the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from lake.errors import DataError
from policy.hedging import book as books
from policy.hedging.book import Book, Greeks
from policy.hedging.instruments import InversePerp, Option, Perp, Pool, Position, Spot

CHANGES = (
    "delta", "gamma", "theta", "vega", "vanna", "volga", "funding", "yield", "fees_earned", "trading", "gas",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """One interval: the change of the worth in USD, its terms by the names of ``CHANGES``, and what they leave."""

    pnl_usd: float
    terms: Mapping[str, float]

    @property
    def unexplained_usd(self) -> float:
        """What no term explains."""
        return self.pnl_usd - sum(self.terms.values())


def change(before: Book, held: Book, after: Book, gas_usd: float = 0.0, fees_usd: float = 0.0) -> Change:
    """Return the attribution of ``before`` to ``after``; ``held`` are the positions of ``before`` at the end.

    ``gas_usd`` was spent, ``fees_usd`` is what pool positions earned beyond their ``fees_usd_per_day``.

    Raises DataError where ``held`` are other positions than ``before``.
    """
    names = [p.name for p in before.positions]
    if names != [p.name for p in held.positions]:
        raise DataError(f"the held book has other positions than the one before: {names}")
    terms = dict.fromkeys(CHANGES, 0.0)
    days = (held.ts - before.ts).total_seconds() / 86_400.0
    found = books.lines(before)
    for p, q, g in zip(before.positions, held.positions, found, strict=True):
        for name, usd in _line(before, held, p, q, g, days).items():
            terms[name] += usd
    start, end, settled = (books.value_usd(b) for b in (before, held, after))
    earned = _uncollected(before, held, after)
    terms["trading"] += settled - end - earned
    terms["fees_earned"] += earned
    terms["gas"] -= gas_usd
    terms["fees_earned"] += fees_usd
    return Change(settled - start - gas_usd + fees_usd, terms)


def _uncollected(before: Book, held: Book, after: Book) -> float:
    """Return by how much (USD) the uncollected fees of pools grew: lines "<pool> fees <token>", as the chain is read.

    A line that shrank was collected: what it lost is in a balance, and in the trading of the interval as a whole.
    """
    heads = tuple(f"{p.name} fees " for p in before.positions if isinstance(p, Pool))
    if not heads:
        return 0.0
    worth = [
        {p.name: books.value_usd(replace(b, positions=(p,))) for p in b.positions if p.name.startswith(heads)}
        for b in (held, after)
    ]
    return sum(max(0.0, usd - worth[0].get(name, 0.0)) for name, usd in worth[1].items())


def _line(before: Book, held: Book, p: Position, q: Position, g: Greeks, days: float) -> dict[str, float]:
    """Return the terms of one position."""
    asset = getattr(p, "asset", None)
    if asset is None:
        return {}
    move = books.price_of(held, asset) / books.price_of(before, asset) - 1.0
    terms = {"delta": g.delta_usd * move, "gamma": 0.5 * g.cash_gamma_usd * move**2}
    if isinstance(p, Option) and isinstance(q, Option):
        points = (q.vol - p.vol) / books.POINT
        terms |= {
            "theta": g.theta_usd_per_day * days, "vega": g.vega_usd_per_point * points,
            "vanna": g.vanna_usd * move * points, "volga": 0.5 * g.volga_usd * points**2,
        }  # fmt: skip
    elif isinstance(p, (Perp, InversePerp)):
        terms["funding"] = g.carry_usd_per_day * days
    elif isinstance(p, Spot):
        terms["yield"] = g.theta_usd_per_day * days + g.carry_usd_per_day * days
    elif isinstance(p, Pool) and isinstance(q, Pool):
        terms["fees_earned"] = g.carry_usd_per_day * days
    return terms


def total_change(found: Iterable[Change]) -> Change:
    """Return the sum over intervals."""
    terms = dict.fromkeys(CHANGES, 0.0)
    pnl = 0.0
    for one in found:
        pnl += one.pnl_usd
        for name, usd in one.terms.items():
            terms[name] += usd
    return Change(pnl, terms)


def explained_share(found: Iterable[Change]) -> float:
    """Return one less the sum of abs(unexplained) over that of abs(change): 1 explains every interval."""
    rows = list(found)
    moved = sum(abs(c.pnl_usd) for c in rows)
    left = sum(abs(c.unexplained_usd) for c in rows)
    return 1.0 - left / moved if moved > 0 else 1.0


def repriced(book: Book, at: Book) -> Book:
    """Return the positions of ``book`` with the prices, time and marks of ``at``, matched by name where it has them."""
    marks = {p.name: p for p in at.positions}
    return Book(at.ts, at.spot, tuple(_marked(p, marks.get(p.name), at) for p in book.positions), book.nav_usd)


def _marked(p: Position, mark: Position | None, at: Book) -> Position:
    if isinstance(p, Option) and isinstance(mark, Option):
        return replace(p, vol=mark.vol, forward=mark.forward)
    if isinstance(p, Spot) and isinstance(mark, Spot):
        return replace(p, rate=mark.rate, rate_growth=mark.rate_growth)
    del at
    return p
