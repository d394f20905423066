"""Proxies among the contracts that a vault rests on: whose code each runs, held against whose it ran before.

A token, a router or the account itself may be a proxy, and become another contract overnight without a new address.
Known are the slots of EIP-1967 (implementation and beacon), the one before it (still USDC's), and a Safe's singleton.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.answers import data
from lake.rpc import Rpc
from policy.execution.base import Verdict
from policy.execution.checks.verdicts import refused


def _slot(text: str, less: int = 0) -> str:
    return f"0x{int.from_bytes(keccak(text=text), 'big') - less:064x}"


SLOTS = (
    _slot("eip1967.proxy.implementation", 1), _slot("eip1967.proxy.beacon", 1),
    _slot("org.zeppelinos.proxy.implementation"),
)  # fmt: skip
SINGLETON = "0x" + "0" * 64
"""Slot of a Safe's own proxy."""
ADDRESS_BYTES = 20
CHANGED = "proxy_changed"
PLAIN = ""
"""Stands for the code of what is no proxy."""


@dataclass(frozen=True, slots=True)
class ProxyCandidate:
    """A contract whose code is watched. ``safe``: it is a Safe; ``token``: a doubt of it concerns this token alone."""

    name: str
    address: str
    safe: bool = False
    token: bool = False


def codes(rpc: Rpc, watched: Sequence[ProxyCandidate]) -> dict[str, str]:
    """Return by address whose code each contract runs at the newest block, PLAIN where it is no proxy."""
    asks = [(w, slot) for w in watched for slot in (*SLOTS, *((SINGLETON,) if w.safe else ()))]
    words = rpc.batch([("eth_getStorageAt", [w.address, slot, "latest"]) for w, slot in asks])
    found = {w.address: PLAIN for w in watched}
    for (w, _), word in zip(asks, words, strict=True):
        tail = data(word)[-ADDRESS_BYTES:]
        if any(tail) and not found[w.address]:
            found[w.address] = str(to_checksum_address(tail.rjust(ADDRESS_BYTES, b"\0")))
    return found


def judged(
    watched: Sequence[ProxyCandidate], seen: Mapping[str, str], now: Mapping[str, str], remedy: str
) -> list[Verdict]:
    """Return the refusal of every contract that runs other code than was ``seen``; one never seen is believed."""
    found = []
    for one in watched:
        before, code = seen.get(one.address), now[one.address]
        if before is None or before == code:
            continue
        words = (
            f"{one.name} ({one.address}) runs the code of {code or 'its own address'} and ran that of "
            f"{before or 'its own address'} when it was first looked at: find out who changed it and why; {remedy}"
        )
        figures = {"address": one.address, "code": code, "before": before}
        found.append(refused(CHANGED, words, **figures, **({"token": one.address} if one.token else {})))
    return found
