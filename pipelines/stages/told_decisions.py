"""Recorded decisions as people hear of them: from the audit record to one sentence each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lake.units import utc
from pipelines.reports.words import Told, sentence
from pipelines.settlements.reconcile import journal_of, row_id
from pipelines.settlements.settled_plan import executions
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.telling import told_of
from policy.execution.records.audit import Audit
from policy.execution.records.hashlog import Body

ASKED = {"decision", "refusal"}
SAID_EARLY = {"": "planned", "refused": "refused"}


def decided(records: Sequence[Body]) -> list[Body]:
    """Return the decisions and refusals of ``records``, oldest first; the newest record of a decision counts."""
    newest = {(b["decision_id"], b["live"], b["event"]): b for b in records if b.get("event") in ASKED}
    return sorted(newest.values(), key=lambda b: utc(b["ts"]))


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells the decisions of one vault. ``ahead``: gas expected (``gas_ahead``); ``ended``: outcome by plan hash."""

    deployment: VaultSettings
    ahead: Mapping[str, Any]
    ended: Mapping[str, str]

    def row(self, body: Body) -> dict[str, Any]:
        """Return one decision: decision_id (as ``foredrift explain`` takes it), ts, outcome, action, live, sentence."""
        told = self.told(body)
        return {
            "decision_id": row_id(body), "ts": utc(body["ts"]).isoformat(), "outcome": told.outcome,
            "action": told.action, "live": bool(body["live"]), "sentence": sentence(told),
        }  # fmt: skip

    def told(self, body: Body, gas_low: tuple[float, datetime] | None = None) -> Told:
        """Return what ``body`` says; weights, trigger and gas as they were then."""
        return told_of(self.deployment, body, self.outcome(body), gas_low)

    def outcome(self, body: Body) -> str:
        """Return what became of a decision: of its plan where it has ended, else what was said when it was kept."""
        ended = self.ended.get(body.get("plan_hash") or "")
        if ended is not None and body["live"]:
            return ended
        if body["event"] == "refusal" or (body["outcome_so_far"] == "refused" and not body.get("plan")):
            return "refused"
        if body["action"] == "wait":
            return "waited"
        return "pending" if body["live"] else "planned"

    def next(self, newest: Sequence[Body], halted: str | None) -> dict[str, Any]:
        """Return what comes next and why: the last decision's reason with the gas that is waited for now."""
        low = self.ahead.get("low")
        found: dict[str, Any] = {
            "gas_gwei": self.ahead.get("now_gwei"), "gas_low": low, "decision_id": None, "decided_at": None,
            "action": None,
        }  # fmt: skip
        if not newest:
            return found | {"sentence": halted or "Nothing was decided yet: the first decision buys what is missing"}
        body = newest[0]
        cheaper = None if low is None else (float(low["gwei"]), utc(low["by"]))
        said = sentence(self.told(body, cheaper))
        return found | {
            "sentence": f"Not trading: {halted}" if halted else said, "decision_id": row_id(body),
            "decided_at": utc(body["ts"]).isoformat(), "action": body["action"],
        }  # fmt: skip


def newest_words(deployment: VaultSettings) -> str | None:
    """Return the last decision of ``deployment`` as one sentence, None where nothing was decided or recorded yet."""
    records = [line.body for line in Audit(deployment.audit).records()] if deployment.audit.exists() else []
    last = decided(records)[-1:]
    if not last:
        return None
    settled = executions(journal_of(deployment).flights(), records)
    teller = Teller(deployment, {}, {s.decision["plan_hash"]: s.outcome for s in settled})
    return str(teller.row(last[0])["sentence"])
