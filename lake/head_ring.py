"""The newest blocks of a chain, joined by parent hash alone: what each further head extends, undoes or repeats.

A message's order proves nothing: a head extends the tip only when its parent is the tip; any other makes the nodes be
asked which block is newest, and from that the gap or fork is walked parent by parent, by hash, to the block both sides
share. Everything is fetched before anything changes, so a node that fails in between leaves the ring as it was.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lake.errors import RpcError
from lake.evm import BlockHeader, FeeMarket, next_base_fee
from lake.universe import CHAINS

DEPTH = 256
"""Most blocks walked back by hash; a longer gap or deeper fork is a jump, after which state is read anew."""

ETHEREUM = 1


@dataclass(frozen=True, slots=True)
class Head:
    """A canonical block. ``timestamp_s`` is Unix seconds, fees are wei per gas, ``parent`` the hash it builds on.

    ``market`` holds the chain's constants of EIP-1559 (Ethereum's where not given) and is no part of its identity.
    """

    number: int
    hash: str
    parent: str
    timestamp_s: int
    base_fee_wei: int
    gas_used: int
    gas_limit: int
    market: FeeMarket = field(default=CHAINS[ETHEREUM], compare=False, repr=False)

    @property
    def next_base_fee_wei(self) -> int:
        """The base fee of the block after this one, exactly."""
        return next_base_fee(self.base_fee_wei, self.gas_used, self.gas_limit, self.market)


@dataclass(frozen=True, slots=True)
class Extended:
    """``head`` is the new tip, and its parent was the tip before."""

    head: Head


@dataclass(frozen=True, slots=True)
class Reorged:
    """``undone`` (newest first) left the chain above ``ancestor``; ``applied`` (oldest first) took their place."""

    ancestor: Head
    undone: tuple[Head, ...]
    applied: tuple[Head, ...]


@dataclass(frozen=True, slots=True)
class Jumped:
    """``head`` is the tip now, and no walk joins it to what was known: what rests on earlier blocks is read anew."""

    head: Head
    reason: str


@dataclass(frozen=True, slots=True)
class Stale:
    """Nothing may be sent on what is known, in words; the newest head arrived ``age_s`` seconds ago."""

    age_s: float
    reason: str


Move = Extended | Reorged | Jumped
HeadEvent = Extended | Reorged | Jumped | Stale


class Blocks(Protocol):
    """Where headers are asked for; both methods raise RpcError when no node answers."""

    def latest(self, tip: Head | None) -> BlockHeader:
        """Return the highest head any node has; among equals ``tip``, where a node has it."""
        ...

    def by_hash(self, block: str) -> BlockHeader:
        """Return the header of a hash."""
        ...


def head_of(header: BlockHeader, market: FeeMarket) -> Head:
    """Return a header as a node sent it, as a Head of a chain with these constants."""
    h = header
    return Head(h.number, h.hash, h.parent, h.time, h.base_fee_wei, h.gas_used, h.gas_limit, market)


class HeadRing:
    """The newest ``2 * depth`` canonical blocks. Not safe for use from two threads at once."""

    def __init__(self, market: FeeMarket, depth: int = DEPTH) -> None:
        self._market, self._depth = market, depth
        self._chain: OrderedDict[int, Head] = OrderedDict()

    @property
    def tip(self) -> Head | None:
        """The newest canonical block, None before the first."""
        return next(reversed(self._chain.values()), None)

    def at(self, number: int) -> Head | None:
        """Return the canonical block of a number, None where the ring has none."""
        return self._chain.get(number)

    def seed(self, heads: Sequence[Head]) -> None:
        """Begin anew with consecutive blocks known from before: what follows is joined to them."""
        self._chain.clear()
        for head in heads:
            self._chain[head.number] = head

    def extends(self, header: BlockHeader) -> bool:
        """Return whether :meth:`take` needs no node for this header: it is known, or the tip is its parent."""
        tip, known = self.tip, self._chain.get(header.number)
        return (known is not None and known.hash == header.hash) or (tip is not None and _child(tip, header))

    def take(self, header: BlockHeader, blocks: Blocks) -> tuple[Move, ...]:
        """Join ``header`` and return what that changed, empty for a duplicate or an orphan.

        Raises RpcError, and changes nothing, when a block that is needed cannot be read.
        """
        tip = self.tip
        if tip is None:
            return (self._jump(header, "the first head"),)
        if self._has(header):
            return ()
        if not _child(tip, header):
            announced, header = header, blocks.latest(tip)
            if self._has(header) and announced.number > header.number:
                raise RpcError(f"block {announced.number} was announced and no node has it yet")
            if self._has(header):
                return ()
        path, far = [header], f"more than {self._depth} blocks lie between it and the blocks known"
        if header.number - tip.number > self._depth + 1:
            return (self._jump(header, far),)
        while not self._joins(path[-1]):
            if path[-1].number <= next(iter(self._chain)):
                return (self._jump(header, f"no block the ring has is an ancestor of block {header.number}"),)
            if len(path) > self._depth:
                return (self._jump(header, far),)
            path.append(self._parent(path[-1], blocks))
        return self._apply(path[::-1])

    def _has(self, header: BlockHeader) -> bool:
        known = self._chain.get(header.number)
        return known is not None and known.hash == header.hash

    def _joins(self, header: BlockHeader) -> bool:
        below = self._chain.get(header.number - 1)
        return below is not None and _child(below, header)

    def _parent(self, header: BlockHeader, blocks: Blocks) -> BlockHeader:
        found = blocks.by_hash(header.parent)
        if found.number != header.number - 1 or found.hash != header.parent:
            raise RpcError(f"block {header.number}: its parent was answered as block {found.number}")
        return found

    def _apply(self, path: list[BlockHeader]) -> tuple[Move, ...]:
        heads = [head_of(h, self._market) for h in path]
        undone = []
        while next(reversed(self._chain)) >= heads[0].number:
            undone.append(self._chain.popitem()[1])
        ancestor = self._chain[heads[0].number - 1]
        for head in heads:
            self._chain[head.number] = head
        while len(self._chain) > 2 * self._depth:
            self._chain.popitem(last=False)
        return (Reorged(ancestor, tuple(undone), tuple(heads)),) if undone else tuple(Extended(h) for h in heads)

    def _jump(self, header: BlockHeader, reason: str) -> Jumped:
        head = head_of(header, self._market)
        self.seed([head])
        return Jumped(head, reason)


def _child(below: Head, header: BlockHeader) -> bool:
    return header.parent == below.hash and header.number == below.number + 1
