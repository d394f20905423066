"""Covariances from forecast volatilities and shrunk correlations, and what they say about weights.

Correlations move slowly and are estimated with noise, volatilities move fast and are forecast well: so a covariance
is the product of two forecast volatilities and a correlation learnt as a mixture of a fast, a slow and the panel's
mean past correlation (the split of Engle 2002, the mixture in place of his recursion).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from features.bars import Bars
from features.panel import Columns, flat
from features.windows import Rows, decayed, mean, mean_known
from models.forecast_schema import QUANTILES

Array = npt.NDArray[np.float64]

PAIR_STEP_H = 4
"""Hours between forecasts of covariances of two assets; variances are issued every hour. Correlations move slowly."""

PRODUCTS: tuple[str, ...] = ("c24", "c168", "c672", "cewm")
CORRELATIONS: tuple[str, ...] = ("rho72", "rho672", "rho_mean")
_RIDGE = 50.0  # pseudo-rows that hold the mixture at the slow correlation


def pair_key(a: str, b: str) -> str:
    """Return the key of a covariance row, e.g. ``AAVE|BTC``: sorted, so that the order of the two does not matter."""
    return "|".join(sorted((a, b)))


def pair_features(
    ret: Array, assets: Sequence[str], bars: Bars, rows: Rows, horizon_h: int = 24, name: str | None = "y"
) -> tuple[dict[str, Array], Columns]:
    """Return past products, correlations and the outcome of every asset with itself and of every pair of two.

    ``c*`` are past means of the product of hourly log returns (rolling hours; ``cewm`` decays 0.9715 an hour), ``rho*``
    past correlations without mean (half-lives of 72 h, 672 h rolling, and the panel's mean of the latter). ``name``
    (None: left out) is the mean product over the next ``horizon_h`` hours, unknown unless all of them are known.
    ``ret`` (t, k) belongs to ``assets`` on the grid of ``bars``. The first result holds c* and the outcome (n, k) at
    ``rows``; the second (key, ts, c*, rho*, outcome) of pairs, at every PAIR_STEP_H-th hour of the day.
    """
    own = _products(ret**2, rows)
    if name is not None:
        own[name] = _outcome(ret**2, rows, horizon_h)
    pairs = list(combinations(range(len(assets)), 2))
    chosen = rows[bars.hours[rows] % PAIR_STEP_H == 0]
    if not pairs or not len(chosen):
        columns = [*PRODUCTS, *CORRELATIONS, *([] if name is None else [name])]
        return own, flat([], bars.times(chosen[:0]), {c: np.empty((0, 0)) for c in columns})
    ia, ib = ([p[k] for p in pairs] for k in (0, 1))
    product = ret[:, ia] * ret[:, ib]
    table = _products(product, chosen)
    for rho, levels in (("rho72", _slow), ("rho672", _month)):
        square = levels(ret**2, chosen)
        table[rho] = _ratio(levels(product, chosen), square[:, ia] * square[:, ib])
    table["rho_mean"] = np.broadcast_to(mean_known(table["rho672"]), product[chosen].shape)
    if name is not None:
        table[name] = _outcome(product, chosen, horizon_h)
    found = flat([pair_key(assets[a], assets[b]) for a, b in pairs], bars.times(chosen), table)
    return own, found.filter(np.isfinite(found.column("cewm")))


def _products(product: Array, rows: Rows) -> dict[str, Array]:
    rolling = {f"c{h}": mean(product, rows, h, h // 2) for h in (24, 168, 672)}
    return {**rolling, "cewm": decayed(product, rows, 24.0)}


def _slow(x: Array, rows: Rows) -> Array:
    return decayed(x, rows, 72.0)


def _month(x: Array, rows: Rows) -> Array:
    return mean(x, rows, 672, 336)


def _outcome(product: Array, rows: Rows, horizon_h: int) -> Array:
    later = rows + horizon_h
    return np.where((later < len(product))[:, None], mean(product, np.minimum(later, len(product) - 1), horizon_h,
                                                          horizon_h), np.nan)  # fmt: skip


def _ratio(x: Array, square: Array) -> Array:
    scale = np.sqrt(np.maximum(square, 0.0))
    return np.asarray(np.clip(np.where(scale > 0, x / np.where(scale > 0, scale, 1.0), np.nan), -1.0, 1.0))


@dataclass(frozen=True, slots=True)
class CorrelationModel:
    """Weights of the three past correlations in a forecast one; they need not sum to one."""

    weights: Array

    def forecast(self, rho: Array) -> Array:
        """Return forecast correlations (n,) of past ones ``rho`` (n, 3), NaN where none is known, within -1..1."""
        known = np.isfinite(rho)
        some = np.asarray(known.sum(axis=1) > 0)
        stand_in = np.where(known, rho, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        filled = np.where(known, rho, stand_in[:, None])
        return np.asarray(np.where(some, np.clip(filled @ self.weights, -0.999, 0.999), np.nan), dtype=np.float64)

    def plain(self) -> dict[str, Any]:
        """Return the model JSON-able."""
        return {"weights": self.weights.tolist()}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> CorrelationModel:
        """Rebuild from what ``plain`` returned."""
        return cls(np.asarray(plain["weights"], dtype=np.float64))


def fit_correlation(rho: Array, ratio: Array) -> CorrelationModel:
    """Fit realised products in units of forecast volatilities ``ratio`` (n,) on past correlations ``rho`` (n, 3).

    Least squares with a ridge towards (0, 1, 0), the slow correlation, which is also the answer without data.
    Outliers are clipped at +-5 volatilities squared.
    """
    prior = np.array([0.0, 1.0, 0.0])
    known = np.isfinite(rho).all(axis=1) & np.isfinite(ratio)
    x, y = rho[known], np.clip(ratio[known], -5.0, 5.0)
    gram = x.T @ x + _RIDGE * np.eye(3)
    return CorrelationModel(np.asarray(np.linalg.solve(gram, x.T @ y + _RIDGE * prior), dtype=np.float64))


NORMAL_SHAPE: Array = np.array([-1.6448536269514722, -0.6744897501960817, 0.0, 0.6744897501960817, 1.6448536269514722])
"""Quantiles of the standard normal distribution at QUANTILES."""

assert len(NORMAL_SHAPE) == len(QUANTILES)
