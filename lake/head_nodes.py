"""The nodes behind a follower of heads: what they agree is newest, which of them lag, and blocks by hash.

Each node is asked on its own, all at once, each bounded in time. One that is more than LAG blocks behind the highest
answer is lagging: its nonce, state and pool are those of an older chain, so it may not be used for any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lake.errors import ConfigError, RpcError
from lake.evm import BlockHeader, read_head
from lake.evm import head_of as header_of
from lake.head_ring import Head
from lake.rpc import Rpc
from lake.transport import mask

LAG = 3
"""Blocks a node may be behind the highest before it counts as lagging."""

TIMEOUT_S = 4.0
"""Seconds for one request to one node; a node that hangs is a node that did not answer."""


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """One node as last asked: its address without secrets, its head (None: no answer), blocks behind, and why not."""

    node: str
    number: int | None
    behind: int
    reason: str = ""

    @property
    def usable(self) -> bool:
        """Return whether it may be used for nonce, snapshot or send."""
        return self.number is not None and self.behind <= LAG


class HeadNodes:
    """Several nodes of one chain, best of different operators. ``rpcs``: one client or URL a node, preferred first."""

    def __init__(self, rpcs: Sequence[Rpc | str], timeout_s: float = TIMEOUT_S) -> None:
        nodes = [n for r in rpcs for n in (Rpc(r) if isinstance(r, str) else r).nodes()]
        if not nodes:
            raise ConfigError("heads need at least one node over HTTP; set [chain] rpc_urls")
        self._given = tuple(nodes)
        self._quick = tuple(Rpc(n.urls, timeout_s, n.transport, tries=1, patience=timeout_s) for n in nodes)
        self._pool = ThreadPoolExecutor(len(nodes), "heads")
        self.health: tuple[NodeHealth, ...] = ()

    def latest(self, tip: Head | None = None) -> BlockHeader:
        """Return the highest head any node has; among equals ``tip``, else the first node's.

        RpcError when none answers. Books the health of every node on the way, against ``tip`` where that is higher.
        """
        answers = list(self._pool.map(_newest, self._quick))
        heads = [a for a in answers if isinstance(a, BlockHeader)]
        top = max((h.number for h in heads), default=0)
        ahead = max(top, tip.number if tip is not None else 0)
        self.health = tuple(_health(n, a, ahead) for n, a in zip(self._quick, answers, strict=True))
        if not heads:
            raise RpcError("no node has a head: " + "; ".join(f"{h.node}: {h.reason}" for h in self.health))
        best = [h for h in heads if h.number == top]
        return next((h for h in best if tip is not None and h.hash == tip.hash), best[0])

    def by_hash(self, block: str) -> BlockHeader:
        """Return the header of a hash from the first node that has it; RpcError when none does."""
        failures = []
        for node in self._quick:
            try:
                return header_of(node, block)
            except RpcError as error:
                failures.append(f"{mask(node.urls[0])}: {error}")
        raise RpcError("; ".join(failures))

    def usable(self) -> tuple[Rpc, ...]:
        """Return the clients, as given, of the nodes that were not lagging when last asked, preferred first."""
        return tuple(n for n, h in zip(self._given, self.health, strict=False) if h.usable)

    def close(self) -> None:
        """End the threads; what is being asked is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _newest(node: Rpc) -> BlockHeader | RpcError:
    try:
        return read_head(node.call("eth_getBlockByNumber", ["latest", False]))
    except RpcError as error:
        return error


def _health(node: Rpc, answer: BlockHeader | RpcError, top: int) -> NodeHealth:
    name = mask(node.urls[0])
    if isinstance(answer, RpcError):
        return NodeHealth(name, None, 0, str(answer))
    behind = top - answer.number
    return NodeHealth(name, answer.number, behind, f"{behind} blocks behind" if behind > LAG else "")
