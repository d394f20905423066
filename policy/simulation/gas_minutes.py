"""The minute of the hour at which gas is cheapest, as far as a record proves it.

It is chosen on the earlier half of the recorded days and judged on the later one, day by day against the minute in use:
the best of twelve on the days it was chosen on would always look cheaper than it is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl

from policy.simulation.block_world import slot_ratios

SLOT = 5  # minutes
LEAST_DAYS = 14  # of the half that judges
SIGMAS = 3.0  # standard errors that a proven saving lies above zero
LIFE_DAYS = 365  # of the record that is looked at: the hours people act in move


@dataclass(frozen=True, slots=True)
class Cheapest:
    """Gas at ``minute`` costs ``saving`` +- ``error`` (standard error) of the hour's mean less than at ``own``.

    ``days`` judged it, as many chose it.
    """

    own: int
    minute: int
    saving: float
    error: float
    days: int

    @property
    def proven(self) -> bool:
        """Whether days enough say so, by SIGMAS standard errors."""
        return self.days >= LEAST_DAYS and self.saving > SIGMAS * self.error

    def json(self) -> dict[str, Any]:
        """Return it as plain data, with whether it is ``proven``."""
        return asdict(self) | {"proven": self.proven}


def cheapest(windows: pl.DataFrame, own: int, after: int = -1) -> Cheapest | None:
    """Return the cheapest minute later than ``after`` against ``own`` from five-minute ``windows`` (ts, gas).

    It is the middle of its five minutes. None from fewer than four days of whole hours.
    """
    if windows.is_empty():
        return None
    newest = windows["ts"].max() - timedelta(days=LIFE_DAYS)  # type: ignore[operator]
    wide = (
        slot_ratios(windows.filter(pl.col("ts") > newest))
        .pivot("minute", index="day", values="ratio")
        .drop_nulls()
        .sort("day")
    )
    days = wide.height
    if days < 4:
        return None
    slots = [s for s in range(0, 60, SLOT) if s + SLOT // 2 > after]
    if not slots:
        return None
    chosen, judged = wide.head(days // 2), wide.tail(days - days // 2)
    best = min(slots, key=lambda s: float(chosen[str(s)].to_numpy().mean()))
    less = judged[str(own // SLOT * SLOT)].to_numpy() - judged[str(best)].to_numpy()
    error = float(np.std(less, ddof=1) / np.sqrt(less.size))
    return Cheapest(own, best + SLOT // 2, float(less.mean()), error, int(less.size))
