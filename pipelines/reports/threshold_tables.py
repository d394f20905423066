"""What ``foredrift thresholds`` prints: cost by the width of the band, and when in the hour gas is cheap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.reports.terminal import say, table

COLUMNS = {
    "cost_bp": "trading", "tracking_bp": "tracking", "total_bp": "total", "marginal_cost_bp": "1 % less adds",
    "marginal_benefit_bp": "and saves",
}  # fmt: skip
"""Heading by figure of the curve; narrow enough for a table at 80 columns."""


def thresholds(result: Mapping[str, Any]) -> None:
    """Print where marginal benefit meets marginal cost."""
    rows = [[f"{r['half_width']:.2%}", *(r[n] for n in COLUMNS)] for r in result["curve"]]
    table(f"{result['title']}; bp of NAV a year", ["half width", *COLUMNS.values()], rows, 0)
    say(result["sentence"])
    if result["gas_by_minute"]:
        rows = [
            [f":{r['minute']:02d}", f"{r['ratio'] - 1.0:+.1%}", f"{r['error']:.1%}", str(r["hours"])]
            for r in result["gas_by_minute"]
        ]
        table("Gas by minute of the hour, over the hour's mean", ["minute", "gas", "standard error", "hours"], rows)
    say(result["schedule_sentence"])
