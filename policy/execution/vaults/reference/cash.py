"""What moved the cash of a reference vault but transfers to and from its sisters, by the chain's own logs.

Every credit and debit of the token is in a Transfer event; what left over the port is in Departed, what a sister sent
is in the mint of a message whose depositor she is. The rest came from people, from trades, or from a stranger's gift.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from eth_utils.address import to_checksum_address

from lake.errors import ExecutionError
from lake.evm import Call, read
from lake.rpc import Rpc
from policy.execution.bridges.base import CashChange
from policy.execution.bridges.cctp import MESSAGE_RECEIVED, MINTED
from policy.execution.bridges.cctp_message import HEADER, decoded
from policy.execution.bridges.events import (
    Log,
    address_of,
    data_of,
    event_topic,
    is_of,
    logs_of_tx,
    padded,
    topics_of,
)
from policy.execution.bridges.log_memory import LogMemory
from policy.execution.bridges.routes import DEPARTED, ROUTE_TYPE
from policy.execution.vaults.reference.logs import REBALANCED, TRANSFER

ROUTE_SET = event_topic(f"RouteSet(uint256,{ROUTE_TYPE})")
DEPOSIT = event_topic("Deposit(address,address,uint256,uint256)")
WITHDRAW = event_topic("Withdraw(address,address,address,uint256,uint256)")
IN_KIND = event_topic("RedeemedInKind(address,address,address,uint256,uint256[])")
KINDS = {DEPOSIT: "deposit", WITHDRAW: "withdrawal", IN_KIND: "withdrawal", REBALANCED: "trade"}
PEOPLE = frozenset({"deposit", "withdrawal"})
DATED = 500
"""Newest flows of people whose time is read: one header each, once."""
NOBODY = "0x" + "0" * 40
_HEAD = bytes([0, 0, 0, 1]) + bytes(HEADER - 4)


@dataclass
class _Moved:
    """One transaction: what it moved of the cash, and what the vault itself logged in it."""

    block: int
    block_hash: str
    amount: int = 0
    minted: bool = False
    topics: set[str] = field(default_factory=set)


def cash_moves(rpc: Rpc, vault: str, last: int, memory: LogMemory | None = None) -> tuple[CashChange, ...]:
    """Return what moved the accounting asset of ``vault`` up to block ``last``, oldest first; it began with nothing.

    All of the vault's logs are read, so the node must serve them from the vault's first block on; ``memory`` has those
    of earlier looks. Deposits and withdrawals carry the time of their block.
    """
    known = LogMemory() if memory is None else memory
    token = to_checksum_address(str(read(rpc, [Call(vault, "asset()", "address")])[0][0]))
    own = known.logs(rpc, vault, [], last)
    moved = _transfers(known, rpc, vault, token, last)
    sisters, targets, cash_routes = _routes(own, token)
    for log in own:
        topics = topics_of(log)
        entry = moved.get(str(log["transactionHash"]))
        if entry is None:
            continue
        entry.topics.add(topics[0])
        if topics[0] == DEPARTED and int(topics[1], 16) in cash_routes:
            entry.amount += data_of(log, "uint256")[0]
    for tx_hash, entry in moved.items():
        if entry.minted and targets:
            entry.amount -= _arrived(logs_of_tx(rpc, tx_hash), vault, token, targets, sisters)
    rows = sorted((m for m in moved.values() if m.amount), key=lambda m: m.block)
    dated = {id(m) for m in [m for m in rows if _kind(m) in PEOPLE][-DATED:]}
    return tuple(
        CashChange(m.block, _kind(m), m.amount, known.time_of(rpc, m.block_hash) if id(m) in dated else 0) for m in rows
    )


def _kind(moved: _Moved) -> str:
    return next((name for topic, name in KINDS.items() if topic in moved.topics), "gift")


def _transfers(known: LogMemory, rpc: Rpc, vault: str, token: str, last: int) -> dict[str, _Moved]:
    """Return the net of every transaction that moved the token to or from the vault."""
    moved: dict[str, _Moved] = {}
    word = padded(vault)
    for topics, sign in (([TRANSFER, word], -1), ([TRANSFER, None, word], 1)):
        for log in known.logs(rpc, token, topics, last):
            at = _Moved(int(log["blockNumber"]), str(log["blockHash"]))
            entry = moved.setdefault(str(log["transactionHash"]), at)
            entry.amount += sign * data_of(log, "uint256")[0]
            entry.minted = entry.minted or (sign > 0 and address_of(topics_of(log)[1]) == to_checksum_address(NOBODY))
    return moved


def _routes(own: Iterable[Log], token: str) -> tuple[set[str], set[str], set[int]]:
    """Return the sisters and bridges of every route there ever was, and the routes of the cash."""
    sisters, targets, cash = set[str](), set[str](), set[int]()
    for log in own:
        topics = topics_of(log)
        if topics[0] == ROUTE_SET:
            kind, target, what, _, recipient, *_ = data_of(log, ROUTE_TYPE)[0]
            if kind:
                sisters.add(to_checksum_address(recipient))
                targets.add(to_checksum_address(target))
                if to_checksum_address(what) == token:
                    cash.add(int(topics[1], 16))
    return sisters, targets, cash


def _arrived(logs: Iterable[Log], vault: str, token: str, targets: set[str], sisters: set[str]) -> int:
    """Return what a transaction minted to the vault for messages of its sisters, raw units."""
    found, minted = list(logs), 0
    for at, log in enumerate(found):
        topics = topics_of(log)
        mine = any(is_of(log, t, MINTED) for t in targets)
        mine = mine and address_of(topics[1]) == to_checksum_address(vault) and address_of(topics[2]) == token
        if mine and _depositor(found[at:]) in sisters:
            minted += data_of(log, "uint256", "uint256")[0]
    return minted


def _depositor(after: Iterable[Log]) -> str:
    """Return who burnt what the next received message brings; the transmitter logs it after the mint."""
    for log in after:
        if topics_of(log)[:1] == [MESSAGE_RECEIVED]:
            body: Any = data_of(log, "uint32", "bytes32", "bytes")[2]
            try:
                return decoded(_HEAD + bytes(body)).depositor
            except ExecutionError:
                return ""
    return ""
