"""The walk-forward driver: fold by fold train, predict, calibrate online, write what would have been issued, score."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from lake.errors import NotEnoughData
from lake.store import Lake
from models.base import Family, LakeView, PathFamily
from models.config import ModelConfig
from models.evaluation.calibrate import Corrections, calibrate_rows
from models.evaluation.scores import as_json, reliability, score_table
from models.evaluation.splits import Fold, folds, prediction_rows, training_rows
from models.evaluation.waiting_value import waiting_value
from models.serving.live import LiveModel

COMPLETE = 0.9
"""Share of a fold's hours that must be logged: a few may be left out where a feature was unknown."""

Progress = Callable[[str, int, int], None]
"""Called with (family, folds done, folds in all)."""


@dataclass(frozen=True, slots=True)
class WalkRecord:
    """What one family's walk-forward leaves for judging it: this recipe's own rows, whatever the lake logged before.

    ``rows`` and ``baselines`` cover the asked range; ``known`` is the panel with the labels known at its end.
    """

    rows: pl.DataFrame
    outcomes: pl.DataFrame
    baselines: Mapping[str, pl.DataFrame]
    known: pl.DataFrame


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a walk-forward run found. ``summary`` is JSON-able; frames are documented where they are made."""

    scores: pl.DataFrame  # models.evaluation.scores.score_table over all families
    summary: dict[str, Any]
    timing: dict[str, float]  # seconds by stage; train_s and predict_s are summed over threads
    folds: pl.DataFrame  # family, start, end, known_at, rows, model_version, train_s, skipped
    importances: pl.DataFrame  # family, fold, target, horizon_s, feature, gain
    reliability: pl.DataFrame  # target, horizon_s, level, observed, n
    live: Mapping[str, LiveModel] = field(default_factory=dict)  # by family: fitted on everything known at the end
    records: Mapping[str, WalkRecord] = field(default_factory=dict)  # by family, beside ``live``


@dataclass(frozen=True, slots=True)
class _Walk:
    """One family's walk: what is walked over ``span`` and where; ``timing`` gathers seconds by stage."""

    lake: Lake
    cfg: ModelConfig
    family: Family
    panel: pl.DataFrame
    plan: list[Fold]
    span: tuple[datetime, datetime]
    folder: Path
    timing: dict[str, float]


@dataclass(slots=True)
class _FoldRun:
    fold: Fold
    version: str
    rows: pl.DataFrame
    baselines: dict[str, pl.DataFrame]
    importances: pl.DataFrame | None
    train_rows: int
    seconds: dict[str, float]


def train(
    lake: Lake,
    cfg: ModelConfig,
    families: Sequence[Family],
    start: datetime,
    end: datetime,
    progress: Progress | None = None,
    workdir: Path | None = None,
    live: bool = True,
) -> TrainResult:
    """Walk every family forward over start <= ts < end, log its forecasts to the lake and score them.

    Each fold trains on labels known before it and predicts its own hours; calibration runs online over the sequence;
    rows of ``forecasts`` and ``paths`` already in the lake are left as issued. ``workdir`` keeps raw predictions of
    finished folds, so a run that was killed resumes there. ``live`` also fits each family on all that is known at
    ``end``. Raises NotEnoughData when no family can forecast any hour.
    """
    done: list[tuple[pl.DataFrame, dict[str, Any], pl.DataFrame, pl.DataFrame, pl.DataFrame]] = []
    timing: dict[str, float] = dict.fromkeys(("features_s", "train_s", "predict_s", "calibrate_s", "write_s"), 0.0)
    skipped: dict[str, str] = {}
    models: dict[str, LiveModel] = {}
    records: dict[str, WalkRecord] = {}
    first = history_start(lake)
    for family in families:
        if not family.keys(lake, cfg):
            skipped[family.name] = "the lake holds no data for it"
            continue
        began = time.perf_counter()
        panel = family.build(lake, cfg, first, end)
        timing["features_s"] += time.perf_counter() - began
        plan = [] if panel.is_empty() else folds(cfg, start, end, panel["ts"].min())  # type: ignore[arg-type]
        if not plan or plan[-1].end <= start:
            skipped[family.name] = f"less than {cfg.min_train_days} days of history before {end}"
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder = (workdir or Path(scratch)) / family.name
            try:
                walk = _Walk(lake, cfg, family, panel, plan, (start, end), folder, timing)
                found, record = _walk(walk, progress, models, live)
            except NotEnoughData as error:
                skipped[family.name] = str(error)
                continue
            done.append(found)
            records[family.name] = record
    if not done:
        raise NotEnoughData(f"nothing could be forecast over {start} .. {end}: {skipped}")
    scores = pl.concat([d[0] for d in done], how="diagonal")
    summary = {
        "start": start.isoformat(),
        "end": end.isoformat(),
        "assets": list(cfg.assets),
        "forecasts": as_json(scores),
        "families": {name: d[1] for d in done for name in [d[1]["family"]]},
        "skipped": skipped,
        "timing": timing,
    }
    return TrainResult(
        scores,
        summary,
        timing,
        pl.concat([d[2] for d in done]),
        pl.concat([d[3] for d in done], how="diagonal"),
        pl.concat([d[4] for d in done]),
        models,
        records,
    )


def history_start(lake: LakeView) -> datetime:
    """Return the earliest bar, gas interval or pool state in the lake; raises NotEnoughData on an empty lake."""
    times = [lake.scan(name).select(pl.col("ts").min()).collect().item() for name in ("prices", "gas", "pool_state")]
    known: list[datetime] = [t for t in times if t is not None]
    if not known:
        raise NotEnoughData("the lake holds no prices, gas or pool states; run ingest or import first")
    return min(known)


def _walk(
    walk: _Walk, progress: Progress | None, models: dict[str, LiveModel], live: bool
) -> tuple[tuple[pl.DataFrame, dict[str, Any], pl.DataFrame, pl.DataFrame, pl.DataFrame], WalkRecord]:
    lake, cfg, family, panel, plan, span = walk.lake, walk.cfg, walk.family, walk.panel, walk.plan, walk.span
    walk.folder.mkdir(parents=True, exist_ok=True)
    complete = [_issued(lake, family, panel, fold, span[0]) for fold in plan]
    needed = live or not all(complete)  # calibration has to run through the whole sequence again
    runs: list[_FoldRun] = []
    with ThreadPoolExecutor(cfg.threads) as pool:
        jobs = [pool.submit(_run_fold, walk, fold, needed) for fold in plan]
        for count, job in enumerate(jobs, 1):
            runs.append(job.result())
            if progress is not None:
                progress(family.name, count, len(plan))
    for name in ("train_s", "predict_s"):
        walk.timing[name] += sum(r.seconds[name] for r in runs)
    outcomes = family.outcomes(panel.filter(pl.col("ts") >= plan[0].start), cfg)
    corrections, own = Corrections({}), None
    if needed:
        own, corrections = _issue_folds(walk, runs, complete, outcomes)
    rows = _logged(lake, family, span)
    within = pl.col("issued_at").is_between(*span, closed="left")
    inside = outcomes.filter(within)
    names = runs[0].baselines
    baselines = {n: pl.concat([r.baselines[n] for r in runs]).filter(pl.col("issued_at") >= span[0]) for n in names}
    scores = score_table(rows, inside, family.targets, baselines)
    known = _known(cfg, panel, span[1])
    if live:
        models[family.name] = LiveModel(family, family.fit(known, cfg), corrections, span[1])
    table = _fold_table(family.name, runs, complete)
    gains = [
        r.importances.with_columns(pl.lit(family.name).alias("family"), pl.lit(r.fold.name).alias("fold"))
        for r in runs
        if r.importances is not None
    ]
    summary = {
        "family": family.name,
        "folds": len(runs),
        "resumed": sum(complete),
        "versions": [r.version for r in runs],
    }
    if isinstance(family, PathFamily):
        summary["waiting"] = _waiting(lake, panel, span)
    record = WalkRecord(rows if own is None else own.filter(within), inside, baselines, known)
    quality = reliability(rows, inside, family.targets)
    return (scores, summary, table, pl.concat(gains) if gains else pl.DataFrame(), quality), record


def _run_fold(walk: _Walk, fold: Fold, needed: bool) -> _FoldRun:
    """Train and predict one fold, or read its raw predictions from the folder where an earlier run left them."""
    cfg, family = walk.cfg, walk.family
    known = training_rows(walk.panel, fold)
    ahead = prediction_rows(walk.panel, fold)
    version = f"{family.name}-{fold.start:%Y%m%d}-{_digest(cfg, known)}"
    raw = walk.folder / f"{fold.name}-{version}.parquet"
    importances = None
    began = time.perf_counter()
    baselines = {name: b.fit(known).predict(ahead) for name, b in family.baselines(cfg).items()}
    between = time.perf_counter()
    seconds = {"train_s": 0.0, "predict_s": between - began}
    rows = pl.DataFrame()
    if raw.exists():
        rows = pl.read_parquet(raw)
    elif needed:
        fitted = family.fit(known, cfg)
        trained = time.perf_counter()
        rows = fitted.predict(ahead).with_columns(pl.lit(version).alias("model_version"))
        importances = fitted.importances()
        partial = raw.with_suffix(".partial")
        rows.write_parquet(partial)
        partial.replace(raw)
        seconds = {"train_s": trained - between, "predict_s": time.perf_counter() - trained + between - began}
    return _FoldRun(fold, version, rows, baselines, importances, known.height, seconds)


def _issue_folds(
    walk: _Walk, runs: list[_FoldRun], complete: list[bool], outcomes: pl.DataFrame
) -> tuple[pl.DataFrame, Corrections]:
    """Calibrate the raw rows of all folds in time order and write those of unfinished folds, one commit a fold.

    Returns all rows, calibrated, and the corrections in force at the end.
    """
    family, span, timing = walk.family, walk.span, walk.timing
    began = time.perf_counter()
    rows, corrections = calibrate_rows(pl.concat([r.rows for r in runs]), outcomes, family.targets)
    paths = family.paths(rows, walk.panel, walk.cfg) if isinstance(family, PathFamily) else None
    timing["calibrate_s"] += time.perf_counter() - began
    began = time.perf_counter()
    for run, finished in zip(runs, complete, strict=True):
        low, high = max(run.fold.start, span[0]), run.fold.end
        if finished or low >= high:
            continue
        here = pl.col("issued_at").is_between(low, high, closed="left")
        if paths is not None:
            walk.lake.write("paths", paths.filter(here).with_columns(pl.col("issued_at").alias("available_at")))
        walk.lake.write("forecasts", rows.filter(here).with_columns(pl.col("issued_at").alias("available_at")))
    timing["write_s"] += time.perf_counter() - began
    return rows, corrections


def _issued(lake: LakeView, family: Family, panel: pl.DataFrame, fold: Fold, start: datetime) -> bool:
    """Return whether the lake holds the fold's forecasts: its last hour and, as live ones may be there too, the rest.

    A fold is written in one commit; single hours issued live before it do not make it complete.
    """
    hours = prediction_rows(panel, fold).filter(pl.col("ts") >= start)["ts"].unique()
    if hours.is_empty():
        return True  # warm-up only: nothing of it is ever written
    names = [s.name for s in family.targets]
    within = pl.col("issued_at").is_between(hours.min(), hours.max())
    found = lake.scan("forecasts").filter(pl.col("target").is_in(names) & within)
    issued = found.select(pl.col("issued_at").unique()).collect()["issued_at"]
    return hours.max() in issued and len(issued) >= COMPLETE * len(hours)


def _logged(lake: LakeView, family: Family, span: tuple[datetime, datetime]) -> pl.DataFrame:
    names = [s.name for s in family.targets]
    inside = pl.col("issued_at").is_between(*span, closed="left")
    rows = lake.scan("forecasts").filter(pl.col("target").is_in(names) & inside).collect()
    return rows.sort("target", "key", "horizon_s", "issued_at")  # sums in one order: reruns agree to the bit


def _waiting(lake: LakeView, panel: pl.DataFrame, span: tuple[datetime, datetime]) -> dict[str, dict[str, float | int]]:
    paths = lake.scan("paths").filter(pl.col("issued_at").is_between(*span, closed="left")).collect()
    keys = paths["key"].unique().sort()
    return {k: waiting_value(paths.filter(pl.col("key") == k), panel.filter(pl.col("key") == k)) for k in keys}


def _known(cfg: ModelConfig, panel: pl.DataFrame, end: datetime) -> pl.DataFrame:
    """Return the rows a model that starts at ``end`` may learn from; a window counts from the newest row before it."""
    last: datetime = panel.select(pl.col("ts").max()).item()
    newest = min(end, last)
    window = None if cfg.train_window_days is None else newest - timedelta(days=cfg.train_window_days)
    return training_rows(panel, Fold(end, end, end, window))


def _digest(cfg: ModelConfig, known: pl.DataFrame) -> str:
    sha = hashlib.sha256(cfg.fingerprint().encode())
    sha.update(",".join(known.columns).encode())
    sha.update(known.hash_rows(seed=0).to_numpy().tobytes())
    return sha.hexdigest()[:10]


def _fold_table(family: str, runs: list[_FoldRun], complete: list[bool]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            (family, r.fold.start, r.fold.end, r.fold.known_at, r.train_rows, r.version, r.seconds["train_s"], c)
            for r, c in zip(runs, complete, strict=True)
        ],
        schema={
            "family": pl.String,
            "start": pl.Datetime("us", "UTC"),
            "end": pl.Datetime("us", "UTC"),
            "known_at": pl.Datetime("us", "UTC"),
            "rows": pl.Int64,
            "model_version": pl.String,
            "train_s": pl.Float64,
            "skipped": pl.Boolean,
        },
        orient="row",
    )
