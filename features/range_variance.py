"""Hundreds of millions of bars by streaming: hourly closes with the variance that their ranges tell of."""

from __future__ import annotations

import math

import polars as pl


def hourly_measures(bars: pl.LazyFrame) -> pl.DataFrame:
    """Return (asset, ts, close, high, low, bars, parkinson, garman_klass), one row per asset and hour, by streaming.

    ``bars`` are rows of table prices of any step up to an hour, for example a lake's scan; nothing but the hourly
    result is held in memory. The two range estimators are variances per hour, summed over the bars of the hour:
    Parkinson (1980) ln(high/low)^2 / (4 ln 2); Garman and Klass (1980) ln(high/low)^2 / 2 - (2 ln 2 - 1)
    ln(close/open)^2. ``ts`` is the hour's open; the row is known an hour later.
    """
    reach = (pl.col("high") / pl.col("low")).log() ** 2
    move = (pl.col("close") / pl.col("open")).log() ** 2
    return (
        bars.select("asset", "ts", "open", "high", "low", "close")
        .with_columns(
            hour=pl.col("ts").dt.truncate("1h"), parkinson=reach / (4 * math.log(2)),
            garman_klass=reach / 2 - (2 * math.log(2) - 1) * move,
        )
        .group_by("asset", "hour")
        .agg(
            pl.col("close").sort_by("ts").last(), pl.col("high").max(), pl.col("low").min(), pl.len().alias("bars"),
            pl.col("parkinson").sum(), pl.col("garman_klass").sum(),
        )
        .rename({"hour": "ts"})
        .collect(engine="streaming")
        .sort("asset", "ts")
    )  # fmt: skip
