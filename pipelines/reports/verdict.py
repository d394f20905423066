"""What a comparison says at first sight: one number, three lines, and one chart of ratios, a row a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.reports.nulls import complete_rows
from policy.names import BASELINE, CLAIMANT, HEADLINE, SIMPLE, traits

NAMED = 2  # cells that a line names with their figures; the chart has them all
MARGIN = 0.02  # of a ratio, left free on both sides of the chart
DAY_H, WEEK_H = 24, 168
WIDEST = 2.0  # a rival that hardly trades costs a tenth, and breaks the mandate: its ratio is cut off there


@dataclass(frozen=True, slots=True)
class VerdictBox:
    """``number``: in how many cells prediction was cheaper beyond chance; ``lines``: three sentences."""

    number: str
    lines: tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class RatioMark:
    """One rival in one row: ratio and 95 % interval, and where they lie on the axis, per cent of its width."""

    rival: str
    colour: str
    text: str
    at: float
    left: float
    width: float


@dataclass(frozen=True, slots=True)
class RatioRow:
    """One cell of the panel: its name and a mark for each rival."""

    cell: str
    marks: tuple[RatioMark, ...]


@dataclass(frozen=True, slots=True)
class RatioChart:
    """Rows, the place of 1 on the axis (per cent), and its ends."""

    rows: tuple[RatioRow, ...]
    one: float
    low: float
    high: float


def short(nav_usd: float) -> str:
    """Return a size short enough for a phone: $100k, $1M."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if nav_usd >= unit:
            return f"${nav_usd / unit:g}{name}"
    return f"${nav_usd:g}"


def cell_name(row: Mapping[str, Any]) -> str:
    """Return the name of a row's cell."""
    return f"{row['scenario'].replace('_', ' ')} {short(row['nav_usd'])}"


def verdict(data: Mapping[str, Any]) -> VerdictBox:
    """Return the verdict over the rival that counts first; a loss or nothing shown is said as plainly as a gain."""
    mine = _mine(data)
    rival = next((b for b in (HEADLINE[0], BASELINE) if any(r["b"] == b for r in mine)), None)
    rows = sorted((r for r in mine if r["b"] == rival), key=lambda r: (r["scenario"], r["nav_usd"]))
    if rival is None:
        return VerdictBox("-", ("This comparison holds no pair of predictive and a reactive band.", "", ""))
    less = [r for r in rows if r["ci_high"] < 1]
    more = [r for r in rows if r["ci_low"] > 1]
    rest = [r for r in rows if r not in less and r not in more]
    named = {str(r.get("b_is", rival)) for r in rows}
    who = f"the best reactive rule ({' or '.join(sorted(named))})" if rival == HEADLINE[0] else rival
    first = f"On {_span(data, rows)} prediction cost less than {who} in {len(less)} of {len(rows)} cells{_named(less)}."
    second = f"It cost more in {len(more)}{_named(more)}." if more else "Nowhere did it cost more beyond chance."
    third = "Every cell is told apart from chance."
    if rest:
        low, high = min(r["ratio"] for r in rest), max(r["ratio"] for r in rest)
        third = f"In {len(rest)} nothing was shown: ratios {low:.2f} to {high:.2f}, each interval holds 1."
    return VerdictBox(f"{len(less)} of {len(rows)}", (first, second, third))


def _span(data: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return how long the comparison was; without its hours the number of calendar weeks it touches."""
    hours = data.get("data", {}).get("hours")
    if hours is None:
        return f"these {max(r['weeks'] for r in rows)} calendar weeks"
    return f"these {hours / WEEK_H:.0f} weeks" if hours >= 2 * WEEK_H else f"these {hours / DAY_H:.0f} days"


def _mine(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [r for r in complete_rows(data, "pairs") if r["a"] == CLAIMANT]


def _named(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    strongest = sorted(rows, key=lambda r: -abs(r["ratio"] - 1))[:NAMED]
    told = [f"{cell_name(r)} {r['ratio']:.2f} ({r['ci_low']:.2f} to {r['ci_high']:.2f})" for r in strongest]
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return ": " + ", ".join(told) + more


def ratio_chart(data: Mapping[str, Any]) -> RatioChart:
    """Return predictive over gas_band and over the better threshold, a row a cell, on one axis around 1."""
    mine = _mine(data)
    simple = next((b for b in ("best_threshold", *SIMPLE) if any(r["b"] == b for r in mine)), None)
    rivals = [b for b in (BASELINE, simple) if b is not None]
    shown = [r for r in mine if r["b"] in rivals]
    low: float = max(min([1.0, *(r["ci_low"] for r in shown)]) - MARGIN, 0.0)
    high: float = min(max([1.0, *(r["ci_high"] for r in shown)]), WIDEST) + MARGIN

    def place(value: float) -> float:
        return round(100 * (min(max(value, low), high) - low) / (high - low), 2)

    def mark(r: Mapping[str, Any]) -> RatioMark:
        text = f"{r['ratio']:.2f} ({r['ci_low']:.2f} to {r['ci_high']:.2f})"
        left, right = place(r["ci_low"]), place(r["ci_high"])
        return RatioMark(r["b"], traits(r["b"]).colour, text, place(r["ratio"]), left, round(right - left, 2))

    keys = sorted({(r["scenario"], r["nav_usd"]) for r in shown})
    rows = tuple(
        RatioRow(
            cell_name({"scenario": s, "nav_usd": n}),
            tuple(mark(r) for b in rivals for r in shown if (r["scenario"], r["nav_usd"], r["b"]) == (s, n, b)),
        )
        for s, n in keys
    )
    return RatioChart(rows, place(1.0), low, high)
