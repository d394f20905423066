"""Panels: one row a key and decision time, made of what was known then, nothing later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from features.windows import Array

CARRY_H = 6
"""Hours a last known value is carried over a hole; exchange outages last up to five hours."""


def hour_of(column: str = "available_at") -> pl.Expr:
    """Return the first full hour at or after ``column``: the decision time from which a row is known."""
    return (pl.col(column) + timedelta(hours=1) - timedelta(microseconds=1)).dt.truncate("1h")


def whole_hour(moment: datetime) -> datetime:
    """Return the first full hour at or after ``moment``, UTC."""
    down = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return down if down == moment else down + timedelta(hours=1)


def hours_between(start: datetime, end: datetime) -> int:
    """Return how many hourly decision times start <= ts < end there are; both are full hours."""
    return max(round((end - start).total_seconds()) // 3_600, 0)


def to_hours(rows: pl.LazyFrame, values: Sequence[str], by: Sequence[str] = ()) -> pl.LazyFrame:
    """Return (by..., ts, values...): rows that became available in (ts - 1 h, ts], averaged; one row per hour."""
    means = [pl.col(v).cast(pl.Float64).mean() for v in values]
    return rows.group_by(*by, hour_of().alias("ts")).agg(means)


def flat(keys: Sequence[str], ts: pl.Series, columns: Mapping[str, Array]) -> pl.DataFrame:
    """Return (key, ts, columns...) from arrays (n, k): one row a time and key, times outermost; NaN becomes null."""
    n, k = len(ts), len(keys)
    names = pl.Series("key", list(keys), pl.String).gather(np.tile(np.arange(k), n))
    moments = ts.alias("ts").gather(np.repeat(np.arange(n), k))
    values = [pl.Series(name, np.ravel(x), pl.Float64, nan_to_null=True) for name, x in columns.items()]
    return pl.DataFrame([names, moments, *values])


def feature_columns(panel: pl.DataFrame) -> list[str]:
    """Return the feature columns of a panel: all but key, ts and those with a ``|`` in their name (labels)."""
    return [c for c in panel.columns if c not in ("key", "ts") and "|" not in c]
