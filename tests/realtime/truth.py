"""A generated chain that knows what is canonical, and an account of a follower's events held against it."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field

from lake.errors import RpcError
from lake.evm import BlockHeader, read_head
from lake.heads import Extended, Head, HeadEvent, Jumped, Reorged

START_S = 1_700_000_000


@dataclass
class TruthChain:
    """Blocks as a node sends them, by hash, and the canonical hashes by number from ``first`` on."""

    first: int = 1_000
    block_s: int = 12
    start_s: int = START_S
    blocks: dict[str, dict[str, str]] = field(default_factory=dict)
    canonical: list[str] = field(default_factory=list)
    made: int = 0

    def __post_init__(self) -> None:
        self.mine(1)

    @property
    def height(self) -> int:
        return self.first + len(self.canonical) - 1

    def mine(self, blocks: int) -> list[dict[str, str]]:
        """Append blocks, each unique; return them as announced."""
        return [self._append() for _ in range(blocks)]

    def reorg(self, depth: int, blocks: int) -> list[dict[str, str]]:
        """Replace the newest ``depth`` blocks by ``blocks`` others; return those."""
        del self.canonical[len(self.canonical) - depth :]
        return self.mine(blocks)

    def at(self, number: int) -> dict[str, str]:
        return self.blocks[self.canonical[number - self.first]]

    def _append(self) -> dict[str, str]:
        self.made += 1
        number = self.first + len(self.canonical)
        name = "0x" + hashlib.sha256(f"{number}.{self.made}".encode()).hexdigest()
        block = {
            "number": hex(number),
            "hash": name,
            "parentHash": self.canonical[-1] if self.canonical else "0x" + "11" * 32,
            "timestamp": hex(self.start_s + self.block_s * (number - self.first)),
            "baseFeePerGas": hex(10**9 + self.made),
            "gasUsed": hex(15_000_000),
            "gasLimit": hex(30_000_000),
        }
        self.blocks[name] = block
        self.canonical.append(name)
        return block


@dataclass
class TruthBlocks:
    """The chain as nodes answer it, ``lag`` blocks behind, some answers failing with probability ``sick``."""

    chain: TruthChain
    rng: random.Random
    lag: int = 0
    sick: float = 0.0
    asked: int = 0

    def latest(self, tip: Head | None) -> BlockHeader:
        del tip
        self._perhaps()
        return read_head(self.chain.at(max(self.chain.first, self.chain.height - self.lag)))

    def by_hash(self, block: str) -> BlockHeader:
        self._perhaps()
        return read_head(self.chain.blocks[block], block)

    def _perhaps(self) -> None:
        self.asked += 1
        if self.rng.random() < self.sick:
            raise RpcError("a node that is down")


@dataclass
class Account:
    """What a consumer makes of the events: its own chain, and how often each block was applied and undone."""

    chain: dict[int, str] = field(default_factory=dict)
    net: dict[str, int] = field(default_factory=dict)
    first: int = -1
    reorgs: int = 0
    deepest: int = 0
    jumps: int = 0
    stale: list[str] = field(default_factory=list)

    def at(self, number: int) -> str | None:
        return self.chain.get(number)

    def book(self, event: HeadEvent) -> None:
        """Apply one event; AssertionError where it does not fit what came before."""
        if isinstance(event, Extended):
            self._apply(event.head)
        elif isinstance(event, Reorged):
            self._undo(event)
        elif isinstance(event, Jumped):
            self.jumps += 1
            self.chain, self.net, self.first = {}, {}, event.head.number
            self.chain[event.head.number] = event.head.hash
            self.net[event.head.hash] = 1
        else:
            self.stale.append(event.reason)

    def _undo(self, event: Reorged) -> None:
        assert event.undone
        self.reorgs += 1
        self.deepest = max(self.deepest, len(event.undone))
        for head in event.undone:
            assert self.chain.pop(max(self.chain)) == head.hash
            self.net[head.hash] -= 1
        assert self.chain[max(self.chain)] == event.ancestor.hash
        for head in event.applied:
            self._apply(head)

    def _apply(self, head: Head) -> None:
        tip = max(self.chain)
        assert (head.number, head.parent) == (tip + 1, self.chain[tip])
        self.chain[head.number] = head.hash
        self.net[head.hash] = self.net.get(head.hash, 0) + 1

    def figures(self, truth: TruthChain) -> dict[str, int]:
        """Return the figures against a generated chain."""
        return figures_of(self, {truth.first + i: h for i, h in enumerate(truth.canonical)})


def figures_of(account: Account, truth: dict[int, str]) -> dict[str, int]:
    """Return how many blocks are wrong, net applied other than once, or missing, from the first one followed."""
    held = {n: h for n, h in account.chain.items() if n in truth}
    return {
        "wrong": sum(truth[n] != h for n, h in held.items()),
        "twice": sum(v not in {0, 1} for v in account.net.values()) + (sum(account.net.values()) != len(account.chain)),
        "missing": sum(n not in held for n in truth if n >= account.first) + len(account.chain) - len(held),
    }


RIGHT = {"wrong": 0, "twice": 0, "missing": 0}
