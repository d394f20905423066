"""What the execution path reads from a node, as a protocol, and its JSON-RPC implementation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lake.answers import fields, log_of, quantity, rows, share
from lake.errors import RpcError
from lake.evm import BlockHeader, head_of, read_head
from lake.rpc import Rpc
from policy.execution.base import Receipt

__all__ = ["BlockHeader", "FeeHistory", "JsonNode", "Node", "read_receipt"]


NONCES, WEI = 2**63 - 1, 2**96 - 1
"""Most that a nonce, a block number or gas, and a price may be."""


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

    def head(self) -> BlockHeader:
        """Return the newest block."""
        ...

    def block_hash(self, number: int) -> str | None:
        """Return the canonical hash at ``number``, None above the head."""
        ...

    def account_nonce(self, sender: str, block: int | str = "latest") -> int:
        """Return the number of MINED transactions of ``sender`` as of ``block``, one of the newest."""
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

    def head(self) -> BlockHeader:
        """Return the latest block."""
        return head_of(self.rpc)

    def tagged(self, tag: str) -> BlockHeader:
        """Return the block a tag stands for, ``finalized`` or ``safe``."""
        return head_of(self.rpc, tag)

    def block_hash(self, number: int) -> str | None:
        """Return the hash at ``number``."""
        raw = self.rpc.call("eth_getBlockByNumber", [hex(number), False])
        return None if raw is None else read_head(raw, number).hash

    def account_nonce(self, sender: str, block: int | str = "latest") -> int:
        """Return eth_getTransactionCount."""
        at = hex(block) if isinstance(block, int) else block
        return quantity(self.rpc.call("eth_getTransactionCount", [sender, at]), NONCES)

    def balance(self, sender: str) -> int:
        """Return eth_getBalance at the latest block."""
        return quantity(self.rpc.call("eth_getBalance", [sender, "latest"]))

    def fee_history(self, blocks: int) -> FeeHistory:
        """Return eth_feeHistory with the median reward of each block; a node without rewards tells of no tips."""
        what = "eth_feeHistory"
        row = fields(self.rpc.call(what, [hex(blocks), "latest", [50]]), what)
        ratios = tuple(share(r, f"{what}: gasUsedRatio") for r in row.rows("gasUsedRatio"))
        fees = tuple(quantity(f, WEI) for f in row.rows("baseFeePerGas", len(ratios))[: len(ratios)])
        tips = [0] * len(ratios)
        if row.has("reward"):
            listed = row.rows("reward", len(ratios))[: len(ratios)]
            tips = [quantity(rows(r, f"{what}: reward", 1)[0], WEI) for r in listed]
        return FeeHistory(fees, ratios, tuple(tips))

    def receipt(self, tx_hash: str) -> Receipt | None:
        """Return eth_getTransactionReceipt."""
        return read_receipt(self.rpc, tx_hash)

    def knows(self, tx_hash: str) -> bool:
        """Return whether eth_getTransactionByHash answers with this transaction."""
        what = "eth_getTransactionByHash"
        raw = self.rpc.call(what, [tx_hash])
        return raw is not None and fields(raw, what).hash("hash") == tx_hash.lower()


def read_receipt(rpc: Rpc, tx_hash: str) -> Receipt | None:
    """Return the receipt of a mined transaction, None while there is none; RpcError when it is not this one's."""
    what = f"receipt of {tx_hash[:12]}..."
    raw = rpc.call("eth_getTransactionReceipt", [tx_hash])
    if raw is None:
        return None
    row = fields(raw, what)
    if not row.has("blockHash"):
        return None  # some nodes answer for waiting transactions, too
    if row.hash("transactionHash") != tx_hash.lower():
        raise RpcError(f"{what}: the node answered with that of {row.hash('transactionHash')[:12]}...")
    return Receipt(
        tx_hash=tx_hash,
        block_number=row.quantity("blockNumber", NONCES),
        block_hash=row.hash("blockHash"),
        status=row.quantity("status", 1),
        gas_used=row.quantity("gasUsed", NONCES),
        effective_gas_price_wei=row.quantity("effectiveGasPrice", WEI),
        logs=tuple(log_of(log, what) for log in row.rows("logs")),
    )
