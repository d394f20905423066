"""A node that fails in the ways nodes fail, in front of a :class:`SimChain`: for tests of whatever sits on it.

Faults are switched by name and end after a number of calls, so that every run ends in a working node.
"""

from __future__ import annotations

from lake.errors import RpcError
from policy.execution.base import Receipt
from policy.execution.submission.node import BlockHeader, FeeHistory
from policy.execution.vaults.simulated.chain import SimBlock, SimChain

LAG = 4
"""Blocks a lagging node is behind."""

KINDS = (
    "timeout",  # reads and writes fail before they reach the node
    "lost_reply",  # writes reach the node, the answer is lost
    "lagging",  # the state of LAG blocks ago
    "no_receipts",  # denies every transaction
    "wrong_status",  # says that mined transactions failed
    "wrong_hash",  # receipts point to a block that is not canonical
    "wrong_chain",  # another chain id
    "low_nonce",  # account nonce of before
    "rate_limit",  # 429
    "drops",  # accepts transactions and forgets them
)


class FaultyNode:
    """Node, simulated world and hand-over in one; ``kind`` acts for the next ``calls`` calls of any method."""

    def __init__(self, chain: SimChain, kind: str | None = None, calls: int = 0) -> None:
        self.chain = chain
        self.kind = kind
        self.left = calls
        self.hit = 0  # calls the fault changed

    def _now(self, *kinds: str) -> bool:
        """Count a call; whether one of ``kinds`` acts on it."""
        if self.left <= 0:
            return False
        self.left -= 1
        acts = self.kind in kinds
        self.hit += int(acts)
        return acts

    def _read(self) -> None:
        if self._now("timeout", "rate_limit"):
            raise RpcError("429 too many requests" if self.kind == "rate_limit" else "read timed out")

    def _lags(self) -> bool:
        return self.kind == "lagging" and self.left > 0

    def _tip(self) -> SimBlock:
        blocks = self.chain.blocks
        if self._lags():
            self.hit += 1
            return blocks[max(0, len(blocks) - 1 - LAG)]
        return blocks[-1]

    def chain_id(self) -> int:
        """Return the chain id."""
        if self._now("wrong_chain"):
            return 1
        return self.chain.id

    def head(self) -> BlockHeader:
        """Return the newest block this node admits to."""
        self._read()
        return self._tip().head

    def block(self, number: int | str) -> SimBlock:
        """Return a block with its world."""
        self._read()
        if isinstance(number, str):
            return self._tip()
        if number > self._tip().head.number:
            raise RpcError("header not found", -32000)
        return self.chain.block(number)

    def block_hash(self, number: int) -> str | None:
        """Return the canonical hash."""
        self._read()
        return None if number > self._tip().head.number else self.chain.block_hash(number)

    def account_nonce(self, sender: str, block: int | str = "latest") -> int:
        """Return the mined nonce, or an old one."""
        if self._now("low_nonce"):
            return max(0, self.chain.account_nonce(sender, block) - 1)
        top = self._tip().head.number
        return self.chain.account_nonce(sender, top if isinstance(block, str) else min(block, top))

    def balance(self, sender: str) -> int:
        """Return gas money."""
        self._read()
        return self.chain.balance(sender)

    def fee_history(self, blocks: int) -> FeeHistory:
        """Return recent fees."""
        self._read()
        return self.chain.fee_history(blocks)

    def receipt(self, tx_hash: str) -> Receipt | None:
        """Return the receipt, or a lie."""
        self._read()
        found = self.chain.receipt(tx_hash)
        if found is None or found.block_number > self._tip().head.number:
            return None
        if self.left <= 0:
            return found
        return _lie(self.kind, found)

    def knows(self, tx_hash: str) -> bool:
        """Return whether the transaction is known here."""
        self._read()
        return False if self.kind == "no_receipts" and self.left > 0 else self.chain.knows(tx_hash)

    def send_raw(self, raw: bytes) -> str:
        """Hand over to the public pool, or lose something on the way."""
        self._read()
        if self._now("drops"):
            return "0x"
        done = self.chain.send_raw(raw)
        self._lose()
        return done

    def send_private(self, raw: bytes, max_block: int | None = None) -> str:
        """Hand over past the public pool, or lose something on the way."""
        self._read()
        if self._now("drops"):
            return "0x"
        done = self.chain.send_private(raw, max_block)
        self._lose()
        return done

    def _lose(self) -> None:
        if self._now("lost_reply"):
            raise RpcError("connection reset; the outcome is unknown")


def _lie(kind: str | None, found: Receipt) -> Receipt | None:
    lies: dict[str | None, Receipt | None] = {
        "no_receipts": None,
        "wrong_status": Receipt(found.tx_hash, found.block_number, found.block_hash, 0, found.gas_used, 1),
        "wrong_hash": Receipt(found.tx_hash, found.block_number, "0xdead", found.status, found.gas_used, 1),
    }
    return lies.get(kind, found)
