"""Volatility features of returns and of weight deviations on the hourly grid.

Two hourly series are described for every asset: ``ret``, its log return, and ``dev``, its log return less that of
the basket bought at target weights, which is the log change of its weight (exactly: w' = w exp(dev)). Both get the
heterogeneous autoregressive ladder (Corsi 2009) of exponentially weighted and rolling second moments, mean absolute
moves, the panel's common level, and seasons by hour of day and of week learnt from the weeks before. Ranges enter
by Parkinson's estimator ln(high/low)^2 / (4 ln 2) where bars have them. No look-back exceeds LOOKBACK_H hours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from features.bars import Bars
from features.windows import Rows, carried, decayed, mean, mean_known, since, weighted

Array = npt.NDArray[np.float64]

CARRY_H = 6
"""The size of the last known move is held through at most this many missing hours."""

SERIES: tuple[str, ...] = ("ret", "dev")
HALF_LIVES_H: tuple[tuple[str, float], ...] = (("v2", 1.5), ("v4", 4.0), ("v11", 11.2), ("v72", 72.0))
"""Ladder of exponential memories; 11.2 h is RiskMetrics' decay 0.94 a step."""

TREND_HALF_LIVES_H: tuple[tuple[str, float], ...] = (("t6", 6.0), ("t48", 48.0))
BASE_HALF_LIFE_H = 24.0  # level everything else is relative to; decay 0.9715 a step
ROLLING_H: tuple[tuple[str, int], ...] = (("v240", 240), ("v672", 672))
SEASON_H: tuple[int, ...] = (1, 4, 12, 24)
_DAYS, _WEEKS = 28, 6  # same hours of day and of week that a season remembers
_WEEK_H = 168

LOOKBACK_H = (_WEEKS + 1) * _WEEK_H + 2
"""Hours of history a feature may draw on: the weeks of the season and the level before the first of them."""

_FLOOR = 1e-12  # variance of an hour in which nothing moved: 1e-4 % squared


def moves(bars: Bars, targets: Mapping[str, float], hours: int = 1) -> tuple[Array, Array]:
    """Return the log returns and deviations (t, k) over the last ``hours`` hours, NaN where unknown.

    A return lies between two bars: one from or to a carried close would be a move of zero, or of a whole gap at once.
    A deviation is ret - ln(sum_j w_j exp(ret_j)) over the basket at its target weights: NaN for assets outside of it,
    and for all unless every member moved.
    """
    log = np.log(bars.close)
    ret = np.full_like(log, np.nan)
    both = bars.fresh[hours:] & bars.fresh[:-hours]
    ret[hours:] = np.where(both, log[hours:] - log[:-hours], np.nan)
    return ret, deviation(ret, bars.assets, targets)


def deviation(ret: Array, assets: Sequence[str], targets: Mapping[str, float]) -> Array:
    """Return log returns ``ret`` (t, k) less that of the basket; NaN for assets outside of it."""
    out = np.full_like(ret, np.nan)
    if not targets or not set(targets) <= set(assets):
        return out
    member = [assets.index(a) for a in targets]
    grown = np.zeros(len(ret))
    for column, weight in zip(member, targets.values(), strict=True):  # one order: one row equals many to the bit
        grown += weight * np.exp(ret[:, column])
    out[:, member] = ret[:, member] - np.log(grown)[:, None]
    return out


def volatility_features(bars: Bars, ret: Array, dev: Array, rows: Rows) -> dict[str, Array]:
    """Return every feature (n, k) at the ascending ``rows`` of the hourly grid; every value was known then.

    ``<s>_base`` is the log of the exponentially weighted hourly volatility of series ``s``. The other levels are logs
    relative to it: ``<s>_v*`` second moments, ``<s>_a*`` mean absolute moves, ``<s>_m*`` panel means, ``pk*`` ranges.
    ``<s>_s<h>`` and ``<s>_w<h>`` are log season factors of the next h hours by hour of day and of week, ``pk_s<h>`` and
    ``pk_w<h>`` those of ranges. ``<s>_now`` is
    the last move in units of that volatility, ``<s>_t*`` mean moves of the last hours in the same units; ``gap`` is
    ret_base - dev_base; ``volume_*`` is log activity against its month.
    """
    found: dict[str, Array] = {}
    for name, x in zip(SERIES, (ret, dev), strict=True):
        found |= _of_series(name, x, rows)
    parkinson = np.log(bars.high / bars.low) ** 2 / (4.0 * math.log(2.0))
    activity = np.log(bars.volume + 1.0)
    for label, half in (("2", 1.5), ("6", 6.0), ("24", 24.0)):
        found[f"pk{label}"] = _half_log(decayed(parkinson, rows, half)) - found["ret_base"]
    for kind, factor in _seasons(parkinson, np.sqrt(parkinson), rows).items():  # a range is less noisy than a move
        found[f"pk_{kind}"] = np.broadcast_to(factor, found["ret_base"].shape)
    month = mean(activity, rows, 672, 48)
    for label, half in (("2", 2.0), ("24", 24.0)):
        found[f"volume_{label}"] = decayed(activity, rows, half) - month
    found["gap"] = found["ret_base"] - found["dev_base"]
    hour = bars.hours[rows]
    shape = found["gap"].shape
    found["hour"] = np.broadcast_to((hour % 24).astype(np.float64)[:, None], shape)
    found["weekday"] = np.broadcast_to(((hour // 24 + 3) % 7 + 1).astype(np.float64)[:, None], shape)  # Monday 1
    return {name: found[name] for name in feature_names()}


def feature_names(series: Sequence[str] = SERIES) -> list[str]:
    """Return the feature columns that describe ``series``, in order."""
    names: list[str] = []
    for s in series:
        names += [f"{s}_base", *(f"{s}_{n}" for n, _ in HALF_LIVES_H), *(f"{s}_{n}" for n, _ in ROLLING_H)]
        names += [f"{s}_{n}" for n in ("a4", "a24", "last", "now", "t6", "t48", "m2", "m12", "m72")]
        names += [f"{s}_{kind}{h}" for kind in ("s", "w") for h in SEASON_H]
    names += [f"pk_{kind}{h}" for kind in ("s", "w") for h in SEASON_H]
    return [*names, "pk2", "pk6", "pk24", "volume_2", "volume_24", "gap", "hour", "weekday"]


def _half_log(variance: Array) -> Array:
    return np.asarray(0.5 * np.log(variance + _FLOOR), dtype=np.float64)


def _of_series(s: str, x: Array, rows: Rows) -> dict[str, Array]:
    square, size = x**2, np.abs(x)
    base = _half_log(decayed(square, rows, BASE_HALF_LIFE_H))
    common = mean_known(square)
    levels = {
        **{n: _half_log(decayed(square, rows, half)) for n, half in HALF_LIVES_H},
        **{n: _half_log(mean(square, rows, hours, 24)) for n, hours in ROLLING_H},
        "a4": np.log(decayed(size, rows, 4.0) + 1e-6),
        "a24": np.log(decayed(size, rows, 24.0) + 1e-6),
        "last": np.log(carried(size, CARRY_H)[rows] + 1e-5),
        **{f"m{h}": _half_log(decayed(common, rows, float(h))) for h in (2, 12, 72)},
    }
    recent = {"now": x[rows], **{n: decayed(x, rows, half) for n, half in TREND_HALF_LIVES_H}}
    season = _seasons(square, size, rows)
    return {
        f"{s}_base": base,
        **{f"{s}_{n}": level - base for n, level in levels.items()},
        **{f"{s}_{n}": np.clip(move / np.exp(base), -6.0, 6.0) for n, move in recent.items()},
        **{f"{s}_{n}": np.broadcast_to(factor, base.shape) for n, factor in season.items()},
    }


def _seasons(square: Array, size: Array, rows: Rows) -> dict[str, Array]:
    """Return log season factors (n, 1) of the next 1, 4, 12 and 24 hours, from the same hours of the weeks before.

    The factor of an hour is the panel's mean absolute move over its level of the week before, averaged over the last
    28 same hours of day (``s``) or six same hours of week (``w``). The hour t + k was last seen at t + k - 24
    (or - 168), so the h-hour mean that ends 24 - h (168 - h) hours ago looks at the past only.
    """
    span = since(rows, _WEEKS * _WEEK_H)
    level = np.exp(_half_log(mean(square, span - 1, _WEEK_H, 24)))
    relative = mean_known(np.clip(size[span] / level, 0.0, 5.0))
    near = since(rows, _WEEK_H) - span[0]
    at = rows - span[0] - near[0]
    found = {}
    for kind, cycle, count, least in (("s", 24, _DAYS, 3), ("w", _WEEK_H, _WEEKS, 2)):
        same = weighted(relative, near, np.ones(count), step=cycle, least=least)
        for h in SEASON_H:
            found[f"{kind}{h}"] = np.log(mean(same, at - (cycle - h), h) + 1e-3)
    return found
