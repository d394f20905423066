"""What a slippage forecast has to beat: the current quote, the depth of a day earlier, reversion to the week's mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from features.panel import Columns
from lake.units import HOUR_S
from models.arrays import column
from models.base import SLIPPAGE_HORIZONS_H, Forecaster, label
from models.config import ModelConfig
from models.forecast_rows import RowBuffer
from models.forecast_schema import QUANTILES
from models.slippage.rows import NOW, add_depth_rows, around_quote

Array = npt.NDArray[np.float64]
_MIN = 24  # known errors before quantiles are given


def slippage_baselines(cfg: ModelConfig) -> Mapping[str, Forecaster]:
    """Return the baselines by name; each adds quantiles of its own past errors to a point forecast of log depth."""
    return {
        "last": DepthBaseline("last", cfg.trade_sizes_usd, _quote),
        "seasonal": DepthBaseline("seasonal", cfg.trade_sizes_usd, _day_before),
        "ar": DepthBaseline("ar", cfg.trade_sizes_usd, _reversion),
    }


def _quote(panel: pl.DataFrame) -> Array:
    return np.zeros(panel.height)


def _day_before(panel: pl.DataFrame) -> Array:
    return column(panel, "day_before")


def _reversion(panel: pl.DataFrame) -> Array:
    return -column(panel, "over_mean168")


@dataclass(frozen=True, slots=True)
class FittedDepth:
    """Slope on the point's change, and error quantiles, by horizon_h."""

    version: str
    sizes: tuple[float, ...]
    point: Callable[[pl.DataFrame], Array]
    slopes: Mapping[int, float]
    errors: Mapping[int, Array]

    def predict(self, panel: pl.DataFrame) -> pl.DataFrame:
        """Return forecast rows of depth and slippage; an unknown point counts as the current quote."""
        point = np.nan_to_num(self.point(panel), nan=0.0)
        rows, inputs = RowBuffer(self.version), Columns.of(panel)
        for h, errors in self.errors.items():
            change = self.slopes[h] * point[:, None] + errors[None, :]
            add_depth_rows(rows, inputs, h, change, self.sizes)
        return rows.forecasts().frame()


@dataclass(frozen=True, slots=True)
class DepthBaseline:
    """A point forecast of the log change of depth; "ar" learns how much of it comes true, the others take it whole."""

    name: str
    sizes: tuple[float, ...]
    point: Callable[[pl.DataFrame], Array]

    def fit(self, panel: pl.DataFrame) -> FittedDepth:
        """Fit slopes and error quantiles on the known changes; without a day of them the errors are unknown."""
        point = np.nan_to_num(self.point(panel), nan=0.0)
        now = np.log(column(panel, NOW))
        slopes: dict[int, float] = {}
        errors: dict[int, Array] = {}
        for h in SLIPPAGE_HORIZONS_H:
            y = np.log(column(panel, label("depth", h * HOUR_S))) - now
            known = np.isfinite(y)
            slopes[h] = 1.0
            if self.name == "ar" and (point[known] ** 2).sum() > 0:
                slopes[h] = float(np.clip((point[known] @ y[known]) / (point[known] ** 2).sum(), 0.0, 1.0))
            gap = y[known] - slopes[h] * point[known]
            if len(gap) < _MIN:
                errors[h] = np.full(len(QUANTILES), np.nan)
            else:
                errors[h] = around_quote(gap) if self.name == "last" else np.quantile(gap, QUANTILES)
        return FittedDepth(self.name, self.sizes, self.point, slopes, errors)
