"""Log returns, their magnitude and traded volume on the decision grid."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache

import polars as pl

from features.panel import decision_grid, on_grid

STRESS_LOOKBACK_H = 200
"""Hours that stress features reach back: a week of volume and a day for holes."""

_VALUES = ("close", "high", "low", "volume")


def bars(prices: pl.LazyFrame, asset: str, step_s: int, source: str | None = None) -> pl.LazyFrame:
    """Return (ts, close, high, low, volume) of ``asset``; ``ts`` is the decision time from which the bar is known.

    With several sources and none named, the first in alphabetical order that has a bar is used for that bar.
    """
    rows = prices.filter((pl.col("asset") == asset) & (pl.col("step") == step_s))
    if source is not None:
        rows = rows.filter(pl.col("source") == source)
    return (
        rows.sort("source")
        .group_by(pl.col("available_at").alias("ts"))
        .agg(pl.col(_VALUES).first())
        .sort("ts")
        .select("ts", *_VALUES)
    )


def log_return(lag: int = 1, column: str = "close") -> pl.Expr:
    """Return the log return over ``lag`` rows."""
    return pl.col(column).log().diff(lag)


@cache
def stress(name: str) -> list[pl.Expr]:
    """Return market-stress features from columns close, high, low, volume, each prefixed with ``name``.

    Log root-mean-square hourly return over 1, 4 and 24 h, log range over 3 h, signed returns over 1 and 24 h,
    and log volume of 1 and 6 h against its week. All null-tolerant; rows are hourly.
    """
    r2 = log_return() ** 2
    volume = pl.col("volume").log1p()
    week = volume.rolling_mean(168, min_samples=24)
    return [
        *((0.5 * (r2.rolling_mean(k, min_samples=1) + 1e-10).log()).alias(f"{name}_rv{k}") for k in (1, 4, 24)),
        ((pl.col("high") / pl.col("low")).log().rolling_mean(3, min_samples=1) + 1e-6).log().alias(f"{name}_range3"),
        *(log_return(k).alias(f"{name}_ret{k}") for k in (1, 24)),
        (volume - week).alias(f"{name}_volume1"),
        (volume.rolling_mean(6, min_samples=1) - week).alias(f"{name}_volume6"),
    ]


def stress_panel(
    prices: pl.LazyFrame,
    assets: Sequence[tuple[str, str]],
    span: tuple[datetime, datetime],
    step_s: int,
    source: str | None = None,
) -> pl.LazyFrame:
    """Return (ts, stress features) of several (prefix, asset) on the hourly grid ``span`` = (start, end)."""
    panel = decision_grid(*span)
    for prefix, asset in assets:
        series = on_grid(decision_grid(*span), bars(prices, asset, step_s, source), _VALUES)
        panel = panel.join(series.select("ts", *stress(prefix)), on="ts", how="left", maintain_order="left")
    return panel
