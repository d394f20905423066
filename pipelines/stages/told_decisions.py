"""Recorded decisions as people hear of them: from the audit record to one sentence each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lake.units import BPS, utc
from pipelines.reports.words import Told, sentence
from pipelines.settlements.reconcile import row_id
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.paper import address
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
        given, snapshot = self.deployment.portfolio, body.get("snapshot") or {}
        return Told(
            body["action"], self.outcome(body), body["why"], body["verdicts"], given.assets,
            body.get("weights_before", ()), body.get("weights_wanted", ()), [given.weights[a] for a in given.assets],
            [given.caps[a] for a in given.assets], float((body.get("expected") or {}).get("nav_usd", 0.0)),
            self._prices(snapshot), body.get("details") or {},
            int(snapshot["base_fee_wei"]) / 1e9 if "base_fee_wei" in snapshot else None, gas_low,
            self.deployment.mandate.max_turnover_bps / BPS,
        )  # fmt: skip

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

    def _prices(self, snapshot: Mapping[str, Any]) -> dict[str, float]:
        """Return USD by asset from the feeds a decision read, as far as the settings name the tokens."""
        assets = self.deployment.portfolio.assets
        known = {t.lower(): a for a, t in self.deployment.vault.tokens.items()}
        if self.deployment.vault.kind == "simulated":
            known = {address(a).lower(): a for a in assets}
        rows = (snapshot.get("prices_e8") or {}).items()
        return {known[t.lower()]: int(row[0]) / 1e8 for t, row in rows if t.lower() in known}
