"""Reading logs: what a plan did leg by leg, and which tokens moved. Nothing here needs the chain's old state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import decode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.answers import sensible
from lake.evm import read_logs
from lake.rpc import Rpc

_REBALANCED_DATA = ["uint256"] * 6 + ["uint256[]", "uint256[]"]
_REBALANCED = "Rebalanced(uint256,bytes32,address,uint256,uint256,uint256,uint256,uint256,uint256,uint256[],uint256[])"
_LEG_DATA = ["address", "address", "uint256", "uint256", "address"]
TRANSFER = "0x" + keccak(text="Transfer(address,address,uint256)").hex()
_TRANSFER_TOPICS = 3
ARMED = "0x" + keccak(text="Armed(uint256,bytes32,address,address,address,uint256,uint256,uint256,uint256)").hex()
DISARMED = "0x" + keccak(text="Disarmed(uint256,bytes32,bool)").hex()
REBALANCED = "0x" + keccak(text=_REBALANCED).hex()
LEG_EXECUTED = "0x" + keccak(text="LegExecuted(uint256,address,address,uint256,uint256,address)").hex()

Log = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rebalanced:
    """The vault's record of one plan; NAV in accounting units, turnover USD x 1e18, distances x 1e9."""

    nonce: int
    plan_hash: bytes
    keeper: str
    nav_before: int
    nav_after: int
    loss_ppb: int
    turnover: int
    distance_before: int
    distance_after: int
    balances: tuple[int, ...]
    prices_e8: tuple[int, ...]


def rebalanced_topics(nonce: int, plan_hash: bytes) -> list[str]:
    """Return the topics that find the record of one plan."""
    return [REBALANCED, f"0x{nonce:064x}", "0x" + plan_hash.hex()]


def rebalanced(vault: str, logs: Sequence[Log], nonce: int) -> Rebalanced | None:
    """Return the record of plan ``nonce`` among a receipt's logs, None without one."""
    for log in logs:
        topics = [_text(t) for t in log["topics"]]
        if _is(log, vault, topics, REBALANCED, nonce):
            row = _decoded(_REBALANCED_DATA, log)
            keeper = to_checksum_address("0x" + topics[3][-40:])
            return Rebalanced(nonce, bytes.fromhex(topics[2][2:]), keeper, *row)
    return None


def armed(vault: str, logs: Sequence[Log], nonce: int, digest: bytes) -> bool:
    """Return whether the order of this nonce and digest was armed, among a receipt's logs."""
    return any(_of_order(log, vault, ARMED, nonce, digest) for log in logs)


def disarmed(vault: str, logs: Sequence[Log], nonce: int, digest: bytes) -> bool | None:
    """Return whether the order was filled, as its end says among a receipt's logs; None where it did not end there."""
    for log in logs:
        if _of_order(log, vault, DISARMED, nonce, digest):
            return bool(_decoded(["bool"], log)[0])
    return None


def _of_order(log: Log, vault: str, kind: str, nonce: int, digest: bytes) -> bool:
    topics = [_text(t) for t in log["topics"]]
    return _is(log, vault, topics, kind, nonce) and topics[2] == "0x" + digest.hex()


def leg_deltas(vault: str, logs: Sequence[Log], nonce: int) -> dict[str, int]:
    """Return the change of each token balance the legs of plan ``nonce`` explain, by token address."""
    moved: dict[str, int] = {}
    for log in logs:
        if _is(log, vault, [_text(t) for t in log["topics"]], LEG_EXECUTED, nonce):
            token_in, token_out, spent, got, _ = _decoded(_LEG_DATA, log)
            for token, change in ((to_checksum_address(token_in), -spent), (to_checksum_address(token_out), got)):
                moved[token] = moved.get(token, 0) + change
    return moved


def moved(holder: str, logs: Sequence[Log], tokens: Sequence[str]) -> dict[str, int]:
    """Return the change of ``holder``'s balance of each of ``tokens`` that the Transfer events among ``logs`` tell."""
    found = dict.fromkeys(tokens, 0)
    places = {t.lower(): t for t in tokens}
    for log in logs:
        token = places.get(str(log["address"]).lower())
        topics = [_text(t) for t in log["topics"]]
        if token is not None and len(topics) == _TRANSFER_TOPICS and topics[0] == TRANSFER:
            source, target = ("0x" + t[-40:].lower() for t in topics[1:])
            amount = int.from_bytes(_bytes(log["data"])[:32], "big")
            found[token] += amount * ((target == holder.lower()) - (source == holder.lower()))
    return found


def transfers(rpc: Rpc, holder: str, tokens: Sequence[str], block_hash: str) -> dict[str, int]:
    """Return what :func:`moved` tells of a whole block; receipts and logs outlive the state of a pruned node."""
    ask = {"blockHash": block_hash, "address": list(tokens), "topics": [TRANSFER]}
    return moved(holder, read_logs(rpc, ask), tokens)


def _decoded(types: Sequence[str], log: Log) -> tuple[Any, ...]:
    with sensible(f"a log of {log['address']}"):
        return decode(types, _bytes(log["data"]))


def _is(log: Log, vault: str, topics: Sequence[str], kind: str, nonce: int) -> bool:
    mine = str(log["address"]).lower() == vault.lower() and len(topics) > 1 and topics[0] == kind
    return mine and int(topics[1], 16) == nonce


def _text(value: object) -> str:
    return value if isinstance(value, str) else "0x" + bytes(value).hex()  # type: ignore[call-overload]


def _bytes(value: object) -> bytes:
    return bytes.fromhex(_text(value)[2:])
