"""A websocket that announces a generated chain's heads badly, and the nodes behind it as a transport."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from websockets.asyncio.server import ServerConnection, serve

from lake.heads import HeadEvent, HeadFollower, Pace
from lake.rpc import Rpc
from lake.transport import Unreachable
from tests.realtime.truth import TruthChain

QUICK = Pace(silence_s=0.15, poll_s=0.02, check_s=0.05, bound_s=0.2, first_wait_s=0.005, last_wait_s=0.05, retry_s=0.01)


@dataclass
class TruthNodes:
    """Transport over a chain: ``lag`` blocks behind by URL, ``down`` URLs do not answer."""

    chain: TruthChain
    lag: dict[str, int] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)

    def post(self, url: str, body: object, timeout: float) -> object:
        del timeout
        assert isinstance(body, dict)
        if url in self.down:
            raise Unreachable("ConnectError")
        result: object = None
        if body["method"] == "eth_getBlockByNumber":
            result = self.chain.at(max(self.chain.first, self.chain.height - self.lag.get(url, 0)))
        elif body["method"] == "eth_getBlockByHash":
            result = self.chain.blocks.get(body["params"][0])
        return {"jsonrpc": "2.0", "id": body["id"], "result": result}

    def rpcs(self, *urls: str) -> list[Rpc]:
        return [Rpc(u, transport=self) for u in urls or ("http://a.invalid",)]


@dataclass
class BadSocket:
    """Announces what it is given to every subscriber, through the faults in force (probability an announcement)."""

    rng: random.Random
    odds: dict[str, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    _open: list[ServerConnection] = field(default_factory=list)
    _held: list[str] = field(default_factory=list)
    _silent: int = 0

    async def handle(self, socket: ServerConnection) -> None:
        if self._struck("hang_connect"):
            await socket.wait_closed()  # a connection that answers nothing
            return
        with contextlib.suppress(Exception):
            ask = json.loads(await socket.recv())
            await socket.send(json.dumps({"jsonrpc": "2.0", "id": ask["id"], "result": "0x1"}))
            self._open.append(socket)
            await socket.wait_closed()

    async def announce(self, block: dict[str, str]) -> None:
        params = {"subscription": "0x1", "result": block}
        message = json.dumps({"jsonrpc": "2.0", "method": "eth_subscription", "params": params})
        if self._silent:
            self._silent -= 1
            return
        if self._struck("stall"):
            self._silent = 40
        elif self._struck("drop"):
            for socket in self._open:
                socket.transport.abort()
            self._open.clear()
        elif self._struck("nonsense"):
            await self._send('{"jsonrpc": "2.0", "method": "eth_subscription", "params": {"result": {"number": null}}}')
        elif self._struck("swap"):
            self._held.append(message)
        else:
            for _ in range(2 if self._struck("dup") else 1):
                await self._send(message)
            while self._held:
                await self._send(self._held.pop())

    async def _send(self, message: str) -> None:
        for socket in self._open:
            with contextlib.suppress(Exception):
                await socket.send(message)

    def _struck(self, fault: str) -> bool:
        hit = self.rng.random() < self.odds.get(fault, 0.0)
        self.counts[fault] += hit
        return hit


@asynccontextmanager
async def serving(socket: BadSocket) -> AsyncIterator[str]:
    async with serve(socket.handle, "127.0.0.1", 0, close_timeout=0.1) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def follow(follower: HeadFollower, book: Callable[[HeadEvent], None], until: Callable[[], bool]) -> None:
    """Book every event until ``until`` holds after one; TimeoutError after 20 s."""
    async with asyncio.timeout(20):
        events = aiter(follower)
        try:
            async for event in events:
                book(event)
                if until():
                    return
        finally:
            await events.aclose()
