"""The audit record from outside: is it whole, does the vault agree, and how it is mended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eth_utils.address import to_checksum_address

from lake.errors import DataError, RpcError
from lake.evm import head_of
from lake.rpc import Rpc
from pipelines.vault_settings import VaultSettings
from pipelines.wiring import rpc_of
from policy.execution.closing import closings_of
from policy.execution.records import audit
from policy.execution.records.anchors import anchors, ask, due
from policy.execution.records.journal import EXECUTED
from policy.execution.records.mending import may_give_up, repair
from policy.execution.vaults.anchored import Find, Known, faults, known, plans_executed, reference_find
from policy.execution.vaults.enzyme.events import enzyme_find
from policy.execution.vaults.safe.history import executions
from policy.execution.vaults.safe.register import landings, next_nonce
from policy.execution.vaults.trades import (
    Trades,
    disagreements,
    fund_trades,
    owner_trades,
    reference_trades,
    registered_trades,
)

SHOWN = 5  # differences named in the text


def audit_verify(deployment: VaultSettings, since: int = 0) -> dict[str, Any]:
    """Return whether the audit chain is whole and, where a vault on a chain is configured, whether that agrees.

    ``since``: the first plan nonce that is this record's; earlier ones were another operator's.
    """
    path = deployment.path(deployment.vault.audit)
    found = audit.verify(path)
    text = f"{found.records} records, head {found.head or 'none'}"
    ok, chain = found.ok, "not asked: no vault on a chain is configured"
    if not found.ok:
        text = f"broken at record {found.broken}: {found.reason}; `foredrift audit repair` mends what a disk damaged"
        chain = "not asked: the record itself is broken"
    elif deployment.vault.kind != "simulated" and deployment.vault.address and deployment.chain.rpc_urls:
        ok, chain = _anchored(deployment, path, since)
        text += f"; {chain}"
    text = "; ".join([text, *found.notes])
    return {
        "ok": ok, "records": found.records, "head": found.head, "text": text, "notes": list(found.notes),
        "chain": chain,
    }  # fmt: skip


def verify_all(project: Sequence[VaultSettings], since: int = 0) -> dict[str, Any]:
    """Return ``audit_verify`` of one deployment, or of several together: each under ``deployments``, by name."""
    found = {d.name: audit_verify(d, since) for d in project}
    if len(project) == 1:
        return found[project[0].name]
    return {
        "ok": all(f["ok"] for f in found.values()), "records": sum(f["records"] for f in found.values()),
        "head": None, "text": "\n".join(f"{name}: {f['text']}" for name, f in found.items()),
        "notes": [f"{name}: {words}" for name, f in found.items() for words in f["notes"]],
        "chain": "; ".join(f"{name}: {f['chain']}" for name, f in found.items()), "deployments": found,
    }  # fmt: skip


def _anchored(deployment: VaultSettings, path: Path, since: int) -> tuple[bool, str]:
    """Return whether the vault agrees with the record, and in words."""
    vault = str(deployment.vault.address)
    try:
        rpc = rpc_of(deployment.chain)
        rpc.expect_chain(deployment.chain.id)
        plans = known(audit.Audit(path).records(), deployment.chain.id, vault)
        executed, find = _sides(deployment, rpc, vault)
        differ = faults(plans, executed, find, since)
        if differ or not counts_every_trade(deployment):
            differ += _unrecorded(trades_of(deployment, rpc), plans, head_of(rpc).number, since)
    except RpcError as error:
        return True, f"the vault was not asked: {error}"
    if differ:
        more = f" and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
        return False, f"the vault on chain {deployment.chain.id} disagrees: {'; '.join(differ[:SHOWN])}{more}"
    agreed = sum(p.outcome in EXECUTED for p in plans)
    return True, f"the vault on chain {deployment.chain.id} agrees on {agreed} executed plans"


def _sides(deployment: VaultSettings, rpc: Rpc, vault: str) -> tuple[int | None, Find]:
    """Return the plans the vault counts (None: it counts others' too) and the lookup of its events."""
    if deployment.vault.kind == "enzyme":
        return None, enzyme_find(rpc, to_checksum_address(vault))
    if deployment.vault.kind not in {"safe", "lagoon"}:
        return plans_executed(rpc, vault), reference_find(rpc, vault)
    if deployment.vault.kind == "lagoon" or deployment.vault.access != "owner-key-can-take-all":
        safe = to_checksum_address(vault)
        return next_nonce(rpc, safe, head_of(rpc).hash), _register_find(rpc, safe)
    return None, _safe_find(rpc, vault)


def counts_every_trade(deployment: VaultSettings) -> bool:
    """Return whether the vault's own count of plans covers all that can trade: then events need no search."""
    given = deployment.vault
    return given.kind == "reference" or (given.kind == "safe" and given.access == "proposal")


def trades_of(deployment: VaultSettings, rpc: Rpc) -> Trades:
    """Return the lookup of everything the vault traded, by its own events."""
    given, vault = deployment.vault, to_checksum_address(str(deployment.vault.address))
    if given.kind == "enzyme":
        return fund_trades(rpc, vault)
    if given.kind not in {"safe", "lagoon"}:
        return reference_trades(rpc, vault)
    if given.kind == "safe" and given.access == "owner-key-can-take-all":
        return owner_trades(rpc, vault)
    by_role = given.kind == "lagoon" or given.access == "roles"
    return registered_trades(rpc, vault, given.roles if by_role else None)


def _unrecorded(trades: Trades, plans: Sequence[Known], head: int, since: int) -> list[str]:
    """Return the trades since the first recorded plan that the audit does not know, each with its transaction."""
    if not plans:
        return []
    first = min(p.block for p in plans)
    found = disagreements(plans, [t for t in trades(first, head) if (t.nonce or since) >= since], first, head)
    return [d.words for d in found if d.kind in {"no_record", "twice"}]


def _register_find(rpc: Rpc, safe: str) -> Find:
    def find(nonce: int | None, first: int, last: int) -> list[str]:
        return [h for _, _, h in landings(rpc, safe, first, last, nonce)]

    return find


def _safe_find(rpc: Rpc, safe: str) -> Find:
    def find(nonce: int | None, first: int, last: int) -> list[str]:
        del nonce  # a Safe's event bears the hash alone
        return [h for _, _, h in executions(rpc, safe, first, last)]

    return find


def audit_repair(deployment: VaultSettings) -> list[str]:
    """Mend audit, journal and closing orders where a disk damaged them; return one line a file.

    ExecutionError where it must wait.
    """
    now = datetime.now(UTC)
    reason = f"damaged on the disk and given up on {now:%Y-%m-%d %H:%M} UTC"
    record, journal = deployment.path(deployment.vault.audit), deployment.path(deployment.vault.journal)
    try:
        noted = audit.noted(audit.head_path(record))
    except (OSError, ValueError):
        noted = None
    done = [repair(record, reason, noted=noted).words()]
    age = time.time() - journal.stat().st_mtime if journal.exists() else 0.0
    closings = closings_of(journal)
    done += [repair(closings, reason).words()] if closings.exists() else []
    return [*done, repair(journal, reason, may_give_up(age, now.timestamp())).words()]


def audit_anchor(deployment: VaultSettings) -> dict[str, Any]:
    """Ask that the record's head goes into the next plan's hash; return every such request and what became of it.

    {deployment, asked: {head, of} or None, due, anchors: [{seq, of, head, plan_hash, true}]}; ``asked`` is None where
    the head is asked for already. Raises DataError where the record is empty or broken: there is nothing to bind.
    """
    path = deployment.path(deployment.vault.audit)
    checked = audit.verify(path)
    if not checked.ok:
        raise DataError(f"the audit record is broken at record {checked.broken}: {checked.reason}; mend it before")
    if not checked.records:
        raise DataError("the audit record is empty: there is no head to anchor before the first decision")
    record = audit.Audit(path)
    line = ask(record, datetime.now(UTC))
    lines = record.records()
    asked = None if line is None else {"head": line.body["head"], "of": line.body["of"]}
    return {
        "deployment": deployment.name, "asked": asked, "due": due(lines).hex(),
        "anchors": [asdict(a) for a in anchors(lines)],
    }  # fmt: skip


def audit_export(deployment: VaultSettings, out: Path) -> int:
    """Write the audit record as Parquet and return the number of records."""
    return audit.export(deployment.path(deployment.vault.audit), out)
