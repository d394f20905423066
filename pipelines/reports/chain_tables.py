"""Tables of a comparison on several chains."""

from __future__ import annotations

from typing import Any

from pipelines.reports.terminal import say, table

_PARTS = ("total_bp", "gas_bp", "fee_bp", "impact_bp", "bridge_bp", "tracking_bp")
_COUNTS = ("trades", "transfers", "forced_sales")


def comparison(found: dict[str, Any]) -> None:
    """Print cost by part, ratios with intervals, the sensitivity table and the collapse to one chain."""
    chains = ", ".join(str(c) for c in found["chains"])
    for cell in found["cells"]:
        rows = [
            [p["policy"], *(float(p[k]) for k in _PARTS), *(f"{p[k]:.1f}" for k in _COUNTS)] for p in cell["policies"]
        ]
        heads = ["policy", *(k.removesuffix("_bp") for k in _PARTS), "trades", "transfers", "forced"]
        table(f"Cost in bp of NAV a year, counts a year: {cell['nav_usd']:,.0f} USD on chains {chains}", heads, rows)
        say("  ".join(_pair(p) for p in cell["pairs"]))
    if found["sensitivity"]:
        rows = [[c["cell"], f"{c['nav_usd']:,.0f}", *(_ratio(p) for p in c["pairs"])] for c in found["sensitivity"]]
        rivals = [p["against"] for p in found["sensitivity"][0]["pairs"]]
        table("Cost of global over others, at the base's triggers", ["cell", "NAV USD", *rivals], rows, right_from=1)
    for row in found["collapse"]:
        others = ", ".join(f"{v:.4f}" for v in row["elsewhere"])
        where = f"; on the other half and panel {others}" if others else ""
        interval = f"{row['over_today']:.4f} ({row['low']:.3f} to {row['high']:.3f})"
        say(f"{row['cell']}: global costs {interval} of gas_band on one chain{where}")


def _pair(p: dict[str, Any]) -> str:
    if p["ratio"] is None:
        return f"global/{p['against']} undefined"
    return f"global/{p['against']} {p['ratio']:.3f} ({p['low']:.3f} to {p['high']:.3f})"


def _ratio(p: dict[str, Any]) -> str | None:
    return None if p["ratio"] is None else f"{p['ratio']:.3f}"
