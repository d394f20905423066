"""The register of plans (contracts/plan_register.vy): the number, the deadline and the record a Safe's role lacks.

It is the same contract at the same address on every chain, made by the singleton factory of EIP-2470, which Zodiac
Roles needs too; anyone may create it, nobody owns it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import cast

from eth_utils.crypto import keccak

from lake.errors import RpcError
from lake.evm import Call, read, read_logs, selector
from lake.rpc import Rpc
from policy.execution.base import Plan
from policy.execution.contracts.compile import contract
from policy.execution.vaults.singleton import DEPLOY, FACTORY, SALT, made_at

__all__ = ["DEPLOY", "FACTORY", "SALT"]

LAND = "land(uint256,uint256,bytes32)"
LANDED = "0x" + keccak(text="Landed(address,uint256,bytes32)").hex()


@lru_cache(maxsize=1)
def creation() -> bytes:
    """Return the creation code of the register."""
    return contract("plan_register").bytecode


@lru_cache(maxsize=1)
def register_address() -> str:
    """Return where the factory puts the register (CREATE2 with salt 0)."""
    return made_at(creation())


def land_args(plan: Plan, plan_hash: bytes) -> tuple[int, int, bytes]:
    """Return the arguments of ``land`` for ``plan``."""
    return plan.nonce, plan.deadline, plan_hash


def next_nonce(rpc: Rpc, account: str, block_hash: str) -> int:
    """Return the number of the plan ``account`` lands next; RpcError with the remedy where there is no register."""
    where = register_address()
    try:
        return cast("int", read(rpc, [Call(where, "nonces(address)", "uint256", (account,))], block_hash)[0][0])
    except RpcError:
        if len(str(rpc.call("eth_getCode", [where, "latest"]))) > len("0x"):
            raise
        raise RpcError(
            f"the register of plans is not at {where} on this chain yet; `foredrift vault roles` creates it"
        ) from None


def landings(
    rpc: Rpc, account: str, since: int, until: int | str, nonce: int | None = None
) -> list[tuple[int, str, str]]:
    """Return (block number, transaction hash, plan hash) of each plan ``account`` landed in these blocks."""
    upto = hex(until) if isinstance(until, int) else until
    topics = [LANDED, _topic(account), *([] if nonce is None else [f"0x{nonce:064x}"])]
    ask = {"address": register_address(), "topics": topics, "fromBlock": hex(since), "toBlock": upto}
    found = read_logs(rpc, ask)
    return sorted(
        (cast("int", log["blockNumber"]), str(log["transactionHash"]), str(cast("list[object]", log["topics"])[3]))
        for log in found
    )


def landed_topics(account: str, nonce: int, plan_hash: bytes) -> list[str]:
    """Return the topics of the record of one plan."""
    return [LANDED, _topic(account), f"0x{nonce:064x}", "0x" + plan_hash.hex()]


def land_selector() -> bytes:
    """Return the four bytes that select ``land``."""
    return selector(LAND)


def _topic(account: str) -> str:
    return "0x" + account[2:].lower().rjust(64, "0")
