"""Hour of day and day of week (UTC), as numbers that cannot overflow (polars gives Int8)."""

from __future__ import annotations

from datetime import timedelta

import polars as pl


def hour(ahead_h: int = 0, ts: str = "ts") -> pl.Expr:
    """Return the hour of day, 0..23, ``ahead_h`` hours after ``ts``, as Float64."""
    return (pl.col(ts) + timedelta(hours=ahead_h)).dt.hour().cast(pl.Float64)


def weekday(ahead_h: int = 0, ts: str = "ts") -> pl.Expr:
    """Return the day of week, Monday 0 .. Sunday 6, ``ahead_h`` hours after ``ts``, as Float64."""
    return (pl.col(ts) + timedelta(hours=ahead_h)).dt.weekday().cast(pl.Float64) - 1.0


def hour_of_week(ts: str = "ts") -> pl.Expr:
    """Return the hour of week, 0..167 from Monday 00:00, as Int64."""
    return (pl.col(ts).dt.weekday().cast(pl.Int64) - 1) * 24 + pl.col(ts).dt.hour().cast(pl.Int64)
