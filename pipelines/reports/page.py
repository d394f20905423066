"""The self-contained HTML page of a comparison: readable in light and dark, printable, no outside request."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from pipelines.reports import charts
from pipelines.reports.nulls import complete_rows
from pipelines.reports.verdict import ratio_chart, verdict
from policy.names import BASELINE, CLAIMANT, HEADLINE

SAME = 0.0005  # cost ratios nearer to 1 than this read as 1.000
DPI = 80


def render(
    data: Mapping[str, Any], comparison_id: str, lineage: Mapping[str, str], timeline: pl.DataFrame | None = None
) -> str:
    """Return the page for the JSON figures ``data`` of a comparison; ``timeline`` as described in ``charts``."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    shown = [] if timeline is None else [p for p in (CLAIMANT, BASELINE) if p in set(timeline["policy"])]
    pictures = {
        "split": picture(charts.cost_split(data)), "frontier": picture(charts.frontier(data)),
        "timeline": picture(charts.timeline(timeline, shown)) if timeline is not None and shown else "",
        "calibration": picture(charts.calibration(data)) if data["forecasts"] else "",
    }  # fmt: skip
    baselines = sorted({b for r in data["forecasts"] for b in r["skill_vs"]})
    return environment.get_template("report.html.j2").render(
        data={**data, "pairs": complete_rows(data, "pairs"), "headroom": complete_rows(data, "headroom")},
        comparison_id=comparison_id, lineage=lineage, premium=premium(data), headline=headline(data), nulls=nulls(data),
        rivals=sorted({b for row in nulls(data) for b in row["ratios"]}),
        charts=pictures, baselines=baselines, verdict=verdict(data), ratios=ratio_chart(data),
        cells=[{"title": f"{s}, NAV ${n:,.0f}", "rows": charts.rows_of(data, s, n)} for s, n in charts.cells(data)],
    )  # fmt: skip


def headline(data: Mapping[str, Any]) -> str:
    """Return the main result in few sentences, with its intervals; a loss or a null is said as plainly."""
    mine = [r for r in complete_rows(data, "pairs") if r["a"] == CLAIMANT]
    strongest = {r["b_is"] for r in mine if r["b"] == HEADLINE[0]}
    pairs = [r for r in mine if r["b"] == (HEADLINE[0] if strongest else BASELINE)]
    if not pairs:
        return "This comparison holds no pair of predictive and a reactive band."
    ordered = sorted(pairs, key=lambda r: (r["scenario"], r["nav_usd"]))
    moved = [r for r in ordered if abs(r["ratio"] - 1) >= SAME]
    same = [_cell(r) for r in ordered if abs(r["ratio"] - 1) < SAME]
    said = "; ".join(_sentence(r) for r in moved)
    rivals = f"the reactive rule that was cheapest before, {' or '.join(sorted(strongest))}" if strongest else BASELINE
    first = f"Against {rivals}, prediction costs {said}." if moved else ""
    rest = f"It costs the same as {rivals} at {', '.join(same)}." if same else ""
    return " ".join(text for text in (first, rest) if text)


def _cell(pair: Mapping[str, Any]) -> str:
    return f"${pair['nav_usd']:,.0f} {pair['scenario']}"


def _sentence(pair: Mapping[str, Any]) -> str:
    change = (pair["ratio"] - 1) * 100
    proven = "" if pair["ci_high"] < 1 or pair["ci_low"] > 1 else ", not distinguishable from none"
    word = "less" if change < 0 else "more"
    return (
        f"{abs(change):.1f} % {word} at {_cell(pair)} "
        f"(ratio {pair['ratio']:.3f}, 95 % interval {pair['ci_low']:.3f} to {pair['ci_high']:.3f}{proven})"
    )


def nulls(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what prediction was not shown to beat: a row per cell with the ratio and interval against each rival."""
    bad = [r for r in complete_rows(data, "pairs") if r["a"] == CLAIMANT and r["ci_high"] >= 1]
    rows: dict[str, dict[str, str]] = {}
    for r in bad:
        text = f"{r['ratio']:.3f} ({r['ci_low']:.3f} to {r['ci_high']:.3f})"
        rows.setdefault(_cell(r), {})[r["b"]] = text
    return [{"cell": cell, "ratios": ratios} for cell, ratios in rows.items()]


def premium(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the rebalancing premium whose figures are all known; none in comparisons of older versions."""
    return [dict(r) for r in data.get("premium", ()) if not any(v is None for v in r.values())]


def picture(figure: Figure) -> str:
    """Return ``figure`` as the address of a picture that is part of the page; the figure is closed."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
