"""Gas features in log gwei: level, momentum, spread, extremes and the season learnt from the past alone.

Everything looks back at most LOOKBACK_H hours, so a recent window gives the same values as the whole history.
Features at a target hour (``t<h>_``) describe what the past says about the hour ``h`` hours ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.calendar import hour, weekday
from features.windows import Array, Rows, highest, lag, lowest, mean, since, spread, weighted

_DAY_H, _WEEK_H = 24, 168
_DAYS = 28  # days remembered by the daily season
_WEEKS = 5  # weeks remembered by the weekly season
_SPANS = (3, 6, 12, 24)
_MEANS = (24, 72, 168, 336)
_EXTREMES = (6, 24, 168)

LOOKBACK_H = 2 * _WEEK_H + (_WEEKS - 1) * _WEEK_H + _DAYS * _DAY_H + _WEEK_H
"""Hours of history a feature may reach back: a week to the last same hour and its level, the weeks and the days of the
season before it, and a week to centre them."""

TARGET_FEATURES: tuple[str, ...] = (
    "day1", "day2", "day3mean", "week1", "season", "season_fast", "season_week", "hour", "weekday", "horizon",
    "low_day1", "low_season",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Price:
    """Log gas price ``x`` (t, 1) on the hourly grid, NaN where unknown, and each row's hour since 1970."""

    x: Array
    hours: Rows


def level(price: Price, rows: Rows) -> dict[str, Array]:
    """Return features (n, 1) of the present: all relative to the present price but spreads and the calendar."""
    x, now = price.x, price.x[rows]
    step = x - lag(x, np.arange(len(x)), 1)
    return {
        **{f"over_ewm{k}": now - _span(x, rows, k) for k in _SPANS},
        **{f"over_mean{k}": now - mean(x, rows, k, k // 2) for k in _MEANS},
        **{f"over_low{k}": now - lowest(x, rows, k, k // 2) for k in _EXTREMES},
        **{f"under_high{k}": now - highest(x, rows, k, k // 2) for k in _EXTREMES},
        **{f"change{k}": now - lag(x, rows, k) for k in (1, 2, 3, 6, 12, 24)},
        **{f"spread{k}": np.log(spread(step, rows, k, k // 2) + 1e-3) for k in _EXTREMES},
        "hour": hour(price.hours[rows])[:, None],
        "weekday": weekday(price.hours[rows])[:, None],
    }


def _span(x: Array, rows: Rows, span: int) -> Array:
    """Return the exponential mean of ``span`` (its centre of mass is (span - 1) / 2), eight spans long."""
    return weighted(x, rows, np.power(1.0 - 2.0 / (span + 1), np.arange(8 * span, dtype=np.float64)))


@dataclass(frozen=True, slots=True)
class Seasons:
    """Season series (m, 1) by name for the rows from ``first`` on."""

    first: int
    series: Mapping[str, Array]

    def at(self, name: str, rows: Rows, back_h: int = 0) -> Array:
        """Return series ``name`` (n, 1) at ``back_h`` hours before each row, NaN before it begins."""
        return lag(self.series[name], rows - self.first, back_h)


def seasons(price: Price, rows: Rows) -> Seasons:
    """Return the seasons ``day``, ``fast`` and ``week`` of each hour from a week before the first of ``rows`` on.

    Each is a decayed mean of past deviations from a trailing mean at the same hour of day (28 days, half-life ten
    or four days) or of week (five weeks, half-life two weeks), shrunk towards zero by one observation.
    """
    span = since(rows, _WEEK_H)
    every = since(rows, LOOKBACK_H)
    of_day, of_week = (_centred(price.x, every, hours, least) for hours, least in ((24, 12), (168, 24)))
    at = span - every[0]
    return Seasons(
        int(span[0]),
        {
            "day": season(of_day, at, _DAY_H, _DAYS, 10.0),
            "fast": season(of_day, at, _DAY_H, _DAYS, 4.0),
            "week": season(of_week, at, _WEEK_H, _WEEKS, 2.0),
        },
    )


def _centred(x: Array, rows: Rows, hours: int, least: int) -> Array:
    return np.asarray(x[rows] - mean(x, rows, hours, least), dtype=np.float64)


def season(value: Array, rows: Rows, period: int, count: int, half_life: float, prior: float = 1.0) -> Array:
    """Return sum(w_k value[t - k period]) / (prior + sum(w_k)), k < count, w_k = 2^(-k/half_life), over known values.

    ``prior`` is how many observations of zero stand against the sample.
    """
    return weighted(value, rows, 0.5 ** (np.arange(count) / half_life), step=period, prior=prior, least=0)


def ahead(price: Price, rows: Rows, horizon_h: int, of: Seasons) -> dict[str, Array]:
    """Return the TARGET_FEATURES (n, 1) for the hour ``horizon_h`` ahead, named ``t<h>_<feature>``.

    "day1" is the last known price at the target's hour of day, less the present one.
    """
    x, now = price.x, price.x[rows]
    days = -(-horizon_h // _DAY_H) * _DAY_H
    weeks = -(-horizon_h // _WEEK_H) * _WEEK_H
    same = [lag(x, rows, days + k * _DAY_H - horizon_h) for k in range(3)]
    known = min(horizon_h, _DAY_H)  # the window (t, t + known] one day earlier is in the past
    least = max(known // 2, 1)
    back = _DAY_H - known
    later = price.hours[rows] + horizon_h
    named = {
        "day1": same[0] - now,
        "day2": same[1] - now,
        "day3mean": _mean_of(same) - now,
        "week1": lag(x, rows, weeks - horizon_h) - now,
        "season": of.at("day", rows, days - horizon_h) - of.at("day", rows),
        "season_fast": of.at("fast", rows, days - horizon_h) - of.at("fast", rows),
        "season_week": of.at("week", rows, weeks - horizon_h) - of.at("week", rows),
        "hour": hour(later)[:, None],
        "weekday": weekday(later)[:, None],
        "horizon": np.full_like(now, float(horizon_h)),
        "low_day1": lowest(x, rows - back, known, least) - now,
        "low_season": lowest(of.series["day"], rows - of.first - back, known, least) - of.at("day", rows),
    }
    return {f"t{horizon_h}_{f}": named[f] for f in TARGET_FEATURES}


def _mean_of(parts: Sequence[Array]) -> Array:
    """Return the mean of what is known of ``parts``, NaN where nothing is."""
    total = sum(np.nan_to_num(p) for p in parts)
    count = sum(np.isfinite(p).astype(np.float64) for p in parts)
    return np.where(count > 0, total / np.maximum(count, 1.0), np.nan)


def classical(price: Price, rows: Rows, horizons_h: Sequence[int]) -> dict[str, Array]:
    """Return what the AR(1) baseline needs (n, 1): ``b|level`` and ``b|season|<h>`` (0 is now).

    The season is that of the hour of day and what the hour of week adds to it; the level is the trailing week's mean
    of the price without its season.
    """
    gap = _centred(price.x, np.arange(len(price.x)), _WEEK_H, 24)
    recent = since(rows, _WEEK_H * (_WEEKS + 1))
    day = season(gap, recent, _DAY_H, _DAYS, 10.0)
    span = since(rows, _WEEK_H)
    week = season(gap[recent] - day, span - recent[0], _WEEK_H, _WEEKS, 4.0, prior=2.0)
    of = Seasons(int(span[0]), {"day": day[span - recent[0]], "week": week})
    whole = of.series["day"] + of.series["week"]
    found = {
        "b|level": mean(price.x[span] - whole, rows - span[0], _WEEK_H, 24),
        "b|season|0": lag(whole, rows - span[0], 0),
    }
    for h in horizons_h:
        found[f"b|season|{h}"] = of.at("day", rows, -(-h // _DAY_H) * _DAY_H - h) + of.at("week", rows, _WEEK_H - h)
    return found


def optional(values: Mapping[str, Array], rows: Rows) -> dict[str, Array]:
    """Return level and momentum (n, 1) of optional series (t, 1) such as gas_used_ratio; NaN where absent."""
    found = {}
    for name, x in values.items():
        found[f"{name}_now"] = x[rows]
        found[f"{name}_over24"] = x[rows] - mean(x, rows, 24, 6)
    return found
