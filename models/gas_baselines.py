"""What a gas forecast has to beat: last value, seasonal naive, AR(1) around an hour-of-week season."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from features.calendar import hour_of_week
from lake.units import HOUR_S
from models.base import Forecaster, TargetSpec, label
from models.baseline import Point, PointBaseline

Array = npt.NDArray[np.float64]

_SHRINK = 2.0  # an hour of week seen n times keeps n / (n + 2) of its mean deviation


def gas_baselines(specs: tuple[TargetSpec, ...]) -> Mapping[str, Forecaster]:
    """Return the baselines by name; each adds the quantiles of its own past errors to a point forecast in log gwei."""
    fits = {"last": _last, "seasonal": _seasonal, "ar": _ar}
    return {name: PointBaseline(name, specs, fit) for name, fit in fits.items()}


def _now(panel: pl.DataFrame) -> Array:
    return np.asarray(np.log(panel["now_gwei"].to_numpy()), dtype=np.float64)


def _last(panel: pl.DataFrame, spec: TargetSpec, horizon_s: int) -> Point:  # noqa: ARG001
    return _now


def _seasonal(panel: pl.DataFrame, spec: TargetSpec, horizon_s: int) -> Point:  # noqa: ARG001
    feature = "low_day1" if spec.name == "gas_min" else "day1"
    column = f"t{horizon_s // HOUR_S}_{feature}"
    return lambda p: _now(p) + p[column].fill_null(float("nan")).to_numpy()


def _ar(panel: pl.DataFrame, spec: TargetSpec, horizon_s: int) -> Point:
    """AR(1) around a season of the hour of week, with the decay measured directly at each horizon.

    For a minimum the point is the lowest of the path's hours, decays interpolated between measured horizons.
    """
    x, slot = _now(panel), panel.select(hour_of_week()).to_series().to_numpy()
    centre = float(x.mean())
    count = np.bincount(slot, minlength=168)
    season = np.bincount(slot, weights=x - centre, minlength=168) / (count + _SHRINK)
    measured = sorted(int(c.split("|")[2]) // HOUR_S for c in panel.columns if c.startswith(label("gas", 0)[:-1]))
    decay = [_decay(panel, x - centre - season[slot], centre, season, slot, h) for h in measured]
    horizon_h = horizon_s // HOUR_S
    hours = range(1, horizon_h + 1) if spec.name == "gas_min" else (horizon_h,)
    factors = np.interp(list(hours), measured, decay)

    def point(rows: pl.DataFrame) -> Array:
        here = rows.select(hour_of_week()).to_series().to_numpy()
        gap = _now(rows) - centre - season[here]
        path = np.stack([centre + season[(here + h) % 168] + f * gap for h, f in zip(hours, factors, strict=True)])
        return np.asarray(path.min(axis=0), dtype=np.float64)

    return point


def _decay(
    panel: pl.DataFrame, gap: Array, centre: float, season: Array, slot: npt.NDArray[np.int64], horizon_h: int
) -> float:
    y = np.log(panel[label("gas", horizon_h * HOUR_S)].fill_null(float("nan")).to_numpy())
    later = y - centre - season[(slot + horizon_h) % 168]
    known = np.isfinite(later) & np.isfinite(gap)
    below = float(gap[known] @ gap[known])
    return float(gap[known] @ later[known]) / below if below > 0 else 0.0
