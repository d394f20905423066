"""The reference vault's own events, decoded by its interface: who changed what, and what was in force at any block.

Events outlive a node's old state, so what was in force in the past is folded from them, beginning with the creation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from eth_abi.abi import decode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.answers import sensible
from lake.evm import selector
from lake.rpc import Rpc
from policy.execution.contracts.compile import contract
from policy.execution.vaults.reference.state import ZERO
from policy.execution.vaults.scan import PIECE, Log, place, scan_logs, words_of

HALVES = ("foredrift_vault", "foredrift_investors", "foredrift_auctions")
FLOWS = frozenset(
    {"Transfer", "Approval", "Deposit", "Withdraw", "RedeemedInKind", "ClaimMade", "ClaimPaid", "FeesPaid"}
)
"""Events of investors, not of those who run the vault."""
TRADES = frozenset({"LegExecuted", "Rebalanced", "Armed", "Disarmed"})
"""Events of the keeper's trades."""
ROLES = ("owner", "keeper", "guardian")
SET_DELAY = "0x" + selector("set_delay(uint256)").hex()


@dataclass(frozen=True, slots=True)
class VaultLog:
    """One decoded event; addresses are checksummed, bytes 0x hex, amounts ints."""

    name: str
    args: Mapping[str, Any]
    block: int
    index: int  # within its block
    tx_hash: str


@dataclass(frozen=True, slots=True)
class _Shape:
    name: str
    fields: tuple[tuple[str, str, bool], ...]  # name, type, indexed


def vault_logs(rpc: Rpc, vault: str, first: int, last: int) -> list[VaultLog]:
    """Return every event of ``vault`` in blocks ``first`` to ``last``, in order; unknown ones are left out."""
    return [found for log in scan_logs(rpc, vault, [], first, last) if (found := decoded(log)) is not None]


def since_creation(rpc: Rpc, vault: str, last: int) -> list[VaultLog]:
    """Return every event of ``vault`` up to ``last``, going back to its creation (or to block 0)."""
    found: list[VaultLog] = []
    until = last
    while until >= 0:
        first = max(0, until - PIECE + 1)
        found = vault_logs(rpc, vault, first, until) + found
        if created_in(found) is not None:
            return found
        until = first - 1
    return found


def created_in(logs: Sequence[VaultLog]) -> str | None:
    """Return the transaction that created the vault: the one that names all three roles; None where it is not there."""
    named: dict[str, set[int]] = {}
    for log in logs:
        if log.name == "RoleChanged":
            named.setdefault(log.tx_hash, set()).add(log.args["role"])
    return next((tx for tx, roles in named.items() if roles == {0, 1, 2}), None)


def decoded(log: Log) -> VaultLog | None:
    """Return ``log`` with its arguments by name, None where the vault's interface has no such event."""
    topics = words_of(log)
    shape = _shapes().get(topics[0]) if topics else None
    if shape is None:
        return None
    indexed = [f for f in shape.fields if f[2]]
    plain = [f for f in shape.fields if not f[2]]
    raw = str(log["data"])
    with sensible(f"event {shape.name} of {log['address']}"):
        body = decode([f[1] for f in plain], bytes.fromhex(raw.removeprefix("0x")))
        heads = [decode([f[1]], bytes.fromhex(t[2:]))[0] for f, t in zip(indexed, topics[1:], strict=True)]
    told = {f[0]: _clean(f[1], v) for f, v in (*zip(indexed, heads, strict=True), *zip(plain, body, strict=True))}
    block, index = place(log)
    return VaultLog(shape.name, {f[0]: told[f[0]] for f in shape.fields}, block, index, str(log["transactionHash"]))


@lru_cache(maxsize=1)
def _shapes() -> dict[str, _Shape]:
    """Return what events there are, by their first topic."""
    found: dict[str, _Shape] = {}
    for name in HALVES:
        for part in contract(name).abi:
            if part["type"] != "event":
                continue
            rows: Any = part["inputs"]
            fields = tuple((str(r["name"]), _type(r), bool(r["indexed"])) for r in rows)
            word = f"{part['name']}({','.join(f[1] for f in fields)})"
            found["0x" + keccak(text=word).hex()] = _Shape(str(part["name"]), fields)
    return found


def _type(row: Mapping[str, Any]) -> str:
    kind = str(row["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_type(part) for part in row['components'])})" + kind.removeprefix("tuple")


def _clean(kind: str, value: Any) -> Any:
    """Return a decoded value as it is shown: what is no number is text."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if kind.startswith("address") and isinstance(value, str):
        return str(to_checksum_address(value))
    if isinstance(value, tuple | list):
        return [_clean(kind.removesuffix("[]"), v) for v in value]
    return value


@dataclass(frozen=True, slots=True)
class InForce:
    """What the events up to a block say is in force; ``calls`` and ``holders`` are those listed, sorted."""

    owner: str = ""
    proposed_owner: str = ""
    keeper: str = ""
    guardian: str = ""
    delay_s: int | None = None
    paused_by: str = ""
    mandate: tuple[int, ...] = ()
    budgets: tuple[int, ...] = ()
    targets_bps: tuple[int, ...] = ()
    tokens: tuple[str, ...] = ()
    oracle: str = ""
    terms: tuple[int, ...] = ()
    fees: tuple[Any, ...] = ()
    calls: tuple[tuple[str, str], ...] = ()
    permissioned: bool = False
    holders: tuple[str, ...] = ()


MANDATE_FIELDS = (
    "mandate", "budgets", "targets_bps", "tokens", "oracle", "terms", "fees", "calls", "permissioned", "delay_s",
)  # fmt: skip
"""What makes a version of the mandate; who holds a role does not."""


def folded(logs: Sequence[VaultLog]) -> Iterator[tuple[VaultLog, InForce]]:
    """Yield each event that changes what is in force, in order, with what is in force after it."""
    facts: dict[str, Any] = {"calls": set(), "holders": set(), "permissioned": False}
    born = created_in(logs)
    for log in logs:
        if _apply(facts, log, birth=log.tx_hash == born):
            yield log, _frozen(facts)


def at_block(logs: Sequence[VaultLog], block: int) -> InForce:
    """Return what is in force after ``block``."""
    found = InForce()
    for log, now in folded(logs):
        if log.block > block:
            break
        found = now
    return found


def _apply(facts: dict[str, Any], log: VaultLog, *, birth: bool) -> bool:
    """Put what ``log`` says into ``facts``; return whether it changes what is in force."""
    a = log.args
    simple = {
        "MandateSet": ("mandate", "mandate"), "BudgetsSet": ("budgets", "budgets"), "TokensSet": ("tokens", "tokens"),
        "TargetsSet": ("targets_bps", "targets_bps"), "OracleSet": ("oracle", "oracle"),
        "PermissionedSet": ("permissioned", "permissioned"), "OwnerProposed": ("proposed_owner", "account"),
    }  # fmt: skip
    if log.name in simple:
        field, argument = simple[log.name]
        value = a[argument]
        facts[field] = tuple(value) if isinstance(value, list) else value
    elif log.name == "RoleChanged":
        facts[ROLES[a["role"]]] = a["account"]
        if a["role"] == 0:
            facts["proposed_owner"] = ""
    elif log.name == "HolderSet":
        facts["permissioned"] = facts["permissioned"] or birth  # a vault born with a list is a permissioned one
        (facts["holders"].add if a["allowed"] else facts["holders"].discard)(a["account"])
    elif log.name == "CallSet":
        (facts["calls"].add if a["allowed"] else facts["calls"].discard)((a["target"], a["selector"]))
    elif log.name in {"TermsSet", "FeesSet"}:
        facts["terms" if log.name == "TermsSet" else "fees"] = tuple(a.values())
    elif log.name in {"Paused", "Resumed"}:
        facts["paused_by"] = a["by"] if log.name == "Paused" else ""
    elif (delay := _new_delay(facts, log)) is not None:
        facts["delay_s"] = delay
    else:
        return False
    return True


def _new_delay(facts: dict[str, Any], log: VaultLog) -> int | None:
    """Return the delay that an executed change sets, which has no event of its own; notes what was announced."""
    announced = facts.setdefault("announced", {})
    if log.name == "Scheduled" and str(log.args["data"]).startswith(SET_DELAY):
        announced[log.args["id"]] = int(log.args["data"][len(SET_DELAY) :], 16)
    return announced.get(log.args["id"]) if log.name == "Executed" else None


def _frozen(facts: Mapping[str, Any]) -> InForce:
    kept = {k: v for k, v in facts.items() if k != "announced"}
    return InForce(**{**kept, "calls": tuple(sorted(kept["calls"])), "holders": tuple(sorted(kept["holders"]))})


def holdings(logs: Sequence[VaultLog], block: int) -> dict[str, int]:
    """Return the shares of every account that holds some after ``block``, by the share token's own transfers."""
    held: dict[str, int] = {}
    for log in logs:
        if log.name == "Transfer" and log.block <= block:
            for account, sign in ((log.args["sender"], -1), (log.args["receiver"], 1)):
                held[account] = held.get(account, 0) + sign * log.args["value"]
    return {a: n for a, n in sorted(held.items()) if n and a != ZERO}
