"""From a hedge account's question to the answer of the compared rules: the Greeks of its book, gas, fees, mandate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from lake.errors import DataError
from pipelines.vault_setup.hedge_lines import CALL, LINEAR, POOL, against, fallen
from policy.execution.checks.verdicts import explain, refusals, refused
from policy.execution.hedge_engine import HedgeAnswer, HedgeQuestion
from policy.execution.vaults.hedge.state import WAD, BookLine, HedgeState
from policy.hedging import book as books
from policy.hedging import lp
from policy.hedging.book import Book
from policy.hedging.decision import HedgeMandate, HedgeMoment, decide_hedge
from policy.hedging.instruments import YEAR_S, Option, Pool, Position, Spot

AGREE = 1e-6  # of the book's gross delta: how far the chain's delta and the one computed here may differ
POSTED_AGREE = 0.02  # the same of a posted delta, which is older than the block


@dataclass(frozen=True, slots=True)
class BookGreeks:
    """What a rule needs of a book: delta (units), cash gamma (USD), volatility a year, years to the first end."""

    delta_units: float
    gross_units: float
    cash_gamma_usd: float
    vol: float
    left_y: float


@dataclass(frozen=True, slots=True)
class HedgeTermsOf:
    """Terms of a deployment: mandate, seconds between decisions, days before expiry a book is rolled, NAV (USD).

    ``nav_usd`` None: that of the account. ``vol``: where a book has no option to tell one. ``outside``: the book of a
    posted delta at a moment, None where the account's lines are the book. ``usual_gas_usd``: a hedge's usual gas.
    """

    mandate: HedgeMandate
    every_s: float
    roll_d: float = 1.0
    nav_usd: float | None = None
    vol: float | None = None
    outside: Callable[[datetime], Book] | None = None
    usual_gas_usd: Callable[[], float] | None = None


def hedge_rule(terms: HedgeTermsOf) -> Callable[[HedgeQuestion], HedgeAnswer]:
    """Return the rule of ``terms`` as a hedge context asks it."""
    return lambda question: answer(question, terms)


def answer(question: HedgeQuestion, terms: HedgeTermsOf) -> HedgeAnswer:
    """Answer one question; a book that is unpriced, or disagrees with the chain, is a refusal."""
    s = question.state
    at = datetime.fromtimestamp(s.head.time, UTC)
    if not s.lines and terms.outside is None:
        words = "the delta source has no lines: set [hedge] portfolio, from which gamma and volatility come"
        return HedgeAnswer(0.0, words, refusals=(refused("book_unknown", words),))
    try:
        recorded = None if terms.outside is None else terms.outside(at)
    except DataError as error:
        return HedgeAnswer(0.0, str(error), refusals=(refused("book_unpriced", str(error)),))
    notes = [] if recorded is None else against(s, recorded) if s.lines else fallen(recorded)
    if refusals(notes):
        return HedgeAnswer(0.0, explain(notes), refusals=tuple(notes))
    book = book_of_lines(s, at) if s.lines or recorded is None else recorded
    greeks = greeks_of_book(book, s.layout.asset.symbol if s.lines else None, terms)
    told = (s.book + s.wanted) / WAD
    room = (AGREE if s.lines else POSTED_AGREE) * max(greeks.gross_units, 1e-9)
    if abs(told - greeks.delta_units) > room:
        words = f"the delta source tells {told:.6g} units, the book is {greeks.delta_units:.6g}: post anew, or look why"
        return HedgeAnswer(0.0, words, refusals=(refused("delta_disagrees", words, told=told),))
    nav = s.nav_usd if terms.nav_usd is None else terms.nav_usd
    usual = question.gas_usd if terms.usual_gas_usd is None else terms.usual_gas_usd()
    moment = HedgeMoment(
        s.price_usd, nav, s.net_units, greeks.cash_gamma_usd, greeks.vol, greeks.left_y, question.gas_usd, usual,
        _fee(question), terms.every_s,
    )  # fmt: skip
    choice = decide_hedge(moment, terms.mandate)
    details = {
        "x": choice.x, "outer": choice.outer, "inner": choice.inner, "phi": abs(greeks.cash_gamma_usd) / nav,
        "vol": greeks.vol, "book_delta_units": told,
    }  # fmt: skip
    return HedgeAnswer(choice.change_units, choice.why, choice.benefit_usd, details, notes=tuple(notes))


def _fee(q: HedgeQuestion) -> float:
    """Return the fee of the venue that the next trade is at: what is open on the other side closes first."""
    if q.state.net_units > 0:
        return q.spot_fee if q.state.standing.spot > 0 else q.perp_fee
    return q.perp_fee if q.state.standing.size < 0 else q.spot_fee


def book_of_lines(s: HedgeState, at: datetime) -> Book:
    """Return the lines of the delta source as a book at the oracle's price."""
    return book_from(s.layout.asset.symbol, s.lines, s.price_usd, at)


def book_from(asset: str, lines: Sequence[BookLine], price_usd: float, at: datetime) -> Book:
    """Return ``lines`` of ``asset`` as a book at ``price_usd`` and ``at``."""
    made = tuple(_position(f"line {i}", asset, line, price_usd) for i, line in enumerate(lines))
    return Book(at, {asset: price_usd}, made)


def _position(name: str, asset: str, line: BookLine, spot: float) -> Position:
    quantity = line.quantity / WAD
    if line.kind == POOL:
        return Pool(name, asset, quantity, line.strike / WAD, line.last / WAD)
    if line.kind == LINEAR:
        return Spot(name, asset, quantity)
    kind = "call" if line.kind == CALL else "put"
    expiry = datetime.fromtimestamp(line.last, UTC)
    return Option(name, asset, quantity, kind, line.strike / WAD, expiry, line.vol / WAD, spot, "usd")  # type: ignore[arg-type]


def greeks_of_book(book: Book, asset: str | None, terms: HedgeTermsOf) -> BookGreeks:
    """Return what a rule needs of ``book`` (of ``asset``, or of its only underlying)."""
    name = asset or next(iter(book.spot))
    held = tuple(p for p in book.positions if getattr(p, "asset", None) == name)
    found = books.lines(replace(book, positions=held))
    options = [(p, g) for p, g in zip(held, found, strict=True) if isinstance(p, Option)]
    weights = [abs(g.cash_gamma_usd) for _, g in options]
    vol = terms.vol
    if options:
        vols = [p.vol for p, _ in options]
        vol = float(np.average(vols, weights=weights)) if sum(weights) > 0 else float(np.mean(vols))
    vol = 0.0 if vol is None else vol
    gamma = math.fsum(
        _pool_gamma(p, book.spot[name], vol) if isinstance(p, Pool) else g.cash_gamma_usd
        for p, g in zip(held, found, strict=True)
    )
    ends = [(p.expiry - book.ts).total_seconds() / YEAR_S - terms.roll_d / 365.0 for p, _ in options]
    left = max(min(ends), 1.0 / 8760.0) if ends else math.inf
    deltas = [g.delta_units for g in found]
    return BookGreeks(math.fsum(deltas), math.fsum(map(abs, deltas)), gamma, vol, left)


def _pool_gamma(p: Pool, spot: float, vol: float) -> float:
    """Return the cash gamma averaged over a day's move: a band must not collapse where it jumps to zero."""
    return float(lp.smooth_cash_gamma(np.array([spot]), p.liquidity, p.lower, p.upper, vol)[0])
