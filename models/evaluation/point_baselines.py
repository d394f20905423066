"""Baselines made probabilistic: a point forecast plus the quantiles of its own past errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from models.base import TargetSpec, label
from models.forecast_schema import FORECAST_COLUMNS, QUANTILE_COLUMNS, QUANTILES

Array = npt.NDArray[np.float64]
Point = Callable[[pl.DataFrame], Array]
"""Point forecasts (n,) of the rows of a panel, in the target's space."""

PointFit = Callable[[pl.DataFrame, TargetSpec, int], Point]
"""Fits a point forecast of (target, horizon_s) on a training panel."""

MIN_ERRORS = 24
"""Past errors before a baseline dares to give quantiles: a day."""


def forecast_rows(
    panel: pl.DataFrame,
    target: str,
    horizon_s: int | npt.NDArray[np.int64],
    quantiles: Array,
    mean: Array,
    version: str,
) -> pl.DataFrame:
    """Return forecast rows of one target; ``quantiles`` (n, 5) are sorted here, ``mean`` is (n,).

    ``horizon_s`` is one number, or (n,) with ``panel`` repeated once per horizon. Rows with a value that is not
    finite are left out.
    """
    q = np.sort(quantiles, axis=1)
    finite = np.isfinite(q).all(axis=1) & np.isfinite(mean)
    n = panel.height
    return pl.DataFrame(
        {
            "target": pl.repeat(target, n, eager=True),
            "key": panel["key"],
            "issued_at": panel["ts"],
            "horizon_s": np.broadcast_to(np.asarray(horizon_s, dtype=np.int64), n),
            **{c: q[:, k] for k, c in enumerate(QUANTILE_COLUMNS)},
            "mean": mean,
            "model_version": pl.repeat(version, n, eager=True),
            "abstain": pl.repeat(value=False, n=n, eager=True),
            "reason": pl.repeat(None, n, dtype=pl.String, eager=True),
        }
    ).filter(pl.Series(finite))


@dataclass(frozen=True, slots=True)
class FittedPoint:
    """Point forecasts with error quantiles by (target, horizon_s)."""

    version: str
    specs: tuple[TargetSpec, ...]
    points: Mapping[tuple[str, int], Point]
    errors: Mapping[tuple[str, int], Array]  # quantiles of past errors at QUANTILES, then the mean factor

    def predict(self, panel: pl.DataFrame) -> pl.DataFrame:
        """Return forecast rows for every row of ``panel`` where the point forecast is known."""
        parts = []
        for spec in self.specs:
            for horizon_s in spec.horizons_s:
                point = self.points[spec.name, horizon_s](panel)
                shift = self.errors[spec.name, horizon_s]
                q = point[:, None] + shift[None, :-1]
                mean = point + shift[-1]
                if spec.space == "log":
                    q, mean = np.exp(q), np.exp(mean)
                parts.append(forecast_rows(panel, spec.name, horizon_s, q, mean, self.version))
        return pl.concat(parts) if parts else pl.DataFrame(schema=dict.fromkeys(FORECAST_COLUMNS, pl.String))


@dataclass(frozen=True, slots=True)
class PointBaseline:
    """A baseline built from a point forecast: its quantiles are the point plus quantiles of its past errors.

    Errors of all keys are pooled per (target, horizon). With fewer than MIN_ERRORS known errors the baseline issues
    nothing for that horizon.
    """

    name: str
    specs: tuple[TargetSpec, ...]
    fit_point: PointFit

    def fit(self, panel: pl.DataFrame) -> FittedPoint:
        """Fit the point forecast and take the quantiles of its errors over the training panel."""
        points, errors = {}, {}
        for spec in self.specs:
            for horizon_s in spec.horizons_s:
                point = self.fit_point(panel, spec, horizon_s)
                y = panel[label(spec.name, horizon_s)].fill_null(float("nan")).to_numpy()
                gap = (np.log(y) if spec.space == "log" else y) - point(panel)
                gap = gap[np.isfinite(gap)]
                quantiles = np.full(len(QUANTILES) + 1, np.nan)
                if len(gap) >= MIN_ERRORS:
                    quantiles[:-1] = np.quantile(gap, QUANTILES)
                    quantiles[-1] = np.log(np.exp(gap).mean()) if spec.space == "log" else gap.mean()
                points[spec.name, horizon_s], errors[spec.name, horizon_s] = point, quantiles
        return FittedPoint(self.name, self.specs, points, errors)
