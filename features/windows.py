"""Windows over hourly series: one definition of a feature for years of training rows and for the row of a decision.

A series is an array (t, k) on the hourly grid, one column a key, NaN where unknown. Every function returns the values
(n, k) at the ascending row numbers ``rows``. Each value is added up afresh over its own finite window, so
it depends neither on where the array begins nor on which rows are asked for: one row equals the batch to the bit.
"""

from __future__ import annotations

import math
from functools import cache

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

MEMORY = 10.0
"""Half-lives after which an exponential memory ends: what is cut off weighs a thousandth."""

_LEAST = 12  # known hours before an exponential mean is given


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})  # type: ignore[untyped-decorator]
def _summed(part: Array, weights: Array) -> tuple[float, float, int]:
    """Return the weighted sum, the weight and the count of what is known; the order depends on the length alone."""
    total, weight, count = 0.0, 0.0, 0
    for j in range(len(part)):
        known = not np.isnan(part[j])
        total += weights[j] * part[j] if known else 0.0
        weight += weights[j] if known else 0.0
        count += 1 if known else 0
    return total, weight, count


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _weighted(x: Array, rows: Rows, weights: Array, step: int, prior: float, least: int) -> Array:
    """``x`` is (k, t); the first of ``weights`` belongs to the oldest value."""
    reach = len(weights)
    out = np.full((len(rows), len(x)), np.nan)
    for i in range(len(rows)):
        held = min(rows[i] // step + 1, reach) if rows[i] >= 0 else 0
        for k in range(len(x)):
            first = rows[i] - (held - 1) * step
            if held == 0:
                total, weight, count = 0.0, 0.0, 0
            elif step == 1:  # apart, for a series without gaps in memory is summed several times as fast
                total, weight, count = _summed(x[k, first : rows[i] + 1], weights[reach - held :])
            else:
                total, weight, count = _summed(x[k, first : rows[i] + 1 : step], weights[reach - held :])
            if count >= least and weight + prior > 0.0:
                out[i, k] = total / (weight + prior)
    return out


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _lowest(x: Array, rows: Rows, hours: int, least: int) -> Array:
    """Keep the rising values of the window in a queue (Lemire 2006): a minimum does not depend on the order."""
    out = np.full((len(rows), x.shape[1]), np.nan)
    queue = np.empty(len(x), dtype=np.int64)
    for k in range(x.shape[1]):
        head, tail, known, at = 0, 0, 0, max(rows[0] - hours + 1, 0)
        for i in range(len(rows)):
            while at <= rows[i]:
                if not np.isnan(x[at, k]):
                    known += 1
                    while tail > head and x[queue[tail - 1], k] >= x[at, k]:
                        tail -= 1
                    queue[tail] = at
                    tail += 1
                gone = at - hours
                if gone >= max(rows[0] - hours + 1, 0) and not np.isnan(x[gone, k]):
                    known -= 1
                while tail > head and queue[head] <= gone:
                    head += 1
                at += 1
            if known >= least and tail > head:
                out[i, k] = x[queue[head], k]
    return out


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _median(x: Array, rows: Rows, hours: int, least: int) -> Array:
    out = np.full((len(rows), x.shape[1]), np.nan)
    held = np.empty(hours)
    for i in range(len(rows)):
        for k in range(x.shape[1]):
            count = 0
            for at in range(rows[i], max(rows[i] - hours, -1), -1):
                value = x[at, k]
                if not np.isnan(value):
                    held[count] = value
                    count += 1
            if count >= least:
                out[i, k] = np.median(held[:count])
    return out


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _spread(x: Array, rows: Rows, centre: Array, hours: int) -> Array:
    out = np.full((len(rows), x.shape[1]), np.nan)
    for i in range(len(rows)):
        for k in range(x.shape[1]):
            total, count = 0.0, 0
            for at in range(rows[i], max(rows[i] - hours, -1), -1):
                value = x[at, k]
                if not np.isnan(value):
                    total += (value - centre[i, k]) ** 2
                    count += 1
            if count > 1 and not np.isnan(centre[i, k]):
                out[i, k] = np.sqrt(total / (count - 1))
    return out


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _carried(x: Array, limit: int) -> Array:
    out = x.copy()
    for k in range(x.shape[1]):
        age = limit + 1
        for t in range(len(x)):
            if not np.isnan(x[t, k]):
                age = 0
            else:
                age += 1
                if age <= limit:
                    out[t, k] = out[t - 1, k]
    return out


def weighted(x: Array, rows: Rows, weights: Array, step: int = 1, prior: float = 0.0, least: int = 1) -> Array:
    """Return sum(w_j x[t - j step]) / (prior + sum(w_j)) over the known ones, NaN with fewer than ``least`` of them.

    ``prior`` is how many observations of zero stand against the sample.
    """
    return _added(x, rows, np.ascontiguousarray(weights[::-1]), step, prior, least)


def _added(x: Array, rows: Rows, oldest_first: Array, step: int, prior: float, least: int) -> Array:
    """Return the sums of ``weighted``; only the part of ``x`` that the windows of ``rows`` reach is looked at."""
    low = max(int(rows[0]) - (len(oldest_first) - 1) * step, 0) if len(rows) else 0
    reached = np.ascontiguousarray(x[low : int(rows[-1]) + 1].T) if low else np.ascontiguousarray(x.T)
    return np.asarray(_weighted(reached, rows - low, oldest_first, step, prior, least), dtype=np.float64)


def mean(x: Array, rows: Rows, hours: int, least: int = 1) -> Array:
    """Return the mean of the last ``hours`` rows, the row itself included."""
    return _added(x, rows, _equal(hours), 1, 0.0, least)


def decayed(x: Array, rows: Rows, half_life_h: float) -> Array:
    """Return the exponentially weighted mean with ``half_life_h``, which ends after MEMORY half-lives."""
    return _added(x, rows, _fading(half_life_h), 1, 0.0, _LEAST)


@cache
def _equal(hours: int) -> Array:
    """Return ``hours`` equal weights."""
    return np.ones(hours)


@cache
def _fading(half_life_h: float) -> Array:
    """Return exponential weights, the oldest first."""
    reach = max(memory_h(half_life_h), 2 * _LEAST)
    return np.ascontiguousarray((0.5 ** (np.arange(reach) / half_life_h))[::-1])


def memory_h(half_life_h: float) -> int:
    """Return how many hours an exponential mean looks back."""
    return math.ceil(MEMORY * half_life_h)


def lowest(x: Array, rows: Rows, hours: int, least: int = 1) -> Array:
    """Return the minimum of the last ``hours`` rows."""
    return np.asarray(_lowest(x, rows, hours, least), dtype=np.float64)


def highest(x: Array, rows: Rows, hours: int, least: int = 1) -> Array:
    """Return the maximum of the last ``hours`` rows."""
    return -lowest(-x, rows, hours, least)


def median(x: Array, rows: Rows, hours: int, least: int = 1) -> Array:
    """Return the median of the last ``hours`` rows."""
    return np.asarray(_median(x, rows, hours, least), dtype=np.float64)


def spread(x: Array, rows: Rows, hours: int, least: int = 2) -> Array:
    """Return the standard deviation (n - 1) of the last ``hours`` rows, in two passes."""
    return np.asarray(_spread(x, rows, mean(x, rows, hours, max(least, 2)), hours), dtype=np.float64)


def lag(x: Array, rows: Rows, hours: int) -> Array:
    """Return the value ``hours`` rows earlier, NaN before the array begins."""
    at = rows - hours
    return np.where((at >= 0)[:, None], x[np.maximum(at, 0)], np.nan)


def lags(x: Array, rows: Rows, hours: Rows) -> Array:
    """Return the values (h, n, k) each of ``hours`` (h,) rows earlier, NaN before the array begins."""
    at = rows - hours[:, None]
    return np.where((at >= 0)[:, :, None], x[np.maximum(at, 0)], np.nan)


def carried(x: Array, limit: int) -> Array:
    """Return ``x`` (t, k) with unknown values replaced by the last known one, at most ``limit`` rows old."""
    return np.asarray(_carried(x, limit), dtype=np.float64)


def since(rows: Rows, hours: int) -> Rows:
    """Return all row numbers from ``hours`` before the first of ``rows`` to the last."""
    return np.arange(max(int(rows[0]) - hours, 0), int(rows[-1]) + 1)


def mean_known(x: Array) -> Array:
    """Return (t, 1), the mean over keys of what is known, NaN where nothing is."""
    known = np.isfinite(x)
    count = known.sum(axis=1)
    total = np.where(known, x, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)[:, None]
