"""A plan that was executed, and what it cost: from the audit's records of its decision and its settlement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from lake.units import utc
from pipelines.vault_settings import VaultSettings
from policy.execution.records.hashlog import Body
from policy.execution.records.journal import EXECUTED as TRADED
from policy.execution.records.journal import Flight

WEI = 10**18
EXECUTED = TRADED | {"reverted"}


@dataclass(frozen=True, slots=True)
class SettledPlan:
    """A plan that landed, was filled or reverted: its flight, and the audit's records of its decision and settlement.

    ``attempt`` counts the signed transactions of the decision, over all its plans, from 0.
    """

    flight: Flight
    decision: Body
    settlement: Body
    attempt: int

    @property
    def key(self) -> tuple[str, int]:
        """Name of its row."""
        return self.flight.plan.decision_id, self.attempt

    @property
    def at(self) -> datetime:
        """When it was settled."""
        return utc(self.settlement["ts"])

    @property
    def outcome(self) -> str:
        """What people are told: traded or reverted."""
        return "traded" if self.flight.state in TRADED else "reverted"


def executions(flights: Sequence[Flight], records: Sequence[Body]) -> list[SettledPlan]:
    """Return the flights that landed or reverted with what the audit says of them, oldest first.

    A flight without such records (its audit file was moved aside) is left out: nothing true could be written of it.
    """
    decisions = {r["plan_hash"]: r for r in records if r["event"] == "decision" and r["live"] and r["plan_hash"]}
    settled = {(r["plan_hash"], r["outcome"]): r for r in records if r["event"] == "settlement"}
    tried: dict[str, int] = {}
    found = []
    for flight in flights:
        name, plan_hash = flight.plan.decision_id, "0x" + flight.plan.plan_hash.hex()
        tried[name] = tried.get(name, 0) + len(flight.attempts)
        decision, settlement = decisions.get(plan_hash), settled.get((plan_hash, flight.state))
        if flight.state in EXECUTED and decision is not None and settlement is not None:
            found.append(SettledPlan(flight, decision, settlement, tried[name] - 1))
    return found


def figures(deployment: VaultSettings, decision: Body) -> dict[str, float]:
    """Return what to watch: the largest drift in tolerances, the loss budget left (bp of NAV), the base fee (gwei)."""
    seen = decision["snapshot"]
    found = {
        "drift_distance": distance(deployment, decision["weights_before"]),
        "gas_gwei": int(seen["base_fee_wei"]) / 1e9,
    }
    if int(seen["nav"]) and "loss_budget_left" in seen:
        found["loss_budget_left_bp"] = int(seen["loss_budget_left"]) / int(seen["nav"]) * 1e4
    return found


def distance(deployment: VaultSettings, weights: Sequence[float]) -> float:
    """Return the largest deviation of ``weights`` (in the order of the assets) from target, in tolerances."""
    given = deployment.portfolio
    pairs = zip(given.assets, weights, strict=False)
    return max((abs(w - given.weights[a]) / given.caps[a] for a, w in pairs), default=0.0)


def fees_usd(deployment: VaultSettings, execution: SettledPlan) -> float:
    """Return the pool fees of the traded value, USD."""
    return float(execution.decision["expected"].get("value_usd", 0.0)) * deployment.costs.fee_bps / 10_000


def realised(deployment: VaultSettings, execution: SettledPlan) -> dict[str, float]:
    """Return what an execution cost, USD: ``gas_usd``, ``loss_usd`` against the oracle and, fees aside, ``impact_usd``.

    A reverted plan costs gas only. Forecasters learn from ``impact_usd`` (``models.slippage.realised_impact``).
    """
    settled, context = execution.settlement["settlement"], execution.flight.context
    found = {}
    if "native_usd" in context:
        found["gas_usd"] = int(settled["gas_cost_wei"]) / WEI * float(context["native_usd"])
    before, after = int(settled["nav_before"]), int(settled["nav_after"])
    if before and execution.flight.state in TRADED:
        loss = (before - after) / before * float(execution.decision["expected"]["nav_usd"])
        found |= {"loss_usd": loss, "impact_usd": max(loss - fees_usd(deployment, execution), 0.0)}
    return found
