"""What people did by hand beside the reference vault's own changes: owners of other accounts, and rows of the lake."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, cast

import polars as pl
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.errors import RpcError
from lake.evm import Call, read
from lake.rpc import Rpc
from lake.store import Lake
from pipelines.sections import VaultSection
from pipelines.settlements.mandate.frames import frame
from pipelines.settlements.mandate.onchain import Senders
from pipelines.settlements.mandate.period import Period
from policy.execution.records.hashlog import canonical
from policy.execution.vaults.scan import Log, place, scan_logs, words_of

EVENTS = (
    "AddedOwner(address)", "RemovedOwner(address)", "ChangedThreshold(uint256)", "EnabledModule(address)",
    "DisabledModule(address)", "ChangedGuard(address)", "ChangedFallbackHandler(address)",
    "ExecutionSuccess(bytes32,uint256)", "ExecutionFailure(bytes32,uint256)", "ExecutionFromModuleSuccess(address)",
    "AssignRoles(address,bytes32[],bool[])", "AllowTarget(bytes32,address,uint8)", "RevokeTarget(bytes32,address)",
    "ScopeTarget(bytes32,address)", "ScopeFunction(bytes32,address,bytes4,(uint8,uint8,uint8,bytes)[],uint8)",
    "RevokeFunction(bytes32,address,bytes4)", "SetAllowance(bytes32,uint128,uint128,uint128,uint64,uint64)",
    "OwnershipTransferred(address,address)", "AssetManagerAdded(address)", "AssetManagerRemoved(address)",
    "NominatedOwnerSet(address)", "OwnershipTransferred(address,address)", "TransferOwnership(address,address)",
)  # fmt: skip
"""Events of Safes, Zodiac Roles and Enzyme vaults by which people change who may do what."""
_NAMES = {"0x" + keccak(text=e).hex(): e.split("(", 1)[0] for e in EVENTS}
_FLOWS = frozenset({"ExecutionSuccess", "ExecutionFromModuleSuccess"})
SENTINEL = "0x0000000000000000000000000000000000000001"


def of_account(
    given: VaultSection, rpc: Rpc, period: Period, senders: Senders
) -> tuple[dict[str, pl.DataFrame], list[str]]:
    """Return actions and roles of a Safe or a fund, and in words what the node does not tell."""
    vault = str(to_checksum_address(str(given.address)))
    watched = [vault, *([str(to_checksum_address(given.roles))] if given.roles else [])]
    logs = scan_logs(rpc, watched, [list(_NAMES)], period.first.number, period.last.number)
    logs = [g for g in logs if _NAMES[words_of(g)[0]] not in _FLOWS]
    senders.know([place(g)[0] for g in logs])
    actions = frame("actions", (_action(g, senders) for g in logs))
    sides, missing = [], []
    for block in (period.first.number - 1, period.last.number):
        try:
            sides.append(_fund_roles(rpc, vault, block) if given.kind == "enzyme" else _safe_roles(rpc, vault, block))
        except RpcError as error:
            sides.append({})
            missing.append(f"roles after block {block}: {error}; ask a node that keeps old states")
    names = sorted({*sides[0], *sides[1]})
    rows = [{"role": n, "at_start": sides[0].get(n, ""), "at_end": sides[1].get(n, "")} for n in names]
    return {
        "actions": actions,
        "roles": frame("roles", (r | {"changed": r["at_start"] != r["at_end"]} for r in rows)),
    }, missing


def _action(log: Log, senders: Senders) -> dict[str, Any]:
    block, index = place(log)
    sent, topics = str(log["transactionHash"]), words_of(log)
    what = {"of": to_checksum_address(str(log["address"])), "topics": topics[1:], "data": str(log["data"])}
    return {
        "ts": senders.at(block), "block": block, "index": index, "event": _NAMES[topics[0]], "by": senders.by(sent),
        "tx_hash": sent, "what": canonical(what),
    }  # fmt: skip


def _safe_roles(rpc: Rpc, safe: str, block: int) -> dict[str, str]:
    views = [
        Call(safe, "getOwners()", "address[]"), Call(safe, "getThreshold()", "uint256"),
        Call(safe, "getModulesPaginated(address,uint256)", "address[]", (SENTINEL, 50)),
    ]  # fmt: skip
    (owners,), (threshold,), (modules,) = read(rpc, views, block)
    told = {f"owner {a}": "signs" for a in _addresses(owners)}
    told |= {f"module {a}": "acts for the Safe" for a in _addresses(modules)}
    return told | {"signatures needed": str(threshold)}


def _fund_roles(rpc: Rpc, vault: str, block: int) -> dict[str, str]:
    views = [Call(vault, "getOwner()", "address"), Call(vault, "getAccessor()", "address")]
    (owner,), (accessor,) = read(rpc, views, block)
    return {"owner": str(to_checksum_address(str(owner))), "comptroller": str(to_checksum_address(str(accessor)))}


def _addresses(value: object) -> list[str]:
    return sorted(str(to_checksum_address(a)) for a in cast("Sequence[str]", value))


def in_the_lake(lake: Lake, period: Period) -> pl.DataFrame:
    """Return what people did to the data in the period: odd values they confirmed, imports, imports taken back."""
    inside = (pl.col("available_at") >= period.start) & (pl.col("available_at") < period.end)
    rows = []
    accepted = lake.scan("accepted").filter(inside).sort("available_at", "table", "series", "start").collect()
    for r in accepted.iter_rows(named=True):
        span = f"{r['start'].isoformat()} to {r['end'].isoformat()}"
        what = {"table": r["table"], "series": r["series"], "span": span, "note": r["note"]}
        rows.append({"ts": r["available_at"], "event": "odd values confirmed", "what": canonical(what)})
    imports = lake.scan("imports").filter(inside & pl.col("event").is_in(["done", "undone"]))
    for r in imports.sort("ts", "import_id", "event").collect().iter_rows(named=True):
        what = {k: r[k] for k in ("import_id", "table", "sha256", "rows", "added", "updated")}
        what["file"] = PurePath(r["file"]).name
        word = "import" if r["event"] == "done" else "import taken back"
        rows.append({"ts": r["ts"], "event": word, "what": canonical(what)})
    return frame("actions", rows)
