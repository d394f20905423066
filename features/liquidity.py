"""Liquidity features of pools on the hourly grid: depth against its own past, activity, volatility, season."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl

from features.volatility import Scans

LOOKBACK_H = 1_056
"""Hours of history a feature may draw on: 44 days."""

CARRY_H = 6
WINDOWS_H: tuple[int, ...] = (6, 24, 72, 168, 672)

FEATURES: tuple[str, ...] = (
    *(f"over_median{w}" for w in WINDOWS_H),
    *(f"over_mean{w}" for w in WINDOWS_H),
    *(f"over_min{w}" for w in (6, 24)),
    *(f"change{k}" for k in (1, 2, 4, 24)),
    "swing24", "swing168", "day_before", "restless",
    "turnover", "turnover24", "activity24", "price_vol6", "price_vol24", "price_vol168", "price_gap24", "fee_pips",
    "hour", "weekday",
)  # fmt: skip
"""All in logs: depth over its rolling medians, means and minima, its last changes and their spread, depth a day ago,
how often it jumped by 10 %; volume over depth; volatility of the pool's price; fee tier; time."""


def pool_states(lake: Scans, pools: Sequence[str], start: datetime, end: datetime) -> pl.DataFrame:
    """Return (key, ts, depth, price, volume, fee_pips, fresh) by pool and hour start <= ts < end.

    A state counts from the first full hour at or after its ``available_at``; of several in one hour the last depth and
    price and the sum of volumes are taken. States without a positive depth are left out. Depth is USD to a 1 % move on
    one side. An hour without a state carries the last one for at most CARRY_H hours with ``fresh`` false.
    """
    low = start - timedelta(hours=CARRY_H + 1)
    hour = (pl.col("available_at") + timedelta(hours=1) - timedelta(microseconds=1)).dt.truncate("1h")
    rows = lake.scan("pool_state").filter(
        (pl.col("depth_1pct_usd") > 0) & pl.col("available_at").is_between(low, end, closed="left")
    )
    if pools:
        rows = rows.filter(pl.col("pool").is_in(list(pools)))
    last = (
        rows.sort("available_at")
        .group_by(pl.col("pool").alias("key"), hour.alias("ts"))
        .agg(
            pl.col("depth_1pct_usd").last().alias("depth"),
            pl.col("price").last(),
            pl.col("volume_usd").sum().alias("volume"),
            pl.col("fee_pips").drop_nulls().last().cast(pl.Float64),
        )
        .collect()
    )
    ts = pl.datetime_range(low, end, "1h", closed="left", time_unit="us", eager=True).dt.truncate("1h").unique()
    grid = last.select(pl.col("key").unique().sort()).join(
        pl.DataFrame({"ts": ts}).cast({"ts": pl.Datetime("us", "UTC")}), how="cross"
    )
    full = grid.join(last, on=["key", "ts"], how="left").sort("key", "ts")
    return full.with_columns(
        pl.col("depth").is_not_null().alias("fresh"),
        *(pl.col(c).forward_fill(limit=CARRY_H).over("key") for c in ("depth", "price")),
        pl.col("fee_pips").forward_fill().over("key"),
    ).filter(pl.col("ts").is_between(start, end, closed="left"))


def liquidity_features(states: pl.DataFrame) -> pl.DataFrame:
    """Return (key, ts, FEATURES) of the rows of :func:`pool_states`; every value at ``ts`` was known then."""
    frame = states.sort("key", "ts").with_columns(
        x=pl.col("depth").log(),
        move=(pl.col("price").log() - pl.col("price").log().shift(1)).over("key"),
        flow=((pl.col("volume") + 1.0) / pl.col("depth")).log(),
    )
    frame = frame.with_columns(step=(pl.col("x") - pl.col("x").shift(1)).over("key"))
    x, step = pl.col("x"), pl.col("step")
    jumped = step.abs() > 0.1
    columns = [
        *((x - x.rolling_median(w, min_samples=w // 3)).alias(f"over_median{w}") for w in WINDOWS_H),
        *((x - x.rolling_mean(w, min_samples=w // 3)).alias(f"over_mean{w}") for w in WINDOWS_H),
        *((x - x.rolling_min(w, min_samples=w // 3)).alias(f"over_min{w}") for w in (6, 24)),
        *((x - x.shift(k)).alias(f"change{k}") for k in (1, 2, 4, 24)),
        *((step.abs().rolling_mean(w, min_samples=w // 3) + 1e-4).log().alias(f"swing{w}") for w in (24, 168)),
        (x.shift(23) - x).alias("day_before"),
        (jumped.cast(pl.Float64).ewm_mean(half_life=12.0, ignore_nulls=True) + 1e-4).log().alias("restless"),
        pl.col("flow").forward_fill(limit=CARRY_H).alias("turnover"),
        pl.col("flow").rolling_mean(24, min_samples=8).alias("turnover24"),
        (pl.col("flow") - pl.col("flow").rolling_mean(24, min_samples=8)).alias("activity24"),
        *(
            (0.5 * (pl.col("move").pow(2).rolling_mean(w, min_samples=2) + 1e-12).log()).alias(f"price_vol{w}")
            for w in (6, 24, 168)
        ),
        (pl.col("price") / pl.col("price").shift(24)).log().alias("price_gap24"),
    ]
    return frame.with_columns(c.over("key") for c in columns).select(
        "key",
        "ts",
        *(pl.col(c).cast(pl.Float64) for c in FEATURES if c not in ("hour", "weekday")),
        pl.col("ts").dt.hour().cast(pl.Float64).alias("hour"),
        pl.col("ts").dt.weekday().cast(pl.Float64).alias("weekday"),
    )
