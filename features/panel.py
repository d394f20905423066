"""Tables on the hourly decision grid: what was known at each decision time, nothing later."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl

CARRY_H = 6
"""Hours a last known value is carried over a hole; exchange outages last up to five hours."""


def decision_grid(start: datetime, end: datetime) -> pl.LazyFrame:
    """Return the hourly decision times start <= ts < end (UTC) as one column ``ts``."""
    ts = pl.datetime_range(start, end, interval="1h", closed="left", time_unit="us", time_zone="UTC", eager=True)
    return pl.LazyFrame({"ts": ts.alias("ts")})


def hour_of(column: str = "available_at") -> pl.Expr:
    """Return the first full hour at or after ``column``: the decision time from which a row is known."""
    return (pl.col(column) + timedelta(hours=1) - timedelta(microseconds=1)).dt.truncate("1h")


def to_hours(rows: pl.LazyFrame, values: Sequence[str], by: Sequence[str] = ()) -> pl.LazyFrame:
    """Return (by..., ts, values...): rows that became available in (ts - 1 h, ts], averaged; one row per hour."""
    means = [pl.col(v).cast(pl.Float64).mean() for v in values]
    return rows.group_by(*by, hour_of().alias("ts")).agg(means)


def on_grid(grid: pl.LazyFrame, hours: pl.LazyFrame, values: Sequence[str], carry_h: int = CARRY_H) -> pl.LazyFrame:
    """Return ``grid`` with ``values`` of one hourly series, the last known carried at most ``carry_h`` hours."""
    joined = grid.join(hours.select("ts", *values), on="ts", how="left", maintain_order="left")
    return joined.with_columns(pl.col(v).forward_fill(limit=carry_h) for v in values)


def feature_columns(panel: pl.DataFrame) -> list[str]:
    """Return the feature columns of a panel: all but key, ts and those with a ``|`` in their name (labels)."""
    return [c for c in panel.columns if c not in ("key", "ts") and "|" not in c]
