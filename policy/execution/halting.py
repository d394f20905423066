"""A cycle while trading is stopped: what is on its way is looked up, nothing is decided, signed or sent."""

from __future__ import annotations

from dataclasses import replace

from policy.execution.checks.verdicts import passed, refused
from policy.execution.context import EngineContext, StepReport
from policy.execution.observation import refuse
from policy.execution.outcomes import settled
from policy.execution.records.halt import REMEDY
from policy.execution.recovery import recover

HALTED = "halted"
"""The check that says trading is stopped."""


def halted_cycle(ctx: EngineContext, report: StepReport, words: str) -> None:
    """Refuse with ``words``; a plan on its way is looked up first, and stays pending until its status is final."""
    flight, settlement = recover(replace(ctx, live=False, signer=None))
    if flight is not None and flight.open:
        settled(report, flight, settlement)
        report.recovered, report.decision_id = "pending", flight.plan.decision_id
    outcome = report.outcome
    refuse(report, [refused(HALTED, f"{words}; {REMEDY}")])
    if flight is not None and flight.open:
        report.outcome = outcome


def note_halt(ctx: EngineContext, report: StepReport) -> None:
    """Say in a dry run, which goes on, that a live one would not."""
    words = ctx.halted()
    if words is not None:
        report.verdicts.append(passed(HALTED, f"{words}: a live run refuses; {REMEDY}"))
