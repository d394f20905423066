"""A small seeded market with a daily gas season, for tests that need plausible rows quickly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from lake.store import Lake

START = datetime(2024, 1, 1, tzinfo=UTC)


def gas_rows(days: int, seed: int = 1, season: float = 0.3, noise: float = 0.1, chain_id: int = 1) -> pl.DataFrame:
    """Hourly gas rows: level 20 gwei, daily cosine, AR(1) log noise."""
    rng = np.random.default_rng(seed)
    n = 24 * days
    wave = season * np.cos(2 * np.pi * np.arange(n) / 24)
    x = np.zeros(n)
    for i in range(1, n):
        x[i] = 0.85 * x[i - 1] + noise * rng.standard_normal()
    ts = pl.Series("ts", [START + timedelta(hours=i) for i in range(n)]).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame({"chain_id": [chain_id] * n, "ts": ts, "base_fee_gwei": 20 * np.exp(wave + x)}).with_columns(
        (pl.col("ts") + timedelta(hours=1)).alias("available_at")
    )


def price_rows(days: int, assets: tuple[str, ...] = ("ETH", "BTC"), seed: int = 2) -> pl.DataFrame:
    """Hourly bars of geometric random walks."""
    rng = np.random.default_rng(seed)
    n = 24 * days
    parts = []
    for asset in assets:
        close = 1000 * np.exp(np.cumsum(0.005 * rng.standard_normal(n)))
        high, low = close * 1.002, close * 0.998
        ts = pl.Series("ts", [START + timedelta(hours=i) for i in range(n)]).cast(pl.Datetime("us", "UTC"))
        volume = np.exp(rng.standard_normal(n))
        parts.append(
            pl.DataFrame({"ts": ts, "open": close, "high": high, "low": low, "close": close, "volume": volume})
            .with_columns(pl.lit("test").alias("source"), pl.lit(asset).alias("asset"))
            .with_columns(
                pl.lit(3600, pl.Int64).alias("step"), (pl.col("ts") + timedelta(hours=1)).alias("available_at")
            )
        )
    return pl.concat(parts)


def fill(lake: Lake, days: int, **gas: float) -> Lake:
    """Write gas and prices of ``days`` days into ``lake`` and return it."""
    lake.write("gas", gas_rows(days, **gas))
    lake.write("prices", price_rows(days))
    return lake
