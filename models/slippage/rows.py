"""Forecast rows of depth and slippage, made from quantiles of the log change of depth around the present quote."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from features.panel import Columns
from lake.units import HOUR_S
from models.forecast_rows import RowBuffer
from models.forecast_schema import QUANTILES

Array = npt.NDArray[np.float64]

NOW, FEE, IMPACT = "b|depth", "b|fee_pips", "b|impact_ratio"
"""Present depth (USD), fee (millionths) and realised over quoted impact: context, not features."""

IMPACT_SHARE = 0.005  # cost of a trade that moves the price by 1 %: half of it


def around_quote(changes: Array) -> Array:
    """Return quantiles of log depth changes with the median at zero: the current quote with its past errors."""
    q = np.quantile(changes, QUANTILES)
    q[QUANTILES.index(0.5)] = 0.0
    return np.asarray(np.sort(q), dtype=np.float64)


def add_depth_rows(rows: RowBuffer, inputs: Columns, horizon_h: int, change: Array, sizes: tuple[float, ...]) -> None:
    """Add rows of ``depth`` and ``slippage`` from quantiles (n, 5) of the log change of depth.

    Costs are largest where depth is least, so their quantiles run the other way. The mean is that of the five-point
    distribution that gives each quantile the probability nearest to it.
    """
    horizon_s, keys, times = horizon_h * HOUR_S, inputs.key, inputs.ts
    depth = inputs.column(NOW)[:, None] * np.exp(np.sort(change, axis=1))
    rows.add(keys, times, "depth", horizon_s, depth @ MASS, depth)
    fee, ratio = inputs.column(FEE) / 1e6, inputs.column(IMPACT)
    for size in sizes:
        cost = fee[:, None] + ratio[:, None] * IMPACT_SHARE * size / depth[:, ::-1]
        rows.add(keys + f"|{size:.0f}", times, "slippage", horizon_s, cost @ MASS, cost)


MASS: Array = np.array([0.15, 0.225, 0.25, 0.225, 0.15])
"""Probability of the five points: the cells between the midpoints of the levels."""
