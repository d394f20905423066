"""What an Enzyme fund did, read from the events of its integration manager; a plan's hash is behind its call's data."""

from __future__ import annotations

from typing import Any, cast

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.answers import fields
from lake.evm import Call, read, read_logs
from lake.rpc import Rpc
from policy.execution.vaults.anchored import Find

_EXECUTED = (
    "CallOnIntegrationExecutedForFund(address,address,address,bytes4,bytes,address[],uint256[],address[],uint256[])"
)
EXECUTED = "0x" + keccak(text=_EXECUTED).hex()
HASH = 32


def calls_made(rpc: Rpc, manager: str, comptroller: str, since: int, until: int | str) -> list[dict[str, Any]]:
    """Return the logs of the integration calls a fund made in these blocks, oldest first."""
    upto = hex(until) if isinstance(until, int) else until
    topics = [EXECUTED, "0x" + comptroller[2:].lower().rjust(64, "0")]
    return read_logs(rpc, {"address": manager, "topics": topics, "fromBlock": hex(since), "toBlock": upto})


def carried(rpc: Rpc, tx_hash: str) -> str:
    """Return the plan hash behind the data of a transaction; of another's transaction, whatever stands there."""
    what = "eth_getTransactionByHash"
    return "0x" + fields(rpc.call(what, [tx_hash]), what).data("input")[-HASH:].hex()


def is_call(log: Any, manager: str, comptroller: str) -> bool:
    """Return whether ``log`` is the record of an integration call of this fund."""
    topics = [t.lower() if isinstance(t, str) else "0x" + bytes(t).hex() for t in log["topics"]]
    mine = str(log["address"]).lower() == manager.lower() and topics[:1] == [EXECUTED]
    return mine and topics[1][-40:] == comptroller[2:].lower()


def enzyme_find(rpc: Rpc, vault: str) -> Find:
    """Return the lookup of a fund's executed plans, by its vault proxy."""

    def find(nonce: int | None, first: int, last: int) -> list[str]:
        del nonce  # the fund counts none
        ((comptroller,),) = read(rpc, [Call(vault, "getAccessor()", "address")])
        owner = str(to_checksum_address(cast("str", comptroller)))
        ((manager,),) = read(rpc, [Call(owner, "getIntegrationManager()", "address")])
        logs = calls_made(rpc, str(to_checksum_address(cast("str", manager))), owner, first, last)
        return [carried(rpc, str(log["transactionHash"])) for log in logs]

    return find
