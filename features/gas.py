"""Gas features in log gwei: level, momentum, spread, extremes and the season learnt from the past alone.

Everything looks back at most LOOKBACK_H hours, so a recent window gives the same values as the whole history.
Features at a target hour (``t<h>_``) describe what the past says about the hour ``h`` hours ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.calendar import hour, weekday
from features.windows import Array, Rows, highest, lag, lags, lowest, mean, since, spread, weighted

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

    def at(self, name: str, rows: Rows) -> Array:
        """Return series ``name`` (n, 1) at ``rows``, NaN before it begins."""
        return lag(self.series[name], rows - self.first, 0)

    def before(self, name: str, rows: Rows, back_h: Rows) -> Array:
        """Return series ``name`` (h, n, 1) at each of ``back_h`` (h,) hours before each row, NaN before it begins."""
        return lags(self.series[name], rows - self.first, back_h)


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


def ahead(price: Price, rows: Rows, horizons_h: Sequence[int], of: Seasons) -> dict[str, Array]:
    """Return the TARGET_FEATURES (n, 1) for the hours ``horizons_h`` ahead, named ``t<h>_<feature>``.

    "day1" is the last known price at the target's hour of day, less the present one.
    """
    x, now = price.x, price.x[rows]
    horizons = np.asarray(horizons_h, dtype=np.int64)
    days = -(-horizons // _DAY_H) * _DAY_H - horizons  # back to the last known hour at the target's hour of day
    weeks = -(-horizons // _WEEK_H) * _WEEK_H - horizons
    same = [lags(x, rows, days + k * _DAY_H) for k in range(3)]
    known = np.minimum(horizons, _DAY_H)  # the window (t, t + known] one day earlier is in the past
    later = price.hours[rows] + horizons[:, None]
    today = of.at("day", rows)
    low = {k: _lows(price, rows, k, of) for k in set(known.tolist())}
    named: dict[str, Array | list[Array]] = {
        "day1": same[0] - now,
        "day2": same[1] - now,
        "day3mean": _mean_of(same) - now,
        "week1": lags(x, rows, weeks) - now,
        "season": of.before("day", rows, days) - today,
        "season_fast": of.before("fast", rows, days) - of.at("fast", rows),
        "season_week": of.before("week", rows, weeks) - of.at("week", rows),
        "hour": hour(later)[:, :, None],
        "weekday": weekday(later)[:, :, None],
        "horizon": np.broadcast_to(horizons[:, None, None].astype(np.float64), same[0].shape),
        "low_day1": [low[k][0] - now for k in known.tolist()],
        "low_season": [low[k][1] - today for k in known.tolist()],
    }
    return {f"t{h}_{f}": named[f][i] for i, h in enumerate(horizons_h) for f in TARGET_FEATURES}


def _lows(price: Price, rows: Rows, known: int, of: Seasons) -> tuple[Array, Array]:
    """Return the lowest price and season (n, 1) of the ``known`` hours that begin a day before each row."""
    back, least = _DAY_H - known, max(known // 2, 1)
    return (
        lowest(price.x, rows - back, known, least),
        lowest(of.series["day"], rows - of.first - back, known, least),
    )


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
    hours = np.asarray(horizons_h, dtype=np.int64)
    later = of.before("day", rows, -(-hours // _DAY_H) * _DAY_H - hours) + of.before("week", rows, _WEEK_H - hours)
    return found | {f"b|season|{h}": values for h, values in zip(horizons_h, later, strict=True)}


def optional(values: Mapping[str, Array], rows: Rows) -> dict[str, Array]:
    """Return level and momentum (n, 1) of optional series (t, 1) such as gas_used_ratio; NaN where absent."""
    found = {}
    for name, x in values.items():
        found[f"{name}_now"] = x[rows]
        found[f"{name}_over24"] = x[rows] - mean(x, rows, 24, 6)
    return found
