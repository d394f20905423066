"""A trained drift model: what it knows, how it forecasts, how it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from features.panel import Columns, Strings
from lake.units import HOUR_S
from models.arrays import Panel, column, matrix
from models.base import DRIFT_HORIZONS_H
from models.boosting.gbm import BoosterBundle, gains
from models.boosting.scale_model import ScaleModel, Shape
from models.drift.covariance import CORRELATIONS, CorrelationModel
from models.drift.excursions import Excursions, band_edges, exit_probability
from models.drift.mean import Location
from models.drift.panel import COVARIANCE_S
from models.evaluation.point_baselines import forecast_rows
from models.forecast_rows import ForecastArrays, RowBuffer

Array = npt.NDArray[np.float64]

SERIES_OF: dict[str, str] = {"return": "ret", "drift": "dev"}
"""Hourly series behind each quantile target."""

TREND: tuple[str, ...] = ("now", "t6", "t48")
"""Predictors of the mean: the last move and the mean moves of the last hours and days."""


@dataclass(frozen=True, slots=True)
class MoveModel:
    """Distribution of one series' move over one horizon: location + scale * shape."""

    scale: ScaleModel
    shape: Shape
    location: Location

    def size(self, panel: Panel, series: str) -> Array:
        """Return forecast sizes (n,) of the move, NaN where the series is unknown."""
        base = column(panel, f"{series}_base")
        return np.asarray(np.exp(self.scale.log_scale(matrix(panel, self.scale.features), base)), dtype=np.float64)

    def mean(self, panel: Panel, series: str, horizon_h: int) -> Array:
        """Return means (n,) of the move."""
        unit = np.exp(column(panel, f"{series}_base")) * np.sqrt(horizon_h)
        return np.asarray(unit * self.location.mean(trends(panel, series)), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class ExitModel:
    """Excursions of the weight to either side over one horizon, in units of the drift's size."""

    above: Excursions
    below: Excursions
    either: Excursions


@dataclass(frozen=True, slots=True)
class DriftFitted:
    """Move models by (series, horizon_h), exits by horizon_h, and the parts of the covariance forecast.

    ``variance_ratio`` turns the squared size of a day's return into its realised variance. ``targets`` and
    ``tolerance`` are those of the configured basket, by asset.
    """

    version: str
    moves: Mapping[tuple[str, int], MoveModel]
    exits: Mapping[int, ExitModel]
    variance_ratio: float
    correlation: CorrelationModel
    targets: Mapping[str, float]
    tolerance: Mapping[str, float]

    def predict(self, panel: Panel) -> pl.DataFrame:
        """Return forecast rows of return, drift, band_exit and covariance for the rows of ``panel``."""
        return self.forecasts(panel).frame()

    def forecasts(self, panel: Panel) -> ForecastArrays:
        """Return the same as arrays."""
        inputs = Columns.of(panel)
        pair = inputs.pairs()
        assets, pairs = inputs.filter(~pair), inputs.filter(pair)
        rows = RowBuffer(self.version)
        daily = np.full(assets.height, np.nan)
        keys, times = assets.key, assets.ts
        names, at = np.unique(keys, return_inverse=True)
        up, down = self._edges(keys)
        for target, series in SERIES_OF.items():
            for h in DRIFT_HORIZONS_H:
                model = self.moves.get((series, h))
                if model is None or not assets.height:
                    continue
                size = model.size(assets, series)
                mean = model.mean(assets, series, h)
                quantiles = mean[:, None] + size[:, None] * model.shape.rows(names)[at]
                rows.add(keys, times, target, h * HOUR_S, mean, quantiles)
                if series == "dev" and h in self.exits:
                    rows.add(keys, times, "band_exit", h * HOUR_S, self._exits(up, down, h, size))
                if series == "ret" and h * HOUR_S == COVARIANCE_S:
                    daily = size
        self._covariances(rows, pairs, assets, daily)
        return rows.forecasts()

    def _edges(self, keys: Strings) -> tuple[Array, Array]:
        """Return how far up and down each asset's weight may move (n,), NaN outside of the basket."""
        target = np.array([self.targets.get(k, np.nan) for k in keys], dtype=np.float64)
        edges = band_edges(target, np.array([self.tolerance.get(k, np.nan) for k in keys], dtype=np.float64))
        up, down = (np.where(np.isnan(target), np.nan, edge) for edge in edges)
        return up, down

    def _exits(self, up: Array, down: Array, horizon_h: int, size: Array) -> Array:
        model = self.exits[horizon_h]
        chance = exit_probability(up, down, size, model.above, model.below, model.either)
        return np.where(np.isnan(up), np.nan, chance)

    def variances(self, size_day: Array) -> Array:
        """Return hourly variances (n,) from forecast sizes of a day's return."""
        return np.asarray(self.variance_ratio * size_day**2 * HOUR_S / COVARIANCE_S, dtype=np.float64)

    def _covariances(self, rows: RowBuffer, pairs: Columns, assets: Columns, daily: Array) -> None:
        variance = self.variances(daily)
        rows.add(assets.key + "|" + assets.key, assets.ts, "covariance", COVARIANCE_S, variance)
        if pairs.height and assets.height:
            rho = self.correlation.forecast(matrix(pairs, CORRELATIONS))
            va, vb = pair_variances(pairs, assets, variance)
            covariance = rho * np.sqrt(va * vb)
            rows.add(pairs.key, pairs.ts, "covariance", COVARIANCE_S, covariance)

    def importances(self) -> pl.DataFrame:
        """Return (target, horizon_s, feature, gain) of the boosters, largest gain first."""
        of = {series: target for target, series in SERIES_OF.items()}
        rows = [
            (of[series], h * HOUR_S, feature, gain)
            for (series, h), model in self.moves.items()
            for feature, gain in gains(model.scale.forest.boosters[0], model.scale.features).items()
        ]
        types = {"target": pl.String, "horizon_s": pl.Int64, "feature": pl.String, "gain": pl.Float64}
        return pl.DataFrame(rows, schema=types, orient="row").sort("gain", descending=True)

    def save(self, folder: Path) -> None:
        """Write the boosters as text and everything else as JSON."""
        extras: dict[str, Any] = {
            "moves": {_name(s, h): _plain(m) for (s, h), m in self.moves.items()},
            "exits": {
                str(h): {side: getattr(m, side).plain() for side in ("above", "below", "either")}
                for h, m in self.exits.items()
            },
            "variance_ratio": self.variance_ratio,
            "correlation": self.correlation.plain(),
            "targets": dict(self.targets),
            "tolerance": dict(self.tolerance),
        }
        features = sorted({f for m in self.moves.values() for f in m.scale.features})
        boosters = {_name(s, h): m.scale.forest.boosters[0] for (s, h), m in self.moves.items()}
        BoosterBundle("drift", self.version, tuple(features), boosters, extras).save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote; raises ModelError when it does not fit."""
        bundle = BoosterBundle.load(folder, "drift")
        extras = bundle.extras
        moves: dict[tuple[str, int], MoveModel] = {}
        for name, plain in extras["moves"].items():
            series, h = name.split("_")
            moves[series, int(h)] = MoveModel(
                ScaleModel.of(plain["scale"], bundle.boosters[name]),
                Shape.of(plain["shape"]),
                Location.of(plain["location"]),
            )
        exits = {
            int(h): ExitModel(*(Excursions.of(plain[side]) for side in ("above", "below", "either")))
            for h, plain in extras["exits"].items()
        }
        correlation = CorrelationModel.of(extras["correlation"])
        return cls(
            bundle.version, moves, exits, extras["variance_ratio"], correlation, extras["targets"], extras["tolerance"]
        )

    def with_tolerance(self, tolerance: Mapping[str, float]) -> DriftFitted:
        """Return the same model for other bands of the same basket."""
        return replace(self, tolerance=dict(tolerance))


def _name(series: str, horizon_h: int) -> str:
    return f"{series}_{horizon_h}"


def _plain(model: MoveModel) -> dict[str, Any]:
    return {"scale": model.scale.plain(), "shape": model.shape.plain(), "location": model.location.plain()}


def trends(panel: Panel, series: str) -> Array:
    """Return the predictors of the mean (n, 3), in units of the base volatility."""
    return matrix(panel, [f"{series}_{n}" for n in TREND])


def pair_variances(pairs: Columns, assets: Columns, variance: Array) -> tuple[Array, Array]:
    """Return the variances (n,), (n,) of both assets of the ``pairs`` (key "A|B", ts) from those of ``assets``."""
    moments = np.unique(assets.ts)
    names = {name: k for k, name in enumerate(sorted(set(assets.key.tolist())))}
    table = np.full((len(moments) + 1, len(names) + 1), np.nan)  # the last row and column stand for what is missing
    row = np.searchsorted(moments, assets.ts)
    table[row, [names[k] for k in assets.key.tolist()]] = variance
    at = pairs.ts
    row = np.searchsorted(moments, at)
    row = np.where(moments[np.minimum(row, len(moments) - 1)] == at, row, len(moments))
    both = [key.split("|") for key in pairs.key.tolist()]
    first, second = ([names.get(pair[k], len(names)) for pair in both] for k in (0, 1))
    return table[row, first], table[row, second]


def mean_rows(panel: pl.DataFrame, target: str, horizon_s: int, mean: Array, version: str) -> pl.DataFrame:
    """Return forecast rows that carry only a mean; rows where it is unknown are left out."""
    blank = np.zeros((panel.height, 5))
    rows = forecast_rows(panel, target, horizon_s, blank, mean, version)
    return rows.with_columns(pl.lit(None, pl.Float64).alias(c) for c in ("q05", "q25", "q50", "q75", "q95"))
