"""What a gas forecast has to beat: last value, seasonal naive, AR(1) around an hour-of-week season."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from lake.units import HOUR_S
from models.base import Forecaster, TargetSpec, label
from models.evaluation.point_baselines import Point, PointBaseline

Array = npt.NDArray[np.float64]


def gas_baselines(specs: tuple[TargetSpec, ...]) -> Mapping[str, Forecaster]:
    """Return the baselines by name; each adds the quantiles of its own past errors to a point forecast in log gwei."""
    fits = {"last": _last, "seasonal": _seasonal, "ar": _ar}
    return {name: PointBaseline(name, specs, fit) for name, fit in fits.items()}


def _now(panel: pl.DataFrame) -> Array:
    return np.asarray(np.log(panel["b|now_gwei"].to_numpy()), dtype=np.float64)


def _last(panel: pl.DataFrame, spec: TargetSpec, horizon_s: int) -> Point:  # noqa: ARG001
    return _now


def _seasonal(panel: pl.DataFrame, spec: TargetSpec, horizon_s: int) -> Point:  # noqa: ARG001
    feature = "low_day1" if spec.name == "gas_min" else "day1"
    column = f"t{horizon_s // HOUR_S}_{feature}"
    return lambda p: _now(p) + p[column].fill_null(float("nan")).to_numpy()


def _ar(panel: pl.DataFrame, spec: TargetSpec, horizon_s: int) -> Point:
    """AR(1) around a trailing level and the season of the hour of week, its decay measured directly at each horizon.

    Level and season are learnt from the past only and renewed every hour; for a minimum the point is the lowest of
    the path's hours, decays interpolated between the measured horizons.
    """
    measured = sorted(int(c.split("|")[2]) // HOUR_S for c in panel.columns if c.startswith("y|gas|"))
    decay = [_decay(panel, h) for h in measured]
    horizon_h = horizon_s // HOUR_S
    hours = list(range(1, horizon_h + 1)) if spec.name == "gas_min" else [horizon_h]
    factors = np.interp(hours, measured, decay)

    def point(rows: pl.DataFrame) -> Array:
        gap = _now(rows) - _column(rows, "b|level") - _column(rows, "b|season|0")
        path = [
            _column(rows, "b|level") + _column(rows, f"b|season|{h}") + f * gap
            for h, f in zip(hours, factors, strict=True)
        ]
        return np.asarray(np.min(path, axis=0), dtype=np.float64)

    return point


def _column(panel: pl.DataFrame, name: str) -> Array:
    return np.asarray(panel[name].fill_null(float("nan")).to_numpy(), dtype=np.float64)


def _decay(panel: pl.DataFrame, horizon_h: int) -> float:
    """Least-squares slope of the later gap to season and level on the present one."""
    gap = _now(panel) - _column(panel, "b|level") - _column(panel, "b|season|0")
    y = np.log(_column(panel, label("gas", horizon_h * HOUR_S)))
    later = y - _column(panel, "b|level") - _column(panel, f"b|season|{horizon_h}")
    known = np.isfinite(later) & np.isfinite(gap)
    below = float(gap[known] @ gap[known])
    return float(gap[known] @ later[known]) / below if below > 0 else 0.0
