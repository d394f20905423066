"""One hedge decision: what it saw, what it decided and, with ``live``, what it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pipelines.monitor import notify
from pipelines.monitor.logs import log
from pipelines.reports.check_remedies import remedies
from pipelines.reports.words import refusal
from pipelines.stages.book_lake import fresh_book_of
from pipelines.vault_setup.hedge_context import HedgeDesk, open_hedge
from policy.execution.context import StepReport
from policy.execution.hedge_engine import hedge_step

EVENTS = {"traded": "executed", "reverted": "failed", "refused": "refused"}
Shown = dict[str, Any]


def hedge(desk: HedgeDesk, *, live: bool, on_plan: Callable[[Shown], None] | None = None) -> Shown:
    """Take one decision of ``desk``; the cadence of a keeper calls this once a block or every few minutes.

    One plan is in flight, one is executed a stretch of ``[hedge] every``; calling it more often changes nothing.
    ``on_plan`` is called with the plan before anything is signed. A refusal is an outcome with its verdicts.
    """
    ctx = open_hedge(desk, live=live, book_at=fresh_book_of)
    planned: list[str] = []

    def show(draft: StepReport) -> None:
        planned.append(draft.decision_id)
        if on_plan is not None:
            on_plan(draft.json())

    report = hedge_step(replace(ctx, on_plan=show))
    shown = report.json() | {"account": ctx.vault_address, "planned": bool(planned)}
    shown["remedies"] = remedies(report.verdicts)
    log("hedge", decision_id=report.decision_id, outcome=report.outcome, why=report.why, live=live)
    if report.outcome in EVENTS:
        failed = [v for v in shown["verdicts"] if not v["ok"]]
        words = refusal(failed, report.why) if report.outcome == "refused" else report.why
        notify.notify(EVENTS[report.outcome], f"hedge {report.outcome}", words)
    return shown
