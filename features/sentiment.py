"""Market mood as features: fear and greed, funding, headline sentiment - any series of table ``signals``."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from features.records import Scans

STALE_DAYS = 3
"""A published value is used for at most this long; daily series miss a day now and then, not three."""

_BACK_DAYS = 14  # history read before the first row, for the weekly change


def signal_features(lake: Scans, start: datetime, end: datetime) -> pl.DataFrame:
    """Return (ts, features) for the hours start <= ts < end: level, absolute level and change over a week.

    One triple of columns ``sig_<name>_<key>``, ``..._size``, ``..._week`` per series; a value counts from its
    ``available_at`` on and for STALE_DAYS at most. Without signals only ``ts`` is returned.
    """
    hours = pl.DataFrame(
        {"ts": pl.datetime_range(start, end, timedelta(hours=1), closed="left", time_unit="us", eager=True)}
    ).cast({"ts": pl.Datetime("us", "UTC")})
    rows = (
        lake.scan("signals")
        .filter((pl.col("available_at") >= start - timedelta(days=_BACK_DAYS)) & (pl.col("available_at") < end))
        .select("name", "key", "available_at", "value")
        .collect()
        .sort("available_at")
    )
    out = hours
    for (name, key), series in sorted(rows.group_by(["name", "key"]), key=lambda item: str(item[0])):
        column = f"sig_{name}_{key}"
        level = series.select(pl.col("available_at").alias("ts"), pl.col("value").alias(column))
        fresh = timedelta(days=STALE_DAYS)
        out = out.join_asof(level, on="ts", tolerance=fresh)
        before = level.select(pl.col("ts") + timedelta(days=7), pl.col(column).alias("_before"))
        out = out.join_asof(before, on="ts", tolerance=fresh)
        out = out.with_columns(
            pl.col(column).abs().alias(f"{column}_size"), (pl.col(column) - pl.col("_before")).alias(f"{column}_week")
        ).drop("_before")
    return out
