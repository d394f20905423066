"""A baseline that serves as champion: it issues forecasts like a model and survives a restart."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from features.panel import Columns
from lake.errors import ModelError
from models.arrays import Panel
from models.base import Family, Fitted
from models.config import ModelConfig
from models.forecast_rows import ForecastArrays

FILE = "baseline.json"
DAYS = 120
"""Days of training rows kept with it: baselines look back a season of weeks, not years."""


@dataclass(frozen=True, slots=True)
class BaselineModel:
    """A fitted baseline of one family with the rows it was fitted on."""

    name: str
    version: str
    known: pl.DataFrame
    fitted: Fitted

    @classmethod
    def fit(cls, family: Family, cfg: ModelConfig, name: str, known: pl.DataFrame) -> BaselineModel:
        """Fit baseline ``name`` on the last DAYS of ``known``; raises ModelError when the family has no such one."""
        baselines = family.baselines(cfg)
        if name not in baselines:
            raise ModelError(f"{family.name} has no baseline {name!r}; it has {', '.join(baselines)}")
        last = known["ts"].max()
        assert isinstance(last, datetime)
        kept = known.filter(pl.col("ts") > pl.lit(last) - timedelta(days=DAYS))
        return cls(name, f"{family.name}-{name}-{last:%Y%m%dT%H}", kept, baselines[name].fit(kept))

    def predict(self, panel: Panel) -> pl.DataFrame:
        """Return raw forecast rows for every row of ``panel``."""
        return self.forecasts(panel).frame()

    def forecasts(self, panel: Panel) -> ForecastArrays:
        """Return the same as arrays."""
        rows = ForecastArrays.of(self.fitted.predict(Columns.of(panel).frame()))
        return replace(rows, version=np.full(rows.height, self.version, dtype=object))

    def importances(self) -> pl.DataFrame:
        """Return an empty table: a baseline weighs no features."""
        schema = {"target": pl.String, "horizon_s": pl.Int64, "feature": pl.String, "gain": pl.Float64}
        return pl.DataFrame(schema=schema)

    def save(self, folder: Path) -> None:
        """Write the rows it was fitted on, and its name last."""
        folder.mkdir(parents=True, exist_ok=True)
        self.known.write_parquet(folder / "known.parquet")
        (folder / FILE).write_text(json.dumps({"name": self.name, "version": self.version}))

    @classmethod
    def read(cls, folder: Path, family: Family, cfg: ModelConfig) -> BaselineModel:
        """Fit again on what ``save`` wrote; raises ModelError when it is missing or torn."""
        try:
            state = json.loads((folder / FILE).read_text())
            known = pl.read_parquet(folder / "known.parquet")
        except (OSError, json.JSONDecodeError, pl.exceptions.PolarsError) as error:
            raise ModelError(f"{folder} holds no baseline: {error}") from error
        baselines = family.baselines(cfg)
        if state["name"] not in baselines:
            raise ModelError(f"{family.name} has no baseline {state['name']!r}; it has {', '.join(baselines)}")
        return cls(state["name"], state["version"], known, baselines[state["name"]].fit(known))

    @classmethod
    def load(cls, folder: Path) -> BaselineModel:
        """Refuse: a baseline needs its family; raises ModelError. Use ``read``."""
        raise ModelError(f"{folder} holds a baseline; it is read with its family")
