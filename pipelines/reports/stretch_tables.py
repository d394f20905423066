"""The evidence of several stretches in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.reports.nulls import complete_rows
from pipelines.reports.terminal import say, table
from policy.names import BASELINE


def evidence(data: Mapping[str, Any]) -> None:
    """Print ratios by stretch and pooled, and what each family of forecasts is worth."""
    named = ", ".join(f"{w['start'][:10]}..{w['end'][:10]}" for w in data["windows"])
    say(f"stretches: {named}; {data['portfolios']} baskets a cell")
    say(f"mirrored: {data['paths']} paths a basket; recorded: {data['starts']} starts; 95 % weekly block bootstrap")
    for way in ("mirrored", "recorded"):
        rows = [r for r in complete_rows(data, "ratios") if r["way"] == way and r["b"] in ("past_best", BASELINE)]
        table(
            f"Predictive over the band that was cheapest before, and over {BASELINE}: {way}",
            ["scenario", "NAV", "over", "window", "ratio", "low", "high"],
            [
                [r["scenario"], f"{r['nav_usd']:,.0f}", r["b"], r["window"], r["ratio"], r["ci_low"], r["ci_high"]]
                for r in rows
            ],
            4,
        )
    _ablation(data)


def _ablation(data: Mapping[str, Any]) -> None:
    """Print the ratio of the policy with to without each family; one with no worth is said to have none."""
    rows = complete_rows(data, "ablation")
    if not rows:
        return
    last = "pooled" if any(r["window"] == "pooled" for r in rows) else rows[0]["window"]
    kept = [r for r in rows if r["window"] == last]
    table(
        f"Cost with over without each family of forecasts ({last})",
        ["family", "scenario", "NAV", "way", "ratio", "low", "high"],
        [
            [r["family"], r["scenario"], f"{r['nav_usd']:,.0f}", r["way"], r["ratio"], r["ci_low"], r["ci_high"]]
            for r in kept
        ],
        4,
    )
    for family in dict.fromkeys(r["family"] for r in kept):
        own = [r for r in kept if r["family"] == family and r["way"] == "mirrored"]
        proven = [f"{r['scenario']} ${r['nav_usd']:,.0f}" for r in own if r["ci_high"] < 1]
        worse = [f"{r['scenario']} ${r['nav_usd']:,.0f}" for r in own if r["ci_low"] > 1]
        say(f"{family}: cheaper beyond chance on mirrored paths at {', '.join(proven) or 'no cell: no worth shown'}")
        if worse:
            say(f"{family}: dearer beyond chance at {', '.join(worse)}")
