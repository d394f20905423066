"""Logs of bridges and ports: a topic by its signature, the words of a log, what one transaction or a stretch logged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eth_abi.abi import decode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.answers import sensible
from lake.errors import RpcError
from lake.evm import read_logs
from lake.rpc import Rpc
from policy.execution.submission.node import read_receipt

Log = Mapping[str, Any]


def event_topic(signature: str) -> str:
    """Return the first topic of ``Name(type,type)``."""
    return "0x" + keccak(text=signature).hex()


def topics_of(log: Log) -> list[str]:
    """Return the topics of a log as lower-case texts."""
    return [t.lower() if isinstance(t, str) else "0x" + bytes(t).hex() for t in log["topics"]]


def data_of(log: Log, *types: str) -> tuple[Any, ...]:
    """Return what is not indexed in a log; RpcError where its data do not fit ``types``."""
    raw = log["data"]
    with sensible(f"a log of {log['address']}"):
        return decode(types, bytes.fromhex(raw[2:]) if isinstance(raw, str) else bytes(raw))


def address_of(topic: str) -> str:
    """Return the address in a topic or word."""
    return str(to_checksum_address("0x" + topic[-40:]))


def padded(address: str) -> str:
    """Return an address as a word of 32 bytes, as text."""
    return "0x" + "0" * 24 + address[2:].lower()


def word(address: str) -> bytes:
    """Return an address as a word of 32 bytes."""
    return bytes(12) + bytes.fromhex(address[2:])


def is_of(log: Log, emitter: str, topic: str) -> bool:
    """Return whether ``emitter`` logged this event."""
    mine = str(log["address"]).lower() == emitter.lower()
    return mine and topics_of(log)[:1] == [topic]


def logs_between(rpc: Rpc, emitter: str, topics: Sequence[str | None], first: int, last: int) -> list[dict[str, Any]]:
    """Return the logs of ``emitter`` in blocks ``first`` to ``last``, both included, by their topics."""
    if last < first:
        return []
    ask = {"address": emitter, "topics": list(topics), "fromBlock": hex(max(0, first)), "toBlock": hex(last)}
    return read_logs(rpc, ask)


def logs_of_tx(rpc: Rpc, tx_hash: str) -> Sequence[Log]:
    """Return the logs of a mined transaction; RpcError where the node has no receipt of it."""
    receipt = read_receipt(rpc, tx_hash)
    if receipt is None:
        raise RpcError(f"the node has no receipt of {tx_hash[:12]}..., whose log it showed")
    return receipt.logs
