"""Pictures of a comparison, as Matplotlib figures for MLflow and the README.

``data`` is the JSON figures of a comparison; ``timeline`` one example portfolio per policy with columns policy, step,
ts, gas_gwei, distance (deviation over tolerance, or risk distance), traded (bool), cost_bp (cumulative) and one
``w_<asset>`` an asset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import polars as pl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from policy.names import IDLE, traits

PARTS = {"gas_bp": "gas", "fee_bp": "fee", "impact_bp": "impact", "tracking_bp": "tracking"}
COLOURS = {"gas": "#4c78a8", "fee": "#f58518", "impact": "#e45756", "tracking": "#b8b8b8"}


def save(figure: Figure, path: Path) -> Path:
    """Write ``figure`` as PNG and close it; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)
    return path


def cells(data: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return the (scenario, nav_usd) pairs of a comparison, in order."""
    return sorted({(r["scenario"], r["nav_usd"]) for r in data["policies"]})


def rows_of(data: Mapping[str, Any], scenario: str, nav: float) -> list[dict[str, Any]]:
    """Return the policy rows of one cell."""
    return [r for r in data["policies"] if r["scenario"] == scenario and r["nav_usd"] == nav]


def label_of(row: Mapping[str, Any]) -> str:
    """Return the policy's name, marked where it broke the hard mandate though it could trade: no merit in its cost."""
    broken = row.get("violations_did_not", row["violations"])
    return f"{row['policy']} (breaks it)" if broken else str(row["policy"])


def cost_split(data: Mapping[str, Any]) -> Figure:
    """Return stacked bars of gas, fee, impact and tracking per policy, one panel a scenario and NAV."""
    panels = cells(data)
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(5.2 * columns, 3.6 * lines), squeeze=False)
    for axis, (scenario, nav) in zip(axes.flat, panels, strict=False):
        rows = [r for r in rows_of(data, scenario, nav) if r["policy"] != IDLE]
        left = [0.0] * len(rows)
        shown = {k: v for k, v in PARTS.items() if k != "tracking_bp" or scenario.startswith("soft")}
        for key, name in shown.items():
            values = [r[key] for r in rows]
            axis.barh([label_of(r) for r in rows], values, left=left, color=COLOURS[name], label=name)
            left = [a + b for a, b in zip(left, values, strict=True)]
        axis.invert_yaxis()
        axis.set_title(f"{scenario}, NAV ${nav:,.0f}", fontsize=10)
        axis.set_xlabel("bp of NAV a year")
        axis.spines[["top", "right"]].set_visible(False)
        limit = sorted(left)[-2] * 1.35 if len(left) > 2 and max(left) > 3 * sorted(left)[-2] else None
        if limit:
            axis.set_xlim(0, limit)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    parts = {
        name: bar
        for axis in axes.flat[: len(panels)]
        for bar, name in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(parts.values()), list(parts), fontsize=9, frameon=False, loc="lower right")
    figure.tight_layout()
    return figure


def frontier(data: Mapping[str, Any]) -> Figure:
    """Return trading cost against tracking error, one point a policy, one panel a scenario and NAV."""
    panels = cells(data)
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(5.2 * columns, 3.8 * lines), squeeze=False)
    for axis, (scenario, nav) in zip(axes.flat, panels, strict=False):
        for r in rows_of(data, scenario, nav):
            cost = r["gas_bp"] + r["fee_bp"] + r["impact_bp"]
            if r["policy"] == IDLE or cost <= 0:
                continue
            axis.scatter(r["te_annual"] * 100, cost, s=42, color=traits(r["policy"]).colour)
            axis.annotate(
                r["policy"], (r["te_annual"] * 100, cost), fontsize=7, xytext=(4, 3), textcoords="offset points"
            )
        axis.set_yscale("log")
        axis.set_title(f"{scenario}, NAV ${nav:,.0f}", fontsize=10)
        axis.set_xlabel("tracking error, % a year")
        axis.set_ylabel("gas + fee + impact, bp a year")
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    figure.tight_layout()
    return figure


def timeline(frame: pl.DataFrame, policies: Sequence[str]) -> Figure:
    """Return gas over time with each policy's trades as ticks, above the distance each policy lets build up."""
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(12, 6), sharex=True, height_ratios=[1, 1])
    gas = frame.filter(pl.col("policy") == frame["policy"][0]).sort("step")
    top.plot(gas["ts"], gas["gas_gwei"], color="#cccccc", linewidth=0.8)
    top.set_yscale("log")
    top.set_ylabel("gas price, gwei")
    for policy in policies:
        rows = frame.filter(pl.col("policy") == policy).sort("step")
        colour = traits(policy).colour
        trades = rows.filter("traded")
        top.scatter(trades["ts"], trades["gas_gwei"], s=18, color=colour, label=f"{policy} ({trades.height})", zorder=3)
        bottom.plot(rows["ts"], rows["distance"], color=colour, linewidth=0.8, label=policy)
    top.legend(fontsize=8, frameon=False, ncols=4)
    bottom.set_ylabel("distance from target")
    for axis in (top, bottom):
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def weights(frame: pl.DataFrame, policy: str) -> Figure:
    """Return the weights one policy held over time, as stacked areas."""
    rows = frame.filter(pl.col("policy") == policy).sort("step")
    names = [c for c in rows.columns if c.startswith("w_") and rows[c].null_count() < rows.height]
    figure, axis = plt.subplots(figsize=(12, 3.4))
    axis.stackplot(rows["ts"], *[rows[c] for c in names], labels=[c.removeprefix("w_") for c in names], alpha=0.85)
    axis.set_ylim(0, 1)
    axis.set_ylabel("weight")
    axis.set_title(f"weights under {policy}", fontsize=10)
    axis.legend(fontsize=8, ncols=len(names), loc="lower center", frameon=True)
    figure.tight_layout()
    return figure


def cumulative_cost(frame: pl.DataFrame, policies: Sequence[str]) -> Figure:
    """Return cumulative cost in bp of NAV over time, one line a policy."""
    figure, axis = plt.subplots(figsize=(12, 3.8))
    for policy in policies:
        rows = frame.filter(pl.col("policy") == policy).sort("step")
        colour = traits(policy).colour
        axis.plot(rows["ts"], rows["cost_bp"], label=policy, color=colour, linewidth=1.4)
    axis.set_ylabel("cumulative cost, bp of NAV")
    axis.legend(fontsize=8, frameon=False, ncols=4)
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def calibration(data: Mapping[str, Any]) -> Figure:
    """Return the coverage of the 90 % interval by target and horizon, around its nominal line."""
    figure, axis = plt.subplots(figsize=(8, 3.6))
    for target in sorted({r["target"] for r in data["forecasts"]}):
        rows = [r for r in data["forecasts"] if r["target"] == target and r["coverage90"] is not None]
        axis.scatter([r["horizon_s"] / 3600 for r in rows], [100 * r["coverage90"] for r in rows], label=target, s=30)
    axis.axhline(90, color="#999999", linestyle=":")
    axis.set_xlabel("horizon, hours")
    axis.set_ylabel("coverage of the 90 % interval, %")
    axis.legend(fontsize=8, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def widths(found: Any) -> Figure:
    """Return cost against band width (``band_width_curve.Widths``) with the point where benefit meets cost."""
    figure, axis = plt.subplots(figsize=(8, 4.2))
    percent = 100 * found.width
    axis.plot(percent, found.total_bp, color="#d1495b", label="total")
    axis.plot(percent, found.tracking_bp, color=COLOURS["tracking"], label="tracking")
    axis.plot(percent, found.total_bp - found.tracking_bp, color=COLOURS["gas"], label="gas + fee + impact")
    axis.axvline(100 * found.best_width, color="#777777", linestyle=":")
    axis.annotate(f"{100 * found.best_width:.2f} %", (100 * found.best_width, found.best_bp), xytext=(6, 8),
                  textcoords="offset points")  # fmt: skip
    axis.set_xscale("log")
    axis.set_ylim(0, 4 * found.best_bp)
    axis.set_xlabel("mean deviation of an asset at the trigger, %")
    axis.set_ylabel("bp of NAV a year")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure
