"""Recorded history as ticks of the local market: rows of the lake's prices, gas and pool_state tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from lake.errors import DataError
from lake.units import WEI_PER_GWEI
from policy.localnet.replay import RecordedBlock


@dataclass(frozen=True, slots=True)
class Tick:
    """One moment of a replayed history: USD prices by asset, and the base fee where it is known.

    ``block`` is the recorded block it is, whose time, fee and fullness then count; ``wait_s`` are the seconds to wait
    before it, None for the running market's own pace.
    """

    prices: Mapping[str, float]
    gas_gwei: float | None = None
    at: datetime | None = None
    block: RecordedBlock | None = None
    wait_s: float | None = None


def ticks(prices: pl.DataFrame, gas: pl.DataFrame | None = None) -> Iterator[Tick]:
    """Yield one tick per bar end, oldest first: closes of the bars ending there, gas of the interval that ends there.

    ``prices`` are rows of the table (one source and step), ``gas`` rows of one chain on the same grid. An asset
    without a bar keeps its last price; ticks start when every asset has one. Raises DataError on an empty frame.
    """
    if prices.is_empty():
        raise DataError("there are no prices to replay; import or ingest some, or give another span")
    ends = pl.col("ts") + pl.duration(seconds=pl.col("step"))
    wide = prices.select(ends.alias("at"), "asset", "close").pivot("asset", index="at", values="close").sort("at")
    assets = [c for c in wide.columns if c != "at"]
    wide = wide.with_columns(pl.col(assets).forward_fill()).drop_nulls(assets)
    fees = {} if gas is None else dict(gas.select("available_at", "base_fee_gwei").iter_rows())
    for row in wide.iter_rows(named=True):
        at = row["at"]
        yield Tick({a: row[a] for a in assets}, fees.get(at), at)


def block_ticks(blocks: Sequence[RecordedBlock], prices: Iterable[Tick], speed: float) -> Iterator[Tick]:
    """Yield one tick a recorded block, ``speed`` times faster than recorded, oldest first.

    Each has the prices of ``prices`` (by time, oldest first) that became known since the block before, none where none
    did: feeds and pools then stay as they are.
    """
    pending, before = iter(prices), blocks[0].time
    ahead = next(pending, None)
    for block in blocks:
        found: Mapping[str, float] = {}
        while ahead is not None and ahead.at is not None and ahead.at <= block.at:
            found, ahead = ahead.prices, next(pending, None)
        yield Tick(found, block.base_fee_wei / WEI_PER_GWEI, block.at, block, (block.time - before) / speed)
        before = block.time


def depths(pool_state: pl.DataFrame, assets: Mapping[str, str]) -> dict[str, float]:
    """Return the newest known one-sided 1 % depth in USD per asset, the deepest of its pools.

    ``assets`` says which asset a pool's key prices; pools it does not name are left out.
    """
    named = pool_state.filter(pl.col("pool").is_in(list(assets)) & pl.col("depth_1pct_usd").is_not_null())
    newest = named.sort("ts").group_by("pool", maintain_order=True).last()
    found: dict[str, float] = {}
    for pool, depth in newest.select("pool", "depth_1pct_usd").iter_rows():
        if depth > 0:
            found[assets[pool]] = max(depth, found.get(assets[pool], 0.0))
    return found
