"""Small charts of the portfolio page, drawn on the server as SVG: no script, colours of the page's own theme."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from lake.units import utc

mpl.use("svg")
INK, FAINT, LINE, FAN, BAND = "#010101", "#020202", "#030303", "#040404", "#050505"
SERIES = tuple(f"#0a0a{i:02x}" for i in range(10, 18))
THEME = {INK: "--ink", FAINT: "--faint", LINE: "--accent", FAN: "--accent", BAND: "--accent"}
THEME |= {colour: f"--series{i}" for i, colour in enumerate(SERIES)}
"""Placeholder colours, which become the page's variables."""
EMPTY = {"history": {"ts": ()}}
Shown = Mapping[str, Any]


def nav(history: Shown) -> Markup:
    """Return NAV over time, USD, with trades as marks on the axis."""
    figure, axes = _figure()
    ts = _times(history["ts"])
    axes.plot(ts, [v / 1e3 for v in history["nav_usd"]], color=LINE, linewidth=1.6)
    _marks(axes, history["trades"])
    axes.set_ylabel("NAV, thousand USD")
    return _svg(figure, "NAV over time in thousand USD; marks are trades")


def weights(history: Shown) -> Markup:
    """Return weights over time as stacked areas, per cent, with each asset's name."""
    figure, axes = _figure()
    ts = _times(history["ts"])
    names = list(history["weights"])
    rows = [[100 * w for w in history["weights"][a]] for a in names]
    axes.stackplot(ts, rows, labels=names, colors=[SERIES[i % len(SERIES)] for i in range(len(names))])
    _marks(axes, history["trades"])
    axes.set_ylim(0, 100)
    axes.set_ylabel("weight, %")
    _legend(axes, min(len(names), 5))
    return _svg(figure, f"weights over time in per cent: {', '.join(names)}; marks are trades")


def chains(history: Shown) -> Markup:
    """Return value by chain over time as stacked areas, thousand USD; an arrow is a transfer, from chain to chain."""
    figure, axes = _figure(6.4)
    ts, names = _times(history["ts"]), list(history["usd"])
    rows = np.array([history["usd"][c] for c in names]) / 1e3
    labels = [f"chain {c}" for c in names]
    axes.stackplot(ts, rows, labels=labels, colors=[SERIES[i % len(SERIES)] for i in range(len(names))])
    middle = np.cumsum(rows, axis=0) - rows / 2
    for move in history["moves"]:
        if str(move["from"]) in names and str(move["to"]) in names:
            when = _times([move["ts"]])[0]
            start, end = (np.interp(when, ts, middle[names.index(str(move[k]))]) for k in ("from", "to"))
            arrow = {"arrowstyle": "->", "color": INK, "linewidth": 1.2}
            axes.annotate("", (when, end), (when, start), arrowprops=arrow)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("worth, thousand USD")
    _legend(axes, min(len(names), 5))
    return _svg(figure, f"worth by chain over time in thousand USD: {', '.join(labels)}; arrows are transfers")


def drift(history: Shown) -> Markup:
    """Return the largest deviation from target in tolerances; above 1 the mandate is left."""
    figure, axes = _figure()
    axes.plot(_times(history["ts"]), history["drift"], color=LINE, linewidth=1.2)
    axes.axhline(1.0, color=INK, linewidth=1.0, linestyle="--")
    axes.set_ylim(0, max(1.5, 1.2 * sorted(history["drift"])[int(0.95 * len(history["drift"]))]))
    axes.set_ylabel("largest drift, tolerances")
    return _svg(figure, "largest deviation from target in tolerances; the dashed line is the band's edge")


def gas(ahead: Shown) -> Markup:
    """Return the past day's gas and the fan of the newest forecast, gwei."""
    figure, axes = _figure(6.4)
    past, fan = ahead["past"], ahead["fan"]
    axes.plot(_times([p["ts"] for p in past]), [p["gwei"] for p in past], color=INK, linewidth=1.6, label="came")
    if fan:
        ts = _times([f["ts"] for f in fan])
        for low, high, alpha in (("q05", "q95", 0.15), ("q25", "q75", 0.3)):
            axes.fill_between(ts, [f[low] for f in fan], [f[high] for f in fan], color=FAN, alpha=alpha, linewidth=0)
        axes.plot(ts, [f["q50"] for f in fan], color=LINE, linewidth=1.6, marker=".", label="expected, 50 and 90 %")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("gas, gwei")
    _legend(axes, 2)
    return _svg(figure, "gas of the past day and the forecast in gwei")


def _marks(axes: Axes, trades: Sequence[str]) -> None:
    """Mark the times of ``trades`` at the foot of the chart."""
    axes.plot(
        _times(trades), [0.03] * len(trades), "|", color=INK, markersize=10, transform=axes.get_xaxis_transform()
    )  # fmt: skip


def _legend(axes: Axes, columns: int) -> None:
    """Put the names above the chart, in ``columns``."""
    anchor = (0.5, 1.22)
    axes.legend(
        loc="upper center", ncols=columns, frameon=False, labelcolor=INK, fontsize=11, bbox_to_anchor=anchor
    )  # fmt: skip


def _times(texts: Sequence[str]) -> Any:
    """Return ISO times as numbers of a date axis."""
    return date2num([utc(t) for t in texts])  # type: ignore[no-untyped-call]


def _figure(width: float = 4.8) -> tuple[Figure, Axes]:
    """Return an empty chart of ``width`` inches; its letters are as large as the page's where it is a third of it."""
    figure = Figure(figsize=(width, 2.5), layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0.0)
    axes.tick_params(colors=INK, labelsize=11)
    axes.yaxis.label.set(color=INK, fontsize=11)
    axes.grid(color=FAINT, linewidth=0.5)
    locator = AutoDateLocator(minticks=3, maxticks=6)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    for side in axes.spines.values():
        side.set_visible(False)
    return figure, axes


def _svg(figure: Figure, says: str) -> Markup:
    """Return the figure as inline SVG with text as text; ``says`` is what a screen reader reads."""
    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": says, "font.family": "sans-serif"}):
        figure.savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = out.getvalue()
    text = text[text.index("<svg") :]
    for colour, variable in THEME.items():
        text = text.replace(colour, f"var({variable})")
    attributes = Markup('<svg role="img" class="chart" aria-label="{}" ').format(says)
    return Markup(text.replace("<svg ", attributes, 1))


def charts(data: Shown) -> dict[str, Markup]:
    """Return the charts there is something to draw for, by name."""
    enough = len(data["history"]["ts"]) > 1
    made: Sequence[tuple[str, Any, bool]] = (
        ("nav", lambda: nav(data["history"]), enough), ("weights", lambda: weights(data["history"]), enough),
        ("drift", lambda: drift(data["history"]), enough), ("gas", lambda: gas(data["gas"]), bool(data["gas"]["past"])),
        ("chains", lambda: chains(data["chains"]["history"]), len((data["chains"] or EMPTY)["history"]["ts"]) > 1),
    )  # fmt: skip
    return {name: draw() for name, draw, there in made if there}
