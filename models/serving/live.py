"""Forecasts for now: a fitted family with its calibration, issued in milliseconds from recent rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from lightgbm.basic import LightGBMError

from features.records import Holds, Records, microseconds
from lake.errors import ModelError
from lake.tables import TABLES
from lake.units import HOUR_S
from models.arrays import Panel
from models.base import Family, LakeView, SavedFitted
from models.config import ModelConfig
from models.evaluation.calibrate import Corrections
from models.forecast_rows import ForecastArrays, joined

RECENT_DAYS = 78
"""Days of rows kept in memory for live features: the longest look-back of any feature, and a day for holes."""


@dataclass(frozen=True, slots=True)
class LiveModel:
    """One family's model, the corrections in force and the moment it knew everything up to."""

    family: Family
    fitted: SavedFitted
    corrections: Corrections
    trained_at: datetime

    @property
    def version(self) -> str:
        """Return the model's version."""
        return self.fitted.version

    def save(self, folder: Path) -> None:
        """Write the model and its calibration into ``folder``."""
        self.fitted.save(folder)
        state = {
            "trained_at": self.trained_at.isoformat(),
            "corrections": [[*key, *offsets] for key, offsets in sorted(self.corrections.offsets.items())],
        }
        (folder / "calibration.json").write_text(json.dumps(state))

    @classmethod
    def load(cls, folder: Path, family: Family, fitted: SavedFitted) -> LiveModel:
        """Read the calibration beside an already loaded ``fitted``; raises ModelError when it is missing or torn."""
        try:
            state = json.loads((folder / "calibration.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError) as error:
            raise ModelError(f"{folder} holds no calibration: {error}") from error
        offsets = {(t, k, int(h)): tuple(map(float, rest)) for t, k, h, *rest in state["corrections"]}
        return cls(family, fitted, Corrections(offsets), datetime.fromisoformat(state["trained_at"]))


@dataclass(frozen=True, slots=True)
class Recent(Holds):
    """Recent rows of the lake held in memory, as frames and as arrays; reads like a lake, in microseconds.

    ``until`` is the moment up to which it was cut: no row in it was available later.
    """

    frames: Mapping[str, pl.DataFrame]
    arrays: Mapping[str, Records]
    until: datetime | None = None

    @classmethod
    def of(cls, frames: Mapping[str, pl.DataFrame]) -> Recent:
        """Return the rows of ``frames`` by table name."""
        return cls(frames, {name: Records.of(frame) for name, frame in frames.items()})

    def scan(self, name: str, as_of: datetime | None = None) -> pl.LazyFrame:
        """Return table ``name`` lazily without rows that were not available at ``as_of``."""
        frame = self.frames[name].lazy() if name in self.frames else pl.LazyFrame(schema=TABLES[name].columns)
        if as_of is None or (self.until is not None and self.until <= as_of):
            return frame
        return frame.filter(pl.col("available_at") <= as_of)

    def held(self, name: str) -> Records | None:
        """Return the rows of table ``name`` as arrays, None where it is not kept."""
        return self.arrays.get(name)

    def cut(self, moment: datetime) -> Recent:
        """Return the rows that were available at ``moment``."""
        if self.until is not None and self.until <= moment:
            return self
        frames, arrays = dict(self.frames), dict(self.arrays)
        for name, rows in self.arrays.items():
            known = rows["available_at"] <= microseconds(moment)
            if not known.all():
                frames[name], arrays[name] = frames[name].filter(known), rows.where(known)
        return Recent(frames, arrays, moment)


Review = Callable[[LiveModel, Panel, ForecastArrays, datetime], ForecastArrays]
"""Called with (model, panel, rows, decision time); returns the rows, some of them abstaining (``serving.trust``)."""

FAILURES = (ModelError, LightGBMError, pl.exceptions.PolarsError, ArithmeticError, LookupError, ValueError)
"""What a model raises on input it was not made for; anything else is a bug and is not caught."""


def recent(lake: LakeView, as_of: datetime, days: int = RECENT_DAYS) -> Recent:
    """Return the last ``days`` of every table that features read, and all executions, as of ``as_of``."""
    since = as_of - timedelta(days=days)
    tables = ("prices", "gas", "pool_state", "signals")
    frames = {n: lake.scan(n, as_of=as_of).filter(pl.col("ts") >= since).collect() for n in tables}
    return Recent.of(frames | {"executions": lake.scan("executions", as_of=as_of).collect()})


def issue(
    lake: LakeView,
    cfg: ModelConfig,
    fitted: Mapping[str, LiveModel],
    as_of: datetime,
    review: Review | None = None,
) -> pl.DataFrame:
    """Return the rows of table ``forecasts`` for the last full hour at or before ``as_of``; writes nothing.

    Every (target, key, horizon) a model has been calibrated for gets a row: where the present value is missing or
    the model does not fit its input, the row abstains with the reason. Rows not available at ``as_of`` are not read.
    ``review`` judges the rows of each model before they are returned.
    """
    seconds = int(as_of.timestamp()) // HOUR_S * HOUR_S
    at = datetime.fromtimestamp(seconds, UTC)
    view = lake.cut(as_of) if isinstance(lake, Recent) else _AsOf(lake, as_of)
    rows = joined([_issue_one(view, cfg, model, at, review) for model in fitted.values()]).frame()
    return rows.insert_column(rows.width, rows["issued_at"].alias("available_at"))


@dataclass(frozen=True, slots=True)
class _AsOf:
    lake: LakeView
    moment: datetime

    def scan(self, name: str, as_of: datetime | None = None) -> pl.LazyFrame:
        return self.lake.scan(name, as_of=self.moment if as_of is None else min(as_of, self.moment))


def _issue_one(
    lake: LakeView, cfg: ModelConfig, model: LiveModel, at: datetime, review: Review | None
) -> ForecastArrays:
    try:
        panel = model.family.now(lake, cfg, at)
        if not panel.height:
            return _missing(model, at, [])
        rows = model.corrections.apply(model.fitted.forecasts(panel), model.family.targets)
        if review is not None:
            rows = review(model, panel, rows, at)
    except FAILURES as error:
        return _missing(model, at, [], f"model {model.version} does not fit its input: {error}")
    return joined([rows, _missing(model, at, rows.series)])


def _missing(
    model: LiveModel, at: datetime, spoken: Sequence[tuple[str, str, int]], reason: str | None = None
) -> ForecastArrays:
    """Return abstaining rows for every series that ``model`` was calibrated for and has not ``spoken`` of."""
    said = set(spoken)
    series = [w for w in model.corrections.offsets if w not in said]
    reasons = [reason or f"no value of {key} at {at}" for _, key, _ in series]
    return ForecastArrays.silent(series, microseconds(at), model.version, reasons)
