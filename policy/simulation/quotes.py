"""Prices on the hourly grid as they were known: closes, where there was a market, and what happened to each asset.

An hour in which an asset has no bar of its own is no market for it: its last close values what is held, nothing of it
can be traded, and no return is made of it. A late listing and an end of the bars are events, named in ``events``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from lake.units import HOUR_S
from policy.base import Bools, Matrix

Ints = npt.NDArray[np.int64]

CARRY_H = 6  # a close older than this is no market price, whatever came late; bars that end this early have ended
HOUR_US = HOUR_S * 1_000_000
SHOWN = 3  # ranges of hours a note spells out


@dataclass(frozen=True, slots=True)
class Quotes:
    """Closes of A assets at T decision times.

    ``open`` (T, A): a bar became known in the hour before; ``moved`` (T, A): the return of the hour after lies between
    two bars in a row; ``first`` and ``last`` (A,): first and last step with a bar (0 and T - 1 without any history).
    """

    assets: tuple[str, ...]
    close: Matrix
    open: Bools
    moved: Bools
    first: Ints
    last: Ints

    def events(self, ts: Ints, gap: str = "the last close stood, no trade of it and no return") -> list[str]:
        """Return a note on every listing, end and hole, with its hours; ``gap`` tells the consequence of a hole."""
        found: list[str] = []
        for i, asset in enumerate(self.assets):
            first, last = int(self.first[i]), int(self.last[i])
            if first > 0:
                found.append(f"{asset}: listed {_when(ts[first])}: not held, traded or judged before")
            if last < len(ts) - 1 - CARRY_H:
                found.append(
                    f"{asset}: no bar after {_when(ts[last])} (delisted, or its record ends): {gap} from then on"
                )
            else:
                last = len(ts) - 1
            steps = np.arange(first, last + 1)
            shut = steps[~self.open[steps, i]]
            if shut.size:
                found.append(f"{asset}: {ranges(ts, shut)} without a bar: {gap} in them")
        return found


def ranges(ts: Ints, steps: Ints) -> str:
    """Return ``steps`` as text: how many hours, and the first SHOWN ranges of them."""
    edges = np.flatnonzero(np.diff(steps) > 1)
    starts, stops = steps[np.r_[0, edges + 1]], steps[np.r_[edges, steps.size - 1]]
    spans = [
        _when(ts[a]) if a == b else f"{_when(ts[a])} .. {_when(ts[b])}" for a, b in zip(starts, stops, strict=True)
    ]
    rest = f", and {len(spans) - SHOWN} more times" if len(spans) > SHOWN else ""
    return f"{steps.size} hour{'s' * (steps.size > 1)} ({', '.join(spans[:SHOWN])}{rest})"


def read_quotes(grid: pl.DataFrame, prices: pl.DataFrame, assets: Sequence[str]) -> Quotes:
    """Return the quotes of ``assets`` at the times ``t`` of ``grid``; ``prices`` has asset, at (known), done, close.

    An asset without any price is a stable one: price 1, always open. Before its listing an asset has its first price.
    """
    T, A = grid.height, len(assets)
    close, moved, open_ = np.ones((T, A)), np.ones((T, A), dtype=np.bool_), np.ones((T, A), dtype=np.bool_)
    first, last = np.zeros(A, dtype=np.int64), np.full(A, T - 1, dtype=np.int64)
    ts = grid["t"].to_physical().to_numpy()
    for i, asset in enumerate(assets):
        own = prices.filter(pl.col("asset") == asset).select("at", "done", "close").sort("at")
        if own.is_empty():
            continue
        joined = grid.join_asof(own, left_on="t", right_on="at", strategy="backward")
        close[:, i] = joined["close"].fill_null(strategy="backward").to_numpy()
        done = joined["done"].to_physical().fill_null(-1).to_numpy()
        step = np.diff(done, prepend=-1)
        known = done >= 0
        before = own.filter(pl.col("at") <= grid["t"][0] - pl.duration(hours=1)) if known[0] else own.clear()
        step[0] = int(known[0]) if before.is_empty() else int(done[0] - before["done"].to_physical()[-1])
        open_[:, i] = known & (step > 0) & (ts - done <= CARRY_H * HOUR_US)
        gone = np.diff(done)
        moved[:-1, i] = known[:-1] & (2 * gone > HOUR_US) & (2 * gone < 3 * HOUR_US)
        seen = np.flatnonzero(open_[:, i])
        first[i], last[i] = (seen[0], seen[-1]) if seen.size else (T - 1, T - 1)
    return Quotes(tuple(assets), close, open_, moved, first, last)


def _when(micros: np.int64) -> str:
    return f"{datetime.fromtimestamp(int(micros) / 1e6, UTC):%Y-%m-%d %H:%M}"
