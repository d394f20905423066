"""The days of a rehearsal: today's prices, then the moves, gas and forecasts of the last days once more.

A lake of its own is written with the recorded past and, after it, its last days again: times move on by the length of
the rehearsal, prices by the factor that makes them go on from today's. Nothing is written to the lake it is read from.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl

from lake.errors import NotEnoughData
from lake.store import Lake
from lake.units import HOUR_S
from policy.simulation.history import WARMUP_DAYS

KEPT_AS_IT_IS = ("lessons",)
AGAIN = {
    "gas": ("ts", "available_at"), "pool_state": ("ts", "available_at"),
    "forecasts": ("issued_at", "available_at"), "paths": ("issued_at", "available_at"),
    "accepted": ("start", "end", "available_at"),
}  # fmt: skip
"""Tables whose rows of the last days come again, with the columns that move on."""
OHLC = ("open", "high", "low", "close")


def newest_price(lake: Lake, assets: Sequence[str]) -> datetime:
    """Return when the newest hourly price of ``assets`` became known; NotEnoughData without any."""
    rows = lake.scan("prices").filter(pl.col("asset").is_in(list(assets)) & (pl.col("step") <= HOUR_S))
    found: datetime | None = rows.select(pl.col("available_at").max()).collect().item()
    if found is None:
        raise NotEnoughData(f"the lake has no hourly prices of {', '.join(assets)}: foredrift ingest, or import")
    return found


def lived_again(source: Lake, into: Lake, assets: Sequence[str], days: int) -> tuple[datetime, datetime]:
    """Write the past and ``days`` more into lake ``into``; return when the rehearsal begins and ends.

    ``assets``: those whose prices are needed. Raises NotEnoughData where fewer than ``days`` days are recorded.
    """
    now, more = newest_price(source, assets), timedelta(days=days)
    since = now - more - timedelta(days=WARMUP_DAYS + 14)
    rows = source.scan("prices", as_of=now).filter(
        pl.col("asset").is_in(list(assets)) & (pl.col("step") <= HOUR_S) & (pl.col("available_at") > since)
    )
    prices = rows.collect()
    first: datetime = prices["available_at"].min()  # type: ignore[assignment]
    if first > now - more:
        raise NotEnoughData(
            f"the lake's prices begin {first:%Y-%m-%d %H:%M} UTC: {days} days before {now:%Y-%m-%d %H:%M} are needed; "
            "import earlier ones, or rehearse fewer --days"
        )
    into.write("prices", pl.concat([prices, _prices_again(prices, now - more, more)]))
    for name, moving in AGAIN.items():
        known = source.scan(name, as_of=now).filter(pl.col("available_at") > since).collect()
        late = known.filter(pl.col("available_at") > now - more)
        into.write(name, pl.concat([known, late.with_columns([pl.col(c) + more for c in moving])]))
    for name in KEPT_AS_IT_IS:
        into.write(name, source.scan(name, as_of=now).collect())
    return now, now + more


def _prices_again(prices: pl.DataFrame, cut: datetime, more: timedelta) -> pl.DataFrame:
    """Return the bars known after ``cut``, moved on by ``more``, each series going on from its last close."""
    series = ["source", "asset", "step"]
    last = prices.sort("ts").group_by(series, maintain_order=True).agg(
        now=pl.col("close").last(), then=pl.col("close").filter(pl.col("available_at") <= cut).last()
    )  # fmt: skip
    late = prices.filter(pl.col("available_at") > cut).join(last, on=series, how="left", maintain_order="left")
    factor = pl.col("now") / pl.col("then").fill_null(pl.col("now"))
    moved = [pl.col(c) * factor for c in OHLC] + [pl.col(c) + more for c in ("ts", "available_at")]
    return late.with_columns(moved).select(prices.columns)
