"""What cycles leave in the lake: rows made from the audit and the journal alone, so that a killed run loses none.

The audit holds every decision before its plan is journalled and every settlement before its plan is closed. A run that
dies after that has lost nothing: the next one writes the rows that are missing, and writing them again changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import polars as pl

from lake.locks import exclusive
from lake.store import Lake
from lake.tables import table
from lake.units import utc
from lake.universe import chain
from pipelines.monitor.logs import log
from pipelines.sections import SHARED_JOURNAL
from pipelines.settlements.mlflow_runs import catch_up
from pipelines.settlements.settled_plan import EXECUTED, SettledPlan, executions, fees_usd, figures, realised
from pipelines.vault_settings import VaultSettings
from policy.execution.base import OtherVault
from policy.execution.records.audit import Audit
from policy.execution.records.hashlog import Body, sync_folder
from policy.execution.records.journal import Flight, Journal
from policy.execution.records.owner import Ownership, ownership
from policy.execution.vaults.anchored import untold


def reconcile(deployment: VaultSettings, lake: Lake, record: Audit | None = None) -> list[SettledPlan]:
    """Write the decisions and executions that the lake lacks; return the executions that were new to it.

    A row whose plan ended otherwise since (a deep reorganisation) is set right. ``record``: the audit, where the caller
    has it open. Holds a lock of its own, so that of two runs one writes and the other finds it written.
    """
    if not deployment.path(deployment.vault.audit).exists():
        return []
    with _one_at_a_time(deployment):
        record = record or Audit(deployment.path(deployment.vault.audit))
        records = [line.body for line in record.records()]
        _write_decisions(deployment, lake, [r for r in records if r["event"] == "decision"])
        _tell_untold(deployment, records)
        flights = journal_of(deployment).flights()
        settled = executions(flights, records)
        known = {(r["decision_id"], r["attempt"]): r for r in lake.scan("executions").collect().to_dicts()}
        new = [e for e in settled if e.key not in known]
        rows = [_execution_row(deployment, e) for e in settled]
        rows = [r for r in rows if _differs(known.get((r["decision_id"], r["attempt"])), r)]
        void = _void_rows(flights, records, known, {e.key for e in settled})
        if not rows and not void:
            return []
        if rows:
            catch_up(deployment, settled)  # first: the row says that nothing is left to do
        for row in (*void, *(r for r in rows if (r["decision_id"], r["attempt"]) in known)):
            log("execution corrected", decision_id=row["decision_id"], status=row["status"])
        lake.write("executions", pl.DataFrame([*rows, *void], schema=table("executions").columns))
    return new


def _tell_untold(deployment: VaultSettings, records: Sequence[Body]) -> None:
    """Log the plans that somebody else executed since the last look: the keeper's key, used behind this record."""
    given = deployment.vault
    if given.address is None or (given.kind == "safe" and given.access == "owner-key-can-take-all"):
        return  # on paper, or a number that the owners' other transactions use up too
    for words in untold(records, deployment.chain.id, given.address):
        log("plan without a record", vault=given.address, found=words, remedy="foredrift audit verify")


def _differs(known: dict[str, Any] | None, row: dict[str, Any]) -> bool:
    """Whether the lake lacks the row or says otherwise what became of the plan."""
    return known is None or any(known[k] != row[k] for k in ("status", "tx_hash", "fills"))


def _void_rows(
    flights: Sequence[Flight], records: Sequence[Body], known: dict[tuple[str, int], Any], settled: set[tuple[str, int]]
) -> list[dict[str, Any]]:
    """Return the rows of plans that were executed once and are in the chain no longer."""
    ended = {r["plan_hash"]: utc(r["ts"]) for r in records if r["event"] == "settlement" and r["outcome"] == "void"}
    tried: dict[str, int] = {}
    found = []
    for flight in flights:
        name, plan_hash = flight.plan.decision_id, "0x" + flight.plan.plan_hash.hex()
        first = tried.get(name, 0)
        tried[name] = first + len(flight.attempts)
        keys = [(name, n) for n in range(first, tried[name])]
        if flight.state == "void" or (keys[-1:] and keys[-1] in settled):
            stale = [known[k] for k in keys if k in known and k not in settled and known[k]["status"] in EXECUTED]
            gone = {"tx_hash": None, "status": "void", "gas_used": None, "fills": None, "realised": None}
            found += [{**row, **gone, "available_at": ended.get(plan_hash, row["available_at"])} for row in stale]
    return found


def journal_of(deployment: VaultSettings) -> Journal:
    """Return the vault's journal; the shared one of earlier versions is taken over once, if it is this vault's."""
    path, shared = deployment.path(deployment.vault.journal), deployment.path(SHARED_JOURNAL)
    if not path.exists() and path.name.startswith(f"{shared.name}-") and shared.exists():
        earlier = Journal(shared)
        with earlier.lease():
            if earlier.flights() and _is_ours(earlier, deployment):
                shared.rename(path)
                sync_folder(path.parent)
    return Journal(path)


def owner_of(deployment: VaultSettings) -> Ownership:
    """Return which keeper owns the vault block by block, and whether it has seen a block of late."""
    return ownership(deployment.journal, chain(deployment.chain.id).block_time_s)


def _is_ours(journal: Journal, deployment: VaultSettings) -> bool:
    try:
        journal.require(deployment.chain.id, str(deployment.vault.address))
    except OtherVault:
        return False
    return True


def row_id(decision: Body) -> str:
    """Return the name of a decision's row: a dry run's never stands for the decision that executes."""
    return str(decision["decision_id"]) + ("" if decision["live"] else "-dry")


def _write_decisions(deployment: VaultSettings, lake: Lake, decisions: Sequence[Body]) -> None:
    """Write the decisions that are missing or were taken again since: the newest of an hour counts."""
    known = dict(lake.scan("decisions").select("decision_id", "inputs_digest").collect().iter_rows())
    newest = {row_id(d): d for d in decisions}
    missing = [d for name, d in newest.items() if known.get(name) != d["inputs_digest"]]
    if missing:
        rows = [_decision_row(deployment, d) for d in missing]
        lake.write("decisions", pl.DataFrame(rows, schema_overrides={"plan": pl.String}))


def _decision_row(deployment: VaultSettings, decision: Body) -> dict[str, Any]:
    at = utc(decision["ts"])
    expected = {"why": decision["why"], **decision["expected"], **figures(deployment, decision)}
    if decision.get("data"):
        expected["oldest_input"] = "{kind} of {name}, {at}".format(**decision["data"][0])
    return {
        "decision_id": row_id(decision), "ts": at, "vault": deployment.label,
        "policy": decision["policy"], "action": decision["action"], "inputs_digest": decision["inputs_digest"],
        "verdicts": json.dumps(decision["verdicts"]),
        "plan": json.dumps(decision["plan"]) if decision["plan"] else None,
        "expected": json.dumps(expected), "available_at": at,
    }  # fmt: skip


def _execution_row(deployment: VaultSettings, execution: SettledPlan) -> dict[str, Any]:
    settled, flight = execution.settlement["settlement"], execution.flight
    expected = execution.decision["expected"]
    impact = {"impact_usd": expected.get("slippage_usd", 0.0) - fees_usd(deployment, execution)}
    return {
        "decision_id": flight.plan.decision_id, "attempt": execution.attempt, "ts": execution.at,
        "tx_hash": flight.mined[0] if flight.mined else None, "status": flight.state,
        "gas_used": settled["gas_used"], "fills": json.dumps(settled["deltas"]),
        "realised": json.dumps({**settled, **realised(deployment, execution)}),
        "expected": json.dumps({**expected, **impact}), "available_at": execution.at,
    }  # fmt: skip


def _one_at_a_time(deployment: VaultSettings) -> AbstractContextManager[None]:
    """Hold the lock of the rows of this vault; it ends with the process."""
    path = deployment.path(deployment.vault.journal)
    return exclusive(path.with_name(path.name + ".kept.lock"))
