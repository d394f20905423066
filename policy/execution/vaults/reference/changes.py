"""An owner's change of the reference vault on its way through the timelock, as the chain tells it.

The chain alone says how far a change is, so whoever runs the same verb again goes on where it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.evm import BlockHeader, Call, calldata, read
from lake.rpc import Rpc
from policy.execution.base import UnsignedTx

GRACE_S = 14 * 86_400
"""How long after it was ready a change may still be made (GRACE of contracts/roles.vy)."""
ANNOUNCE, WAIT, EXECUTE = "announce", "wait", "execute"
"""What is next: announce the change, wait out the delay, make it."""


@dataclass(frozen=True, slots=True)
class OwnerChange:
    """A change and where it stands; ``ready_at`` is 0 before it is announced. Times are unix seconds."""

    vault: str
    data: bytes
    owner: str
    delay_s: int
    ready_at: int
    step: str

    def tx(self, chain_id: int) -> UnsignedTx:
        """Return the owner's next transaction."""
        call = "execute(bytes)" if self.step == EXECUTE else "schedule(bytes)"
        return UnsignedTx(chain_id, self.vault, calldata(call, self.data))


def change_of(rpc: Rpc, vault: str, data: bytes, head: BlockHeader) -> OwnerChange:
    """Return where the change ``data`` (a call of the vault to itself) stands at ``head``."""
    views = [
        Call(vault, "owner()", "address"), Call(vault, "delay()", "uint256"),
        Call(vault, "ready_at(bytes32)", "uint256", (keccak(data),)),
    ]  # fmt: skip
    (owner,), (delay_s,), (ready_at,) = read(rpc, views, head.hash)
    ready = cast("int", ready_at)
    whose = str(to_checksum_address(str(owner)))
    return OwnerChange(vault, data, whose, cast("int", delay_s), ready, step_at(ready, head.time))


def step_at(ready_at: int, now: int) -> str:
    """Return what is next of a change that is ready at ``ready_at`` (0: not announced), by the contract's rule."""
    if ready_at == 0 or now > ready_at + GRACE_S:
        return ANNOUNCE
    return EXECUTE if now >= ready_at else WAIT
