"""Train the forecasters walk-forward, score them, log to MLflow, register and judge promotion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

from lake.errors import ConfigError, NotEnoughData
from lake.private import private_folder
from lake.store import Lake
from lake.units import utc
from models.training.walkforward import TrainResult
from models.training.walkforward import train as walk_forward
from pipelines.deployments import Deployment
from pipelines.monitor.notify import notify
from pipelines.progress import Progress, silent
from pipelines.stages import needs
from pipelines.wiring import families_of, lake_of, model_config

Table = tuple[str, list[str], list[list[Any]]]  # title, columns, rows


@dataclass(frozen=True, slots=True)
class TrainOutcome:
    """What a training run found, ready to show: ``tables`` for people, ``json`` for machines, ``url`` in MLflow."""

    json: dict[str, Any]
    tables: list[Table]
    result: TrainResult
    url: str | None = None
    table: list[dict[str, Any]] = field(default_factory=list)


def train(
    deployment: Deployment,
    families: Sequence[str],
    start: str | None,
    end: str | None,
    progress: Progress = silent,
    *,
    report: bool = False,
    register: bool = True,
) -> TrainOutcome:
    """Walk the named families (all when empty) forward over ``start .. end``; see ``training.walkforward.train``.

    Without a range it is the second half of the history, up to its end. ``register`` logs the run to MLflow, registers
    the models fitted on everything known and lets the evidence decide on promotion. ``report`` adds coverage by month
    and the ablation.
    """
    known = families_of()
    unknown = [f for f in families if f not in known]
    if unknown:
        raise ConfigError(f"there is no forecaster {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [known[f] for f in (families or known)]
    lake = lake_of(deployment)
    span = window(lake, start, end)
    cfg = model_config(deployment)
    needs.of_training(lake, cfg, chosen, span[1], named=bool(families))
    workdir = private_folder(deployment.path(".foredrift/walkforward")) / cfg.fingerprint()
    with alarm(active=register):
        result = walk_forward(lake, cfg, chosen, *span, progress=progress, workdir=workdir)
        tables = [_scores(result)]
        data = dict(result.summary)
        if report:
            from pipelines.reports.train_report import evidence

            extra, more = evidence(deployment.models.expiry, lake, cfg, result, span)
            data |= extra
            tables += more
        url = None
        if register:
            from pipelines.experiments.model_lifecycle import register as log_and_judge

            judged = log_and_judge(deployment, cfg, result, progress)
            data["promotion"] = judged.json
            tables.append(judged.table)
            url = judged.url
    return TrainOutcome(data, tables, result, url, result.scores.to_dicts())


@contextmanager
def alarm(*, active: bool) -> Iterator[None]:
    """Tell people when a retrain fails, then let the error go on; the champion stays in force until it expires."""
    try:
        yield
    except Exception as error:
        if active:
            notify("retrain_failed", "retrain failed", f"{error}; the champions stay in force until they expire")
        raise


def window(lake: Lake, start: str | None, end: str | None) -> tuple[datetime, datetime]:
    """Return the range to walk: as given, else the second half of what both prices and gas cover."""
    spans = [
        lake.scan(t).select(a=pl.col("available_at").min(), b=pl.col("available_at").max()).collect().row(0)
        for t in ("prices", "gas")
    ]
    known = [s for s in spans if s[0] is not None]
    if not known:
        raise NotEnoughData("the lake has neither prices nor gas; foredrift ingest, or foredrift import TABLE FILE")
    first, last = max(s[0] for s in known), min(s[1] for s in known)
    begin = utc(start) if start else (first + (last - first) / 2).replace(minute=0, second=0, microsecond=0)
    finish = utc(end) if end else last
    if begin >= finish:
        raise ConfigError(f"nothing to walk: {begin} is not before {finish} (history is {first} .. {last})")
    return begin, finish


def _scores(result: TrainResult) -> Table:
    rows = result.scores.filter(pl.col("model") == "lightgbm")
    skills = [c for c in rows.columns if c.startswith("skill_")]
    shown = (
        rows.group_by("target", "horizon_s", maintain_order=True)
        .agg(
            pl.len().alias("keys"),
            pl.col("pinball").mean(),
            *[pl.col(c).mean() for c in skills],
            pl.col("coverage90").mean(),
        )
        .sort("target", "horizon_s")
    )
    cells = [
        [r["target"], f"{r['horizon_s'] // 3600} h", r["keys"], r["pinball"],
         *[None if r[c] is None else f"{100 * r[c]:+.1f} %" for c in skills],
         None if r["coverage90"] is None else f"{100 * r['coverage90']:.1f} %"]
        for r in shown.to_dicts()
    ]  # fmt: skip
    names = ["target", "horizon", "keys", "pinball", *[c.replace("skill_", "vs ") for c in skills], "coverage"]
    return "Out-of-sample scores: skill is the fall in pinball loss against a baseline", names, cells
