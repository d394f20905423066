"""Laws of the follower: silence, losses, lies and lags of its connections, against a generated chain."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, aclosing

import pytest

from lake.errors import ConfigError
from lake.heads import Extended, Head, HeadFollower, Jumped, Pace, Stale
from lake.universe import CHAINS
from tests.realtime.head_server import QUICK, BadSocket, TruthNodes, follow, serving
from tests.realtime.truth import RIGHT, Account, TruthChain

FAULTS = {"stall": 0.01, "drop": 0.02, "nonsense": 0.01, "swap": 0.04, "dup": 0.05, "hang_connect": 0.3}


def clock_of(truth, off_s=0.0):
    return lambda: int(truth.at(truth.height)["timestamp"], 16) + off_s


async def follow_badly(seed, blocks, faults):
    """Follow a chain that reorganises through a bad socket; return truth, account, follower and faults met."""
    rng = random.Random(seed)
    truth, account, socket = TruthChain(), Account(), BadSocket(rng, dict(faults))
    nodes = TruthNodes(truth)
    async with AsyncExitStack() as stack:
        ws = await stack.enter_async_context(serving(socket)) if faults is not None else None
        follower = HeadFollower(ws, nodes.rpcs(), pace=QUICK, clock=clock_of(truth))
        done = False

        async def live():
            nonlocal done
            for step in range(blocks):
                depth = rng.choice([1, 1, 2, 3, 30, 120])
                room = truth.height - account.first - 1
                turn = step and step % 37 == 0 and account.first > 0 and room > depth
                for block in truth.reorg(depth, depth + 1) if turn else truth.mine(1):
                    await socket.announce(block)
                await asyncio.sleep(0.001)
            while faults and follower.counts["connected"] < 2:  # a slow machine: go on until a lost connection is back
                for block in truth.mine(1):
                    await socket.announce(block)
                await asyncio.sleep(0.005)
            socket.odds.clear()
            done = True

        living = asyncio.create_task(live())
        await follow(follower, account.book, lambda: done and account.at(truth.height) == truth.canonical[-1])
        await living
    return truth, account, follower, socket


@pytest.mark.parametrize("seed", [1, 2])
def test_every_block_once_through_every_fault(seed):
    truth, account, follower, socket = asyncio.run(follow_badly(seed, 700, FAULTS))
    assert account.figures(truth) == RIGHT
    assert account.jumps == 1
    assert account.reorgs > 0
    assert socket.counts.total() > 20
    assert follower.counts["connected"] > 1
    assert follower.counts["duplicate"] > 0


def test_polling_alone_follows_too():
    truth, account = TruthChain(), Account()
    nodes = TruthNodes(truth)
    follower = HeadFollower(None, nodes.rpcs(), pace=QUICK, clock=clock_of(truth))

    def book(event):
        account.book(event)
        if truth.height < truth.first + 40:
            truth.reorg(1, 3) if truth.height % 5 == 0 and len(truth.canonical) > 3 else truth.mine(2)

    last = truth.first + 40
    asyncio.run(follow(follower, book, lambda: truth.height >= last and account.at(truth.height) is not None))
    assert account.figures(truth) == RIGHT


def head(block):
    number, time, fee, used, limit = (
        int(block[k], 16) for k in ("number", "timestamp", "baseFeePerGas", "gasUsed", "gasLimit")
    )
    return Head(number, block["hash"], block["parentHash"], time, fee, used, limit)


def run_until(truth, nodes, kinds, **more):
    """Follow over HTTP until an event of ``kinds`` comes; return all events and the follower."""
    seen = []
    options = {"pace": QUICK, "clock": clock_of(truth), **more}
    follower = HeadFollower(
        None, nodes.rpcs(*more.pop("urls", ())), **{k: v for k, v in options.items() if k != "urls"}
    )
    asyncio.run(follow(follower, seen.append, lambda: isinstance(seen[-1], kinds)))
    return seen, follower


def test_a_restart_delivers_what_it_missed():
    truth = TruthChain()
    truth.mine(5)
    since = head(truth.at(truth.height))
    new = truth.mine(10)
    seen, follower = run_until(truth, TruthNodes(truth), Extended, since=[since])
    assert isinstance(seen[0], Extended)
    assert seen[0].head == head(new[0])
    assert follower.at(since.number) == since


def test_a_restart_after_too_long_jumps():
    truth = TruthChain()
    since = head(truth.at(truth.height))
    truth.mine(300)
    seen, _ = run_until(truth, TruthNodes(truth), Jumped, since=[since])
    assert seen[0].head.number == truth.height
    assert "more than 256 blocks" in seen[0].reason


@pytest.mark.parametrize(
    ("off_s", "words"),
    [(-16.0, "16 s ahead of this machine's clock"), (121.0, "121 s behind this machine's clock"), (-14, ""), (119, "")],
)
def test_a_clock_that_differs_is_the_verdict(off_s, words):
    truth = TruthChain()
    seen, follower = run_until(truth, TruthNodes(truth), (Stale if words else Jumped,), clock=clock_of(truth, off_s))
    if words:
        assert seen[-1].reason.startswith("clock: ")
        assert words in seen[-1].reason
        assert follower.refusal == seen[-1].reason
    else:
        assert follower.refusal is None


def test_silence_is_told_with_the_reason_of_the_nodes():
    truth = TruthChain()
    nodes = TruthNodes(truth, down={"http://a.invalid"})
    seen, follower = run_until(truth, nodes, Stale)
    assert "stale: no new head" in seen[0].reason
    assert "http://a.invalid" in seen[0].reason
    assert follower.refusal == seen[0].reason
    assert follower.usable() == ()


def test_a_lagging_node_is_not_used():
    truth = TruthChain()
    truth.mine(20)
    nodes = TruthNodes(truth, lag={"http://a.invalid": 4, "http://b.invalid": 3})
    urls = ("http://a.invalid", "http://b.invalid", "http://c.invalid")
    seen, follower = run_until(truth, nodes, Jumped, urls=urls)
    assert seen[0].head.number == truth.height
    assert [n.behind for n in follower.nodes()] == [4, 3, 0]
    assert [r.urls[0] for r in follower.usable()] == list(urls[1:])


def test_nodes_that_all_lag_behind_what_is_announced_are_refused():
    truth = TruthChain()
    nodes, socket = TruthNodes(truth), BadSocket(random.Random(0))
    seen = []

    async def run():
        async with serving(socket) as ws:
            follower = HeadFollower(ws, nodes.rpcs(), pace=QUICK, clock=clock_of(truth))

            async def live():
                while not follower.counts["connected"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                nodes.lag["http://a.invalid"] = 10**6
                for _ in range(200):
                    await socket.announce(truth.mine(1)[0])
                    await asyncio.sleep(0.002)

            living = asyncio.create_task(live())
            lagging = lambda: isinstance(seen[-1], Stale) and seen[-1].reason.startswith("lagging")  # noqa: E731
            await follow(follower, seen.append, lagging)
            assert follower.usable() == ()
            assert follower.refusal is not None
            await living

    asyncio.run(run())


def test_a_slow_consumer_misses_nothing():
    truth, account, socket = TruthChain(), Account(), BadSocket(random.Random(0))

    async def run():
        async with serving(socket) as ws:
            follower = HeadFollower(ws, TruthNodes(truth).rpcs(), pace=QUICK, clock=clock_of(truth))
            async with aclosing(aiter(follower)) as events, asyncio.timeout(20):
                account.book(await anext(events))
                while not follower.counts["connected"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                for block in truth.mine(200):
                    await socket.announce(block)
                await asyncio.sleep(0.05)  # more announcements than are kept
                while account.at(truth.height) is None:
                    account.book(await anext(events))

    asyncio.run(run())
    assert account.figures(truth) == RIGHT


def test_what_is_no_address_is_refused():
    with pytest.raises(ConfigError, match=r"must start with ws:// or wss://"):
        HeadFollower("https://user:secret@node.invalid/key", ["http://a.invalid"])
    with pytest.raises(ConfigError, match="at least one node over HTTP"):
        HeadFollower(None, [])


def test_the_pace_is_the_chains():
    assert Pace.of(CHAINS[1]) == Pace()
    assert Pace.of(CHAINS[8453]).silence_s == 6.0
