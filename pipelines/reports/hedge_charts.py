"""The frontier picture of a hedge comparison: cost against tracking error of every rule with a parameter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from pipelines.reports.charts import save

_LOOK = {"hedge_schedule": ("#b8b8b8", "s"), "hedge_delta": ("#f58518", "o"), "hedge_gas_band": ("#4c78a8", "D")}


def frontier(found: Mapping[str, Any]) -> Figure:
    """Return one panel a net asset value and chain; nearer to the lower left corner is better."""
    cells = {(c["terms"]["nav_usd"], c["terms"]["chain"]): c for c in found["cells"]}
    figure, axes = plt.subplots(1, len(cells), figsize=(4.0 * len(cells), 3.6), squeeze=False)
    for axis, ((nav, chain), cell) in zip(axes[0], cells.items(), strict=True):
        for rule, (colour, mark) in _LOOK.items():
            points = sorted((p["te_bp"], p["cost_bp"]) for p in cell["frontier"] if p["rule"] == rule)
            shown = [p for p in points if min(p) > 0]
            axis.plot(*zip(*shown, strict=True), color=colour, marker=mark, markersize=4, label=rule)
        axis.set(xscale="log", yscale="log", xlabel="tracking error, bp a year", title=f"{nav:,.0f} USD, {chain}")
    axes[0][0].set_ylabel("gas and fee, bp a year")
    axes[0][0].legend(loc="upper left", fontsize=8)
    figure.tight_layout()
    return figure


def write_frontier(found: Mapping[str, Any], folder: Path) -> Path:
    """Write the picture to ``folder``; return its path."""
    return save(frontier(found), folder / "frontier.png")
