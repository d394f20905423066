"""``foredrift leakage``: change everything after a moment and prove that nothing at or before it moves.

Three stages are put to the test: features, forecasts as issued, and decisions (every policy but the foresight bounds,
which look ahead on purpose). A feature, forecast or trade that changes names itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lake.store import Lake
from lake.tables import table
from models.base import Family, LakeView
from models.training.walkforward import train as walk_forward
from pipelines.deployments import Deployment
from pipelines.progress import Progress, silent
from pipelines.stages.train import window
from pipelines.wiring import PanelChoice, compare_config, families_of, lake_of, model_config
from policy.comparison import compare as panel
from policy.names import BOUNDS
from policy.strategies.registry import NAMES

MOMENTS = 3
HISTORY = timedelta(days=100)
AFTER = timedelta(days=3)
RAW = ("prices", "gas", "pool_state", "signals")


@dataclass(frozen=True, slots=True)
class Perturbed:
    """A lake whose rows that became available after ``moment`` are scrambled; reads like the lake."""

    lake: LakeView
    moment: datetime
    seed: int = 11

    def scan(self, name: str, as_of: datetime | None = None) -> pl.LazyFrame:
        """Return table ``name`` with its future multiplied by noise, row by row."""
        rows = self.lake.scan(name, as_of=as_of).collect()
        values = [c for c, t in rows.schema.items() if t == pl.Float64]
        late = pl.col("available_at") > self.moment
        noise = pl.Series("noise", np.exp(np.random.default_rng(self.seed).normal(0.5, 1.0, rows.height)))
        return (
            rows.with_columns(noise)
            .with_columns(pl.when(late).then(pl.col(c) * pl.col("noise")).otherwise(pl.col(c)) for c in values)
            .drop("noise")
            .lazy()
        )


def prove(deployment: Deployment, start: str | None, end: str | None, progress: Progress = silent) -> dict[str, Any]:
    """Return ``{stages: [{stage, moments, values, changed}], leaks: [names]}`` over moments of ``start .. end``."""
    lake = lake_of(deployment)
    span = window(lake, start, end)
    step = (span[1] - span[0] - AFTER) / MOMENTS
    moments = [_hour(span[0] + step * (i + 1)) for i in range(MOMENTS)]
    families = list(families_of().values())
    stages, leaks = [], []
    for i, (name, run) in enumerate((("features", features), ("forecasts", forecasts), ("decisions", decisions))):
        progress(f"leakage {name}", i, 3)
        tested = moments if name == "features" else moments[-1:]
        values, found = run(deployment, lake, families, tested)
        stages.append({"stage": name, "moments": len(tested), "values": values, "changed": len(found)})
        leaks += found
    progress("leakage", 3, 3)
    return {"moments": [m.isoformat() for m in moments], "stages": stages, "leaks": leaks}


def features(
    deployment: Deployment, lake: LakeView, families: Sequence[Family], moments: Sequence[datetime]
) -> tuple[int, list[str]]:
    """Return how many feature values up to the moments were compared, and the names of features that changed."""
    cfg = model_config(deployment)
    count, leaks = 0, []
    for moment in moments:
        for family in families:
            if not family.keys(lake, cfg):
                continue
            span = (moment - timedelta(hours=48), moment + timedelta(hours=1))
            before = family.build(lake, cfg, *span).filter(pl.col("ts") <= moment)
            after = family.build(Perturbed(lake, moment), cfg, *span).filter(pl.col("ts") <= moment)
            names = [c for c in before.columns if "|" not in c]
            count += before.height * len(names)
            leaks += [f"feature {family.name}.{c} at {moment}" for c in _changed(before, after, names)]
    return count, leaks


def forecasts(
    deployment: Deployment, lake: LakeView, families: Sequence[Family], moments: Sequence[datetime]
) -> tuple[int, list[str]]:
    """Return how many forecast values issued up to the moment were compared, and the targets that changed."""
    cfg = replace(model_config(deployment), rounds=20)
    moment = moments[-1]
    issued = []
    for view in (lake, Perturbed(lake, moment)):
        with tempfile.TemporaryDirectory() as scratch:
            copy = _recent_copy(view, Lake(str(Path(scratch) / "lake")), moment)
            walk_forward(copy, cfg, families, moment - timedelta(days=2), moment + timedelta(days=1), live=False)
            rows = copy.scan("forecasts").filter(pl.col("issued_at") <= moment).drop("model_version")
            issued.append(rows.collect().sort("target", "key", "issued_at", "horizon_s"))
    before, after = issued
    names = [c for c in before.columns if before.schema[c] == pl.Float64]
    if before.height != after.height:
        return before.height, [f"forecasts: {before.height} rows issued, {after.height} after perturbing the future"]
    differs = pl.any_horizontal([before[c].ne_missing(after[c]).alias(c) for c in names])
    targets = before.filter(pl.select(differs).to_series())["target"].unique().sort()
    return before.height * len(names), [f"forecast {t} at or before {moment}" for t in targets]


def decisions(
    deployment: Deployment, lake: LakeView, families: Sequence[Family], moments: Sequence[datetime]
) -> tuple[int, list[str]]:
    """Return how many trades up to the moment were compared, and the policies whose trades changed."""
    del families
    moment = moments[-1]
    span = (moment - timedelta(days=21), moment + timedelta(days=2))
    allowed = tuple(n for n in NAMES if n not in BOUNDS)
    config = compare_config(deployment, span, PanelChoice(4, allowed))
    trades = [
        panel.run(view, config).trades.filter(pl.col("ts") <= moment)  # type: ignore[arg-type]
        for view in (lake, Perturbed(lake, moment))
    ]
    keys = ["policy", "portfolio_id", "ts", "asset"]
    before, after = (t.with_columns(pl.col(pl.Categorical).cast(pl.String)).sort(keys) for t in trades)
    leaks = []
    for policy in allowed:
        mine, other = before.filter(pl.col("policy") == policy), after.filter(pl.col("policy") == policy)
        if not mine.equals(other):
            leaks.append(f"decisions of {policy} at or before {moment}")
    return before.height, leaks


def _changed(before: pl.DataFrame, after: pl.DataFrame, names: Sequence[str]) -> Iterator[str]:
    if before.height != after.height:
        yield f"rows ({before.height} became {after.height})"
        return
    a, b = before.sort("key", "ts"), after.sort("key", "ts")
    for name in names:
        if not a[name].equals(b[name], null_equal=True):
            yield name


def _recent_copy(view: LakeView, to: Lake, moment: datetime) -> Lake:
    """Fill ``to`` with the rows around ``moment`` that training reads."""
    for name in RAW:
        time = table(name).time
        rows = view.scan(name).filter(pl.col(time).is_between(moment - HISTORY, moment + AFTER)).collect()
        if name == "prices" and rows.height:  # scrambled bars may break high >= low, which only the lake's check minds
            rows = rows.with_columns(pl.lit(None, pl.Float64).alias(c) for c in ("open", "high", "low"))
        if rows.height:
            to.write(name, rows)
    return to


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
