"""Compare policies on the panel: forecasts as issued, one ledger, MLflow runs, pictures and the page."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from lake.errors import ConfigError, NotEnoughData
from lake.private import private_folder
from lake.store import Lake
from pipelines.deployments import Deployment, deployment
from pipelines.experiments import client, saved_view
from pipelines.experiments.comparison_runs import log_comparison
from pipelines.progress import Progress, silent
from pipelines.reports.artifacts import write_artifacts
from pipelines.reports.nulls import nan_to_none
from pipelines.servers.engines import engine_of
from pipelines.settings import PREFECT, Settings
from pipelines.stages import needs
from pipelines.stages.train import window
from pipelines.wiring import PanelChoice, compare_config, families_of, lake_of, model_config
from policy.comparison import compare as panel
from policy.names import traits


@dataclass(frozen=True, slots=True)
class CompareOutcome:
    """What a comparison found and where it is: ``json`` in the documented schema, the page, the MLflow address."""

    json: dict[str, Any]
    comparison_id: str
    report: Path | None
    url: str | None


def compare(
    settings: Settings,
    start: str | None,
    end: str | None,
    progress: Progress = silent,
    asked: PanelChoice | None = None,
    *,
    engine: str = "threads",
    artifacts: Path | None = None,
    track: bool = True,
) -> CompareOutcome:
    """Run the panel over ``start .. end`` (default: second half of the history) and log it.

    Folds whose forecasts are not in the lake yet are trained first; every policy at time t reads rows issued by t only.
    The same lake and settings give the same figures to the last digit, and are logged once.
    """
    asked = asked or PanelChoice()
    if asked.resolution != "hour" and engine != "threads":
        raise ConfigError(f"--engine {engine}: a panel finer than the hour shares one world in memory; take threads")
    lake = lake_of(settings)
    span = window(lake, start, end)
    own = deployment(settings)
    config = compare_config(own, span, asked)
    needs.of_comparison(lake, config)
    scores: list[dict[str, Any]] = []
    learning: dict[str, float] = {}
    if any(traits(name).reads for name in config.policies):
        scores, learning = ensure_forecasts(own, lake, span, progress)
    found = panel.run(
        lake,
        config,
        lambda done, total: progress("panel", done, total),
        engine=engine_of(engine, config.threads, settings.path(PREFECT)),
    )
    data: dict[str, Any] = nan_to_none(dict(found.json) | {"forecasts": scores})
    data["timing"] = data["timing"] | {k: v for k, v in learning.items() if k in data["timing"]}
    identity = comparison_id(data)
    frames = {n: _plain(f) for n, f in artifact_frames(found).items()}
    timeline = as_timeline(found.series, found.portfolios)
    lineage = client.lineage() | {"data": data["data"]["sha256"]}
    if artifacts is not None:
        write_artifacts(artifacts, data, identity, frames, timeline, lineage)
    if not track:
        return CompareOutcome(data, identity, artifacts / "report.html" if artifacts else None, None)
    logged = log_comparison(settings, data, identity, frames, timeline, progress)
    url = saved_view.link("http://127.0.0.1:5310", logged.experiment_id, logged.view)
    return CompareOutcome(data, identity, logged.report, url)


def artifact_frames(found: panel.Comparison) -> dict[str, pl.DataFrame]:
    """Return the frames of a comparison that are its artifacts, by name."""
    return {"portfolios": found.portfolios, "trades": found.trades, "weekly": found.weekly}


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Return ``frame`` with categories as plain text: readable by any Parquet reader, joinable with anything."""
    return frame.with_columns(pl.col(pl.Categorical).cast(pl.String))


def ensure_forecasts(
    deployment: Deployment, lake: Lake, span: tuple[datetime, datetime], progress: Progress
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Train the folds that ``span`` lacks; return the score records and the seconds spent by stage.

    Without enough history to train on there are no forecasts; the predictive policy then falls back, and the scores are
    empty.
    """
    from models.training.walkforward import train as walk_forward

    cfg = model_config(deployment)
    families = list(families_of().values())
    workdir = private_folder(deployment.path(".foredrift/walkforward")) / cfg.fingerprint()
    try:
        result = walk_forward(lake, cfg, families, *span, progress=progress, workdir=workdir, live=False)
    except NotEnoughData as error:
        progress(f"forecasts skipped: {error}", 1, 1)
        return [], {}
    return [r for r in result.summary["forecasts"] if r["model"] == "lightgbm"], result.timing


def comparison_id(data: dict[str, Any]) -> str:
    """Return 12 hex digits over everything but timing, and the code's revision: equal comparisons have equal ids."""
    plain = {k: v for k, v in data.items() if k != "timing"} | {"code": client.git_sha()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:12]


def as_timeline(series: pl.DataFrame, portfolios: pl.DataFrame) -> pl.DataFrame:
    """Return the first example portfolio's hourly story with one ``w_<asset>`` column an asset (see ``charts``)."""
    if series.is_empty():
        return series
    chosen = series["portfolio_id"][0]
    assets = portfolios.filter(pl.col("portfolio_id").cast(pl.String) == chosen)["asset"].to_list()
    mine = series.filter(pl.col("portfolio_id") == chosen)
    weights = [pl.col("weights").list.get(i).alias(f"w_{asset}") for i, asset in enumerate(assets)]
    return mine.with_columns(weights).drop("weights")


def rebuild_report(stores: client.Stores, run_id: str, out: Path | None) -> Path:
    """Write the page of a logged comparison again from its artifacts; raises ConfigError when there is none."""
    from pipelines.reports.page import render

    mlf = client.client(stores)
    experiment = client.experiment(stores, mlf, client.COMPARISON)
    summaries = mlf.search_runs([experiment.experiment_id], "tags.kind = 'summary'", max_results=1_000)
    runs = [r for r in summaries if run_id in {r.info.run_id, r.data.tags.get("comparison_id")}]
    if not runs:
        raise ConfigError(f"no comparison {run_id!r} in {client.tracking_uri(stores).split('@')[-1]}")
    found = runs[0]
    identity: str = found.data.tags["comparison_id"]
    data = json.loads(Path(mlf.download_artifacts(found.info.run_id, "comparison.json")).read_text(encoding="utf-8"))
    timeline = pl.read_parquet(mlf.download_artifacts(found.info.run_id, "timeline.parquet"))
    tags: dict[str, str] = found.data.tags
    lineage: dict[str, str] = {k: v for k, v in tags.items() if k in {"git_sha", "flow_run_id"}}
    lineage |= {"data": data["data"]["sha256"], "MLflow run": found.info.run_id}
    path = out or Path(f"report-{identity}.html")
    path.write_text(render(data, identity, lineage, timeline), encoding="utf-8")
    return path
