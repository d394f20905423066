"""Volatility days ahead from its own daily, weekly and monthly means (Corsi 2009), walked forward and scored.

Daily series of log volatility. The target is the mean of the next ``ahead`` days' variance (realised) or the level
``ahead`` days later (implied). Each month is forecast by least squares on the rows whose target was known before it.
Skill is ``1 - MSE / MSE`` in log volatility against the best of the baselines in the sample, which favours them; with
a 95 % interval from blocks of ``ahead`` days (at least a week). Where its low end is not above zero, no forecast is
worth using.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from lake.errors import NotEnoughData

Vector = npt.NDArray[np.float64]
Target = Literal["realised", "implied"]
MEANS_D = (1, 7, 30)
REFIT_D = 30
LEAST_ROWS = 60
DRAWS, SEED = 1_000, 0


@dataclass(frozen=True, slots=True)
class VolatilitySkill:
    """Skill of one target and horizon against the best baseline, over ``days`` forecasts; ``used`` is its verdict."""

    target: Target
    ahead_d: int
    baseline: str
    skill: float
    low: float
    high: float
    days: int
    used: bool


def realised_variance(hourly_close: Vector) -> Vector:
    """Return (D,) variance a year of each whole day of 24 hourly closes (N,)."""
    squared = np.diff(np.log(hourly_close)) ** 2
    days = squared.size // 24
    return np.asarray(squared[: days * 24].reshape(days, 24).mean(axis=1) * 24 * 365, dtype=np.float64)


def past_means(x: Vector, days: int) -> Vector:
    """Return (D,) the mean of the last ``days`` values, nan before there are as many."""
    out = np.full(x.size, np.nan)
    sums = np.cumsum(np.insert(x, 0, 0.0))
    out[days - 1 :] = (sums[days:] - sums[:-days]) / days
    return out


def target_of(variance: Vector, target: Target, ahead: int) -> Vector:
    """Return (D,) log volatility to come at each day's end, nan where it is not known yet."""
    out = np.full(variance.size, np.nan)
    if target == "implied":
        out[:-ahead] = 0.5 * np.log(variance[ahead:])
    else:
        out[:-ahead] = 0.5 * np.log(past_means(variance, ahead)[ahead:])
    return out


def walk(variance: Vector, target: Target, ahead: int) -> tuple[Vector, dict[str, Vector], Vector]:
    """Return forecasts (D,), baselines (D,) by name and the outcome (D,), all log volatility; nan where there is none.

    Row t is known at the end of day t; a fit made at day s uses rows up to ``s - ahead`` alone.
    """
    means = {d: 0.5 * np.log(past_means(variance, d)) for d in MEANS_D}
    features = np.column_stack([np.ones(variance.size), *means.values()])
    outcome = target_of(variance, target, ahead)
    forecast = np.full(variance.size, np.nan)
    first = max(MEANS_D) - 1
    for begin in range(first + LEAST_ROWS + ahead, variance.size, REFIT_D):
        rows = slice(first, begin - ahead + 1)
        fit, *_ = np.linalg.lstsq(features[rows], outcome[rows], rcond=None)
        forecast[begin : begin + REFIT_D] = features[begin : begin + REFIT_D] @ fit
    return forecast, {f"mean of {d} d": m for d, m in means.items()}, outcome


def skill(variance: Vector, target: Target, ahead: int) -> VolatilitySkill:
    """Return the skill of ``walk`` on daily ``variance`` (D,) a year; raises NotEnoughData under eight blocks."""
    forecast, baselines, outcome = walk(variance, target, ahead)
    known = np.isfinite(forecast) & np.isfinite(outcome)
    block = max(ahead, 7)
    if known.sum() < 8 * block:
        raise NotEnoughData(
            f"{int(known.sum())} days to score a {ahead}-day forecast of {target} volatility; {8 * block} are required "
            f"after {max(MEANS_D) + LEAST_ROWS + ahead} of warm-up"
        )
    errors = {n: (b - outcome)[known] ** 2 for n, b in baselines.items()}
    best = min(errors, key=lambda n: float(errors[n].sum()))
    mine = (forecast - outcome)[known] ** 2
    starts = np.arange(0, mine.size, block)
    a, b = np.add.reduceat(mine, starts), np.add.reduceat(errors[best], starts)
    drawn = np.random.default_rng(SEED).integers(0, starts.size, (DRAWS, starts.size))
    low, high = np.quantile(1.0 - a[drawn].sum(axis=1) / b[drawn].sum(axis=1), [0.025, 0.975])
    value = 1.0 - float(a.sum() / b.sum())
    return VolatilitySkill(target, ahead, best, value, float(low), float(high), mine.size, bool(low > 0.0))
