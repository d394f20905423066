"""The self-contained HTML page of a comparison: readable in light and dark, printable, no outside request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
import plotly.io as pio
import polars as pl
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from pipelines.reports.charts import COLOURS, PARTS, cells, label_of, rows_of
from pipelines.reports.nulls import complete_rows
from policy.names import BASELINE, CLAIMANT, HEADLINE, IDLE, traits

_LAYOUT = {
    "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font": {"color": "#7b8496", "size": 12},
    "margin": {"l": 60, "r": 20, "t": 40, "b": 50},
}  # fmt: skip
SAME = 0.0005  # cost ratios nearer to 1 than this read as 1.000
_LABELLED = {CLAIMANT, BASELINE, "threshold_5pct"}  # points that carry their name; the others show it on hover
_GRID = {"gridcolor": "rgba(128,128,128,0.25)", "zerolinecolor": "rgba(128,128,128,0.4)"}


def render(
    data: Mapping[str, Any], comparison_id: str, lineage: Mapping[str, str], timeline: pl.DataFrame | None = None
) -> str:
    """Return the page for the JSON figures ``data`` of a comparison; ``timeline`` as described in ``charts``."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    charts = {
        "ratios": _html(ratios(data)), "split": _html(split(data)), "frontier": _html(frontier(data)),
        "timeline": "" if timeline is None or timeline.is_empty() else _html(trades(timeline)),
        "calibration": _html(calibration(data)) if data["forecasts"] else "",
    }  # fmt: skip
    baselines = sorted({b for r in data["forecasts"] for b in r["skill_vs"]})
    return environment.get_template("report.html.j2").render(
        data={**data, "pairs": complete_rows(data, "pairs"), "headroom": complete_rows(data, "headroom")},
        comparison_id=comparison_id, lineage=lineage, premium=premium(data), headline=headline(data), nulls=nulls(data),
        rivals=sorted({b for row in nulls(data) for b in row["ratios"]}),
        charts={k: Markup(v) for k, v in charts.items()}, baselines=baselines,  # nosec B704 - made by plotly, above
        plotlyjs=Markup(get_plotlyjs()),  # nosec B704 - a file of the plotly package
        cells=[{"title": f"{s}, NAV ${n:,.0f}", "rows": rows_of(data, s, n)} for s, n in cells(data)],
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


def ratios(data: Mapping[str, Any]) -> go.Figure:
    """Return each paired ratio of the predictive policy with its interval, around the line at 1."""
    figure = go.Figure()
    for b in sorted({r["b"] for r in complete_rows(data, "pairs") if r["a"] == CLAIMANT}):
        rows = [r for r in complete_rows(data, "pairs") if r["a"] == CLAIMANT and r["b"] == b]
        figure.add_scatter(
            x=[r["ratio"] for r in rows], y=[f"{r['scenario']} ${r['nav_usd']:,.0f}" for r in rows], mode="markers",
            name=f"vs {b}", marker={"size": 9, "color": traits(b).colour},
            error_x={
                "type": "data", "symmetric": False, "array": [r["ci_high"] - r["ratio"] for r in rows],
                "arrayminus": [r["ratio"] - r["ci_low"] for r in rows],
            },
        )  # fmt: skip
    figure.add_vline(x=1, line_dash="dot", line_color="#999")
    figure.update_xaxes(range=[0, 2])  # a policy that hardly trades breaks the mandate at a tenth of the cost
    return _styled(figure, "predictive / baseline, total cost", "", 320)


def split(data: Mapping[str, Any]) -> go.Figure:
    """Return stacked cost bars per policy, one panel a scenario and NAV."""
    panels = cells(data)
    titles = [f"{s}, ${n:,.0f}" for s, n in panels]
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = make_subplots(rows=lines, cols=columns, subplot_titles=titles, horizontal_spacing=0.12)
    named: set[str] = set()  # a part enters the legend with the first panel that shows it
    for i, (scenario, nav) in enumerate(panels):
        rows = [r for r in rows_of(data, scenario, nav) if r["policy"] != IDLE][::-1]
        for key, name in PARTS.items():
            if key == "tracking_bp" and not scenario.startswith("soft"):
                continue
            figure.add_bar(
                y=[label_of(r) for r in rows], x=[r[key] for r in rows], orientation="h", name=name,
                marker_color=COLOURS[name], legendgroup=name, showlegend=name not in named,
                row=i // columns + 1, col=i % columns + 1,
            )  # fmt: skip
            named.add(name)
    figure.update_layout(barmode="stack")
    return _styled(figure, "", "", 300 * lines)


def frontier(data: Mapping[str, Any]) -> go.Figure:
    """Return trading cost against tracking error, log cost, one colour a policy and one symbol a cell."""
    figure = go.Figure()
    symbols = ["circle", "square", "diamond", "cross", "x", "triangle-up", "star", "hexagon"]
    for i, (scenario, nav) in enumerate(cells(data)):
        rows = [r for r in rows_of(data, scenario, nav) if r["gas_bp"] + r["fee_bp"] + r["impact_bp"] > 0]
        figure.add_scatter(
            x=[100 * r["te_annual"] for r in rows], y=[r["gas_bp"] + r["fee_bp"] + r["impact_bp"] for r in rows],
            mode="markers+text", name=f"{scenario} ${nav:,.0f}", customdata=[r["policy"] for r in rows],
            text=[r["policy"] if r["policy"] in _LABELLED else "" for r in rows], textposition="top center",
            textfont={"size": 10}, hovertemplate="%{customdata}<br>TE %{x:.2f} %<br>%{y:.1f} bp<extra></extra>",
            marker={"size": 10, "symbol": symbols[i % len(symbols)],
                    "color": [traits(r["policy"]).colour for r in rows]},
        )  # fmt: skip
    figure.update_yaxes(type="log")
    return _styled(figure, "tracking error, % a year", "gas + fee + impact, bp a year", 420)


def trades(timeline: pl.DataFrame) -> go.Figure:
    """Return the gas price with each policy's trades on it."""
    first = timeline.filter(pl.col("policy") == timeline["policy"][0]).sort("step")
    figure = go.Figure()
    figure.add_scatter(x=first["ts"].to_list(), y=first["gas_gwei"].to_list(), mode="lines", name="gas, gwei",
                       line={"color": "#aab2bf", "width": 1})  # fmt: skip
    for policy in timeline["policy"].unique(maintain_order=True):
        rows = timeline.filter((pl.col("policy") == policy) & pl.col("traded")).sort("step")
        figure.add_scatter(
            x=rows["ts"].to_list(), y=rows["gas_gwei"].to_list(), mode="markers", name=f"{policy} ({rows.height})",
            marker={"color": traits(policy).colour, "size": 8},
            visible=True if policy in {CLAIMANT, BASELINE} else "legendonly",
        )  # fmt: skip
    figure.update_yaxes(type="log")
    return _styled(figure, "", "gas price, gwei", 380)


def calibration(data: Mapping[str, Any]) -> go.Figure:
    """Return the coverage of the 90 % interval by target and horizon, around its nominal line."""
    figure = go.Figure()
    for target in sorted({r["target"] for r in data["forecasts"]}):
        rows = [r for r in data["forecasts"] if r["target"] == target and r["coverage90"] is not None]
        figure.add_scatter(
            x=[r["horizon_s"] / 3600 for r in rows], y=[100 * r["coverage90"] for r in rows], mode="markers",
            name=target, text=[r["key"] for r in rows], marker={"size": 8},
        )  # fmt: skip
    figure.add_hline(y=90, line_dash="dot", line_color="#999")
    return _styled(figure, "horizon, hours", "coverage of the 90 % interval, %", 340)


def _styled(figure: go.Figure, x: str, y: str, height: int) -> go.Figure:
    figure.update_layout(**_LAYOUT, height=height)
    figure.update_xaxes(**_GRID)
    figure.update_yaxes(**_GRID)
    if x:
        figure.update_xaxes(title=x)
    if y:
        figure.update_yaxes(title=y)
    return figure


def _html(figure: go.Figure) -> str:
    return str(pio.to_html(figure, include_plotlyjs=False, full_html=False, config={"displaylogo": False}))
