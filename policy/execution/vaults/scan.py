"""Logs of many blocks, in their order, in pieces as large as the node gives: nodes bound the blocks or the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from lake.answers import quantity
from lake.errors import RpcError
from lake.evm import head_of, read_head, read_logs
from lake.rpc import Rpc

PIECE = 50_000
"""Blocks asked for at once at first."""
SMALLEST = 10
"""Blocks a node must give at once; one that gives fewer is of no use."""
UNANSWERED = 1_000
"""Blocks below which no answer at all is not the number of blocks' fault."""

Log = Mapping[str, Any]


def scan_logs(rpc: Rpc, address: str | Sequence[str], topics: Sequence[object], first: int, last: int) -> list[Log]:
    """Return the logs of ``address`` with these ``topics`` in blocks ``first`` to ``last``, in the chain's order.

    A piece that the node refuses is asked for in halves. RpcError where it does not even give SMALLEST blocks.
    """
    found: list[Log] = []
    at, piece = first, PIECE
    while at <= last:
        until = min(at + piece - 1, last)
        ask: dict[str, object] = {"topics": list(topics), "fromBlock": hex(at), "toBlock": hex(until)}
        ask["address"] = address if isinstance(address, str) else list(address)
        try:
            found += read_logs(rpc, ask)
        except RpcError as error:
            if until - at < (SMALLEST if error.code is not None else UNANSWERED):
                raise
            piece = max(SMALLEST, (until - at + 1) // 2)
            continue
        at = until + 1
    return sorted(found, key=place)


def place(log: Log) -> tuple[int, int]:
    """Return where a log stands in the chain: block and position within it."""
    return cast("int", log["blockNumber"]), quantity(log["logIndex"])


def words_of(log: Log) -> list[str]:
    """Return the topics of a log as lower-case hex."""
    return [t.lower() if isinstance(t, str) else "0x" + bytes(t).hex() for t in log["topics"]]


def address_topic(account: str) -> str:
    """Return an address as a topic."""
    return "0x" + account[2:].lower().rjust(64, "0")


def times_of(rpc: Rpc, numbers: Sequence[int]) -> dict[int, int]:
    """Return the time of each block, unix seconds; headers outlive a node's state."""
    wanted = sorted(set(numbers))
    raw = rpc.batch([("eth_getBlockByNumber", [hex(n), False]) for n in wanted])
    return {n: read_head(block, n, fees=False).time for n, block in zip(wanted, raw, strict=True)}


def first_block_at(rpc: Rpc, moment: int, last: int) -> int:
    """Return the first block up to ``last`` whose time is at least ``moment`` (unix seconds), ``last`` + 1 if none."""
    low, high = 0, last + 1
    while low < high:
        middle = (low + high) // 2
        if head_of(rpc, middle, fees=False).time >= moment:
            high = middle
        else:
            low = middle + 1
    return low
