"""Seeded markets with a known truth: constant volatility, or GARCH(1,1) with its variance kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

START = datetime(2023, 3, 1, tzinfo=UTC)
ASSETS = ("AAA", "BBB", "CCC")


def bars(returns: dict[str, np.ndarray], *, ranges: bool = True, start: datetime = START) -> pl.DataFrame:
    """Rows of table prices from hourly log returns by asset; ``ranges`` False leaves only closes."""
    parts = []
    for asset, r in returns.items():
        close = 100.0 * np.exp(np.cumsum(r))
        before = np.concatenate([[100.0], close[:-1]])
        ts = pl.Series("ts", [start + timedelta(hours=i) for i in range(len(r))]).cast(pl.Datetime("us", "UTC"))
        frame = pl.DataFrame({"ts": ts, "close": close}).with_columns(
            pl.lit("test").alias("source"),
            pl.lit(asset).alias("asset"),
            pl.lit(3600, pl.Int64).alias("step"),
            (pl.col("ts") + timedelta(hours=1)).alias("available_at"),
        )
        if ranges:
            wick = 1.0 + np.abs(r) / 2
            frame = frame.with_columns(
                pl.Series("open", before),
                pl.Series("high", np.maximum(before, close) * wick),
                pl.Series("low", np.minimum(before, close) / wick),
                pl.Series("volume", 1000.0 * (1.0 + np.abs(r) * 100)),
            )
        parts.append(frame)
    return pl.concat(parts)


def noise(days: int, seed: int, sigma: float = 0.01, assets: tuple[str, ...] = ASSETS) -> dict[str, np.ndarray]:
    """Independent Gaussian returns of constant volatility."""
    rng = np.random.default_rng(seed)
    return {a: sigma * rng.standard_normal(24 * days) for a in assets}


def garch(
    days: int, seed: int, assets: tuple[str, ...] = ASSETS, season: float = 0.0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """GARCH(1,1) returns with a common shock to volatility, and the true hourly volatility of each."""
    rng = np.random.default_rng(seed)
    n = 24 * days
    returns, truth = {}, {}
    common = rng.standard_normal(n)
    wave = np.exp(season * np.cos(2 * np.pi * np.arange(n) / 24))
    for asset in assets:
        z = 0.6 * common + 0.8 * rng.standard_normal(n)
        h, r = np.empty(n), np.empty(n)
        h[0], base = 1e-4, 1e-4 * 0.04
        r[0] = np.sqrt(h[0]) * z[0]
        for i in range(1, n):
            h[i] = base + 0.14 * r[i - 1] ** 2 + 0.82 * h[i - 1]
            r[i] = np.sqrt(h[i]) * z[i]
        returns[asset], truth[asset] = r * wave, np.sqrt(h) * wave
    return returns, truth
