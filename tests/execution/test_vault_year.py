"""What who trades against a lagging feed through the shares takes from the holders, on recorded prices.

A vault of 40 % cash and 60 % ETH; the feed posts when it is 50 bp off, or after an hour. The stranger enters when the
feed is low, leaves when it is high, knows the future, hedges, pays no gas and no market fee: more than anybody can.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from policy.execution.vaults.reference.deployment import TokenSource, VaultSetup

THRESHOLD, HEARTBEAT_BARS = 0.005, 12  # of 5 minutes
RISKY = 0.6
CASH, ETH = "0x" + "1" * 40, "0x" + "2" * 40


def gaps(closes: np.ndarray) -> np.ndarray:
    """How far the market is above the feed at each bar, just before the feed posts."""
    found, posted, age = np.zeros(len(closes)), closes[0], 0
    for i, x in enumerate(closes):
        found[i], age = x / posted - 1, age + 1
        if abs(found[i]) >= THRESHOLD or age >= HEARTBEAT_BARS:
            posted, age = x, 0
    return found


def takings(lags: np.ndarray, hold_bars: int, entry: float, leaving: float, patience: int = 12 * 24) -> float:
    """Sum of all profitable trips, one after the other, each ended at the best moment of the next day; part of NAV."""
    total, i, n = 0.0, 0, len(lags)
    while i < n:
        stop = min(n, i + max(1, hold_bars) + patience)
        after = lags[i + hold_bars : stop]
        if after.size == 0:
            break
        j = int(after.argmin())
        gain = RISKY * (lags[i] - after[j]) - entry - leaving
        if gain > 0 and lags[i] > 0:
            total, i = total + gain, i + hold_bars + j + 1
        else:
            i += 1
    return total


def test_a_lagging_feed_pays_nobody_with_the_default_hold_and_fees(real_data: Path):
    path = real_data / "prices_5m.parquet"
    if not path.exists():
        pytest.skip(f"no recorded 5-minute prices at {path}")
    closes = pl.read_parquet(path).filter(pl.col("asset") == "ETH").sort("ts")["close"].to_numpy()
    within = np.clip(gaps(closes), -THRESHOLD, THRESHOLD)  # a feed that posts as it says it does
    rows = [TokenSource(CASH, 6, 4_000, CASH, 3_600, deviation_bps=50)]
    rows.append(TokenSource(ETH, 18, 6_000, ETH, 3_600, deviation_bps=100))
    hold_s, entry, leaving = VaultSetup(rows, CASH, CASH, CASH, []).terms()
    bars = hold_s // 300
    assert takings(within, 0, 0, 0) > 1  # without either: more than all of NAV in five months
    assert takings(within, bars, 0, 0) > 0.05  # the hold alone stops loans and one-block trips, no patient ones
    assert takings(within, bars, entry / 1e4, leaving / 1e4) == 0
    jumps = takings(
        gaps(closes), bars, entry / 1e4, leaving / 1e4
    )  # every post of a crash front-run, at its whole size
    print(f"feed within its threshold: 0; every late post front-run in hindsight: {jumps:.2%} of NAV in five months")
