"""What every forecaster is: ``fit`` on the past, ``predict`` rows of the ``forecasts`` table.

Targets, keys and units of forecast rows (the contract between models and policy; see docs/forecasts.md):

==============  ============================  =================================================================
target          key                           value at ``issued_at + horizon_s``
==============  ============================  =================================================================
gas             chain id, e.g. "1"            gas price, gwei, of the interval that is complete by then
gas_min         chain id                      minimum of the above over (issued_at, issued_at + horizon], gwei
return          asset, e.g. "ETH"             log return of the asset over the horizon
drift           asset                         log weight deviation: log return of the asset less that of the
                                              configured basket at its targets, over the horizon
covariance      "AAVE|BTC" (sorted)           mean only: covariance PER HOUR of hourly log returns over horizon
band_exit       asset                         mean only: probability that the asset's weight, starting at its
                                              target, leaves target +- tolerance at some hour of the horizon
slippage        "<pool>|<size_usd>"           cost of that trade, as a fraction of its size, fee included
depth           pool                          depth_1pct_usd, USD
==============  ============================  =================================================================

Quantiles never cross. A forecaster that should not be trusted abstains with a reason; a zero never stands
for no prediction. Table ``paths`` carries joint hourly scenario paths of target ``gas`` (gwei).
"""

from __future__ import annotations

from typing import Protocol

import polars as pl

QUANTILES: tuple[float, ...] = (0.05, 0.25, 0.50, 0.75, 0.95)
QUANTILE_COLUMNS: tuple[str, ...] = ("q05", "q25", "q50", "q75", "q95")
GAS_HORIZONS_H: tuple[int, ...] = (1, 2, 4, 8, 12, 24, 48)
GAS_MIN_HORIZONS_H: tuple[int, ...] = (4, 12, 24)
DRIFT_HORIZONS_H: tuple[int, ...] = (1, 4, 12, 24)
SLIPPAGE_HORIZONS_H: tuple[int, ...] = (1, 4, 12, 24)


class Fitted(Protocol):
    """A trained forecaster."""

    version: str

    def predict(self, panel: pl.DataFrame) -> pl.DataFrame:
        """Return forecast rows for every (key, ts) row of ``panel``; reads nothing after ``ts``."""
        ...


class Forecaster(Protocol):
    """A recipe for a trained forecaster."""

    name: str

    def fit(self, panel: pl.DataFrame) -> Fitted:
        """Train on ``panel`` (key, ts, features, labels); every label in it must be known by the training end."""
        ...
