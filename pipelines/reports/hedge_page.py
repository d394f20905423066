"""The self-contained HTML page of a book: its Greeks, ladder, stress, attribution waterfall and frontiers of hedges."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
import plotly.io as pio
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from lake.errors import ConfigError

COLUMNS = (
    "value_usd", "delta_units", "delta_usd", "cash_gamma_usd", "vega_usd_per_point", "theta_usd_per_day",
    "carry_usd_per_day",
)  # fmt: skip
HEADS = ("value USD", "delta coins", "delta USD", "gamma USD", "vega USD/pt", "theta USD/d", "carry USD/d")
_LAYOUT = {
    "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font": {"color": "#7b8496", "size": 12},
    "margin": {"l": 70, "r": 20, "t": 20, "b": 50},
}  # fmt: skip
_GRID = {"gridcolor": "rgba(128,128,128,0.25)"}


def write_page(path: Path, view: Mapping[str, Any], added: Sequence[Path] = ()) -> Path:
    """Write the page of ``view`` (as ``foredrift greeks --json`` writes it) to ``path``; return it.

    ``added`` are JSON files of ``attribution`` and ``compare --hedge``; ConfigError names one that is neither.
    """
    attributions, comparisons = [], []
    for file in added:
        found = _read(file)
        if "sums_usd" in found:
            attributions.append(found)
        elif "cells" in found and "template" in found:
            comparisons.append(found)
        else:
            raise ConfigError(f"{file}: neither of attribution --json nor of compare --hedge --json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(view, attributions[-1] if attributions else None, comparisons), encoding="utf-8")
    return path


def render(
    view: Mapping[str, Any], attribution: Mapping[str, Any] | None, comparisons: Sequence[Mapping[str, Any]]
) -> str:
    """Return the page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    charts = {
        "ladder": _html(ladder(view["ladder"])),
        "waterfall": "" if attribution is None else _html(waterfall(attribution["sums_usd"])),
    }
    frontiers = [
        {"title": f"{c['template']['kind']} on {c['template']['asset']}, {title}", "chart": _html(figure)}
        for c in comparisons
        for title, figure in frontier(c)
    ]
    told = "" if attribution is None else f"{attribution['from']} to {attribution['to']}"
    return environment.get_template("hedge.html.j2").render(
        view=view, columns=COLUMNS, heads=HEADS, charts=charts, frontiers=frontiers, attributed=told,
        plotlyjs=Markup(get_plotlyjs()),  # nosec B704 - a file of the plotly package
    )  # fmt: skip


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read as JSON ({error}); name a file that --json wrote") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{file} holds no JSON object; name a file that --json wrote")
    return found


def ladder(rungs: Mapping[str, Any]) -> go.Figure:
    """Return the profit by spot (down) and volatility (across) as a heat map with its numbers."""
    worst = max((abs(v) for row in rungs["profit_usd"] for v in row), default=1.0)
    figure = go.Figure(go.Heatmap(
        z=rungs["profit_usd"], x=[f"vol {100 * v:+.0f} %" for v in rungs["vol"]],
        y=[f"spot {100 * s:+.0f} %" for s in rungs["spot"]], colorscale="RdBu", zmin=-worst, zmax=worst,
        texttemplate="%{z:,.0f}", hovertemplate="%{y}, %{x}: %{z:,.0f} USD<extra></extra>", showscale=False,
    ))  # fmt: skip
    figure.update_layout(**_LAYOUT, height=420)
    return figure


def waterfall(sums: Mapping[str, float]) -> go.Figure:
    """Return the terms one after another, ending at the profit."""
    terms = [k for k in sums if k != "pnl"]
    figure = go.Figure(go.Waterfall(
        x=[*terms, "profit"], y=[*(sums[k] for k in terms), sums["pnl"]],
        measure=[*(["relative"] * len(terms)), "total"], connector={"line": {"color": "rgba(128,128,128,0.5)"}},
        hovertemplate="%{x}: %{y:,.0f} USD<extra></extra>",
    ))  # fmt: skip
    figure.update_layout(**_LAYOUT, height=360, yaxis={"title": "USD", **_GRID})
    return figure


def frontier(found: Mapping[str, Any]) -> list[tuple[str, go.Figure]]:
    """Return one picture a net asset value and chain, with its title."""
    cells = {(c["terms"]["nav_usd"], c["terms"]["chain"]): c for c in found["cells"]}
    out = []
    for (nav, chain), cell in cells.items():
        figure = go.Figure()
        for rule in dict.fromkeys(p["rule"] for p in cell["frontier"]):
            points = sorted((p["te_bp"], p["cost_bp"], p["parameter"]) for p in cell["frontier"] if p["rule"] == rule)
            shown = [p for p in points if p[0] > 0 and p[1] > 0]
            figure.add_scatter(
                x=[p[0] for p in shown], y=[p[1] for p in shown], text=[f"{p[2]:g}" for p in shown], name=rule,
                mode="lines+markers", hovertemplate="%{text}: error %{x:.0f}, cost %{y:.0f}<extra>" + rule + "</extra>",
            )  # fmt: skip
        figure.update_layout(
            **_LAYOUT, height=380, xaxis={"type": "log", "title": "tracking error, bp a year", **_GRID},
            yaxis={"type": "log", "title": "gas and fee, bp a year", **_GRID},
        )  # fmt: skip
        out.append((f"{nav:,.0f} USD, {chain}", figure))
    return out


def _html(figure: go.Figure) -> Markup:
    return Markup(pio.to_html(figure, include_plotlyjs=False, full_html=False))  # nosec B704 - made by plotly
