"""What every forecaster and forecaster family is: ``fit`` on the past, ``predict`` rows of the ``forecasts`` table.

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

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol, Self, runtime_checkable

import polars as pl

from features.panel import Columns
from models.config import ModelConfig
from models.forecast_rows import ForecastArrays

GAS_HORIZONS_H: tuple[int, ...] = (1, 2, 4, 8, 12, 24, 48)
GAS_MIN_HORIZONS_H: tuple[int, ...] = (4, 12, 24)
DRIFT_HORIZONS_H: tuple[int, ...] = (1, 4, 12, 24)
SLIPPAGE_HORIZONS_H: tuple[int, ...] = (1, 4, 12, 24)


LABEL = "y|"


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """How one target is calibrated and scored.

    ``space`` is where quantiles are corrected and pinball is measured: "log" for positive quantities that move
    in ratios, "linear" otherwise. ``score`` "pinball" needs the five quantiles; "brier" and "mse" judge ``mean``.
    ``tail_window`` is how many past forecasts calibrate the 5 and 95 % levels: shorter follows a changing spread
    faster, longer is less noisy.
    ``prior_outcomes`` is how many independent outcomes the raw quantiles count for when they are calibrated online: 0
    where regimes change and calibration must follow at once, thousands where the raw shape rests on years of moves.
    """

    name: str
    horizons_s: tuple[int, ...]
    space: Literal["log", "linear"] = "linear"
    score: Literal["pinball", "brier", "mse"] = "pinball"
    tail_window: int = 1440
    prior_outcomes: float = 0.0


class LakeView(Protocol):
    """What a family reads: a Lake, or recent rows of one held in memory."""

    def scan(self, name: str, as_of: datetime | None = None) -> pl.LazyFrame:
        """Return table ``name`` lazily without rows that were not available at ``as_of``."""
        ...


def label(target: str, horizon_s: int) -> str:
    """Return the panel column that holds the outcome of ``target`` ``horizon_s`` seconds after the row's ts."""
    return f"{LABEL}{target}|{horizon_s}"


class Fitted(Protocol):
    """A trained forecaster."""

    @property
    def version(self) -> str:
        """What names it in every row it issues."""
        ...

    def predict(self, panel: pl.DataFrame) -> pl.DataFrame:
        """Return forecast rows (FORECAST_COLUMNS) for every (key, ts) row of ``panel``; reads nothing after ``ts``.

        The quantiles are raw: the walk-forward driver calibrates them. Labels in ``panel`` are not looked at.
        """
        ...


class Forecaster(Protocol):
    """A recipe for a trained forecaster."""

    @property
    def name(self) -> str:
        """Its name in score tables."""
        ...

    def fit(self, panel: pl.DataFrame) -> Fitted:
        """Train on ``panel`` (key, ts, features, labels); every label in it must be known by the training end."""
        ...


class SavedFitted(Fitted, Protocol):
    """A trained forecaster that survives a restart: LightGBM text and JSON in a folder, never pickle."""

    def predict(self, panel: pl.DataFrame | Columns) -> pl.DataFrame:
        """Return forecast rows; see ``Fitted.predict``."""
        ...

    def forecasts(self, panel: pl.DataFrame | Columns) -> ForecastArrays:
        """Return the same rows as arrays, for a decision that has milliseconds."""
        ...

    def save(self, folder: Path) -> None:
        """Write the model into ``folder`` with its feature names, schema hash and git revision."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote; raises ModelError when it does not fit."""
        ...

    def importances(self) -> pl.DataFrame:
        """Return (target, horizon_s, feature, gain), largest gain first; gains of one model sum to 1."""
        ...


class Family(Protocol):
    """Forecasts of one kind (gas, drift, slippage): features, labels, model and the baselines to beat."""

    @property
    def name(self) -> str:
        """Its name: gas, drift or slippage."""
        ...

    @property
    def targets(self) -> tuple[TargetSpec, ...]:
        """The targets it forecasts."""
        ...

    def keys(self, lake: LakeView, cfg: ModelConfig) -> list[str]:
        """Return the panel keys the lake has data for; empty when the family has nothing to forecast."""
        ...

    def build(self, lake: LakeView, cfg: ModelConfig, start: datetime, end: datetime) -> pl.DataFrame:
        """Return the panel for decision times start <= ts < end on the hourly grid.

        Columns: key, ts, one Float64 column per feature (known at ts), and label columns ``y|<target>|<horizon_s>``
        made of rows available in (ts, ts + horizon], null where not (yet) known. History before ``start`` may be
        read for features; rows whose present value is unknown are left out.
        """
        ...

    def now(self, lake: LakeView, cfg: ModelConfig, at: datetime) -> Columns:
        """Return the rows of ``build`` at the one decision time ``at`` without labels, in milliseconds.

        Every value equals the one ``build`` gives, whatever range it is asked for.
        """
        ...

    def outcomes(self, panel: pl.DataFrame, cfg: ModelConfig) -> pl.DataFrame:
        """Return (target, key, issued_at, horizon_s, y) of the panel's labels, under the keys forecasts use."""
        ...

    def fit(self, panel: pl.DataFrame, cfg: ModelConfig) -> SavedFitted:
        """Train one direct multi-horizon model; labels unknown at the training end are null already."""
        ...

    def baselines(self, cfg: ModelConfig) -> Mapping[str, Forecaster]:
        """Return the forecasters to beat by name; at least "last", "seasonal" and "ar" or their analogues."""
        ...


@runtime_checkable
class PathFamily(Protocol):
    """A family that also draws joint scenario paths."""

    def paths(self, rows: pl.DataFrame, panel: pl.DataFrame, cfg: ModelConfig) -> pl.DataFrame:
        """Return rows of table ``paths`` for the decision times in calibrated ``rows``.

        ``rows`` covers consecutive decision times; a path at ts uses errors of earlier rows known by ts only.
        """
        ...
