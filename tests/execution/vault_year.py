"""What who trades against a lagging feed through the shares takes from the holders, on the whole recorded history.

``python -m tests.execution.vault_year FOLDER`` prints a table: each recorded asset, hour by hour over the longest
stretch (26 months) and every five minutes where there are bars. A vault of 40 % cash and 60 % of the asset; the feed
posts at 0.5 % or after an hour. The stranger knows the future, enters at the best price of a bar and leaves at the best
of the day after his hold, hedges, and pays no gas, no swap and no loan: more than anybody can. Takings are what the
others lose, in basis points of NAV over the whole stretch, if he brings any amount.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from policy.execution.vaults.reference.deployment import TokenSource, VaultSetup

THRESHOLD = 0.005
RISKY = 0.6
CASH, RISK = "0x" + "1" * 40, "0x" + "2" * 40
STRETCHES = {"prices_1h": 3_600, "prices_5m": 300}
HEARTBEAT_S = 3_600


@dataclass(frozen=True)
class Lags:
    """How far the market is above the feed, at its highest and its lowest in each bar; fractions."""

    high: np.ndarray
    low: np.ndarray
    step_s: int

    def within(self) -> Lags:
        """A feed that posts as soon as it says it does: never off by more than its threshold."""
        high, low = (np.clip(x, -THRESHOLD, THRESHOLD) for x in (self.high, self.low))
        return Lags(high, low, self.step_s)


def lags(bars: pl.DataFrame, step_s: int, late_bars: int = 0) -> Lags:
    """Lags of a feed that posts at a bar's close when it is off by the threshold, or its heartbeat is over.

    ``late_bars``: how much later the post is mined than it is due, as in a crowded block.
    """
    closes, highs, lows = (bars[c].to_numpy() for c in ("close", "high", "low"))
    high, low = np.zeros(len(closes)), np.zeros(len(closes))
    posted, age, due = closes[0], 0, -1
    for i, close in enumerate(closes):
        high[i], low[i], age = highs[i] / posted - 1, lows[i] / posted - 1, age + 1
        if due < 0 and (abs(close / posted - 1) >= THRESHOLD or age * step_s >= HEARTBEAT_S):
            due = i + late_bars
        if 0 <= due <= i:
            posted, age, due = close, 0, -1
    return Lags(high, low, step_s)


@dataclass(frozen=True)
class Taken:
    """Profitable trips one after the other: what they take together and the worst one alone, bp of NAV."""

    bp: float
    trips: int
    worst_bp: float


def takings(seen: Lags, hold_s: int, entry: float, leaving: float) -> Taken:
    """Every trip that pays, each ended at the best moment of the day after its hold."""
    gains: list[float] = []
    i, n = 0, len(seen.high)
    hold, patience = -(-hold_s // seen.step_s), 86_400 // seen.step_s
    while i < n:
        after = seen.low[i + hold : i + hold + patience]
        if after.size == 0:
            break
        j = int(after.argmin())
        gain = RISKY * (seen.high[i] - after[j]) - entry - leaving
        if gain > 0 and seen.high[i] > 0:
            gains.append(gain * 1e4)
            i += hold + j + 1
        else:
            i += 1
    return Taken(sum(gains), len(gains), max(gains, default=0.0))


def terms() -> tuple[int, float, float]:
    """Hold in seconds, entry and exit fee as fractions, that such a vault is born with."""
    rows = [TokenSource(CASH, 6, 4_000, CASH, HEARTBEAT_S, deviation_bps=50)]
    rows.append(TokenSource(RISK, 18, 6_000, RISK, HEARTBEAT_S, deviation_bps=100))
    hold_s, entry, leaving = VaultSetup(rows, CASH, CASH, CASH, []).terms()
    return hold_s, entry / 1e4, leaving / 1e4


def most_per_trip() -> float:
    """The most one trip can gain while the feed is inside its threshold, as a part of NAV: in at +T, out at -T."""
    return RISKY * 2 * THRESHOLD


def rows(folder: Path) -> list[dict[str, object]]:
    """One row for each recorded stretch of an asset, takings in bp of NAV."""
    hold_s, entry, leaving = terms()
    found: list[dict[str, object]] = []
    for name, step_s in STRETCHES.items():
        path = folder / f"{name}.parquet"
        if not path.exists():
            continue
        frame = pl.read_parquet(path).sort("ts")
        for (asset,), bars in frame.partition_by("asset", as_dict=True, maintain_order=True).items():
            seen = lags(bars, step_s)
            told: dict[str, object] = {"asset": asset, "step_s": step_s, "days": bars.height * step_s / 86_400}
            found.append(
                told
                | {
                    "bare": takings(seen.within(), 0, 0, 0),
                    "held": takings(seen.within(), hold_s, 0, 0),
                    "default": takings(seen.within(), hold_s, entry, leaving),
                    # an hour's bar does not tell when within it the feed posts
                    "late": takings(lags(bars, step_s, 1), hold_s, entry, leaving) if step_s < HEARTBEAT_S else None,
                }
            )
    return found


def main() -> int:
    """Print the table and the bound."""
    found = rows(Path(sys.argv[1]))
    hold_s, entry, leaving = terms()
    print(f"hold {hold_s} s, entry {entry * 1e4:.0f} bp, exit {leaving * 1e4:.0f} bp; takings in bp of NAV")
    print("asset  bar s   days     neither   hold alone   both, feed inside   both, every post five minutes late")
    for r in found:
        bare, held, both, late = (r[k] for k in ("bare", "held", "default", "late"))
        assert isinstance(bare, Taken)
        assert isinstance(held, Taken)
        assert isinstance(both, Taken)
        words = f"{late.bp:,.0f} in {late.trips} trips, worst {late.worst_bp:.0f}" if isinstance(late, Taken) else "-"
        left = f"{r['asset']:5} {r['step_s']:6} {r['days']:6.0f}"
        print(f"{left} {bare.bp:11,.0f} {held.bp:12,.0f} {both.bp:19,.0f}   {words}")
    gain = most_per_trip() * 1e4
    print(f"inside its threshold a trip gains at most {gain:.0f} bp and costs {(entry + leaving) * 1e4:.0f} bp")
    return int(any(isinstance(t := r["default"], Taken) and t.trips for r in found))


if __name__ == "__main__":
    sys.exit(main())
