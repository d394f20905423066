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
import polars as pl
from scipy.signal import lfilter
from scipy.special import expit, logit

from lake.errors import ConfigError
from lake.universe import STABLE
from models.base import QUANTILES

Array = npt.NDArray[np.float64]

PAIR_STEP_H = 4
"""Hours between forecasts of covariances of two assets; variances are issued every hour. Correlations move slowly."""

PRODUCTS: tuple[str, ...] = ("c24", "c168", "c672", "cewm")
CORRELATIONS: tuple[str, ...] = ("rho72", "rho672", "rho_mean")
_RIDGE = 50.0  # pseudo-rows that hold the mixture at the slow correlation


def pair_key(a: str, b: str) -> str:
    """Return the key of a covariance row, e.g. ``AAVE|BTC``: sorted, so that the order of the two does not matter."""
    return "|".join(sorted((a, b)))


def pair_features(moves: pl.DataFrame, horizon_h: int = 24) -> pl.DataFrame:
    """Return (key, ts, c24, c168, c672, cewm, rho72, rho672, rho_mean, y) for every pair of assets, itself included.

    ``c*`` are past means of the product of hourly log returns (rolling hours; ``cewm`` decays 0.9715 an hour), ``rho*``
    past correlations without mean (half-lives of 72 h, 672 h rolling, and the panel's mean of the latter). ``y`` is
    the mean product over the next ``horizon_h`` hours, null unless all of them are known. Pairs of two assets are
    given every PAIR_STEP_H hours. ``moves`` is features.volatility.add_moves (hourly grid per asset).
    """
    wide = moves.pivot(on="asset", index="ts", values="ret").sort("ts")
    assets = sorted(c for c in wide.columns if c != "ts")
    pairs = [(a, a) for a in assets] + list(combinations(assets, 2))
    if not pairs:
        return pl.DataFrame()
    r = wide.select(pl.col(assets).fill_null(float("nan"))).to_numpy()
    left, right = ([assets.index(pair[k]) for pair in pairs] for k in (0, 1))
    product = r[:, left] * r[:, right]
    columns = {f"c{h}": _rolling_mean(product, h, h // 2) for h in (24, 168, 672)}
    columns["cewm"] = _decayed_mean(product, 24.0, 12)
    slow = _decayed_mean(product, 72.0, 48)
    own = {asset: k for k, asset in enumerate(assets)}  # the diagonal leads
    ia, ib = ([own[pair[k]] for pair in pairs] for k in (0, 1))
    columns["rho72"], columns["rho672"] = (_ratio(x, x[:, ia] * x[:, ib]) for x in (slow, columns["c672"]))
    cross = np.array([a != b for a, b in pairs])
    columns["rho_mean"] = np.broadcast_to(_row_mean(columns["rho672"][:, cross])[:, None], product.shape)
    ahead = np.full_like(product, np.nan)
    if len(product) > horizon_h:
        ahead[:-horizon_h] = _rolling_mean(product, horizon_h, horizon_h)[horizon_h:]
    columns["y"] = ahead
    keep = np.ones(product.shape, dtype=bool)
    keep[:, cross] = (wide["ts"].dt.hour().to_numpy() % PAIR_STEP_H == 0)[:, None]
    row, pair = np.nonzero(keep)
    names = pl.Series("key", [f"{a}|{b}" for a, b in pairs])
    values = [pl.Series(n, columns[n][row, pair]) for n in (*PRODUCTS, *CORRELATIONS, "y")]
    table = pl.DataFrame([names.gather(pair).alias("key"), wide["ts"].gather(row), *values])
    return table.with_columns(pl.col(pl.Float64).fill_nan(None))


def _rolling_mean(x: Array, hours: int, least: int) -> Array:
    """Return means (t, k) of the known values of the last ``hours`` rows, NaN with fewer than ``least``."""
    known = np.isfinite(x)
    sums, counts = (np.cumsum(v, axis=0) for v in (np.where(known, x, 0.0), known.astype(np.float64)))
    for v in (sums, counts):
        if len(v) > hours:
            v[hours:] -= v[:-hours].copy()
    return np.asarray(np.where(counts >= least, sums / np.maximum(counts, 1.0), np.nan), dtype=np.float64)


def _decayed_mean(x: Array, half_life: float, least: int) -> Array:
    """Return exponentially weighted means (t, k) of the known values, NaN before ``least`` of them."""
    decay = 0.5 ** (1.0 / half_life)
    known = np.isfinite(x)
    sums, weights = (lfilter([1.0], [1.0, -decay], v, axis=0) for v in (np.where(known, x, 0.0), known.astype(float)))
    enough = np.cumsum(known, axis=0) >= least
    return np.asarray(np.where(enough, sums / np.maximum(weights, 1e-300), np.nan), dtype=np.float64)


def _ratio(x: Array, square: Array) -> Array:
    scale = np.sqrt(np.maximum(square, 0.0))
    return np.asarray(np.clip(np.where(scale > 0, x / np.where(scale > 0, scale, 1.0), np.nan), -1.0, 1.0))


def _row_mean(x: Array) -> Array:
    known = np.isfinite(x)
    count = known.sum(axis=1)
    return np.asarray(np.where(count > 0, np.where(known, x, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan))


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


def nearest_covariance(matrix: Array) -> Array:
    """Return the symmetric ``matrix`` (n, n) with negative eigenvalues raised to zero: a covariance, diagonal kept."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2.0)
    if values[0] >= 0.0:
        return np.asarray((matrix + matrix.T) / 2.0, dtype=np.float64)
    fixed = (vectors * np.maximum(values, 0.0)) @ vectors.T
    scale = np.sqrt(np.diag(matrix) / np.maximum(np.diag(fixed), 1e-300))
    return np.asarray(fixed * np.outer(scale, scale), dtype=np.float64)


def deviation_variance(weights: Array, covariance: Array) -> Array:
    """Return, for each asset, the hourly variance (n,) of its log return against the rest of the portfolio.

    With the other weights renormalised to v = w_j / (1 - w_i), it is (e_i - v)' Sigma (e_i - v): the variance of the
    log-odds of weight i, exactly for two assets and to first order beyond. ``covariance`` (n, n) is per hour.
    """
    others = _others(weights)
    spread = np.eye(len(weights)) - others
    return np.asarray(np.einsum("ij,jk,ik->i", spread, covariance, spread), dtype=np.float64)


def weight_deviation_quantiles(
    weights: Array, target: Array, covariance: Array, tail_shape: Array | None, horizon_h: float
) -> Array:
    """Return quantiles (n, 5) of weight - target after ``horizon_h`` hours without a trade, from any weights.

    ``weights`` and ``target`` (n,) sum to 1, ``covariance`` (n, n) per hour of hourly log returns, ``tail_shape`` (5,)
    quantiles at QUANTILES of a standardised move (unit variance; None: normal). The log-odds of a weight move by its
    return against the rest of the portfolio, so weights stay within 0..1; the rest, a mean of exponentials, gains
    half its dispersion. Log returns are taken to have mean zero. A weight of 0 or 1 stays. Raises ConfigError on
    shapes that do not fit.
    """
    n = len(weights)
    if target.shape != (n,) or covariance.shape != (n, n):
        raise ConfigError(f"{n} weights, targets {target.shape} and covariance {covariance.shape} do not fit together")
    shape = NORMAL_SHAPE if tail_shape is None else tail_shape
    if shape.shape != NORMAL_SHAPE.shape:
        raise ConfigError(f"tail_shape has shape {shape.shape}, {NORMAL_SHAPE.shape} is required")
    others = _others(weights)
    scale = np.sqrt(np.maximum(deviation_variance(weights, covariance), 0.0) * horizon_h)
    dispersion = others @ np.diag(covariance) - np.einsum("ij,jk,ik->i", others, covariance, others)
    inner = np.clip(weights, 1e-300, 1.0 - 1e-16)
    odds = logit(inner)[:, None] - 0.5 * horizon_h * dispersion[:, None] + scale[:, None] * shape[None, :]
    moved = np.where(((weights > 0) & (weights < 1))[:, None], expit(odds), weights[:, None])
    return np.asarray(moved - target[:, None], dtype=np.float64)


def _others(weights: Array) -> Array:
    """Return (n, n): row i holds the other assets' weights within the rest of the portfolio, 0 at i."""
    rest = np.maximum(1.0 - weights, 1e-12)
    return np.asarray(weights[None, :] / rest[:, None] * (1.0 - np.eye(len(weights))), dtype=np.float64)


NORMAL_SHAPE: Array = np.array([-1.6448536269514722, -0.6744897501960817, 0.0, 0.6744897501960817, 1.6448536269514722])
"""Quantiles of the standard normal distribution at QUANTILES."""

assert len(NORMAL_SHAPE) == len(QUANTILES)


def matrix_of(rows: Mapping[str, float], assets: Sequence[str]) -> Array | None:
    """Return the covariance matrix (n, n) of ``assets`` from forecast means by key, None when a pair is missing.

    Cash (lake.universe.STABLE) without rows of its own counts as constant.
    """
    known = {key.split("|")[0] for key in rows}
    still = {a for a in assets if a in STABLE and a not in known}
    matrix = np.zeros((len(assets), len(assets)))
    for i, a in enumerate(assets):
        for j, b in enumerate(assets):
            if a not in still and b not in still:
                if pair_key(a, b) not in rows:
                    return None
                matrix[i, j] = rows[pair_key(a, b)]
    return nearest_covariance(matrix)
