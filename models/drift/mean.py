"""The mean of a move, shrunk by what it was worth out of sample: zero where it was worth nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

BLOCKS = 20  # stretches of time whose errors are taken as independent; a few weeks each at usual lengths
_FIRST = 0.25  # share of the history before the first out-of-sample forecast
_RIDGE = 0.01  # per row: predictors are standardised moves, so this costs 1 % of a true coefficient
_DOUBT = 1.6448536269514722  # standard errors taken off the slope: chance alone passes it one time in twenty


@dataclass(frozen=True, slots=True)
class Location:
    """A linear mean in units of the forecast scale: ``trust`` * x @ ``beta``."""

    beta: Array
    trust: float  # 0..1

    def mean(self, x: Array) -> Array:
        """Return standardised means (n,) of predictors ``x`` (n, k); unknown predictors count as zero."""
        if self.trust == 0.0:
            return np.zeros(len(x))
        return np.asarray(self.trust * (np.nan_to_num(x, nan=0.0) @ self.beta), dtype=np.float64)

    def plain(self) -> dict[str, Any]:
        """Return the model JSON-able."""
        return {"beta": self.beta.tolist(), "trust": self.trust}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Location:
        """Rebuild from what ``plain`` returned."""
        return cls(np.asarray(plain["beta"], dtype=np.float64), float(plain["trust"]))


def fit_location(x: Array, z: Array, hour: npt.NDArray[np.int64], horizon_h: int) -> Location:
    """Fit standardised moves ``z`` (n,) on predictors ``x`` (n, k); ``hour`` (n,) is each row's time in hours.

    The history is cut into BLOCKS stretches. Each after the first quarter is forecast from those before it (less the
    horizon); ``trust`` is the slope of outcomes on these forecasts less 1.64 jackknife standard errors, within 0..1.
    """
    known = np.isfinite(z)
    x, z, hour = np.nan_to_num(x[known], nan=0.0), np.clip(z[known], -8.0, 8.0), hour[known]
    none = Location(np.zeros(x.shape[1]), 0.0)
    if len(z) < 50 * BLOCKS:
        return none
    edges = np.linspace(hour.min(), hour.max() + 1, BLOCKS + 1)
    block = np.clip(np.searchsorted(edges, hour, side="right") - 1, 0, BLOCKS - 1)
    cross, square = [], []
    for b in range(int(BLOCKS * _FIRST), BLOCKS):
        past, now = hour + horizon_h <= edges[b], block == b
        if past.sum() < 1000 or not now.any():
            continue
        forecast = x[now] @ _ridge(x[past], z[past])
        cross.append(float(forecast @ z[now]))
        square.append(float(forecast @ forecast))
    trust = _lower_slope(np.asarray(cross), np.asarray(square))
    return none if trust == 0.0 else Location(_ridge(x, z), trust)


def _lower_slope(cross: Array, square: Array) -> float:
    n = len(cross)
    if n < 3 or square.sum() <= 0.0:
        return 0.0
    left_out = (cross.sum() - cross) / np.maximum(square.sum() - square, 1e-300)
    error = np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    return float(np.clip(cross.sum() / square.sum() - _DOUBT * error, 0.0, 1.0))


def _ridge(x: Array, z: Array) -> Array:
    return np.asarray(np.linalg.solve(x.T @ x + _RIDGE * len(z) * np.eye(x.shape[1]), x.T @ z), dtype=np.float64)
