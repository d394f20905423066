"""A follower of heads on a real node behind every fault: ``make heads`` (ARGS="--blocks 10000 --seed 1 --json k.json").

Blocks are mined on Anvil, with reorganisations to 256 blocks, while the websocket drops, falls silent, repeats, swaps,
delays, lags, skews and hangs, and HTTP times out, lags and answers nonsense. The chain that came out is then held
against the node's: wrong, applied other than once, missing. Ends with status 1 unless
all three are 0 and no jump was needed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lake.head_ring import DEPTH
from lake.heads import HeadFollower, Pace
from lake.rpc import Rpc
from policy.localnet.faults import Fault, FaultKind
from policy.localnet.market import Localnet, start
from tests.realtime.truth import Account, figures_of

QUICK = Pace(silence_s=0.6, poll_s=0.05, check_s=0.2, bound_s=0.5, first_wait_s=0.02, last_wait_s=0.3, retry_s=0.05)
SOCKET = ("newHeads",)
READS = ("eth_getBlockByNumber", "eth_getBlockByHash")


def faults() -> list[Fault]:
    """Return every fault, each at its odds an announcement, connection or read."""
    rows = [
        Fault(FaultKind.DROP, odds=0.006),
        Fault(FaultKind.STALL, odds=0.004, blocks=60),
        Fault(FaultKind.DUP, odds=0.04),
        Fault(FaultKind.SWAP, odds=0.03),
        Fault(FaultKind.LATE, odds=0.02, blocks=5),
        Fault(FaultKind.LAGGING, SOCKET, odds=0.02, blocks=3),
        Fault(FaultKind.SKEW, SOCKET, odds=0.01, skew_s=200),
        Fault(FaultKind.HANG_CONNECT, odds=0.2, hold_s=2.0),
        Fault(FaultKind.LAGGING, READS, odds=0.02, blocks=5),
        Fault(FaultKind.TIMEOUT, READS, odds=0.003, hold_s=0.05),
        Fault(FaultKind.HTTP_502, READS, odds=0.005),
        Fault(FaultKind.TRUNCATED, READS, odds=0.005),
        Fault(FaultKind.LYING, READS, odds=0.005, change=lambda *_: {"number": "0x1"}),
    ]
    for row in rows:
        row.times = None
    return rows


async def live(net: Localnet, blocks: int, rng: random.Random, deepest: int, seen: Callable[[], int]) -> int:
    """Mine ``blocks`` blocks with a reorganisation about every 37; return how many of those there were.

    ``seen`` is the follower's newest block: a deep one waits until it is near, for two of them in one silence would be
    deeper together than any walk goes.
    """
    made, first = 0, seen()
    for step in range(blocks):
        depth = min(rng.choice([1, 1, 1, 2, 2, 3, 5, 20, 64, deepest]), deepest)
        top = net.node.head().number
        if step % 37 == 36 and top - first > depth and top - seen() + depth < DEPTH:
            made += 1
            await asyncio.to_thread(net.node.reorg, depth, (), 12 + rng.randint(1, 3))
            while depth > 20 and top - seen() > 5:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        else:
            await asyncio.to_thread(net.mine)
        await asyncio.sleep(0)
    return made


async def follow(net: Localnet, blocks: int, seed: int, deepest: int) -> dict[str, object]:
    """Follow while blocks are made, then hold the outcome against the node; return the figures."""
    account, rng, kinds = Account(), random.Random(seed), faults()
    net.faults.rng.seed(seed)
    ws = net.listen()
    clock = lambda: net.node.head().time  # noqa: E731
    follower = HeadFollower(ws, [Rpc(net.url), Rpc(net.url)], clock=clock, pace=QUICK)

    async def consume(done: asyncio.Event) -> None:
        async for event in follower:
            account.book(event)
            tip = follower.tip
            if done.is_set() and tip is not None and tip.hash == newest[0] and account.at(tip.number) == tip.hash:
                return

    done, newest = asyncio.Event(), [""]
    reading = asyncio.create_task(consume(done))
    while account.first < 0:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    for fault in kinds:
        net.faults.add(fault)
    began = time.monotonic()
    made = await live(net, blocks, rng, deepest, lambda: max(account.chain))
    wall_s = time.monotonic() - began
    net.faults.clear()
    net.mine()
    newest[0] = net.node.head().hash
    done.set()
    async with asyncio.timeout(60):
        await reading
    truth = await asyncio.to_thread(canonical, net, account.first)
    met = {f.kind.value: sum(k.struck for k in kinds if k.kind is f.kind) for f in kinds}
    return {
        "chain": figures_of(account, truth), "blocks": blocks, "reorgs_made": made, "reorgs_seen": account.reorgs,
        "deepest_seen": account.deepest, "jumps": account.jumps - 1, "faults": met, "follower": dict(follower.counts),
        "seconds": round(wall_s, 1), "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }  # fmt: skip


def canonical(net: Localnet, first: int) -> dict[int, str]:
    """Return the node's own hashes from block ``first`` on."""
    numbers = range(first, net.node.head().number + 1)
    answers = net.node.admin.batch([("eth_getBlockByNumber", [hex(n), False]) for n in numbers])
    return {n: str(a["hash"]) for n, a in zip(numbers, answers, strict=True) if isinstance(a, dict)}


def main() -> None:
    """Print and write the figures; status 1 unless the chain is right."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--blocks", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--deepest", type=int, default=200)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with start() as net:
        found = asyncio.run(follow(net, given.blocks, given.seed, given.deepest))
    print(json.dumps(found, indent=1))
    if given.json is not None:
        given.json.write_text(json.dumps(found))
    sys.exit(any(found["chain"].values()) or bool(found["jumps"]))  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
