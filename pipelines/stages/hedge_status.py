"""What the hedge account's last decision saw: net delta, band, gamma, and what it did."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from lake.units import utc
from policy.execution.records.audit import Audit
from policy.execution.records.hashlog import Body

FIGURES = (
    "net_delta_units", "hedge_units", "book_delta_units", "x", "outer", "inner", "phi", "vol", "nav_usd", "price_usd",
)  # fmt: skip


def hedge_decisions(audit: Path, at: datetime) -> list[Body]:
    """Return the hedge decisions in ``audit`` up to ``at``, oldest first; none where there is no such file."""
    if not audit.exists():
        return []
    taken = [line.body for line in Audit(audit).records() if line.body.get("event") == "hedge"]
    return [body for body in taken if utc(str(body["ts"])) <= at]


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
