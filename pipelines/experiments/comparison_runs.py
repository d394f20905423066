"""How a comparison is written to MLflow: flat sibling runs per policy, and one summary run with pictures and page."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import polars as pl

from pipelines.experiments import client, saved_view
from pipelines.progress import Progress, silent
from pipelines.reports.nulls import complete_rows
from pipelines.reports.verdict import cell_name
from policy.names import CLAIMANT, HEADLINE, RULES, traits

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

LEAVES = {"trades_per_year": "trades_a_year"}  # cards cut names at about 15 characters


@dataclass(frozen=True, slots=True)
class Logged:
    """Where a comparison is to be found."""

    experiment_id: str
    summary_run: str
    view: str
    report: Path


def log_comparison(
    stores: client.Stores,
    data: Mapping[str, Any],
    comparison_id: str,
    frames: Mapping[str, pl.DataFrame],
    timeline: pl.DataFrame,
    progress: Progress = silent,
) -> Logged:
    """Write one run per policy, scenario and NAV, and the summary run; a comparison logged before is logged once.

    ``frames`` are portfolios, trades and weekly; ``timeline`` as described in ``pipelines.reports.charts``.
    """
    mlf = client.client(stores)
    experiment = client.experiment(stores, mlf, client.COMPARISON)
    known = mlf.search_runs(
        [experiment.experiment_id],
        f"tags.comparison_id = '{comparison_id}' AND tags.kind = 'summary' AND attributes.status = 'FINISHED'",
    )
    if known:
        run_id = known[0].info.run_id
        return Logged(experiment.experiment_id, run_id, comparison_id, _report_path(mlf, run_id))
    _sweep(mlf, experiment.experiment_id, comparison_id)
    weekly = _weekly_series(frames["weekly"], frames["portfolios"])
    for i, row in enumerate(data["policies"]):
        progress("log runs", i, len(data["policies"]))
        _policy_run(mlf, experiment.experiment_id, data, row, comparison_id, weekly)
    progress("log runs", len(data["policies"]), len(data["policies"]))
    with tempfile.TemporaryDirectory() as scratch:
        run_id = _summary_run(mlf, experiment.experiment_id, data, comparison_id, frames, timeline, Path(scratch))
    saved_view.save(mlf, experiment.experiment_id, comparison_id, cells_of(data))
    return Logged(experiment.experiment_id, run_id, comparison_id, _report_path(mlf, run_id))


def cells_of(data: Mapping[str, Any]) -> dict[saved_view.Cell, str]:
    """Return the cells of a comparison with their names, in its order."""
    return {(r["scenario"], float(r["nav_usd"])): cell_name(r) for r in data["policies"]}


def _report_path(mlf: MlflowClient, run_id: str) -> Path:
    """Return the page's own place in a local artifact store, else a downloaded copy."""
    uri = mlf.get_run(run_id).info.artifact_uri
    if uri.startswith("file://"):
        return Path(url2pathname(urlparse(uri).path)) / "report.html"
    return Path(mlf.download_artifacts(run_id, "report.html"))


def _sweep(mlf: MlflowClient, experiment_id: str, comparison_id: str) -> None:
    """Delete what an interrupted earlier attempt left, so that no policy shows twice."""
    for run in mlf.search_runs([experiment_id], f"tags.comparison_id = '{comparison_id}'", max_results=5_000):
        mlf.delete_run(run.info.run_id)


def _policy_run(
    mlf: MlflowClient, experiment_id: str, data: Mapping[str, Any], row: Mapping[str, Any], comparison_id: str,
    weekly: pl.DataFrame,
) -> None:  # fmt: skip
    tags = {
        "comparison_id": comparison_id, "kind": "policy", "policy": row["policy"], "scenario": row["scenario"],
        "nav_usd": f"{row['nav_usd']:.0f}", "window": f"{data['data']['start']}..{data['data']['end']}",
        saved_view.COLOUR: traits(row["policy"]).colour,
    }  # fmt: skip
    params = {k: row[k] for k in ("policy", "scenario", "nav_usd")}
    name = f"{row['policy']} {row['scenario']} {dollars(row['nav_usd'])}"
    with client.run(mlf, experiment_id, name, tags, params) as run_id:
        values = {LEAVES.get(k, k): v for k, v in row.items() if isinstance(v, (int, float)) and k != "nav_usd"}
        client.log_values(mlf, run_id, values)
        for section, figures in saved_view.named(row).items():
            client.log_values(mlf, run_id, figures, section)
        client.log_dataset(mlf, run_id, "lake", data["data"]["sha256"], settings_free_source(data))
        mine = weekly.filter(
            (pl.col("policy") == row["policy"])
            & (pl.col("scenario") == row["scenario"])
            & (pl.col("nav_usd") == row["nav_usd"])
        )
        client.log_series(mlf, run_id, mine, "step", ["cost_bp", "gas_bp", "fee_bp", "impact_bp", "tracking_bp"])


def dollars(value: float) -> str:
    """Return ``value`` short enough for a run's name: $100k, $1M, $2.5M."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"${value / unit:g}{name}"
    return f"${value:g}"


def settings_free_source(data: Mapping[str, Any]) -> str:
    """Return what the dataset input names as its source: assets and range, never a path or URL."""
    return f"{','.join(data['data']['assets'])} {data['data']['start']}..{data['data']['end']}"


def _weekly_series(weekly: pl.DataFrame, portfolios: pl.DataFrame) -> pl.DataFrame:
    """Return cumulative cost per policy, scenario and NAV: panel means by week, step in hours from the start."""
    cells = portfolios.select("portfolio_id", "scenario", "nav_usd").unique()
    parts = ["gas_bp", "fee_bp", "impact_bp", "tracking_bp"]
    return (
        weekly.join(cells, on="portfolio_id")
        .group_by("policy", "scenario", "nav_usd", "week")
        .agg([pl.col(p).mean() for p in parts])
        .sort("policy", "scenario", "nav_usd", "week")
        .with_columns([pl.col(p).cum_sum().over("policy", "scenario", "nav_usd") for p in parts])
        .with_columns(cost_bp=pl.sum_horizontal(parts), step=_week_step(weekly))
    )


def _week_step(weekly: pl.DataFrame) -> pl.Expr:
    """Return the decision index (hours) at which each week starts, from either a week number or its first moment."""
    if weekly.schema["week"].is_integer():
        return ((pl.col("week") - pl.col("week").min()) * 168).cast(pl.Int64)
    week = pl.col("week").cast(pl.Datetime("us"))
    return (week - week.min()).dt.total_hours()


def _summary_run(
    mlf: MlflowClient, experiment_id: str, data: Mapping[str, Any], comparison_id: str,
    frames: Mapping[str, pl.DataFrame], timeline: pl.DataFrame, scratch: Path,
) -> str:  # fmt: skip
    from pipelines.reports.artifacts import write_artifacts

    tags = {
        "comparison_id": comparison_id, "kind": "summary", "policy": "summary",
        "window": f"{data['data']['start']}..{data['data']['end']}",
    }  # fmt: skip
    with client.run(mlf, experiment_id, f"summary {comparison_id}", tags) as run_id:
        lineage = client.lineage() | {"data": data["data"]["sha256"], "MLflow run": run_id}
        write_artifacts(scratch, data, comparison_id, frames, timeline, lineage)
        values = {
            f"ratio_{r['a']}_{r['b']}_{r['scenario']}_{r['nav_usd']:.0f}": r["ratio"]
            for r in complete_rows(data, "pairs")
            if r["a"] == CLAIMANT and r["b"] in RULES
        }
        values |= {
            f"headroom_{r['scenario']}_{r['nav_usd']:.0f}": r["captured"] for r in complete_rows(data, "headroom")
        }
        client.log_values(mlf, run_id, values)
        client.log_dataset(mlf, run_id, "lake", data["data"]["sha256"], settings_free_source(data))
        mlf.log_artifacts(run_id, str(scratch))
        keys = saved_view.keys(comparison_id, list(cells_of(data)))
        links = {name: saved_view.link("", experiment_id, keys[cell]) for cell, name in cells_of(data).items()}
        mlf.set_tag(run_id, "mlflow.note.content", note(data, links))
    return run_id


def note(data: Mapping[str, Any], links: Mapping[str, str] | None = None) -> str:
    """Return the Markdown that MLflow shows on top of the summary run: the result and the ratios that carry it.

    ``links``: where the charts of each cell are, by its name; they come right after the result.

    MLflow cuts a note at 8,000 characters; every pair is in ``comparison.json``.
    """
    from pipelines.reports.page import headline

    charts = "Charts of one cell: " + ", ".join(f"[{name}]({url})" for name, url in (links or {}).items())
    lines = [
        headline(data),
        "",
        *([charts, ""] if links else []),
        "| a / b | mandate | NAV | ratio | 95 % interval |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['a']} / {r['b']} | {r['scenario']} | {r['nav_usd']:,.0f} | {r['ratio']:.3f} | "
        f"{r['ci_low']:.3f} to {r['ci_high']:.3f} |"
        for r in complete_rows(data, "pairs")
        if r["a"] == CLAIMANT and r["b"] in HEADLINE
    ]
    return "\n".join(lines)
