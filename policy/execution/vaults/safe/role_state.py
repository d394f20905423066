"""What Zodiac Roles lets an account do, read from its events: its state cannot be listed by views, its history can.

Roles changes members, targets, functions and unwrappers with an event each; replayed in order they give the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eth_abi.abi import decode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.answers import sensible
from lake.evm import read_logs
from lake.rpc import Rpc
from policy.execution.vaults.safe.scoping import Flat

CONDITIONS = "(uint8,uint8,uint8,bytes)[]"
EVENTS = {
    "AssignRoles": ("address", "bytes32[]", "bool[]"),
    "SetDefaultRole": ("address", "bytes32"),
    "AllowTarget": ("bytes32", "address", "uint8"),
    "ScopeTarget": ("bytes32", "address"),
    "RevokeTarget": ("bytes32", "address"),
    "AllowFunction": ("bytes32", "address", "bytes4", "uint8"),
    "ScopeFunction": ("bytes32", "address", "bytes4", CONDITIONS, "uint8"),
    "RevokeFunction": ("bytes32", "address", "bytes4"),
    "SetUnwrapAdapter": ("address", "bytes4", "address"),
}
"""Events of Roles (none of their values is indexed) that change what somebody may do."""
TOPICS = {"0x" + keccak(text=f"{name}({','.join(types)})").hex(): name for name, types in EVENTS.items()}
ZERO = "0x" + "0" * 40


@dataclass(slots=True)
class Role:
    """One role: contracts open as a whole (with their options), contracts open by function, and the functions.

    ``functions``: (contract, selector) -> (conditions, options); empty conditions: any arguments.
    """

    whole: dict[str, int] = field(default_factory=dict)
    scoped: set[str] = field(default_factory=set)
    functions: dict[tuple[str, bytes], tuple[tuple[Flat, ...], int]] = field(default_factory=dict)

    def effective(self) -> dict[tuple[str, bytes], tuple[tuple[Flat, ...], int]]:
        """Return the functions that may be called now: those of a contract that is not open are without effect."""
        return {key: how for key, how in self.functions.items() if key[0] in self.scoped}


@dataclass(slots=True)
class RoleBook:
    """Members by account, roles by key, unwrappers by (contract, selector)."""

    members: dict[str, set[bytes]] = field(default_factory=dict)
    roles: dict[bytes, Role] = field(default_factory=dict)
    unwrappers: dict[tuple[str, bytes], str] = field(default_factory=dict)

    def of(self, account: str) -> set[bytes]:
        """Return the keys of the roles that ``account`` is a member of."""
        return self.members.get(to_checksum_address(account), set())


def read_roles(rpc: Rpc, modifier: str) -> RoleBook:
    """Return the state of Roles at ``modifier``; RpcError where the node does not serve its whole history."""
    ask = {"address": modifier, "topics": [list(TOPICS)], "fromBlock": "0x0", "toBlock": "latest"}
    return replayed(read_logs(rpc, ask))


def replayed(logs: Sequence[dict[str, Any]]) -> RoleBook:
    """Return the state that ``logs`` (in order) lead to."""
    book = RoleBook()
    for log in logs:
        topic = log["topics"][0]
        name = TOPICS[topic if isinstance(topic, str) else "0x" + bytes(topic).hex()]
        raw = log["data"]
        with sensible(f"event {name} of {log['address']}"):
            values = decode(EVENTS[name], bytes.fromhex(raw[2:]) if isinstance(raw, str) else bytes(raw))
        _apply(
            book,
            name,
            [to_checksum_address(v) if t == "address" else v for t, v in zip(EVENTS[name], values, strict=True)],
        )
    return book


def _apply(book: RoleBook, name: str, values: Sequence[Any]) -> None:
    if name == "AssignRoles":
        held = book.members.setdefault(values[0], set())
        for key, member in zip(values[1], values[2], strict=True):
            held.add(key) if member else held.discard(key)
        return
    if name == "SetUnwrapAdapter":
        book.unwrappers[values[0], values[1]] = values[2]
        return
    if name == "SetDefaultRole":
        return  # a name for calls without a key; it gives nothing that membership does not
    role = book.roles.setdefault(values[0], Role())
    target = values[1]
    if name.endswith("Target"):
        role.whole.pop(target, None)
        role.scoped.discard(target)
        if name == "AllowTarget":
            role.whole[target] = values[2]
        elif name == "ScopeTarget":
            role.scoped.add(target)
        return
    place = (target, values[2])
    role.functions.pop(place, None)
    if name == "AllowFunction":
        role.functions[place] = ((), values[3])
    elif name == "ScopeFunction":
        role.functions[place] = (tuple(values[3]), values[4])
