"""What the hedge account's last decision saw: net delta, band, gamma, and what it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from policy.execution.records.audit import Audit

FIGURES = (
    "net_delta_units", "hedge_units", "book_delta_units", "x", "outer", "inner", "phi", "vol", "nav_usd", "price_usd",
)  # fmt: skip


def last_hedge(audit: Path) -> dict[str, Any] | None:
    """Return the newest hedge decision in ``audit`` with its figures (None where unknown), None without one."""
    if not audit.exists():
        return None
    taken = [line.body for line in Audit(audit).records() if line.body.get("event") == "hedge"]
    if not taken:
        return None
    last = taken[-1]
    seen = last.get("expected") or {}
    return {
        "ts": last["ts"], "decision_id": last["decision_id"], "rule": last["policy"], "action": last["action"],
        "why": last["why"], "live": last["live"], **{name: seen.get(name) for name in FIGURES},
    }  # fmt: skip
