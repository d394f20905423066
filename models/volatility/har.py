"""Volatility days ahead from its own daily, weekly and monthly means (Corsi 2009), walked forward and scored.

Daily series of log volatility. The target is the mean of the next ``ahead`` days' variance (realised) or the level
``ahead`` days later (implied). Each month is forecast by least squares on the rows whose target was known before it.
Skill is ``1 - MSE / MSE`` in log volatility against the best of the baselines in the sample, which favours them; with
a 95 % interval from blocks of ``ahead`` days (at least a week). Where its low end is not above zero, no forecast is
worth using. A day of which too little is known, or in which nothing moved, has no log volatility: it is nan, stays out
of means, fits and scores, and is never taken for a calm one.
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
LEAST_HOURS = 18  # hourly returns of a day
LEAST_PART = 0.5  # known days of a mean
NO_ERROR = 1e-18  # mean squared error in log volatility that is rounding only
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
    """Return (D,) variance a year of each whole day of 24 hourly returns between closes (N,); nan where unknown.

    A close that is nan or not above zero is missing, and a return lies between two closes an hour apart: across a gap
    there is none. A day needs ``LEAST_HOURS`` returns of which one is not zero.
    """
    closes = np.asarray(hourly_close, dtype=np.float64)
    known = np.isfinite(closes) & (closes > 0.0)
    squared = np.diff(np.log(np.where(known, closes, np.nan))) ** 2
    days = squared.size // 24
    byday = squared[: days * 24].reshape(days, 24)
    variance = mean_known(byday) * 24 * 365
    return np.where((np.isfinite(byday).sum(axis=1) >= LEAST_HOURS) & (variance > 0.0), variance, np.nan)


def mean_known(rows: Vector) -> Vector:
    """Return (D,) the mean of the finite values of each row (D, n), nan where there are none."""
    known = np.isfinite(rows)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, rows, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)


def past_means(x: Vector, days: int) -> Vector:
    """Return (D,) the mean of the known of the last ``days`` values; nan before there are as many, or under half."""
    out = np.full(x.size, np.nan)
    if x.size < days:
        return out
    windows = np.lib.stride_tricks.sliding_window_view(x, days)
    enough = np.isfinite(windows).sum(axis=1) >= LEAST_PART * days
    out[days - 1 :] = np.where(enough, mean_known(windows), np.nan)
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

    Row t is known at the end of day t; a fit made at day s uses complete rows up to ``s - ahead`` alone, ``LEAST_ROWS``
    of them or there is no forecast that month.
    """
    means = {d: 0.5 * np.log(past_means(variance, d)) for d in MEANS_D}
    features = np.column_stack([np.ones(variance.size), *means.values()])
    complete: npt.NDArray[np.bool_] = np.asarray(np.isfinite(features).all(axis=1), dtype=np.bool_)
    outcome = target_of(variance, target, ahead)
    forecast = np.full(variance.size, np.nan)
    first = max(MEANS_D) - 1
    for begin in range(first + LEAST_ROWS + ahead, variance.size, REFIT_D):
        past = slice(first, begin - ahead + 1)
        rows = np.flatnonzero(complete[past] & np.isfinite(outcome[past])) + first
        if rows.size < LEAST_ROWS:
            continue
        fit, *_ = np.linalg.lstsq(features[rows], outcome[rows], rcond=None)
        forecast[begin : begin + REFIT_D] = features[begin : begin + REFIT_D] @ fit
    return forecast, {f"mean of {d} d": m for d, m in means.items()}, outcome


def skill(variance: Vector, target: Target, ahead: int) -> VolatilitySkill:
    """Return the skill of ``walk`` on daily ``variance`` (D,) a year, nan where a day is unknown.

    Raises NotEnoughData under eight blocks of scored days, or where a past mean makes no error at all.
    """
    forecast, baselines, outcome = walk(variance, target, ahead)
    known = np.isfinite(np.column_stack([forecast, outcome, *baselines.values()])).all(axis=1)
    block = max(ahead, 7)
    if known.sum() < 8 * block:
        raise NotEnoughData(
            f"{int(known.sum())} days to score a {ahead}-day forecast of {target} volatility; {8 * block} are required "
            f"after {max(MEANS_D) + LEAST_ROWS + ahead} of warm-up"
        )
    errors = {n: (b - outcome)[known] ** 2 for n, b in baselines.items()}
    best = min(errors, key=lambda n: float(errors[n].sum()))
    if float(errors[best].mean()) <= NO_ERROR:
        raise NotEnoughData(f"{target} volatility {ahead} days ahead equals its {best}: there is nothing to forecast")
    mine = (forecast - outcome)[known] ** 2
    starts = np.arange(0, mine.size, block)
    a, b = np.add.reduceat(mine, starts), np.add.reduceat(errors[best], starts)
    drawn = np.random.default_rng(SEED).integers(0, starts.size, (DRAWS, starts.size))
    least = NO_ERROR * block  # a draw of blocks without an error counts against the forecast, not for it
    low, high = np.quantile(1.0 - a[drawn].sum(axis=1) / np.maximum(b[drawn].sum(axis=1), least), [0.025, 0.975])
    value = 1.0 - float(a.sum() / b.sum())
    return VolatilitySkill(target, ahead, best, value, float(low), float(high), mine.size, bool(low > 0.0))
