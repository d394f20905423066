"""Market stress: log returns, their magnitude and traded volume on the decision grid."""

from __future__ import annotations

import numpy as np

from features.bars import CARRY_H, Bars
from features.windows import Array, Rows, carried, lag, mean

STRESS_LOOKBACK_H = 200
"""Hours that stress features reach back: a week of volume and a day for holes."""


def stress(name: str, bars: Bars, asset: str, rows: Rows) -> dict[str, Array]:
    """Return market-stress features (n,) of ``asset``, each prefixed with ``name``; NaN where unknown.

    Log root-mean-square hourly return over 1, 4 and 24 h, log range over 3 h, signed returns over 1 and 24 h,
    log volume of the last hour and of six hours against its week. Values of a missing bar are the last known ones.
    """
    k = bars.assets.index(asset)
    close, high, low, traded = (
        carried(x[:, k : k + 1], CARRY_H) for x in (bars.close, bars.high, bars.low, bars.volume)
    )
    log, every = np.log(close), np.arange(len(close))
    fresh = bars.fresh[:, k : k + 1]
    both = fresh & np.concatenate([np.zeros((1, 1), dtype=bool), fresh[:-1]])  # two bars in a row
    square = carried(np.where(both, (log - lag(log, every, 1)) ** 2, np.nan), CARRY_H)
    volume = np.log1p(traded)
    week = mean(volume, rows, 168, 24)
    found = {
        **{f"{name}_rv{k}": 0.5 * np.log(mean(square, rows, k) + 1e-10) for k in (1, 4, 24)},
        f"{name}_range3": np.log(mean(np.log(high / low), rows, 3) + 1e-6),
        **{f"{name}_ret{k}": log[rows] - lag(log, rows, k) for k in (1, 24)},
        f"{name}_volume1": volume[rows] - week,
        f"{name}_volume6": mean(volume, rows, 6) - week,
    }
    return {column: values[:, 0] for column, values in found.items()}
