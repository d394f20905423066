"""The websocket face of the local node: ``newHeads`` and ``logs`` by subscription, everything else as over HTTP.

Announcements go through the faults in force: connections end, fall silent or hang, heads come twice, swapped, late,
from a node that is behind, or dated otherwise. Logs of blocks that a reorganisation undid are sent again as removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import WebSocketException

from lake.answers import quantity
from policy.localnet.faults import CONNECT, Fault, FaultKind, Faults

KEPT = 512
"""Announcements remembered: for lagging heads and the logs of what is undone."""
SEND_S = 1.0
_FULL_BLOCK = frozenset({"transactions", "uncles", "withdrawals", "size"})

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Announcement:
    """One canonical block: its header and logs as the node sends them."""

    header: Json
    logs: Sequence[Json]


@dataclass(slots=True)
class _Client:
    socket: ServerConnection
    heads: set[str] = field(default_factory=set)
    logs: dict[str, Json] = field(default_factory=dict)  # filter by subscription


class SocketFace:
    """Serves subscriptions on a loopback port from a thread of its own until :meth:`close`."""

    def __init__(self, answer: Callable[[bytes], bytes], faults: Faults, port: int = 0) -> None:
        self._answer, self._faults = answer, faults
        self._clients: list[_Client] = []
        self._recent: OrderedDict[int, Announcement] = OrderedDict()
        self._waiting: list[tuple[int, Announcement]] = []  # announcements to let pass first, what then follows
        self._silent = 0
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._queue: asyncio.Queue[Announcement | None] = asyncio.Queue()
        self._failed: list[BaseException] = []
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(port, started), daemon=True)
        self._thread.start()
        started.wait()
        if self._failed:
            raise self._failed[0]

    @property
    def wanted(self) -> bool:
        """Whether anybody is connected."""
        return bool(self._clients)

    def announce(self, header: Json, logs: Sequence[Json]) -> None:
        """Announce a canonical block to every subscriber, from any thread."""
        head = {k: v for k, v in header.items() if k not in _FULL_BLOCK}
        self._loop.call_soon_threadsafe(self._queue.put_nowait, Announcement(head, tuple(logs)))

    def close(self) -> None:
        """End all connections."""
        self._loop.call_soon_threadsafe(self._queue.put_nowait, None)
        self._thread.join(timeout=5)

    def _serve(self, port: int, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._run(port, started))
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        except OSError as error:
            self._failed.append(error)
        finally:
            started.set()
            self._loop.close()

    async def _run(self, port: int, started: threading.Event) -> None:
        quiet = logging.getLogger(__name__)
        quiet.setLevel(logging.CRITICAL)  # a connection that breaks in the middle is what its faults are for
        server = await serve(self._handle, "127.0.0.1", port, close_timeout=0.2, logger=quiet)
        self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        while (announcement := await self._queue.get()) is not None:
            for one in self._struck(announcement):
                await self._send(one)
        for client in self._clients:
            client.socket.transport.abort()
        server.close()
        await server.wait_closed()

    async def _handle(self, socket: ServerConnection) -> None:
        fault = self._faults.strike(CONNECT, socket=True)
        if fault is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(socket.wait_closed(), fault.hold_s)
            socket.transport.abort()
            return
        client = _Client(socket)
        self._clients.append(client)
        try:
            async for message in socket:
                await socket.send(await self._reply(client, message))
        except WebSocketException:
            pass
        finally:
            self._clients.remove(client)

    async def _reply(self, client: _Client, message: str | bytes) -> str:
        request = json.loads(message)
        if isinstance(request, dict) and request.get("method") in {"eth_subscribe", "eth_unsubscribe"}:
            return json.dumps({"jsonrpc": "2.0", "id": request.get("id"), **_subscription(client, request)})
        body = message.encode() if isinstance(message, str) else message
        return (await asyncio.to_thread(self._answer, body)).decode()

    def _struck(self, announcement: Announcement) -> list[Announcement]:
        """Return what is sent now, in order, after the faults in force."""
        number = quantity(announcement.header["number"])
        undone = [n for n in self._recent if n >= number]
        removed = [
            Announcement({}, [{**log, "removed": True} for log in self._recent.pop(n).logs]) for n in undone[::-1]
        ]
        self._recent[number] = announcement
        while len(self._recent) > KEPT:
            self._recent.popitem(last=False)
        if self._silent:
            self._silent -= 1
            return []
        fault = self._faults.strike("newHeads", socket=True) if self._clients else None
        out = removed + ([announcement] if fault is None else self._faulty(fault, announcement))
        self._waiting = [(left - 1, a) for left, a in self._waiting]
        out += [a for left, a in self._waiting if left < 0]
        self._waiting = [(left, a) for left, a in self._waiting if left >= 0]
        return out

    def _faulty(self, fault: Fault, announcement: Announcement) -> list[Announcement]:
        if fault.kind is FaultKind.DROP:
            for client in self._clients:
                client.socket.transport.abort()
            return []
        if fault.kind is FaultKind.STALL:
            self._silent = fault.blocks
            return []
        if fault.kind in {FaultKind.SWAP, FaultKind.LATE}:
            self._waiting.append((1 if fault.kind is FaultKind.SWAP else fault.blocks, announcement))
            return []
        if fault.kind is FaultKind.LAGGING:
            kept = deque(self._recent.values(), fault.blocks + 1)
            return [kept[0]]
        if fault.kind is FaultKind.SKEW:
            return [Announcement(skewed(announcement.header, fault.skew_s), announcement.logs)]
        return [announcement, announcement]

    async def _send(self, announcement: Announcement) -> None:
        for client in list(self._clients):
            messages = [(name, announcement.header) for name in client.heads if announcement.header]
            messages += [
                (n, log) for n, want in client.logs.items() for log in announcement.logs if _matches(log, want)
            ]
            for name, result in messages:
                body = {
                    "jsonrpc": "2.0",
                    "method": "eth_subscription",
                    "params": {"subscription": name, "result": result},
                }
                try:
                    await asyncio.wait_for(client.socket.send(json.dumps(body)), SEND_S)
                except (WebSocketException, TimeoutError):
                    client.socket.transport.abort()


def skewed(header: Json, seconds: int) -> dict[str, object]:
    """Return a header as of a node whose blocks are dated ``seconds`` later."""
    return {**header, "timestamp": hex(max(0, quantity(header["timestamp"]) + seconds))}


def _subscription(client: _Client, request: Json) -> dict[str, object]:
    params = request.get("params")
    kind, *more = params if isinstance(params, list) and params else ("",)
    if request["method"] == "eth_unsubscribe":
        found = kind in client.heads or kind in client.logs
        client.heads.discard(kind)
        client.logs.pop(kind, None)
        return {"result": found}
    name = "0x" + secrets.token_hex(16)
    if kind == "newHeads":
        client.heads.add(name)
    elif kind == "logs":
        client.logs[name] = more[0] if more and isinstance(more[0], dict) else {}
    else:
        return {"error": {"code": -32_602, "message": f"no subscription {kind!r}; there are newHeads and logs"}}
    return {"result": name}


def _matches(log: Json, want: Json) -> bool:
    """Return whether a log fits a filter of ``address`` (one or several) and ``topics`` (each one, several or null)."""
    address, topics = want.get("address"), want.get("topics") or []
    own = log["topics"]
    if not isinstance(topics, list) or not isinstance(own, list) or len(topics) > len(own):
        return False
    pairs = [(address, log["address"]), *zip(topics, own, strict=False)]
    return all(ask is None or str(has).lower() in _either(ask) for ask, has in pairs)


def _either(ask: object) -> set[str]:
    return {str(a).lower() for a in ask} if isinstance(ask, list) else {str(ask).lower()}
