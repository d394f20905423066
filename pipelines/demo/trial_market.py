"""The market of a keeper's trial: seeded blocks whose base fees follow from their fullness, prices, reorganisations.

What the keeper did is held against what the node itself says, read past every fault: the chain it followed, the plans
that executed, the blocks a decision rested on, and the looks at which the closed form asked for a trade.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from lake.errors import RpcError
from lake.evm import next_base_fee
from lake.head_ring import Head
from lake.universe import CHAINS
from policy.keeping.chain_market import ChainMarket
from policy.keeping.sights import Sights
from policy.keeping.terms import terms_of
from policy.localnet.faults import Fault, FaultKind
from policy.localnet.market import Localnet
from policy.localnet.replay import RecordedBlock

GAS_LIMIT = 30_000_000
GWEI = 10**9
LEVEL_GWEI, SPREAD = 12.0, 0.5  # where gas is drawn back to, and how widely it roams (log)
PRICE_BLOCKS, PRICE_SD = 20, 0.006  # prices move this often, by this much (log)
REORG_EVERY = 37
DEPTHS = (1, 1, 1, 2, 2, 3, 5)
PATIENCE_S = 0.25  # for the keeper to look before the next block comes
READS = ("eth_getBlockByNumber", "eth_getBlockByHash", "eth_call", "eth_getLogs", "eth_getTransactionReceipt")


def every_fault() -> list[Fault]:
    """Return every fault of the websocket and of HTTP that a keeper must bear, each at its odds, without an end."""
    heads = ("newHeads",)
    rows = [
        Fault(FaultKind.DROP, odds=0.006), Fault(FaultKind.STALL, odds=0.003, blocks=20),
        Fault(FaultKind.DUP, odds=0.04), Fault(FaultKind.SWAP, odds=0.03), Fault(FaultKind.LATE, odds=0.02, blocks=4),
        Fault(FaultKind.LAGGING, heads, odds=0.02, blocks=3), Fault(FaultKind.SKEW, heads, odds=0.01, skew_s=200),
        Fault(FaultKind.HANG_CONNECT, odds=0.2, hold_s=1.0),
        Fault(FaultKind.LAGGING, READS[:2], odds=0.02, blocks=5),
        Fault(FaultKind.TIMEOUT, READS, odds=0.002, hold_s=0.05), Fault(FaultKind.HTTP_502, READS, odds=0.004),
        Fault(FaultKind.TRUNCATED, READS, odds=0.004), Fault(FaultKind.PAGE, READS, odds=0.002),
        Fault(FaultKind.LOST_REPLY, ("eth_sendRawTransaction",), odds=0.2),
    ]  # fmt: skip
    for row in rows:
        row.times = None
    return rows


@dataclass(slots=True)
class TrialMarket:
    """Makes blocks on ``net`` from a thread of its own; ``seen`` returns the newest block the keeper has looked at."""

    net: Localnet
    prices: dict[str, float]
    seed: int
    seen: Callable[[], int]
    truth: ChainMarket  # over the node itself
    due: dict[int, tuple[float, float]] = field(
        default_factory=dict
    )  # where a trade is: price, reservation price, gwei
    reorgs: int = 0
    made: int = 0
    failure: BaseException | None = None

    def run(self, blocks: int, stop: threading.Event) -> None:
        """Make ``blocks`` blocks, or until ``stop``; what fails is kept in ``failure``."""
        rng = random.Random(self.seed)
        try:
            for step in range(blocks):
                if stop.is_set():
                    return
                self.one(rng, step)
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits for this one
            self.failure = error

    def one(self, rng: random.Random, step: int) -> None:
        """Make block ``step``, or reorganise in its place; book what is due and wait for the keeper's look."""
        if step % REORG_EVERY == REORG_EVERY - 1:
            self._reorg(rng)
        else:
            self._block(rng, step)
        self._look()
        self._wait()

    def _block(self, rng: random.Random, step: int) -> None:
        head = self.net.node.head()
        shown = self.net.front.shown.get(head.number, {})
        used, limit = (int(shown.get(k, hex(v)), 16) for k, v in (("gasUsed", head.gas_used), ("gasLimit", GAS_LIMIT)))
        fee = next_base_fee(head.base_fee_wei, used, limit, CHAINS[1])
        pull = math.log(LEVEL_GWEI * GWEI / fee) * 0.15
        full = min(max(0.5 + pull + rng.gauss(0.0, SPREAD), 0.0), 1.0)
        block = RecordedBlock(head.time + 12, fee, int(full * GAS_LIMIT), GAS_LIMIT)
        moved = step % PRICE_BLOCKS == PRICE_BLOCKS - 1
        if moved:
            self.prices = {a: p * math.exp(rng.gauss(0.0, PRICE_SD)) for a, p in self.prices.items()}
        self.net.replay(block, self.prices if moved else None)
        self.made += 1

    def _reorg(self, rng: random.Random) -> None:
        depth = min(rng.choice(DEPTHS), self.made)
        if depth == 0:
            return
        top = self.net.node.head().number
        for number in range(top - depth + 1, top + 1):
            self.net.front.shown.pop(number, None)
        self.net.reorg(depth)
        for number in [n for n in self.due if n > top - depth]:
            del self.due[number]
        self.reorgs += 1

    def _look(self) -> None:
        """Book whether the closed form asks for a trade at the newest block, read from the node itself."""
        head = self.net.node.head()
        shown = self.net.front.shown.get(head.number, {})
        used, limit = (int(shown.get(k, hex(v)), 16) for k, v in (("gasUsed", head.gas_used), ("gasLimit", GAS_LIMIT)))
        at = Head(head.number, head.hash, head.parent, head.time, head.base_fee_wei, used, limit)
        try:
            found, sights = self.truth.read(0, at), Sights(1, 8)
        except RpcError:
            return
        sights.read(0, terms_of(found.state), found.feeds, found.holdings, found.prices)
        reserve = float(sights.look().reserve_gwei[0])
        price = at.next_base_fee_wei / GWEI
        if price <= reserve:
            self.due[head.number] = price, reserve

    def _wait(self) -> None:
        number, end = self.net.node.head().number, time.monotonic() + PATIENCE_S
        while self.seen() < number and time.monotonic() < end:
            time.sleep(0.001)


def canonical(net: Localnet, first: int) -> dict[int, str]:
    """Return the node's own hashes from block ``first`` on."""
    numbers = range(max(first, 0), net.node.head().number + 1)
    answers = net.node.admin.batch([("eth_getBlockByNumber", [hex(n), False]) for n in numbers])
    return {n: str(a["hash"]) for n, a in zip(numbers, answers, strict=True) if isinstance(a, dict)}


def missed(due: Mapping[int, tuple[float, float]], looks: Mapping[int, bool], tip_gwei: float) -> list[int]:
    """Return the blocks from which a trade was asked for at three looks in a row and none was answered for.

    ``looks``: block of each look -> whether a cycle ran, a plan was on its way, or one had just said why not. Blocks at
    which the keeper could not look are no looks; the count begins with the first one after them. ``tip_gwei`` and a
    hundredth are left between price and reservation price: the keeper's tip and readings may differ by that.
    """
    found: list[int] = []
    streak: list[int] = []
    for block in sorted(looks):
        price, reserve = due.get(block, (np.inf, 0.0))
        if price + tip_gwei > 0.99 * reserve or looks[block]:
            streak = []
            continue
        streak.append(block)
        if len(streak) == 3:
            found.append(streak[0])
    return found
