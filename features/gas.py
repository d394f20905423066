"""Gas features in log gwei: level, momentum, spread, extremes and the season learnt from the past alone.

Everything looks back at most LOOKBACK_H hours, so a recent window gives the same values as the whole history.
Features at a target hour (``t<h>_``) describe what the past says about the hour ``h`` hours ahead.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import polars as pl

from features.calendar import hour, weekday

LOOKBACK_H = 43 * 24
"""Hours of history a feature may reach back: six weeks of the week's season and a week to centre it."""

_DAYS = 28  # days remembered by the daily season
_WEEKS = 5  # weeks remembered by the weekly season
_SPANS = (3, 6, 12, 24)
_MEANS = (24, 72, 168, 336)
_EXTREMES = (6, 24, 168)

TARGET_FEATURES: tuple[str, ...] = (
    "day1", "day2", "day3mean", "week1", "season", "season_fast", "season_week", "hour", "weekday", "horizon",
    "low_day1", "low_season",
)  # fmt: skip


@cache
def level() -> list[pl.Expr]:
    """Return features of the present from column ``x`` (log gwei on the hourly grid): all relative to x but spreads."""
    x = pl.col("x")
    return [
        *((x - x.ewm_mean(span=k, ignore_nulls=True)).alias(f"over_ewm{k}") for k in _SPANS),
        *((x - x.rolling_mean(k, min_samples=k // 2)).alias(f"over_mean{k}") for k in _MEANS),
        *((x - x.rolling_min(k, min_samples=k // 2)).alias(f"over_low{k}") for k in _EXTREMES),
        *((x - x.rolling_max(k, min_samples=k // 2)).alias(f"under_high{k}") for k in _EXTREMES),
        *((x - x.shift(k)).alias(f"change{k}") for k in (1, 2, 3, 6, 12)),
        *((x.diff().rolling_std(k, min_samples=k // 2) + 1e-3).log().alias(f"spread{k}") for k in _EXTREMES),
        hour().alias("hour"),
        weekday().alias("weekday"),
    ]


@cache
def seasons() -> list[pl.Expr]:
    """Return the season columns ``s_day``, ``s_fast`` and ``s_week`` of the row's own hour, from column ``x``.

    Each is a decayed mean of past deviations from a trailing mean at the same hour of day (28 days, half-life ten
    or four days) or of week (five weeks, half-life two weeks), shrunk towards zero by one observation.
    """
    x = pl.col("x")
    of_day = x - x.rolling_mean(24, min_samples=12)
    of_week = x - x.rolling_mean(168, min_samples=24)
    return [
        decayed(of_day, 24, _DAYS, 10.0).alias("s_day"),
        decayed(of_day, 24, _DAYS, 4.0).alias("s_fast"),
        decayed(of_week, 168, _WEEKS, 2.0).alias("s_week"),
    ]


@cache
def classical(horizons_h: tuple[int, ...]) -> list[pl.Expr]:
    """Return what the AR(1) baseline needs, from columns x, c_day, c_week: ``b|level``, ``b|season|<h>`` (0 is now).

    The level is the trailing week's mean of x without its season; the season is that of the hour of week.
    """
    season = pl.col("c_day") + pl.col("c_week")
    later = [
        (pl.col("c_day").shift(-(-h // 24) * 24 - h) + pl.col("c_week").shift(168 - h)).alias(f"b|season|{h}")
        for h in horizons_h
    ]
    level_now = (pl.col("x") - season).rolling_mean(168, min_samples=24).alias("b|level")
    return [level_now, season.alias("b|season|0"), *later]


@cache
def classical_seasons() -> list[list[pl.Expr]]:
    """Return two steps of columns: ``c_day``, the hour of day's season, then ``c_week``, what the hour of week adds."""
    gap = pl.col("x") - pl.col("x").rolling_mean(168, min_samples=24)
    return [
        [decayed(gap, 24, _DAYS, 10.0).alias("c_day")],
        [decayed(gap - pl.col("c_day"), 168, _WEEKS, 4.0, prior=2.0).alias("c_week")],
    ]


def decayed(value: pl.Expr, period: int, count: int, half_life: float, prior: float = 1.0) -> pl.Expr:
    """Return sum(w_k value[t - k period]) / (prior + sum(w_k)), k < count, w_k = 2^(-k/half_life), over known values.

    ``prior`` is how many observations of zero stand against the sample.
    """
    weights = 0.5 ** (np.arange(count) / half_life)
    return value.map_batches(lambda v: _decay(v, period, weights, prior), return_dtype=pl.Float64)


def _decay(value: pl.Series, period: int, weights: npt.NDArray[np.float64], prior: float) -> pl.Series:
    known = value.is_not_null().to_numpy().astype(np.float64)
    filled = value.fill_null(0.0).to_numpy()
    n = len(filled)
    total, weight = np.zeros(n), np.full(n, prior)
    for k, w in enumerate(weights):  # over lags, not rows
        if k * period >= n:
            break
        total[k * period :] += w * filled[: n - k * period]
        weight[k * period :] += w * known[: n - k * period]
    return pl.Series(value.name, total / weight)


@cache
def ahead(horizon_h: int) -> list[pl.Expr]:
    """Return the TARGET_FEATURES for the hour ``horizon_h`` ahead, named ``t<h>_<feature>``.

    From columns x, s_day, s_fast, s_week. "day1" is the last known value at the target's hour of day, less x.
    """
    x = pl.col("x")
    days = -(-horizon_h // 24) * 24
    weeks = -(-horizon_h // 168) * 168
    shift = {"day1": days - horizon_h, "day2": days + 24 - horizon_h, "day3": days + 48 - horizon_h}
    known = min(horizon_h, 24)  # the window (t, t + known] one day earlier is in the past
    low = x.rolling_min(known, min_samples=max(known // 2, 1)).shift(24 - known)
    season_low = pl.col("s_day").rolling_min(known, min_samples=max(known // 2, 1)).shift(24 - known)
    named = {
        "day1": x.shift(shift["day1"]) - x,
        "day2": x.shift(shift["day2"]) - x,
        "day3mean": pl.mean_horizontal(x.shift(s) for s in shift.values()) - x,
        "week1": x.shift(weeks - horizon_h) - x,
        "season": pl.col("s_day").shift(days - horizon_h) - pl.col("s_day"),
        "season_fast": pl.col("s_fast").shift(days - horizon_h) - pl.col("s_fast"),
        "season_week": pl.col("s_week").shift(weeks - horizon_h) - pl.col("s_week"),
        "hour": hour(horizon_h),
        "weekday": weekday(horizon_h),
        "horizon": pl.lit(float(horizon_h)),
        "low_day1": low - x,
        "low_season": season_low - pl.col("s_day"),
    }
    return [named[f].alias(f"t{horizon_h}_{f}") for f in TARGET_FEATURES]


@cache
def optional(columns: tuple[str, ...]) -> list[pl.Expr]:
    """Return level and momentum of optional gas columns (gas_used_ratio, priority_fee_gwei); null where absent."""
    return [
        expression
        for c in columns
        for expression in (
            pl.col(c).alias(f"{c}_now"),
            (pl.col(c) - pl.col(c).rolling_mean(24, min_samples=6)).alias(f"{c}_over24"),
        )
    ]
