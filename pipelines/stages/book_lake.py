"""A portfolio of table positions as a book: the newest snapshot at a moment, priced by what the lake knew then.

Every line must be priced: a spot price, mark, forward, rate or funding that is missing or stale is refused with all the
others, since Greeks without one line would be those of another book.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from lake.errors import DataError, NotEnoughData
from lake.store import Lake
from lake.units import from_word
from policy.execution.routing.amm import sqrt_ratio_at_tick
from policy.hedging.book import Book
from policy.hedging.instruments import YEAR_S, InversePerp, Kind, Option, Perp, Pool, Position, Spot, Stable
from policy.hedging.smile import smile

INTERVALS = 2  # a quote older than so many of its own intervals is stale
DAY = timedelta(days=1)
GROWTH_OVER = timedelta(days=30)  # of an exchange rate


@dataclass(frozen=True, slots=True)
class _Known:
    """What the lake knew ``at`` a moment, and what was missing."""

    lake: Lake
    at: datetime
    faults: list[str]

    def rows(self, name: str, **keys: str | int) -> pl.DataFrame:
        """Return the rows of ``name`` with ``keys`` that were known, oldest first."""
        lazy = self.lake.scan(name, self.at).filter([pl.col(k) == v for k, v in keys.items()])
        return lazy.filter(pl.col("ts") <= self.at).sort("ts").collect()

    def fresh(self, rows: pl.DataFrame, column: str, what: str) -> pl.DataFrame:
        """Return the last moment's rows; a fault where there are none or they are stale by their own spacing."""
        if rows.is_empty():
            self.faults.append(f"no {what} is known")
            return rows
        moments = rows[column].unique().sort()
        usual = moments.diff().drop_nulls().tail(50).median()
        spacing = usual if isinstance(usual, timedelta) else DAY
        if self.at - moments[-1] > INTERVALS * spacing:
            self.faults.append(f"the newest {what} is of {moments[-1].isoformat()}, over {INTERVALS} intervals old")
        return rows.filter(pl.col(column) == moments[-1])


def moments_of(lake: Lake, portfolio: str, start: datetime, end: datetime) -> list[datetime]:
    """Return when positions of ``portfolio`` were recorded in ``start .. end``, oldest first."""
    rows = lake.scan("positions").filter((pl.col("portfolio") == portfolio) & pl.col("ts").is_between(start, end))
    return rows.select(pl.col("ts").unique().sort()).collect()["ts"].to_list()


def book_of(lake: Lake, portfolio: str, at: datetime, held_at: datetime | None = None) -> Book:
    """Return the book of ``portfolio`` at ``at``; NotEnoughData without positions, DataError where unpriced.

    ``held_at``: positions of that moment instead, at the prices of ``at``.
    """
    known = _Known(lake, at, [])
    held = known.rows("positions", portfolio=portfolio)
    held = held if held_at is None else held.filter(pl.col("ts") <= held_at)
    if held.is_empty():
        names = ", ".join(lake.scan("positions", at).select("portfolio").unique().collect()["portfolio"].sort())
        raise NotEnoughData(
            f"no positions of portfolio {portfolio!r} at {at.isoformat()}; known are {names or 'none'}: "
            "foredrift import positions FILE"
        )
    rows = held.filter(pl.col("ts") == held["ts"].max()).sort("position_id").to_dicts()
    assets = sorted({r["asset"] for r in rows if r["kind"] != "stable"})
    spot = {a: p for a in assets if (p := _spot(known, a)) is not None}
    made = [_MAKE[r["kind"]](known, r) for r in rows]
    if known.faults:
        told = "; ".join(dict.fromkeys(known.faults))
        raise DataError(f"portfolio {portfolio} at {at.isoformat()} is not priced: {told}")
    return Book(at, spot, tuple(p for p in made if p is not None))


def fresh_book_of(lake: Lake, portfolio: str, at: datetime) -> Book:
    """Return the book of ``portfolio``, which a hedge may rest on; DataError where its positions are stale too.

    A position that is gone stops what reads it from the chain, so the last book recorded would be hedged for ever.
    """
    known = _Known(lake, at, [])
    known.fresh(known.rows("positions", portfolio=portfolio), "ts", f"record of positions of {portfolio}")
    if known.faults:
        raise DataError(f"{'; '.join(known.faults)}: `foredrift ingest` or an import says what became of them")
    return book_of(lake, portfolio, at)


def _spot(known: _Known, asset: str) -> float | None:
    bars = known.rows("prices", asset=asset).filter(pl.col("step") <= 3600)
    last = known.fresh(bars, "available_at", f"price of {asset} (bars up to an hour)")
    return None if last.is_empty() else float(last.sort("step", "source")["close"][0])


def _stable(known: _Known, row: dict[str, Any]) -> Position:
    del known
    return Stable(row["position_id"], row["quantity"])


def _held(known: _Known, row: dict[str, Any]) -> Position:
    del known
    return Spot(row["position_id"], row["asset"], row["quantity"])


def _yield(known: _Known, row: dict[str, Any]) -> Position | None:
    rates = known.rows("rates", token=row["contract"], chain_id=row["chain_id"])
    last = known.fresh(rates, "ts", f"exchange rate of {row['contract']}")
    if last.is_empty():
        return None
    past = rates.filter(pl.col("ts") >= last["ts"][0] - GROWTH_OVER)
    span = (last["ts"][0] - past["ts"][0]).total_seconds() / YEAR_S
    growth = float(np.log(last["rate"][0] / past["rate"][0]) / span) if span > 0 else 0.0
    name, asset, quantity = (row[c] for c in ("position_id", "asset", "quantity"))
    return Spot(name, asset, quantity, float(last["rate"][0]), growth, max(past["rate"].to_list()))


def _funding(known: _Known, row: dict[str, Any]) -> tuple[float, float] | None:
    perps = known.rows("perps", venue=row["venue"], asset=row["asset"])
    last = known.fresh(perps, "ts", f"funding of {row['asset']} at {row['venue']}")
    return None if last.is_empty() else (float(last["funding_rate"][0]), float(last["interval_s"][0]) / 3600.0)


def _perp(known: _Known, row: dict[str, Any]) -> Position | None:
    found = _funding(known, row)
    name, asset, size, entry, margin = (row[c] for c in ("position_id", "asset", "quantity", "entry_price", "margin"))
    if found is None:
        return None
    kind = Perp if row["kind"] == "perp" else InversePerp
    return kind(name, asset, size, entry, margin, *found)


def _option(known: _Known, row: dict[str, Any]) -> Position | None:
    chain = known.rows("options", venue=row["venue"], asset=row["asset"])
    last = known.fresh(chain, "ts", f"option chain of {row['asset']} at {row['venue']}")
    quotes = last.filter(pl.col("expiry") == row["expiry"]) if len(last) else last
    if quotes.is_empty():
        known.faults.append(f"{row['position_id']}: no quote of its expiry {row['expiry'].isoformat()}")
        return None
    if row["expiry"] <= known.at:
        known.faults.append(f"{row['position_id']}: it expired {row['expiry'].isoformat()}: settle it and leave it out")
        return None
    forward, tau = float(quotes["forward"][0]), (row["expiry"] - known.at).total_seconds() / YEAR_S
    mine = quotes.filter((pl.col("strike") == row["strike"]) & (pl.col("kind") == row["option_kind"]))
    if len(mine):
        vol = float(mine["mark_iv"][0])
    else:  # between the quoted strikes
        shown = smile(forward, tau, quotes["strike"].to_numpy(), quotes["mark_iv"].to_numpy())
        vol = float(shown.vol(np.array([np.log(row["strike"] / forward)]))[0])
    kind: Kind = "call" if row["option_kind"] == "c" else "put"
    return Option(
        row["position_id"], row["asset"], row["quantity"], kind, row["strike"], row["expiry"], vol, forward,
        row["settle"],
    )  # fmt: skip


def _pool(known: _Known, row: dict[str, Any]) -> Position:
    """From ticks to USD an underlying, taking the other token as a dollar: the pool contract's own root prices."""
    del known
    base, quote = row["base_decimals"], row["quote_decimals"]
    first, second = (base, quote) if row["base_token"] == 0 else (quote, base)
    roots = [sqrt_ratio_at_tick(row[c]) / 2.0**96 for c in ("tick_lower", "tick_upper")]
    ends = [root * root * 10.0 ** (first - second) for root in roots]
    lower, upper = ends if row["base_token"] == 0 else (1.0 / ends[1], 1.0 / ends[0])
    return Pool(
        row["position_id"], row["asset"], from_word(row["liquidity_raw"]) / 10.0 ** ((base + quote) / 2), lower, upper
    )


_MAKE: dict[str, Callable[[_Known, dict[str, Any]], Position | None]] = {
    "stable": _stable, "spot": _held, "yield": _yield, "perp": _perp, "perp_inverse": _perp, "option": _option,
    "lp_v3": _pool,
}  # fmt: skip
