"""The files a comparison leaves: Parquet tables, pictures, the JSON figures and the HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from policy.names import PICTURED

TABLES = ("portfolios", "trades", "weekly")


def write_artifacts(
    folder: Path,
    data: Mapping[str, Any],
    comparison_id: str,
    frames: Mapping[str, pl.DataFrame],
    timeline: pl.DataFrame,
    lineage: Mapping[str, str],
) -> None:
    """Write everything that lets anyone look at, or recompute, a comparison into ``folder``."""
    from pipelines.reports import charts, page

    folder.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        frames[name].write_parquet(folder / f"{name}.parquet")
    timeline.write_parquet(folder / "timeline.parquet")
    (folder / "comparison.json").write_text(json.dumps(data, indent=1, allow_nan=False), encoding="utf-8")
    plots = folder / "plots"
    charts.save(charts.cost_split(data), plots / "cost_split.png")
    charts.save(charts.frontier(data), plots / "frontier.png")
    if not timeline.is_empty():
        shown = [p for p in PICTURED if p in set(timeline["policy"])]
        charts.save(charts.timeline(timeline, shown), plots / "timeline.png")
        charts.save(charts.cumulative_cost(timeline, shown), plots / "cumulative_cost.png")
        charts.save(charts.weights(timeline, shown[0]), plots / "weights.png")
    text = page.render(data, comparison_id, lineage, timeline)
    (folder / "report.html").write_text(text, encoding="utf-8")
