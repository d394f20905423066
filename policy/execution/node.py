"""What the execution path reads from a node, as a protocol, and its JSON-RPC implementation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from lake.errors import RpcError
from lake.rpc import Rpc, quantity
from policy.execution.base import Receipt


@dataclass(frozen=True, slots=True)
class Head:
    """The newest block."""

    number: int
    hash: str
    time: int  # unix seconds
    base_fee_wei: int
    gas_used: int
    gas_limit: int


@dataclass(frozen=True, slots=True)
class FeeHistory:
    """Recent blocks, oldest first: base fee and median priority fee paid (wei), share of the gas limit used."""

    base_fees_wei: tuple[int, ...]
    used_ratios: tuple[float, ...]
    tips_wei: tuple[int, ...]


class Node(Protocol):
    """Reads of one chain. Every method may raise RpcError; none of them changes anything."""

    def chain_id(self) -> int:
        """Return the chain id the node serves."""
        ...

    def head(self) -> Head:
        """Return the newest block."""
        ...

    def block_hash(self, number: int) -> str | None:
        """Return the canonical hash at ``number``, None above the head."""
        ...

    def account_nonce(self, sender: str) -> int:
        """Return the number of MINED transactions of ``sender``."""
        ...

    def balance(self, sender: str) -> int:
        """Return gas money of ``sender``, wei."""
        ...

    def fee_history(self, blocks: int) -> FeeHistory:
        """Return the last ``blocks`` blocks' fees."""
        ...

    def receipt(self, tx_hash: str) -> Receipt | None:
        """Return the receipt of a mined transaction, None if the node knows none."""
        ...

    def knows(self, tx_hash: str) -> bool:
        """Return whether the node has the transaction, mined or pooled; False proves nothing."""
        ...


class JsonNode:
    """Node over JSON-RPC."""

    def __init__(self, rpc: Rpc) -> None:
        self.rpc = rpc

    def chain_id(self) -> int:
        """Return eth_chainId."""
        return quantity(self.rpc.call("eth_chainId"))

    def head(self) -> Head:
        """Return the latest block."""
        block = self._block("latest")
        if block is None:
            raise RpcError("the node has no latest block; it may still be syncing")
        return Head(
            quantity(block["number"]),
            str(block["hash"]),
            quantity(block["timestamp"]),
            quantity(block["baseFeePerGas"]),
            quantity(block["gasUsed"]),
            quantity(block["gasLimit"]),
        )

    def block_hash(self, number: int) -> str | None:
        """Return the hash at ``number``."""
        block = self._block(hex(number))
        return None if block is None else str(block["hash"])

    def account_nonce(self, sender: str) -> int:
        """Return eth_getTransactionCount at the latest block."""
        return quantity(self.rpc.call("eth_getTransactionCount", [sender, "latest"]))

    def balance(self, sender: str) -> int:
        """Return eth_getBalance at the latest block."""
        return quantity(self.rpc.call("eth_getBalance", [sender, "latest"]))

    def fee_history(self, blocks: int) -> FeeHistory:
        """Return eth_feeHistory with the median reward of each block."""
        data = self.rpc.call("eth_feeHistory", [hex(blocks), "latest", [50]])
        if not isinstance(data, dict):
            raise RpcError("eth_feeHistory: the answer is no object")
        ratios = tuple(float(r) for r in data["gasUsedRatio"])
        rewards = data.get("reward") or [["0x0"]] * len(ratios)
        fees = tuple(quantity(f) for f in data["baseFeePerGas"][: len(ratios)])
        return FeeHistory(fees, ratios, tuple(quantity(r[0]) for r in rewards))

    def receipt(self, tx_hash: str) -> Receipt | None:
        """Return eth_getTransactionReceipt."""
        data = self.rpc.call("eth_getTransactionReceipt", [tx_hash])
        if not isinstance(data, dict) or data.get("blockHash") is None:
            return None
        return Receipt(
            tx_hash=str(data["transactionHash"]),
            block_number=quantity(data["blockNumber"]),
            block_hash=str(data["blockHash"]),
            status=quantity(data["status"]),
            gas_used=quantity(data["gasUsed"]),
            effective_gas_price_wei=quantity(data["effectiveGasPrice"]),
            logs=tuple(data.get("logs") or ()),
        )

    def knows(self, tx_hash: str) -> bool:
        """Return whether eth_getTransactionByHash answers."""
        return self.rpc.call("eth_getTransactionByHash", [tx_hash]) is not None

    def _block(self, tag: str) -> dict[str, Any] | None:
        data = self.rpc.call("eth_getBlockByNumber", [tag, False])
        return data if isinstance(data, dict) else None


def wait_for_block(node: Node, poll_s: float = 1.0, most_s: float = 60.0) -> Callable[[Head], None]:
    """Return a function that returns when a block after the given head is there, or ``most_s`` seconds have passed.

    ``poll_s``: between looks; a twelfth of the block time wastes little and loses little. A node that fails is asked
    again until then: what comes next looks everything up anyway.
    """

    def wait(head: Head) -> None:
        end = time.monotonic() + most_s
        while time.monotonic() < end:
            time.sleep(poll_s)
            try:
                if node.head().hash != head.hash:
                    return
            except RpcError:
                continue

    return wait
