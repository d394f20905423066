"""Forecasts for now: a fitted family with its calibration, issued in milliseconds from recent rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from lightgbm.basic import LightGBMError

from lake.errors import ModelError
from lake.tables import TABLES
from lake.units import HOUR_S
from models.base import FORECAST_COLUMNS, QUANTILE_COLUMNS, Family, LakeView, SavedFitted
from models.calibrate import Corrections
from models.config import ModelConfig
from models.numbers import Panel

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
class Recent:
    """Recent rows of the lake held in memory; reads like a lake, in microseconds.

    ``until`` is the moment up to which it was cut: no row in it was available later.
    """

    frames: Mapping[str, pl.DataFrame]
    until: datetime | None = None

    def scan(self, name: str, as_of: datetime | None = None) -> pl.LazyFrame:
        """Return table ``name`` lazily without rows that were not available at ``as_of``."""
        frame = self.frames[name].lazy() if name in self.frames else pl.LazyFrame(schema=TABLES[name].columns)
        if as_of is None or (self.until is not None and self.until <= as_of):
            return frame
        return frame.filter(pl.col("available_at") <= as_of)

    def cut(self, moment: datetime) -> Recent:
        """Return the rows that were available at ``moment``."""
        if self.until is not None and self.until <= moment:
            return self
        micros = round(moment.timestamp() * 1e6)
        kept = {}
        for name, frame in self.frames.items():
            known = frame["available_at"].cast(pl.Datetime("us", "UTC")).to_physical() <= micros
            kept[name] = frame if known.all() else frame.filter(known)
        return Recent(kept, moment)


Review = Callable[[LiveModel, Panel, pl.DataFrame, datetime], pl.DataFrame]
"""Called with (model, panel, rows, decision time); returns the rows, some of them abstaining (``models.trust``)."""

FAILURES = (ModelError, LightGBMError, pl.exceptions.PolarsError, ArithmeticError, LookupError, ValueError)
"""What a model raises on input it was not made for; anything else is a bug and is not caught."""


def recent(lake: LakeView, as_of: datetime, days: int = RECENT_DAYS) -> Recent:
    """Return the last ``days`` of every table that features read, as of ``as_of``."""
    since = as_of - timedelta(days=days)
    tables = ("prices", "gas", "pool_state", "signals")
    return Recent({n: lake.scan(n, as_of=as_of).filter(pl.col("ts") >= since).collect() for n in tables})


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
    parts = [_issue_one(view, cfg, model, at, review) for model in fitted.values()]
    rows = pl.concat(parts) if parts else pl.DataFrame(schema=dict.fromkeys(FORECAST_COLUMNS, pl.String))
    return rows.with_columns(pl.col("issued_at").alias("available_at"))


@dataclass(frozen=True, slots=True)
class _AsOf:
    lake: LakeView
    moment: datetime

    def scan(self, name: str, as_of: datetime | None = None) -> pl.LazyFrame:
        return self.lake.scan(name, as_of=self.moment if as_of is None else min(as_of, self.moment))


def _issue_one(lake: LakeView, cfg: ModelConfig, model: LiveModel, at: datetime, review: Review | None) -> pl.DataFrame:
    reason = None
    rows: pl.DataFrame | None = None
    try:
        panel = model.family.now(lake, cfg, at)
        if panel.height:
            rows = model.corrections.apply(model.fitted.predict(panel), model.family.targets)
            if review is not None:
                rows = review(model, panel, rows.select(FORECAST_COLUMNS), at)
    except FAILURES as error:
        rows = None
        reason = f"model {model.version} does not fit its input: {error}"
    spoken: set[tuple[str, str, int]] = set()
    if rows is not None:
        spoken = set(zip(rows["target"].to_list(), rows["key"].to_list(), rows["horizon_s"].to_list(), strict=True))
    silent = [w for w in model.corrections.offsets if w not in spoken]
    if rows is not None and not silent:
        return rows.select(FORECAST_COLUMNS)
    missing = pl.DataFrame(
        [
            (
                t,
                k,
                at,
                h,
                *[None] * len(QUANTILE_COLUMNS),
                None,
                model.version,
                True,
                reason or f"no value of {k} at {at}",
            )
            for t, k, h in silent
        ],
        schema={
            "target": pl.String,
            "key": pl.String,
            "issued_at": pl.Datetime("us", "UTC"),
            "horizon_s": pl.Int64,
            **dict.fromkeys((*QUANTILE_COLUMNS, "mean"), pl.Float64),
            "model_version": pl.String,
            "abstain": pl.Boolean,
            "reason": pl.String,
        },
        orient="row",
    )
    return missing if rows is None else pl.concat([rows.select(FORECAST_COLUMNS), missing])
