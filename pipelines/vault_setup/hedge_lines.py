"""The lines of a delta source against the recorded book they stand for: what is gone, wrong or has fallen, by name.

A line says what the owner set; only the recorded positions say whether it is still held. Where a portfolio is named,
an option of another expiry, a position that is no longer there and a rate that fell are told before anything is traded.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from policy.execution.base import Verdict
from policy.execution.checks.verdicts import passed, refused
from policy.execution.vaults.hedge.state import WAD, BookLine, HedgeState
from policy.hedging.book import Book
from policy.hedging.instruments import Option, Pool, Position, Spot

CALL, PUT, POOL, LINEAR = range(4)
SAME = 1e-3  # of a strike, a range's end or liquidity: ticks and the venue's digits are coarser than the line's
FELL = 1e-6  # of a rate: less is rounding of the contract that tells it


def fallen(book: Book) -> list[Verdict]:
    """Return a note for every yield token whose exchange rate is below what it was: slashing."""
    fell = [p for p in book.positions if isinstance(p, Spot) and p.rate < p.rate_peak * (1 - FELL)]
    return [
        passed("rate_fell", f"the exchange rate of {p.name} fell {100 * (1 - p.rate / p.rate_peak):.2f} %",
               rate=p.rate, peak=p.rate_peak)
        for p in fell
    ]  # fmt: skip


def against(s: HedgeState, book: Book) -> list[Verdict]:
    """Return the refusals of lines that ``book`` does not bear out; a fall of a rate that a line still has is one."""
    symbol = s.layout.asset.symbol
    names = {symbol, symbol.removeprefix("W")}  # a wrapped coin is recorded by its coin's name
    held = [p for p in book.positions if getattr(p, "asset", None) in names]
    found = [made for i, line in enumerate(s.lines) if (made := _line(i, line, held)) is not None]
    rates = fallen(book)
    linear = sum(line.quantity for line in s.lines if line.kind == LINEAR) / WAD
    units = sum(p.quantity * p.rate for p in held if isinstance(p, Spot) and (p.rate != 1.0 or p.rate_growth))
    if rates and abs(linear - units) > SAME * max(abs(units), 1e-9):
        words = f"{rates[0].reason}; the linear line has {linear:.6g} units, held are {units:.6g}: set it anew"
        found.append(refused("rate_fell", words, line=linear, held=units))
        return found
    return [*found, *rates]


def _line(i: int, line: BookLine, held: Sequence[Position]) -> Verdict | None:
    """Return why line ``i`` is not held as it stands, None where it is."""
    if line.kind == POOL:
        ends, size = (line.strike / WAD, line.last / WAD), line.quantity / WAD
        pools = [p for p in held if isinstance(p, Pool) and _near(p.lower, ends[0]) and _near(p.upper, ends[1])]
        if any(p.liquidity >= size * (1 - SAME) for p in pools):
            return None
        words = f"line {i}, a pool position from {ends[0]:,.2f} to {ends[1]:,.2f} USD, is not held: burnt or moved"
        return refused("position_burnt", f"{words}; take the line out", line=i)
    if line.kind not in {CALL, PUT}:
        return None
    kind, strike = ("call" if line.kind == CALL else "put"), line.strike / WAD
    expiry = datetime.fromtimestamp(line.last, UTC)
    options = [p for p in held if isinstance(p, Option) and p.kind == kind and _near(p.strike, strike)]
    if any(p.expiry == expiry for p in options):
        return None
    what = f"line {i}, a {kind} at {strike:,.2f} USD that expires {expiry.isoformat()}"
    if options:
        words = f"{what}, is held with expiry {options[0].expiry.isoformat()}: set the line anew"
        return refused("expiry_wrong", words, line=i)
    return refused("line_unheld", f"{what}, is not held: take it out, or record the positions anew", line=i)


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= SAME * abs(b)
