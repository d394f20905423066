"""What became of a plan, put into the report of the cycle that finds out."""

from __future__ import annotations

from policy.execution.attempts import standing
from policy.execution.base import Settlement
from policy.execution.checks.verdicts import explain, refusals, refused
from policy.execution.context import StepReport, attempts_json
from policy.execution.records.journal import Flight


def settled(report: StepReport, flight: Flight, settlement: Settlement | None) -> None:
    """Put the final status of ``flight`` into the report."""
    outcomes = {"landed": "traded", "filled": "traded", "reverted": "reverted", "void": "void", "offered": "offered"}
    outcomes |= dict.fromkeys(("expired", "disarmed"), "void")
    report.outcome = outcomes.get(flight.state, "pending")
    report.attempts = attempts_json(flight)
    report.plan = flight.plan
    if flight.open and flight.state != "offered":
        report.verdicts.append(refused("pending", standing(flight)))
    if flight.open or report.outcome == "void":
        report.why = standing(flight) if flight.open else flight.note
    if settlement is not None:
        report.settlement = settlement
        report.verdicts += settlement.verdicts
        report.weights_after = tuple(w / 10_000 for w in settlement.weights_after_bps)
        if refusals(settlement.verdicts):
            report.why = explain(settlement.verdicts)
