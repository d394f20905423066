"""Scale and shape: a forecast of the size of a move, and the quantiles of moves in units of that size.

The scale is the geometric mean of two multiplicative models of the mean absolute hourly move over the horizon, both
relative to an exponentially weighted volatility: a log-linear heterogeneous autoregressive model (Corsi 2009) and
LightGBM, each fitted by the gamma deviance (QLIKE when applied to variances; Patton 2011), under which the noise of
the proxy does not bias the forecast. The shape is empirical: what remains is fat-tailed and hardly depends on state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from features.panel import Strings
from lake.errors import NotEnoughData
from models.boosting.forest import Forest
from models.forecast_schema import QUANTILES

Array = npt.NDArray[np.float64]

GAMMA: dict[str, Any] = {
    "objective": "gamma",
    "learning_rate": 0.1,
    "num_leaves": 15,
    "min_data_in_leaf": 300,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.5,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "max_bin": 63,
    "feature_pre_filter": False,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbose": -1,
}
"""Small trees on many rows: the signal is a few per cent of the noise, so a leaf needs hundreds of moves."""

RIDGE = 0.003  # per row, on standardised features: below the sampling error of a coefficient at a few months of hours
CLIP = 6.0  # standard deviations a feature may pull the linear model
MIN_ROWS = 100
SHAPE_PRIOR = 2_000.0
"""Independent outcomes at which a key's own quantile shape weighs as much as the shape of all keys."""


@dataclass(frozen=True, slots=True)
class ScaleModel:
    """Log-linear model and booster of a move's size. ``mean``, ``sd`` (k,) standardise; ``beta`` is (k + 1,)."""

    features: tuple[str, ...]
    mean: Array
    sd: Array
    beta: Array
    forest: Forest

    def log_scale(self, x: Array, log_base: Array) -> Array:
        """Return log sizes (n,) of moves for features ``x`` (n, k, NaN where unknown) and log base volatility (n,)."""
        linear = design(x, self.mean, self.sd) @ self.beta
        boosted = self.forest.predict(x)[:, 0]
        return np.asarray(log_base + 0.5 * (linear + boosted), dtype=np.float64)

    def plain(self) -> dict[str, Any]:
        """Return all but the booster, JSON-able."""
        arrays = {"mean": self.mean, "sd": self.sd, "beta": self.beta}
        return {"features": list(self.features), **{k: v.tolist() for k, v in arrays.items()}}

    @classmethod
    def of(cls, plain: Mapping[str, Any], booster: lgb.Booster) -> ScaleModel:
        """Rebuild a model from what ``plain`` returned."""
        mean, sd, beta = (np.asarray(plain[k], dtype=np.float64) for k in ("mean", "sd", "beta"))
        return cls(tuple(plain["features"]), mean, sd, beta, Forest.of([booster]))


def design(x: Array, mean: Array, sd: Array) -> Array:
    """Return [1, clipped standardised features] (n, k + 1); unknown values stand at their mean."""
    z = np.clip((x - mean) / sd, -CLIP, CLIP)
    z[np.isnan(z)] = 0.0
    return np.column_stack([np.ones(len(x)), z])


def fit_scale(
    features: Sequence[str],
    x: Array,
    size: Array,
    log_base: Array,
    rounds: int,
    seed: int,
    params: Mapping[str, Any] | None = None,
) -> ScaleModel:
    """Fit sizes ``size`` (n,) > 0 of moves given ``x`` (n, k) and the log base volatility (n,); NaN rows are left out.

    ``rounds`` is the number at a learning rate of 0.05; half of it is spent at 0.1. ``params`` replace those of GAMMA.
    Rows count in proportion to their base volatility (at most five times the typical one), because losses in basis
    points do. Raises NotEnoughData below MIN_ROWS known rows.
    """
    known = np.isfinite(size) & np.isfinite(log_base)
    if known.sum() < MIN_ROWS:
        raise NotEnoughData(f"{int(known.sum())} known moves are too few to fit a volatility; {MIN_ROWS} are required")
    x, size, log_base = x[known], np.maximum(size[known], 1e-9), log_base[known]
    linear = fit_linear(x, size, log_base)
    data = lgb.Dataset(
        x,
        label=size,
        weight=_weight(log_base),
        init_score=log_base,
        params={k: GAMMA[k] for k in ("max_bin", "feature_pre_filter", "num_threads", "verbose")},
    )
    booster = lgb.train({**GAMMA, **(params or {}), "seed": seed}, data, num_boost_round=max(1, rounds // 2))
    return ScaleModel(tuple(features), linear.mean, linear.sd, linear.beta, Forest.of([booster]))


@dataclass(frozen=True, slots=True)
class LinearModel:
    """The log-linear part of a scale: ``mean``, ``sd`` (k,) standardise, ``beta`` is (k + 1,)."""

    mean: Array
    sd: Array
    beta: Array


def fit_linear(x: Array, size: Array, log_base: Array) -> LinearModel:
    """Return the gamma regression of ``size`` / base (n,) on ``x`` (n, k); every size and base is known."""
    seen = np.isfinite(x).any(axis=0)
    mean, sd = np.zeros(x.shape[1]), np.ones(x.shape[1])
    mean[seen] = np.nanmean(x[:, seen], axis=0)
    sd[seen] = np.nanstd(x[:, seen], axis=0) + 1e-9
    ratio = np.maximum(size, 1e-9) / np.exp(log_base)
    return LinearModel(mean, sd, _gamma_regression(design(x, mean, sd), ratio, _weight(log_base)))


def _weight(log_base: Array) -> Array:
    return np.asarray(np.minimum(np.exp(log_base - log_base.mean()), 5.0), dtype=np.float64)


def _gamma_regression(z: Array, ratio: Array, weight: Array, steps: int = 6) -> Array:
    """Return ridge coefficients of a gamma regression with log link, by Fisher scoring (its information is Z'WZ)."""
    penalty = np.full(z.shape[1], RIDGE * weight.sum())
    penalty[0] = 1e-9
    information = (z * weight[:, None]).T @ z + np.diag(penalty)
    beta = np.zeros(z.shape[1])
    beta[0] = np.log(np.average(ratio, weights=weight))
    for _ in range(steps):
        pull = np.clip(ratio * np.exp(-z @ beta), 0.0, 20.0) - 1.0
        beta = beta + np.linalg.solve(information, z.T @ (weight * pull) - penalty * beta)
    return beta


@dataclass(frozen=True, slots=True)
class Shape:
    """Quantiles of standardised moves at QUANTILES: for all keys, and by key shrunk towards them."""

    pooled: Array
    keys: Mapping[str, Array]

    def rows(self, keys: Strings) -> Array:
        """Return the quantiles (n, 5) of each of ``keys`` (n,)."""
        return np.array([self.keys.get(str(key), self.pooled) for key in keys]).reshape(-1, len(QUANTILES))

    def plain(self) -> dict[str, Any]:
        """Return the shape JSON-able."""
        return {"pooled": self.pooled.tolist(), "keys": {k: v.tolist() for k, v in self.keys.items()}}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Shape:
        """Rebuild a shape from what ``plain`` returned."""
        return cls(np.asarray(plain["pooled"]), {k: np.asarray(v) for k, v in plain["keys"].items()})


def fit_shape(z: Array, keys: Strings, horizon_h: int) -> Shape:
    """Return the shape of standardised moves ``z`` (n,); overlapping horizons count as n / horizon_h outcomes.

    The pooled shape is symmetric: a common drift of prices over one sample says nothing about the next.
    """
    known = np.isfinite(z)
    z, keys = z[known], keys[known]
    if len(z) < MIN_ROWS:
        raise NotEnoughData(f"{len(z)} known moves are too few for quantiles; {MIN_ROWS} are required")
    raw = np.quantile(z, QUANTILES)
    pooled = (raw - raw[::-1]) / 2.0
    own = {}
    for key in np.unique(keys):
        values = z[keys == key]
        trust = len(values) / horizon_h / (len(values) / horizon_h + SHAPE_PRIOR)
        own[str(key)] = pooled + trust * (np.quantile(values, QUANTILES) - pooled)
    return Shape(pooled, own)
