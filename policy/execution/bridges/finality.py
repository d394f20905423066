"""Which block of a chain can no longer go away, and which is old enough to believe an arrival in."""

from __future__ import annotations

from typing import Protocol

from lake.errors import RpcError
from lake.universe import Chain
from policy.execution.submission.node import BlockHeader


class Headed(Protocol):
    """A node that knows its newest block."""

    def head(self) -> BlockHeader:
        """Return the newest block."""
        ...


class Tagged(Headed, Protocol):
    """A node that knows the block a tag stands for."""

    def tagged(self, tag: str) -> BlockHeader:
        """Return the block of ``finalized`` or ``safe``; RpcError where the node has none."""
        ...


def final_block(node: Headed, chain: Chain) -> int:
    """Return the newest height of ``node`` that is final by the rule of ``chain``'s row; -1 while none is."""
    if chain.finality == "depth":
        return max(-1, node.head().number - chain.final_blocks)
    tagged = getattr(node, "tagged", None)
    if tagged is None:
        raise RpcError(f"{chain.name}: the node tells no finalized block, and this chain's finality is that tag")
    number: int = tagged("finalized").number
    return number


def confirmed_block(head: int, chain: Chain) -> int:
    """Return the height at which an arrival is believed while the chain's head is ``head``."""
    return max(0, head - chain.safe_blocks)
