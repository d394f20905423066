"""Following the heads of a chain: every canonical block once, in order, whatever the connection does.

``HeadFollower`` listens to ``newHeads`` over a websocket where there is one and asks the nodes over HTTP where it is
silent: on arrival, not on a heartbeat, for a subscription can die while its connection answers. What a consumer does
not take in time is not queued without end: the oldest announcements are dropped and their blocks read by hash.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import websockets
from websockets.asyncio.client import ClientConnection, connect

from lake.answers import fields
from lake.errors import ConfigError, RpcError
from lake.evm import BlockHeader, read_head
from lake.head_nodes import LAG, HeadNodes, NodeHealth
from lake.head_ring import DEPTH, Extended, Head, HeadEvent, HeadRing, Jumped, Reorged, Stale
from lake.json_text import parsed
from lake.rpc import Rpc
from lake.transport import mask
from lake.universe import CHAINS, Chain

__all__ = ["Extended", "Head", "HeadEvent", "HeadFollower", "Jumped", "NodeHealth", "Pace", "Reorged", "Stale"]

AHEAD_S, BEHIND_S = 15.0, 120.0
"""A head dated further ahead of the clock, or further behind while heads arrive, is the verdict ``clock``."""

MAIL = 64
"""Announcements kept for a slow consumer; the blocks of those dropped are read by hash."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things may take, seconds. Defaults suit Ethereum; ``Pace.of`` scales them to a chain.

    ``silence_s``: without a new head for so long the nodes are asked, and again every ``poll_s``, as without a
    websocket; ``check_s``: how often their lag is looked at; ``bound_s``: most a connect and subscribe may take;
    ``first_wait_s`` .. ``last_wait_s``: between connections, doubled, with full jitter; ``retry_s``: until a block that
    no node had is asked for again.
    """

    silence_s: float = 36.0
    poll_s: float = 6.0
    check_s: float = 12.0
    bound_s: float = 5.0
    first_wait_s: float = 0.25
    last_wait_s: float = 8.0
    retry_s: float = 0.5

    @classmethod
    def of(cls, chain: Chain) -> Pace:
        """Return the pace of ``chain``: silence after three blocks, 6 s at least, then a poll every half block."""
        block = chain.block_time_s
        return cls(max(3 * block, 6.0), max(block / 2, 0.25), max(block, 1.0))


class HeadFollower:
    """Async iterator of what happens to a chain's heads; iterate once, ``async for event in follower``.

    ``ws``: websocket URL, None to follow by HTTP polling alone; ``http``: the nodes asked for the truth, one client or
    URL each, two of different operators for money. ``clock``: Unix seconds (a replay passes its own); ``since``: blocks
    known from an earlier run, oldest first; what followed on them is delivered too (256 blocks at most, else Jumped).
    """

    def __init__(
        self,
        ws: str | None,
        http: Sequence[Rpc | str],
        *,
        chain: Chain = CHAINS[1],
        clock: Callable[[], float] = time.time,
        pace: Pace | None = None,
        since: Sequence[Head] = (),
        depth: int = DEPTH,
    ) -> None:
        if ws is not None and urlsplit(ws).scheme not in {"ws", "wss"}:
            raise ConfigError(f"websocket URL {mask(ws)} must start with ws:// or wss://")
        self._ws, self._clock, self._pace = ws, clock, pace or Pace.of(chain)
        self._nodes, self._ring = HeadNodes(http), HeadRing(chain, depth)
        self._ring.seed(since)
        self._mail: deque[BlockHeader] = deque(maxlen=MAIL)
        self._bell = asyncio.Event()
        self._moved = self._heard = self._checked = time.monotonic()
        self._told, self._told_at, self._failure = "", -math.inf, ""
        self._held: BlockHeader | None = None  # could not be joined yet for want of a block, tried again at _again
        self._again = math.inf
        self._asked = self._linked = False
        self.counts: Counter[str] = Counter()

    @property
    def tip(self) -> Head | None:
        """The newest canonical block, None before the first; ahead of the event at hand while a gap is delivered."""
        return self._ring.tip

    @property
    def refusal(self) -> str | None:
        """Why nothing may be sent now (stale, clock, lagging), in words; None when the heads may be acted on."""
        return self._told or None

    def nodes(self) -> tuple[NodeHealth, ...]:
        """Return each node as last asked."""
        return self._nodes.health

    def usable(self) -> tuple[Rpc, ...]:
        """Return the clients that may be used for nonce, snapshot or send: of the nodes that do not lag."""
        return self._nodes.usable()

    def at(self, number: int) -> Head | None:
        """Return the canonical block of a number among the newest 512, None for another."""
        return self._ring.at(number)

    async def __aiter__(self) -> AsyncIterator[HeadEvent]:
        """Yield every event, for ever; leave the loop, or close the generator, to end the connections."""
        listening = asyncio.create_task(self._listen()) if self._ws is not None else None
        try:
            self._asked = True
            while True:
                for event in await self._next():
                    yield event
        finally:
            if listening is not None:
                listening.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await listening
            self._nodes.close()

    async def _next(self) -> list[HeadEvent]:
        """Wait for an announcement or the time to ask; return what it changed."""
        if not self._mail and not self._asked:
            with contextlib.suppress(TimeoutError):  # wait_for would lose a cancellation that comes with the bell
                async with asyncio.timeout(max(self._due() - time.monotonic(), 0.0)):
                    await self._bell.wait()
        self._bell.clear()
        events: list[HeadEvent] = []
        if self._mail:
            events += await self._take(self._mail.popleft())
        elif self._asked or time.monotonic() >= self._due():
            self._asked = False
            events += await self._ask()
        return events + self._verdict_told()

    def _due(self) -> float:
        """Return when the nodes are asked next, monotonic seconds."""
        p = self._pace
        regular = self._checked + (p.check_s if self._linked else p.poll_s)
        return min(regular, max(self._moved + p.silence_s, self._checked + p.poll_s), self._again)

    async def _ask(self) -> list[HeadEvent]:
        self.counts["asked"] += 1
        held, self._held, self._again = self._held, None, math.inf
        events = await self._take(held) if held is not None else []
        try:
            found = await asyncio.to_thread(self._nodes.latest, self._ring.tip)
            self._failure = ""
        except RpcError as error:
            self.counts["unanswered"] += 1
            self._failure = f"; {error}"
            return events
        finally:
            self._checked = time.monotonic()
        return events + await self._take(found)

    async def _take(self, header: BlockHeader) -> list[HeadEvent]:
        try:
            if self._ring.extends(header):
                moves = self._ring.take(header, self._nodes)
            else:
                moves = await asyncio.to_thread(self._ring.take, header, self._nodes)
        except RpcError as error:  # a block the nodes do not have yet: the ring is as it was, and it is tried again
            self.counts["unread"] += 1
            self._failure = f"; {error}"
            self._held, self._again = header, time.monotonic() + self._pace.retry_s
            return []
        if moves:
            self._moved = time.monotonic()
        for move in moves:
            self.counts[type(move).__name__.lower()] += 1
        self.counts["duplicate"] += not moves
        return list(moves)

    def _verdict_told(self) -> list[HeadEvent]:
        """Return the verdict to be told now: a new one at once, a standing one again after every silence."""
        now, age = time.monotonic(), time.monotonic() - self._moved
        reason = self._verdict(age) or ""
        same = reason.split(":")[0] == self._told.split(":")[0]
        self._told = reason
        if not reason or (same and now - self._told_at < self._pace.silence_s):
            return []
        self._told_at = now
        return [Stale(age, reason)]

    def _verdict(self, age_s: float) -> str | None:
        """Return why the heads may not be acted on, None when they may."""
        tip = self._ring.tip
        if tip is None or age_s >= self._pace.silence_s:
            return f"stale: no new head for {age_s:.0f} s{self._failure}"
        off = tip.timestamp_s - self._clock()
        if off > AHEAD_S:
            return f"clock: block {tip.number} is dated {off:.0f} s ahead of this machine's clock"
        if off < -BEHIND_S:
            return f"clock: block {tip.number} is dated {-off:.0f} s behind this machine's clock"
        if self._nodes.health and not self._nodes.usable():
            return f"lagging: no node answers within {LAG} blocks of the newest head"
        return None

    async def _listen(self) -> None:
        """Keep a subscription alive for ever; each loss is followed by a question over HTTP and a longer wait."""
        assert self._ws is not None
        wait = self._pace.first_wait_s
        while True:
            got = self.counts["announced"]
            with contextlib.suppress(OSError, TimeoutError, ValueError, RpcError, websockets.WebSocketException):
                await self._subscription(self._ws)
            self.counts["lost"] += 1
            self._linked = False
            self._asked = True
            self._bell.set()
            if self.counts["announced"] > got:
                wait = self._pace.first_wait_s
            await asyncio.sleep(random.uniform(0.0, wait))
            wait = min(2 * wait, self._pace.last_wait_s)

    async def _subscription(self, url: str) -> None:
        p = self._pace
        async with asyncio.timeout(p.bound_s):
            socket = await connect(url, open_timeout=p.bound_s, close_timeout=1.0)
        try:
            async with asyncio.timeout(p.bound_s):
                await _subscribe(socket)
            self.counts["connected"] += 1
            self._linked = self._asked = True  # the gap since the last connection is closed at once
            self._bell.set()
            self._heard = time.monotonic()
            while True:
                left = self._heard + p.silence_s - time.monotonic()
                async with asyncio.timeout(max(left, 0.001)):
                    message = await socket.recv()
                self._announce(message)
        finally:
            socket.transport.abort()  # a server that is silent does not answer a goodbye either
            await socket.wait_closed()

    def _announce(self, message: str | bytes) -> None:
        body = fields(parsed(message), "a websocket message")
        if not body.has("params"):
            return
        params = fields(body.raw["params"], "eth_subscription")
        header = read_head(params.raw.get("result"), "newHeads")
        self.counts["announced"] += 1
        known = self._ring.at(header.number)
        if known is None or known.hash != header.hash:
            self._heard = time.monotonic()  # a block repeated for ever is silence
        self._mail.append(header)
        self._bell.set()


async def _subscribe(socket: ClientConnection) -> None:
    await socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}))
    while True:
        body = fields(parsed(await socket.recv()), "eth_subscribe")
        if body.raw.get("id") != 1:
            continue
        if not isinstance(body.raw.get("result"), str):
            raise RpcError("eth_subscribe: the node refuses newHeads")
        return
