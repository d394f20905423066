"""``foredrift mandate report``: the evidence of a period, from the lake, the audit record and the chain alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl

from lake.errors import ConfigError, DataError
from lake.rpc import Rpc
from pipelines.deployments import Deployment
from pipelines.settlements.audited import trades_of
from pipelines.settlements.mandate import held, manual, onchain, recorded, tolerance
from pipelines.settlements.mandate.evidence import (
    Evidence,
    counted,
    findings,
    of_decisions,
    of_disagreements,
    placed,
    simple,
)
from pipelines.settlements.mandate.frames import COLUMNS, frame
from pipelines.settlements.mandate.period import Period, period_of
from pipelines.vault_setup.onchain import vault_of
from pipelines.wiring import lake_of, rpc_of
from policy.execution.base import Plan
from policy.execution.records import audit
from policy.execution.vaults.anchored import SPAN, known
from policy.execution.vaults.reference.adapter import plan_hash
from policy.execution.vaults.reference.history import VaultLog, since_creation
from policy.execution.vaults.safe.adapter import SafeAccount
from policy.execution.vaults.trades import disagreements

Tables = dict[str, pl.DataFrame]


def evidence_of(deployment: Deployment, start: datetime, end: datetime) -> Evidence:
    """Return the evidence of ``[start, end)``. It rests on what was recorded and mined by then, and so never changes.

    Raises ConfigError where there is no vault on a chain or the period is not over, DataError where the audit record
    is broken.
    """
    if deployment.vault.kind == "simulated" or deployment.vault.address is None:
        raise ConfigError("a mandate report is of a vault on a chain: set [vault] kind and address")
    rpc = rpc_of(deployment.chain)
    rpc.expect_chain(deployment.chain.id)
    checked = audit.verify(deployment.audit)
    if not checked.ok:
        raise DataError(
            f"the audit record is broken at record {checked.broken}: {checked.reason}; the report rests on it: "
            "run `foredrift audit repair`, which says what is lost"
        )
    period = period_of(rpc, start, end)
    record = recorded.recorded(audit.Audit(deployment.audit).records(), start, end, deployment.vault.address)
    tables, found = _both(deployment, rpc, period, record)
    tables |= {name: frame(name, ()) for name in COLUMNS if name not in tables}
    tables["findings"] = findings(found)
    head = _head(deployment, period, record)
    evidence = Evidence(head, {name: tables[name] for name in COLUMNS})
    return replace(evidence, head=head | {"figures": counted(evidence, period)})


def _head(deployment: Deployment, period: Period, record: recorded.Recorded) -> dict[str, Any]:
    """Return what the report is of; nothing of where and when it was made."""
    from importlib.metadata import version

    last = record.last
    return {
        "name": deployment.name, "kind": deployment.vault.kind, "vault": deployment.vault.address,
        "chain_id": deployment.chain.id, "from": period.start.isoformat(), "to": period.end.isoformat(),
        "first_block": {"number": period.first.number, "hash": period.first.hash},
        "last_block": {"number": period.last.number, "hash": period.last.hash},
        "audit": {"records": 0 if last is None else last.seq + 1, "head": "" if last is None else last.hash},
        "assets": list(deployment.portfolio.assets), "tolerance": list(deployment.portfolio.caps.values()),
        "foredrift": version("foredrift"),
    }  # fmt: skip


def _both(
    deployment: Deployment, rpc: Rpc, period: Period, record: recorded.Recorded
) -> tuple[Tables, list[dict[str, Any]]]:
    """Return the tables of record and chain, and where they differ."""
    lake, vault = lake_of(deployment), str(deployment.vault.address)
    senders = onchain.Senders(rpc)
    upto = min(period.last.number + SPAN, period.head.number)
    trades = trades_of(deployment, rpc)(period.first.number, upto)
    plans = known(record.upto, deployment.chain.id, vault)
    logs = since_creation(rpc, vault, period.head.number) if deployment.vault.kind == "reference" else []
    tables: Tables = {
        "decisions": recorded.decisions(record, _seal(deployment)), "verdicts": recorded.verdicts(record),
        "refusals": recorded.refusals(record), "forecasts": recorded.forecasts(record, lake),
        "terms": recorded.terms(record), "fills": recorded.fills(record),
    }  # fmt: skip
    lost = {g.args["plan_hash"]: g.args["loss_ppb"] for g in logs if g.name == "Rebalanced"}
    tables["settlements"] = placed(recorded.settlements(record, lost), trades)
    found = of_disagreements(disagreements(plans, trades, period.first.number, period.last.number))
    found += of_decisions(tables["decisions"], tables["forecasts"])
    found += simple("lake", recorded.in_the_lake(record, lake, deployment.label, period.start, period.end))
    tables["anchors"], words = recorded.bound(record, trades)
    found += simple("anchor", words)
    found += simple("lost", [f"record {x.seq} is lost: {x.body['reason']}" for x in record.upto if x.lost])
    if deployment.vault.kind == "reference":
        tables |= _reference(deployment, rpc, period, logs, senders)
    else:
        made, words = manual.of_account(deployment.vault, rpc, period, senders)
        tables |= made
        found += simple("state", words)
    parts = [tables["actions"], recorded.by_hand(record), manual.in_the_lake(lake, period)]
    tables["actions"] = pl.concat(parts).sort("ts", maintain_order=True)
    outside, words = _tolerance(deployment, rpc, period, logs)
    return tables | outside, found + simple("not_measured", words)


def _reference(
    deployment: Deployment, rpc: Rpc, period: Period, logs: list[VaultLog], senders: onchain.Senders
) -> Tables:
    del deployment, rpc
    return {
        "versions": onchain.versions(logs, period, senders), "actions": onchain.actions(logs, period, senders),
        "roles": onchain.roles(logs, period), "losses": onchain.losses(logs, period, senders),
        "holders": onchain.holders(logs, period.last.number),
    }  # fmt: skip


def _seal(deployment: Deployment) -> Callable[[Plan], bytes] | None:
    """Return how the vault's kind hashes a plan; None where that needs the chain's own state."""
    own = deployment.vault.kind == "safe" and deployment.vault.access == "owner-key-can-take-all"
    return None if own else plan_hash


def _tolerance(deployment: Deployment, rpc: Rpc, period: Period, logs: list[VaultLog]) -> tuple[Tables, list[str]]:
    """Return how long the vault was outside its tolerances, and why that was not measured, in words."""
    vault = vault_of(deployment, rpc, None)
    if isinstance(vault, SafeAccount):
        if vault.spec.yields:
            return {}, ["time outside tolerance: the portfolio has yield-bearing tokens, whose past rates no log tells"]
        made = [held.Composition(period.first.number, tuple(vault.spec.sources), tuple(vault.spec.targets_bps))]
    else:
        made = held.compositions(rpc, logs, period)
    if not made:
        return {}, ["time outside tolerance: the vault was not there yet"]
    assets = deployment.portfolio.assets
    names = dict(zip((s.token for s in made[-1].sources), assets, strict=False))
    caps = tuple(deployment.portfolio.caps.values())
    parts = held.epochs(rpc, str(deployment.vault.address), made, names, caps, period, logs)
    table, outside = tolerance.judged(parts)
    return {"tolerance": table, "outside": outside}, []
