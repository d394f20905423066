"""What a Safe did of late, read from its logs: the last batch's time and the losses that count against the budget.

A Safe keeps no budget, so it is recomputed from the chain at every look: each batch's token transfers, at the prices
of now. No ledger of our own can be lost or disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.rpc import Rpc, quantity
from policy.execution.rules import PPB, Book, Clock, Mandate, add_loss
from policy.execution.vault_state import Head, head_of

EXECUTED = "0x" + keccak(text="ExecutionSuccess(bytes32,uint256)").hex()
TRANSFER = "0x" + keccak(text="Transfer(address,address,uint256)").hex()


def clock_of(rpc: Rpc, safe: str, book: Book, mandate: Mandate, head: Head, nonce: int, block_time_s: int) -> Clock:
    """Return nonce, last batch and counted losses of ``safe`` as of ``head``.

    Reads the logs of the last two loss windows and, per batch, its receipt. Losses are in billionths of the present
    NAV at the present prices of ``book``, rounded up: an old loss in a token that has since risen counts for more.
    """
    span = 2 * mandate.window_s // block_time_s + 2
    since = max(0, head.number - span)
    ask = {"address": safe, "topics": [EXECUTED], "fromBlock": hex(since), "toBlock": hex(head.number)}
    found: Any = rpc.call("eth_getLogs", [ask])
    clock = Clock(nonce=nonce)
    for log in sorted(found, key=lambda row: quantity(row["blockNumber"])):
        block = head_of(rpc, quantity(log["blockNumber"]))
        receipt: Any = rpc.call("eth_getTransactionReceipt", [log["transactionHash"]])
        loss = _loss(safe, book, receipt["logs"])
        clock = add_loss(clock, mandate.window_s, block.time, loss)
        clock = Clock(nonce, block.number, block.time, clock.window, clock.lost_before, clock.lost_now)
    return clock


def _loss(safe: str, book: Book, logs: list[Mapping[str, Any]]) -> int:
    """Return what one batch lost, billionths of the present NAV, rounded up; 0 for a gain."""
    moved = dict.fromkeys((t.address for t in book.tokens), 0)
    for log in logs:
        token = to_checksum_address(str(log["address"]))
        if token in moved and log["topics"][0] == TRANSFER and len(log["topics"]) == 3:
            source, target = ("0x" + str(t)[-40:] for t in log["topics"][1:])
            amount = int(str(log["data"]), 16)
            moved[token] += amount * ((target == safe.lower()) - (source == safe.lower()))
    change = 0
    for i, amount in enumerate(moved.values()):
        value = book.value(i, abs(amount))
        change += value if amount >= 0 else -value
    total = book.total()
    return -(change * PPB // total) if change < 0 and total else 0
