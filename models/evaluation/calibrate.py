"""Online calibration of quantiles: one-sided conformal corrections with adaptive levels, aggregated (AgACI).

For every quantile level tau the score is s = (y - q_tau) / width of the raw forecast. The correction at time t is
the empirical quantile, at an adaptive level, of the last scores whose outcome is known at t: conformalised
quantile regression per side (Romano, Patterson, Candes 2019). The level follows adaptive conformal inference,
level += xi * (tau - 1{y <= issued}) (Gibbs and Candes 2021), for several step sizes xi; the experts are averaged
with exponential weights on their pinball loss (Zaffran et al. 2022). An expert without any correction takes part,
so calibration costs little where the raw quantiles are right. Everything used at t was known at t: an outcome is
absorbed only once ``issued_at + horizon`` has passed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np
import numpy.typing as npt
import polars as pl

from models.base import TargetSpec
from models.forecast_rows import ForecastArrays
from models.forecast_schema import QUANTILE_COLUMNS, QUANTILES

Array = npt.NDArray[np.float64]

STEPS: tuple[float, ...] = (0.0, 0.005, 0.02, 0.05)
"""ACI step sizes of the experts at a delay of one forecast: 0 is plain split conformal, 0.05 forgets within days.

An outcome that arrives d forecasts late moves the level d times before the first answer, so steps shrink with
1 / sqrt(d); without that, levels at long horizons swing from one end to the other.
"""

WINDOW = 1440
"""Scores remembered, in forecasts: two months of hours, a compromise between noise and regime change."""

MIN_SCORES = 48
"""Known outcomes before any correction is made: two days of hours."""

_RATE = 2.0  # learning rate of the exponential weights, on losses in units of the interval's width
_RATE_OUTER = 0.3  # the same for levels outside 10..90 %: slower, because coverage matters more there than pinball
_FORGET = 0.995  # decay of the experts' past losses per outcome: about 200 outcomes count


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _insert(buffer: Array, n: int, value: float) -> None:
    """Insert ``value`` into the sorted first ``n`` entries."""
    i = np.searchsorted(buffer[:n], value)
    for j in range(n, i, -1):
        buffer[j] = buffer[j - 1]
    buffer[i] = value


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _remove(buffer: Array, n: int, value: float) -> None:
    """Remove one ``value`` from the sorted first ``n`` entries."""
    i = np.searchsorted(buffer[:n], value)
    for j in range(i, n - 1):
        buffer[j] = buffer[j + 1]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _pick(buffer: Array, n: int, level: float) -> float:
    """Empirical quantile by linear interpolation; beyond 0..1 it extends by the buffer's inner spread."""
    position = level * (n + 1) - 1.0
    if position <= 0.0:
        return float(buffer[0] + position / n * (buffer[n // 2] - buffer[0]))
    if position >= n - 1.0:
        return float(buffer[n - 1] + (position - (n - 1.0)) / n * (buffer[n - 1] - buffer[n // 2]))
    low = int(position)
    return float(buffer[low] + (position - low) * (buffer[low + 1] - buffer[low]))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _track(
    ts: npt.NDArray[np.int64],
    due: int,
    q: Array,
    width: Array,
    y: Array,
    tau: float,
    steps: Array,
    window: int,
    rate: float,
) -> Array:
    """Return the corrected quantile of one level for a time-ordered series; NaN in ``y`` is an unknown outcome."""
    n, m = len(ts), len(steps) + 1  # the last expert makes no correction
    out = np.empty(n)
    issued = np.empty((n, m))
    level = np.full(m, tau)
    loss = np.zeros(m)
    scores = np.empty(window + 1)
    ring = np.empty(window)
    count, absorbed = 0, 0
    weight = np.empty(m)
    for i in range(n):
        while absorbed < i and ts[absorbed] + due <= ts[i]:
            j = absorbed
            absorbed += 1
            if not np.isfinite(y[j]) or not np.isfinite(q[j]):
                continue
            for e in range(m):
                gap = (y[j] - issued[j, e]) / width[j]
                loss[e] = _FORGET * loss[e] + (tau * gap if gap > 0 else (tau - 1.0) * gap)
                if e < m - 1:
                    level[e] += steps[e] * (tau - (1.0 if y[j] <= issued[j, e] else 0.0))
                    level[e] = min(max(level[e], -0.2), 1.2)
            value = (y[j] - q[j]) / width[j]
            held = min(count, window)
            if count >= window:
                _remove(scores, held, ring[count % window])
                held -= 1
            _insert(scores, held, value)
            ring[count % window] = value
            count += 1
        held = min(count, window)
        for e in range(m):
            issued[i, e] = q[i]
            if e < m - 1 and held >= MIN_SCORES:
                issued[i, e] += width[i] * _pick(scores, held, level[e])
        best = loss.min()
        for e in range(m):
            weight[e] = np.exp(-rate * (loss[e] - best))
        out[i] = (weight * issued[i]).sum() / weight.sum()
    return out


def calibrate(
    ts_s: npt.NDArray[np.int64],
    horizon_s: int,
    q: Array,
    y: Array,
    levels: tuple[float, ...] = QUANTILES,
    tail_window: int = WINDOW,
) -> Array:
    """Return calibrated quantiles (n, len(levels)) of one series, sorted within each row.

    ``ts_s`` (n,) issue times in seconds, ascending; ``q`` (n, k) raw quantiles; ``y`` (n,) outcomes in the same
    space, NaN where unknown; levels outside 10..90 % remember ``tail_window`` scores. Row i uses only outcomes with
    ``ts + horizon <= ts[i]``.
    """
    q = np.sort(q, axis=1)
    width = np.maximum(q[:, -1] - q[:, 0], 1e-12)
    spacing = float(np.median(np.diff(ts_s))) if len(ts_s) > 1 else float(horizon_s)
    steps = np.asarray(STEPS) / np.sqrt(max(horizon_s / max(spacing, 1.0), 1.0))
    columns = []
    for k, tau in enumerate(levels):
        rate, window = (_RATE, WINDOW) if 0.1 < tau < 0.9 else (_RATE_OUTER, tail_window)
        columns.append(_track(ts_s, horizon_s, q[:, k], width, y, tau, steps, window, rate))
    return np.sort(np.column_stack(columns), axis=1)


@dataclass(frozen=True, slots=True)
class Corrections:
    """The latest corrections by (target, key, horizon_s): offsets per quantile in units of the raw width."""

    offsets: dict[tuple[str, str, int], tuple[float, ...]]

    def apply(self, rows: ForecastArrays, specs: tuple[TargetSpec, ...]) -> ForecastArrays:
        """Return raw forecast ``rows`` with the corrections added (in log where the target says so)."""
        spaces, series = _spaces(specs), rows.series
        given = [self.offsets.get(s) if s[0] in spaces else None for s in series]
        known = np.array([g is not None for g in given], dtype=bool)
        if not known.any():
            return rows
        q = rows.quantiles[known]
        scaled = np.array([spaces.get(s[0]) == "log" for s in series], dtype=bool)[known]
        q[scaled] = np.log(q[scaled])
        width = np.maximum(q[:, -1] - q[:, 0], 1e-12)
        q = np.sort(q + width[:, None] * np.array([g for g in given if g is not None]), axis=1)
        q[scaled] = np.exp(q[scaled])
        corrected = rows.quantiles.copy()
        corrected[known] = q
        return replace(rows, quantiles=corrected)


def _spaces(specs: tuple[TargetSpec, ...]) -> dict[str, str]:
    """Return the space of each target whose quantiles are corrected."""
    return {s.name: s.space for s in specs if s.score == "pinball"}


def _trust(ts_s: npt.NDArray[np.int64], horizon_s: int, y: Array, prior: float) -> Array:
    """Return the weight (n,) of the corrections: independent outcomes known at each row over those plus ``prior``."""
    if prior <= 0.0:
        return np.ones(len(ts_s))
    spacing = float(np.median(np.diff(ts_s))) if len(ts_s) > 1 else float(horizon_s)
    known = np.searchsorted(ts_s, ts_s - horizon_s, side="right")
    count = np.concatenate([[0.0], np.cumsum(np.isfinite(y))])[known]
    independent = np.minimum(count, WINDOW) / max(horizon_s / max(spacing, 1.0), 1.0)
    return np.asarray(independent / (independent + prior), dtype=np.float64)


def calibrate_rows(
    rows: pl.DataFrame, outcomes: pl.DataFrame, specs: tuple[TargetSpec, ...]
) -> tuple[pl.DataFrame, Corrections]:
    """Calibrate raw forecast ``rows`` series by series; return them and the corrections in force at the end.

    ``outcomes`` is (target, key, issued_at, horizon_s, y). Mean-only targets and abstaining rows pass unchanged.
    In log space the mean is scaled with the median; in linear space it is the family's business and stays.
    """
    known = {s.name: s for s in specs if s.score == "pinball"}
    speaks = pl.col("target").is_in(list(known)) & ~pl.col("abstain") & pl.col("q50").is_not_null()
    passed = rows.filter(~speaks)
    joined = (
        rows.filter(speaks)
        .join(outcomes, on=["target", "key", "issued_at", "horizon_s"], how="left")
        .sort("target", "key", "horizon_s", "issued_at")
    )
    parts, offsets = [passed], {}
    for (target, key, horizon_s), series in joined.group_by(["target", "key", "horizon_s"], maintain_order=True):
        spec = known[str(target)]
        log = spec.space == "log"
        raw = np.sort(series.select(QUANTILE_COLUMNS).to_numpy(), axis=1)
        y = series["y"].fill_null(float("nan")).to_numpy()
        mean = series["mean"].to_numpy()
        if log:
            raw, y = np.log(raw), np.log(y)
        ts_s = series["issued_at"].dt.epoch("s").to_numpy()
        fixed = calibrate(ts_s, int(str(horizon_s)), raw, y, tail_window=spec.tail_window)
        fixed = raw + _trust(ts_s, int(str(horizon_s)), y, spec.prior_outcomes)[:, None] * (fixed - raw)
        width = np.maximum(raw[-1, -1] - raw[-1, 0], 1e-12)
        offsets[str(target), str(key), int(str(horizon_s))] = tuple(((fixed[-1] - raw[-1]) / width).tolist())
        moved = mean * np.exp(fixed[:, 2] - raw[:, 2]) if log else mean
        if log:
            fixed = np.exp(fixed)
        columns = [pl.Series(c, fixed[:, k]) for k, c in enumerate(QUANTILE_COLUMNS)]
        parts.append(series.with_columns(*columns, pl.Series("mean", moved)).select(rows.columns))
    return pl.concat(parts), Corrections(offsets)
