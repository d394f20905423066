"""Reading the reference vault's logs: what a plan did, leg by leg."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import decode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

_REBALANCED_DATA = ["uint256"] * 6 + ["uint256[]", "uint256[]"]
_REBALANCED = "Rebalanced(uint256,bytes32,address,uint256,uint256,uint256,uint256,uint256,uint256,uint256[],uint256[])"
_LEG_DATA = ["address", "address", "uint256", "uint256", "address"]
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
            row = decode(_REBALANCED_DATA, _bytes(log["data"]))
            keeper = to_checksum_address("0x" + topics[3][-40:])
            return Rebalanced(nonce, bytes.fromhex(topics[2][2:]), keeper, *row)
    return None


def leg_deltas(vault: str, logs: Sequence[Log], nonce: int) -> dict[str, int]:
    """Return the change of each token balance the legs of plan ``nonce`` explain, by token address."""
    moved: dict[str, int] = {}
    for log in logs:
        if _is(log, vault, [_text(t) for t in log["topics"]], LEG_EXECUTED, nonce):
            token_in, token_out, spent, got, _ = decode(_LEG_DATA, _bytes(log["data"]))
            for token, change in ((to_checksum_address(token_in), -spent), (to_checksum_address(token_out), got)):
                moved[token] = moved.get(token, 0) + change
    return moved


def _is(log: Log, vault: str, topics: Sequence[str], kind: str, nonce: int) -> bool:
    return str(log["address"]).lower() == vault.lower() and topics[0] == kind and int(topics[1], 16) == nonce


def _text(value: object) -> str:
    return value if isinstance(value, str) else "0x" + bytes(value).hex()  # type: ignore[call-overload]


def _bytes(value: object) -> bytes:
    return bytes.fromhex(_text(value)[2:])
