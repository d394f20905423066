"""What cycles leave in the lake: rows made from the audit and the journal alone, so that a killed run loses none.

The audit holds every decision before its plan is journalled and every settlement before its plan is closed. A run that
dies after that has lost nothing: the next one writes the rows that are missing, and writing them again changes nothing.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from lake.store import Lake
from lake.units import utc
from pipelines import watch
from pipelines.settings import Settings
from policy.execution.audit import Audit
from policy.execution.hashlog import Body
from policy.execution.journal import Flight, Journal

WEI = 10**18


@dataclass(frozen=True, slots=True)
class Execution:
    """A plan that landed or reverted: its flight, and the audit's records of its decision and its settlement.

    ``attempt`` counts the signed transactions of the decision, over all its plans, from 0.
    """

    flight: Flight
    decision: Body
    settlement: Body
    attempt: int

    @property
    def at(self) -> datetime:
        """When it was settled."""
        return utc(self.settlement["ts"])

    @property
    def outcome(self) -> str:
        """What people are told: traded or reverted."""
        return "traded" if self.flight.state == "landed" else "reverted"


def reconcile(settings: Settings, lake: Lake) -> list[Execution]:
    """Write the decisions and executions that the lake lacks; return the executions that were new to it.

    Holds a lock of its own, so that of two runs one writes and the other finds it written.
    """
    if not settings.path(settings.vault.audit).exists():
        return []
    with _one_at_a_time(settings):
        records = [line.body for line in Audit(settings.path(settings.vault.audit)).records()]
        _write_decisions(settings, lake, [r for r in records if r["event"] == "decision"])
        settled = executions(Journal(settings.path(settings.vault.journal)).flights(), records)
        known = set(lake.scan("executions").select("decision_id", "attempt").collect().iter_rows())
        new = [e for e in settled if (e.flight.plan.decision_id, e.attempt) not in known]
        if not new:
            return []
        _judge(settings, settled)  # first: the row says that nothing is left to do
        rows = [_execution_row(settings, e) for e in new]
        lake.write("executions", pl.DataFrame(rows, schema_overrides={"tx_hash": pl.String}))
    return new


def _judge(settings: Settings, settled: Sequence[Execution]) -> None:
    """Log executions to MLflow; a tracking server that is away is reported, and caught up on with the next one."""
    from mlflow.exceptions import MlflowException  # late: seconds to import, and only a trade needs it

    from pipelines.live import log_executions

    try:
        log_executions(settings, settled)
    except (MlflowException, OSError) as error:
        watch.log("live run not logged", error=str(error)[:500], retried="with the next execution")


def executions(flights: Sequence[Flight], records: Sequence[Body]) -> list[Execution]:
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
        if flight.state in {"landed", "reverted"} and decision is not None and settlement is not None:
            found.append(Execution(flight, decision, settlement, tried[name] - 1))
    return found


def row_id(decision: Body) -> str:
    """Return the name of a decision's row: a dry run's never stands for the decision that executes."""
    return str(decision["decision_id"]) + ("" if decision["live"] else "-dry")


def _write_decisions(settings: Settings, lake: Lake, decisions: Sequence[Body]) -> None:
    """Write the decisions that are missing or were taken again since: the newest of an hour counts."""
    known = dict(lake.scan("decisions").select("decision_id", "inputs_digest").collect().iter_rows())
    newest = {row_id(d): d for d in decisions}
    missing = [d for name, d in newest.items() if known.get(name) != d["inputs_digest"]]
    if missing:
        rows = [_decision_row(settings, d) for d in missing]
        lake.write("decisions", pl.DataFrame(rows, schema_overrides={"plan": pl.String}))


def _decision_row(settings: Settings, decision: Body) -> dict[str, Any]:
    at = utc(decision["ts"])
    expected = {"why": decision["why"], **decision["expected"], **figures(settings, decision)}
    if decision.get("data"):
        expected["oldest_input"] = "{kind} of {name}, {at}".format(**decision["data"][0])
    return {
        "decision_id": row_id(decision), "ts": at, "vault": settings.vault.address or settings.vault.kind,
        "policy": decision["policy"], "action": decision["action"], "inputs_digest": decision["inputs_digest"],
        "verdicts": json.dumps(decision["verdicts"]),
        "plan": json.dumps(decision["plan"]) if decision["plan"] else None,
        "expected": json.dumps(expected), "available_at": at,
    }  # fmt: skip


def figures(settings: Settings, decision: Body) -> dict[str, float]:
    """Return what to watch: the largest drift in tolerances, the loss budget left (bp of NAV), the base fee (gwei)."""
    seen = decision["snapshot"]
    found = {
        "drift_distance": distance(settings, decision["weights_before"]),
        "gas_gwei": int(seen["base_fee_wei"]) / 1e9,
    }
    if int(seen["nav"]) and "loss_budget_left" in seen:
        found["loss_budget_left_bp"] = int(seen["loss_budget_left"]) / int(seen["nav"]) * 1e4
    return found


def distance(settings: Settings, weights: Sequence[float]) -> float:
    """Return the largest deviation of ``weights`` (in the order of the assets) from target, in tolerances."""
    given = settings.portfolio
    pairs = zip(given.assets, weights, strict=False)
    return max((abs(w - given.weights[a]) / given.caps[a] for a, w in pairs), default=0.0)


def fees_usd(settings: Settings, execution: Execution) -> float:
    """Return the pool fees of the traded value, USD."""
    return float(execution.decision["expected"].get("value_usd", 0.0)) * settings.costs.fee_bps / 10_000


def realised(settings: Settings, execution: Execution) -> dict[str, float]:
    """Return what an execution cost, USD: ``gas_usd``, ``loss_usd`` against the oracle and, fees aside, ``impact_usd``.

    A reverted plan costs gas only. Forecasters learn from ``impact_usd`` (``models.executed``).
    """
    settled, context = execution.settlement["settlement"], execution.flight.context
    found = {}
    if "native_usd" in context:
        found["gas_usd"] = int(settled["gas_cost_wei"]) / WEI * float(context["native_usd"])
    before, after = int(settled["nav_before"]), int(settled["nav_after"])
    if before and execution.flight.state == "landed":
        loss = (before - after) / before * float(execution.decision["expected"]["nav_usd"])
        found |= {"loss_usd": loss, "impact_usd": max(loss - fees_usd(settings, execution), 0.0)}
    return found


def _execution_row(settings: Settings, execution: Execution) -> dict[str, Any]:
    settled, flight = execution.settlement["settlement"], execution.flight
    expected = execution.decision["expected"]
    impact = {"impact_usd": expected.get("slippage_usd", 0.0) - fees_usd(settings, execution)}
    return {
        "decision_id": flight.plan.decision_id, "attempt": execution.attempt, "ts": execution.at,
        "tx_hash": flight.mined[0] if flight.mined else None, "status": flight.state,
        "gas_used": settled["gas_used"], "fills": json.dumps(settled["deltas"]),
        "realised": json.dumps({**settled, **realised(settings, execution)}),
        "expected": json.dumps({**expected, **impact}), "available_at": execution.at,
    }  # fmt: skip


@contextmanager
def _one_at_a_time(settings: Settings) -> Iterator[None]:
    """Hold the lock of the rows of this vault; it ends with the process."""
    path = settings.path(settings.vault.journal)
    with path.with_name(path.name + ".kept.lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
