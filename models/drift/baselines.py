"""What a drift forecast has to beat: climatology, its hours of day, and exponentially weighted volatility.

Prices being close to a martingale, the analogue of "last value" is a centred distribution of past moves that ignores
the present; that of an autoregression is a volatility that decays: RiskMetrics (1996) with its 0.94, with the
memory that was best on the past, Gaussian and with empirical quantiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from lake.units import HOUR_S
from models.arrays import column
from models.base import DRIFT_HORIZONS_H, Forecaster, label
from models.boosting.scale_model import MIN_ROWS
from models.config import ModelConfig
from models.drift.covariance import NORMAL_SHAPE
from models.drift.excursions import (
    LEAST_CHANCE,
    Excursions,
    band_edges,
    exit_probability,
    fit_excursions,
    gaussian_exit_probability,
)
from models.drift.fitted import SERIES_OF, mean_rows
from models.drift.panel import COVARIANCE_S, every
from models.evaluation.point_baselines import forecast_rows
from models.evaluation.scores import pinball
from models.forecast_schema import QUANTILES

Array = npt.NDArray[np.float64]

MEMORIES: tuple[str, ...] = ("v4", "v11", "", "v72")
"""Decays tried: half-lives of 4, 11.2 (0.94 an hour), 24 and 72 hours; "" is the base level itself."""

_THIN_H = 5  # hours between the rows a baseline learns from


def drift_baselines(cfg: ModelConfig) -> Mapping[str, Forecaster]:
    """Return the baselines by name: last, seasonal, ar (Gaussian, tuned memory), ewma94, ewma_empirical."""
    return {
        "last": Climatology("last", "c24", seasonal=False),
        "seasonal": Climatology("seasonal", "c672", seasonal=True),
        "ar": Ewma("ar", cfg, MEMORIES, empirical=False),
        "ewma94": Ewma("ewma94", cfg, ("v11",), empirical=False),
        "ewma_empirical": Ewma("ewma_empirical", cfg, MEMORIES, empirical=True),
    }


@dataclass(frozen=True, slots=True)
class FittedClimatology:
    """Quantiles of past moves by target, horizon and group of rows."""

    version: str
    product: str
    groups: tuple[str, ...]
    tables: Mapping[tuple[str, int], pl.DataFrame]

    def predict(self, panel: pl.DataFrame) -> pl.DataFrame:
        """Return the same forecast for every row of a group; covariance is the realised one of the past."""
        assets = panel.filter(~pl.col("key").str.contains("|", literal=True))
        parts = [_past_covariance(panel, self.product, self.version)]
        for (target, h), table in self.tables.items():
            rows = assets.join(table, on=list(self.groups), how="left", maintain_order="left")
            if target == "band_exit":
                parts.append(
                    mean_rows(rows, target, h * HOUR_S, np.maximum(column(rows, "_mean"), LEAST_CHANCE), self.version)
                )
            else:
                q = np.column_stack([column(rows, f"_q{k}") for k in range(len(QUANTILES))])
                parts.append(forecast_rows(rows, target, h * HOUR_S, q, np.zeros(rows.height), self.version))
        return pl.concat(parts)


@dataclass(frozen=True, slots=True)
class Climatology:
    """Past moves of the same asset, all hours alike or by hour of day."""

    name: str
    product: str
    seasonal: bool

    def fit(self, panel: pl.DataFrame) -> FittedClimatology:
        """Take quantiles of all known moves, and the frequency of band exits, by asset (and hour of day)."""
        assets = every(panel.filter(~pl.col("key").str.contains("|", literal=True)), _THIN_H)
        groups = ("key", "hour") if self.seasonal else ("key",)
        tables = {}
        for target in (*SERIES_OF, "band_exit"):
            for h in DRIFT_HORIZONS_H:
                y = pl.col(label(target, h * HOUR_S))
                quantiles = [y.quantile(level, "linear").alias(f"_q{k}") for k, level in enumerate(QUANTILES)]
                tables[target, h] = assets.group_by(groups).agg(*quantiles, y.mean().alias("_mean"))
        return FittedClimatology(self.name, self.product, groups, tables)


@dataclass(frozen=True, slots=True)
class FittedEwma:
    """A memory, a shape and excursions by (series, horizon)."""

    version: str
    cfg: ModelConfig
    memory: Mapping[tuple[str, int], str]
    shape: Mapping[tuple[str, int], Array]
    sides: Mapping[int, tuple[Excursions, Excursions, Excursions]]  # empty: Gaussian walk

    def predict(self, panel: pl.DataFrame) -> pl.DataFrame:
        """Return root-of-time scaled volatility times the shape; band exits from the same volatility."""
        assets = panel.filter(~pl.col("key").str.contains("|", literal=True))
        parts = [_past_covariance(panel, "cewm", self.version)]
        for target, series in SERIES_OF.items():
            for h in DRIFT_HORIZONS_H:
                sigma = _sigma(assets, series, self.memory[series, h])
                size = sigma * np.sqrt(h)
                q = size[:, None] * self.shape[series, h][None, :]
                parts.append(forecast_rows(assets, target, h * HOUR_S, q, 0.0 * size, self.version))
                if series == "dev":
                    parts.append(mean_rows(assets, "band_exit", h * HOUR_S, self._exit(assets, sigma, h), self.version))
        return pl.concat(parts)

    def _exit(self, assets: pl.DataFrame, sigma: Array, h: int) -> Array:
        keys = assets["key"].to_list()
        target = np.array([self.cfg.targets.get(k, np.nan) for k in keys], dtype=np.float64)
        up, down = band_edges(target, np.array([self.cfg.tolerance.get(k, np.nan) for k in keys], dtype=np.float64))
        if self.sides:
            chance = exit_probability(up, down, sigma * np.sqrt(h), *self.sides[h])
        else:
            chance = gaussian_exit_probability(up, down, sigma, h)
        return np.where(np.isfinite(target), chance, np.nan)


@dataclass(frozen=True, slots=True)
class Ewma:
    """Exponentially weighted volatility; the memory with the least Gaussian pinball loss on the past is taken."""

    name: str
    cfg: ModelConfig
    memories: tuple[str, ...]
    empirical: bool

    def fit(self, panel: pl.DataFrame) -> FittedEwma:
        """Choose the memory by (series, horizon); take empirical quantiles and excursions where asked."""
        rows = every(panel.filter(~pl.col("key").str.contains("|", literal=True)), _THIN_H)
        memory, shape, sides = {}, {}, {}
        for target, series in SERIES_OF.items():
            for h in DRIFT_HORIZONS_H:
                y = column(rows, label(target, h * HOUR_S))
                sizes = {m: _sigma(rows, series, m) * np.sqrt(h) for m in self.memories}
                memory[series, h] = min(sizes, key=lambda m: _loss(y, sizes[m]))
                size = sizes[memory[series, h]]
                z = y / size
                z = z[np.isfinite(z)]
                enough = len(z) >= MIN_ROWS
                shape[series, h] = np.quantile(z, QUANTILES) if self.empirical and enough else NORMAL_SHAPE
                if series == "dev" and self.empirical and enough:
                    up, down = (column(rows, label(side, h * HOUR_S)) / size for side in ("up", "down"))
                    sides[h] = (fit_excursions(up), fit_excursions(down), fit_excursions(np.maximum(up, down)))
        complete = sides if len(sides) == len(DRIFT_HORIZONS_H) else {}
        return FittedEwma(self.name, self.cfg, memory, shape, complete)


def _sigma(rows: pl.DataFrame, series: str, memory: str) -> Array:
    """Return the hourly volatility (n,) of one memory."""
    level = column(rows, f"{series}_base")
    return np.asarray(np.exp((level + column(rows, f"{series}_{memory}")) if memory else level), dtype=np.float64)


def _loss(y: Array, size: Array) -> float:
    known = np.isfinite(y) & np.isfinite(size)
    return float(pinball(y[known], size[known, None] * NORMAL_SHAPE[None, :]).sum()) if known.any() else np.inf


def _past_covariance(panel: pl.DataFrame, product: str, version: str) -> pl.DataFrame:
    own = pl.col("key").str.contains("|", literal=True)
    rows = panel.with_columns(pl.when(own).then("key").otherwise(pl.col("key") + "|" + pl.col("key")).alias("key"))
    return mean_rows(rows, "covariance", COVARIANCE_S, column(rows, product), version)
