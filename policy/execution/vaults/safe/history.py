"""What a Safe did of late, read from its logs: the last batch's time and the losses that count against the budget.

A Safe keeps no budget, so it is recomputed from the chain at every look: each batch's token transfers, at the prices
of now. No ledger of our own can be lost or disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from eth_utils.crypto import keccak

from lake.errors import RpcError
from lake.evm import BlockHeader, head_of, read_logs
from lake.rpc import Rpc
from policy.execution.base import Receipt
from policy.execution.checks.rules import PPB, Clock, Mandate, VaultBook, add_loss
from policy.execution.submission.node import read_receipt
from policy.execution.vaults.reference.logs import moved

EXECUTED = "0x" + keccak(text="ExecutionSuccess(bytes32,uint256)").hex()
_WORD = 64  # hex digits


def executions(rpc: Rpc, safe: str, since: int, until: int | str) -> list[tuple[int, str, str]]:
    """Return (block number, transaction hash, Safe's hash) of each batch ``safe`` executed in these blocks."""
    upto = hex(until) if isinstance(until, int) else until
    ask = {"address": safe, "topics": [EXECUTED], "fromBlock": hex(since), "toBlock": upto}
    found = []
    for log in read_logs(rpc, ask):
        done = executed(log, safe)
        if done is not None:
            found.append((cast("int", log["blockNumber"]), str(log["transactionHash"]), done))
    return sorted(found)


def executed(log: Mapping[str, Any], safe: str) -> str | None:
    """Return the hash of the batch whose ExecutionSuccess ``log`` is, None when it is none of this Safe.

    Safe 1.4.1 and later index the hash (the second topic); 1.3.0 puts it first in the data.
    """
    topics = [t if isinstance(t, str) else "0x" + bytes(t).hex() for t in log["topics"]]
    if str(log["address"]).lower() != safe.lower() or not topics or topics[0] != EXECUTED:
        return None
    if len(topics) > 1:
        return topics[1]
    body = str(log["data"]).removeprefix("0x")
    return "0x" + body[:_WORD] if len(body) == 2 * _WORD else None


def window_start(mandate: Mandate, head: BlockHeader, block_time_s: int) -> int:
    """Return the first block whose plans count against the budget as of ``head``: the last two loss windows'."""
    return max(0, head.number - 2 * mandate.window_s // block_time_s - 2)


def clock_of(
    rpc: Rpc, safe: str, book: VaultBook, mandate: Mandate, nonce: int, done: Sequence[tuple[int, str, str]]
) -> Clock:
    """Return nonce, last batch and counted losses of ``safe``; ``done``: its batches since :func:`window_start`.

    Reads each batch's block and receipt. Losses are in billionths of the present NAV at the present prices of ``book``,
    rounded up: an old loss in a token that has since risen counts for more.
    """
    clock = Clock(nonce=nonce)
    for number, tx_hash, _ in done:
        block, receipt = head_of(rpc, number), read_receipt(rpc, tx_hash)
        if receipt is None:
            raise RpcError(f"the node lists {tx_hash} in block {number} and has no receipt of it")
        loss = _loss(safe, book, receipt)
        clock = add_loss(clock, mandate.window_s, block.time, loss)
        clock = replace(clock, nonce=nonce, last_block=block.number, last_time=block.time)
    return clock


def _loss(safe: str, book: VaultBook, receipt: Receipt) -> int:
    """Return what one batch lost, billionths of the present NAV, rounded up; 0 for a gain."""
    change = 0
    for i, amount in enumerate(moved(safe, receipt.logs, [t.address for t in book.tokens]).values()):
        value = book.value(i, abs(amount))
        change += value if amount >= 0 else -value
    total = book.total()
    return -(change * PPB // total) if change < 0 and total else 0
