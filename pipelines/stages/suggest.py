"""Listed options that bring a book within its limits, priced at the last snapshot before it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lake.errors import ConfigError, DataError, NotEnoughData
from pipelines.stages.book_file import read_book
from pipelines.stages.limits_file import read_limits
from policy.hedging.book import Book, price_of
from policy.hedging.instruments import Option
from policy.hedging.suggest import GreekLimit, QuotedOption, suggest

OLDEST = timedelta(days=1)
FURTHEST = 0.2  # of spot that a forward may be away: beyond it quotes are of another moment


def suggestions(path: Path | None, chain: pl.DataFrame) -> dict[str, Any]:
    """Return for every limit of the book in ``path`` the cheapest legs of ``chain`` (``lake.sources.options``)."""
    if path is None:
        raise ConfigError("--suggest needs a BOOK.toml with [limits]")
    book, found = read_book(path), []
    for limit in read_limits(path):
        rows = snapshot(chain, book, limit)
        s = suggest(book, listed(rows), limit)
        legs = [{**asdict(leg), "greeks": asdict(leg.greeks)} for leg in s.legs]
        found.append({**asdict(s), "legs": legs, "quotes_of": _moment(rows), "quoted": len(rows)})
    return {"ts": book.ts.isoformat(), "suggestions": found}


def _moment(rows: pl.DataFrame) -> str | None:
    return rows["ts"][0].isoformat() if len(rows) else None


def snapshot(chain: pl.DataFrame, book: Book, limit: GreekLimit) -> pl.DataFrame:
    """Return the two-sided quotes of ``limit.asset`` at the last snapshot before ``book``; refuses old ones."""
    quoted = {"bid_coin", "ask_coin"}
    if not quoted <= set(chain.columns):
        raise DataError("suggestions need quotes: bid_coin and ask_coin in the chain")
    S = price_of(book, limit.asset)
    mine = chain.filter((pl.col("asset") == limit.asset) & (pl.col("ts") <= book.ts) & (pl.col("expiry") > book.ts))
    if mine.is_empty():
        raise NotEnoughData(f"no options of {limit.asset} are recorded before {book.ts.isoformat()}; import a chain")
    last = mine.filter(pl.col("ts") == pl.col("ts").max())
    if book.ts - last["ts"][0] > OLDEST:
        raise NotEnoughData(
            f"the newest quotes of {limit.asset} are of {last['ts'][0].isoformat()}, over a day before the book's "
            f"{book.ts.isoformat()}: import newer ones"
        )
    away = last.filter((pl.col("forward") / S - 1.0).abs() > FURTHEST)
    if not away.is_empty():
        raise DataError(
            f"a forward of {limit.asset} of {away['forward'][0]:,.2f} USD is over {100 * FURTHEST:g} % from the book's "
            f"spot of {S:,.2f}: one of the two is of another moment"
        )
    lasting = pl.col("expiry") - pl.lit(book.ts) >= timedelta(days=limit.least_days)
    return last.filter(lasting & (pl.col("bid_coin") > 0) & pl.col("ask_coin").is_not_null())


def listed(rows: pl.DataFrame) -> list[QuotedOption]:
    """Return the options of ``rows``, each of quantity 1; the open interest is nan where it is not recorded."""
    known = rows if "open_interest" in rows.columns else rows.with_columns(open_interest=pl.lit(None, pl.Float64))
    columns = ("asset", "expiry", "strike", "kind", "mark_iv", "forward", "bid_coin", "ask_coin", "open_interest")
    return [
        QuotedOption(
            Option(f"{asset}-{expiry:%d%b%y}-{strike:g}-{kind.upper()}", asset, 1.0, "call" if kind == "c" else "put",
                   strike, expiry, vol, forward, "coin"),
            bid, ask, np.nan if open_coins is None else float(open_coins),
        )
        for asset, expiry, strike, kind, vol, forward, bid, ask, open_coins in known.select(columns).iter_rows()
    ]  # fmt: skip
