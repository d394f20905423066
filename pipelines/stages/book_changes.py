"""Where the change of a portfolio's worth came from, from one recorded book to the next."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from lake.errors import NotEnoughData
from lake.store import Lake
from lake.units import utc
from pipelines.stages.book_lake import book_of, moments_of
from policy.hedging import book as books
from policy.hedging.book import Book
from policy.hedging.book_attribution import Change, change, explained_share, total_change
from policy.hedging.instruments import InversePerp, Perp, Position


def book_changes(lake: Lake, portfolio: str, start: str | None, end: str | None, least: float) -> dict[str, Any]:
    """Return the terms summed over the intervals of ``start .. end``, and the share of the changes they explain.

    Positions are held from one record to the next and traded there: what the record shows beyond that (fees, spread,
    deposits) is ``trading``. ``ok`` where at least ``least`` is explained.
    """
    span = (utc(start) if start else datetime(1970, 1, 1, tzinfo=UTC), utc(end) if end else datetime.now(UTC))
    moments = moments_of(lake, portfolio, *span)
    if len(moments) < 2:
        raise NotEnoughData(
            f"portfolio {portfolio!r} has {len(moments)} recorded books between {span[0]} and {span[1]}; two are "
            "needed: foredrift import positions FILE"
        )
    found = [_between(lake, portfolio, a, b) for a, b in pairwise(moments)]
    whole, share = total_change(found), explained_share(found)
    return {
        "portfolio": portfolio, "from": moments[0].isoformat(), "to": moments[-1].isoformat(),
        "intervals": len(found),
        "sums_usd": {"pnl": whole.pnl_usd, **whole.terms, "unexplained": whole.unexplained_usd},
        "explained": share, "least": least, "ok": share >= least,
    }  # fmt: skip


def _between(lake: Lake, portfolio: str, a: datetime, b: datetime) -> Change:
    before, held = book_of(lake, portfolio, a), book_of(lake, portfolio, b, held_at=a)
    return change(before, with_funding(before, held), book_of(lake, portfolio, b))


def with_funding(before: Book, held: Book) -> Book:
    """Return ``held`` with the funding of perpetuals since ``before`` in their margins, at the rates of ``before``."""
    days = (held.ts - before.ts).total_seconds() / 86_400.0
    carries = [g.carry_usd_per_day * days for g in books.lines(before)]
    made = tuple(_paid(p, c, held) for p, c in zip(held.positions, carries, strict=True))
    return Book(held.ts, held.spot, made, held.nav_usd)


def _paid(p: Position, usd: float, held: Book) -> Position:
    if isinstance(p, Perp):
        return replace(p, margin_usd=p.margin_usd + usd)
    if isinstance(p, InversePerp):
        return replace(p, margin_coin=p.margin_coin + usd / books.price_of(held, p.asset))
    return p
