"""Option chains as the stages read them: a file, or table options of the lake as of a moment."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl

from lake.errors import NotEnoughData
from lake.sources.options import check, read_chain
from lake.store import Lake


def chain_of(path: Path | None, config: Path | None) -> pl.DataFrame:
    """Return the chain in ``path``, or what the lake of the project has where there is none."""
    if path is not None:
        return read_chain(path)
    from pipelines.settings import load
    from pipelines.wiring import lake_of

    return lake_chain(lake_of(load(config)))


def lake_chain(lake: Lake, as_of: datetime | None = None) -> pl.DataFrame:
    """Return the options of the lake with coin premium, checked as a file is; NotEnoughData where none are."""
    rows = lake.scan("options", as_of).filter(pl.col("quote") == "coin").collect()
    if rows.is_empty():
        raise NotEnoughData(
            "the lake has no options: foredrift import options FILE --format deribit-chain, or name a chain file"
        )
    one = rows.sort("venue").unique(["asset", "ts", "expiry", "strike", "kind"], keep="first")
    return check(one.rename({"bid": "bid_coin", "ask": "ask_coin", "mark": "mark_coin"}), "table options")
