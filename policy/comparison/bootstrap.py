"""Paired comparisons of policies: cost ratios with weekly block-bootstrap intervals.

Weeks are drawn with replacement, jointly for all portfolios and policies: portfolios share prices and gas, so they
are no independent samples, and a week is long against the hours in which gas and prices remember.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policy.base import Matrix, Vector


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its 95 % interval; nan where it is not defined."""

    value: float
    low: float
    high: float


def counts(weeks: int, draws: int, seed: int) -> Matrix:
    """Return (draws, weeks) how often each week is drawn; the same seed gives the same draws."""
    picked = np.random.default_rng(seed).integers(0, weeks, size=(draws, weeks))
    flat = np.bincount((picked + weeks * np.arange(draws)[:, None]).ravel(), minlength=draws * weeks)
    return np.asarray(flat.reshape(draws, weeks), dtype=np.float64)


def ratio(a: Vector, b: Vector, drawn: Matrix) -> Interval:
    """Return sum(a) / sum(b) over weekly costs (W,), with its interval over ``drawn``."""
    return _interval(_divide(a.sum(), b.sum()), _divide(drawn @ a, drawn @ b))


def captured(base: Vector, mine: Vector, best: Vector, drawn: Matrix) -> Interval:
    """Return the share of the headroom ``base - best`` that ``mine`` captures, with its interval."""
    return _interval(
        _divide((base - mine).sum(), (base - best).sum()), _divide(drawn @ (base - mine), drawn @ (base - best))
    )


def _divide(a: Vector | float, b: Vector | float) -> Vector:
    top, bottom = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return np.asarray(
        np.divide(top, bottom, out=np.full(np.broadcast(top, bottom).shape, np.nan), where=np.abs(bottom) > 1e-15)
    )


def _interval(value: Vector, samples: Vector) -> Interval:
    kept = samples[np.isfinite(samples)]
    if kept.size == 0:
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.quantile(kept, [0.025, 0.975])
    return Interval(float(value), float(low), float(high))
