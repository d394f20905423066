"""Services that answer nonsense: brackets without end, numbers beyond any, other forms. Each is an error in words.

None of them may be taken for an absence, end a loop, or show an address that holds a key.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import websockets
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import ExecutionError, ForedriftError, RpcError, SourceError, SourceUnavailable
from lake.heads import HeadFollower
from lake.rpc import FakeTransport, Rpc, Unreachable
from lake.sources.http import client, get_json
from lake.transport import _retry_after
from pipelines.scheduled.chat import Chat, chatting
from policy.execution.auctions.order_books import UniswapXBook
from policy.execution.auctions.orders import Order, VenueKind
from policy.execution.bridges.across_api import AcrossApi, AcrossAsk
from policy.execution.bridges.attestations import CircleAttestations
from policy.execution.bridges.services import ServiceDown
from policy.execution.submission.channels import SignedRelay
from policy.execution.vaults.safe.service import SafeService
from tests.lake.played_http import PlayedHttp

DEEP = b"[" * 200_000
ASK = AcrossAsk("0x" + "01" * 20, "0x" + "02" * 20, 1, 10, 10**6)
SECRET = "s3cr3t"
SAFE = "0x" + "5a" * 20


def answering(body: bytes, status: int = 200, headers: dict[bytes, bytes] | None = None) -> httpx.MockTransport:
    return httpx.MockTransport(
        lambda _: httpx.Response(status, content=body, headers=list((headers or {}).items()))  # type: ignore[arg-type]
    )


def http_of(body: bytes) -> httpx.Client:
    return httpx.Client(transport=answering(body))


class Signer:
    address = "0x" + "11" * 20

    def sign_message(self, text: str) -> str:
        return "0x" + "00" * 65


def proposal() -> Any:
    return SimpleNamespace(safe_hash="0x" + "ab" * 32, owners=(SAFE,), plan=SimpleNamespace(vault=SAFE), safe_nonce=3)


def relay(body: bytes) -> object:
    made = SignedRelay(f"https://relay.example/{SECRET}", Signer())
    made._client = http_of(body)
    return made.call("eth_sendBundle", [])


def telegram(body: bytes) -> object:
    made = Chat("https://api.example", SECRET, (1,), {})
    made._http = http_of(body)
    return made.poll(0)


@dataclass(frozen=True)
class Asked:
    """A way to ask somebody else for JSON, and the error that an unusable answer must be."""

    ask: Callable[[bytes], object]
    error: type[ForedriftError]
    words: str


WAYS = {
    "a source": Asked(lambda b: get_json(client(answering(b)), "https://data.example/x"), SourceUnavailable, "data.ex"),
    "attestations": Asked(lambda b: CircleAttestations(client=http_of(b)).of(0, "0x1"), ServiceDown, "service"),
    "relayers' fees": Asked(lambda b: AcrossApi(client=http_of(b)).fees(ASK), ServiceDown, "service"),
    "fees": Asked(lambda b: CircleAttestations(client=http_of(b)).fee_pips(0, 6, 2_000), ServiceDown, "service"),
    "a Safe's service": Asked(
        lambda b: SafeService(f"https://safe.example/{SECRET}", transport=answering(b)).confirmations(proposal()),
        ExecutionError, "sent no list of signatures",
    ),
    "a relay": Asked(relay, RpcError, "relay.example"),
    "Telegram": Asked(telegram, ForedriftError, "Telegram"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("body", [DEEP, b"", b"<html>", b'{"a":', b"\xff\xfe"], ids=lambda b: repr(b[:6]))
def test_what_is_no_json_is_an_error_in_words_without_a_secret(way, body):
    with pytest.raises(WAYS[way].error, match=WAYS[way].words) as told:
        WAYS[way].ask(body)
    assert SECRET not in str(told.value)
    assert len(str(told.value)) < 400


@pytest.mark.parametrize("body", [b'{"x": 1}', b"[1, 2]", b'"text"', b"7", b'[{"finalityThreshold": 2000}]'])
@pytest.mark.parametrize("way", ["attestations", "fees", "a Safe's service", "Telegram"])
def test_json_of_another_form_is_never_an_absence_that_somebody_acts_on(way, body):
    try:
        found = WAYS[way].ask(body)
    except ForedriftError as told:
        assert SECRET not in str(told)  # noqa: PT017 - an answer that is taken is judged as well
    else:
        assert found in ({}, None, 0)
        assert way in {"a Safe's service", "fees"}


@pytest.mark.parametrize("fee", ["Infinity", "-Infinity", "1e999", "NaN", '"much"', "null", "[]"])
def test_a_fee_beyond_any_number_is_no_fee(fee):
    body = f'[{{"finalityThreshold": 2000, "minimumFee": {fee}}}]'.encode()
    with pytest.raises(ServiceDown, match="another form"):
        WAYS["fees"].ask(body)


@given(fee=st.integers(-5, 10_000), other=st.integers(0, 10_000))
def test_the_least_fee_of_the_asked_finality_is_taken_and_a_negative_one_is_none(fee, other):
    rows = [{"finalityThreshold": f, "minimumFee": m / 100} for f, m in ((2_000, fee), (1_000, other), (2_000, 9_999))]
    found = WAYS["fees"].ask(json.dumps(rows).encode())
    assert found == (min(fee, 9_999) if fee >= 0 else 9_999) or abs(found - fee) <= 1, "a fee is rounded up"


def test_an_order_that_is_on_chain_is_never_lost_to_what_its_book_answers():
    order = Order(
        VenueKind.DUTCH, SAFE, "0x" + "01" * 20, "0x" + "02" * 20, 10**18, 1_500 * 10**6, 1_700_000_600, 7, 100_000,
        1_510 * 10**6, 1_700_000_000, 1_700_000_300,
    )  # fmt: skip
    for body in (DEEP, b"", b"[]", b"null", b'{"hash": {"a": 1}}'):
        said = UniswapXBook("https://books.example/v2", 1, http_of(body)).publish(order, SAFE, b"\0" * 32)
        assert said.startswith("it answered with another order: ")
        assert len(said) < 400


@pytest.mark.parametrize(
    ("rows", "answered"),
    [
        ("[1]", False), ('[{"x": 1}]', False), ('[{"update_id": "x"}]', False), ("{}", True),
        ('[{"update_id": 5}]', True), ('[{"update_id": 1, "message": [1]}]', False),
    ],
)  # fmt: skip
def test_the_chat_outlives_any_update(rows, answered, monkeypatch):
    made = Chat("https://api.example", SECRET, (1,), {})
    made._http = http_of(b'{"ok": true, "result": ' + rows.encode() + b"}")
    real, enough, polls = made.poll, threading.Event(), []

    def poll(wait_s: int = 0) -> int:
        polls.append(wait_s)
        if len(polls) > 2:
            enough.set()
            time.sleep(0.05)
        return real(0)

    if not answered:
        with pytest.raises((ForedriftError, KeyError, TypeError, ValueError, AttributeError)):
            real(0)
    monkeypatch.setattr(made, "poll", poll)
    monkeypatch.setattr("pipelines.scheduled.chat.PAUSE_S", 0.0)
    with chatting(made):
        assert enough.wait(20), "one odd update must not end the chat"


@pytest.mark.parametrize(
    ("header", "wait_s"), [(b"7", 7.0), (b" 7 ", 7.0), (b"\xb2", 0.0), (b"soon", 0.0), (b"-3", 0.0), (b"", 0.0)]
)
def test_a_wait_that_a_server_asks_for_is_a_number_or_none(header, wait_s):
    answer = httpx.Response(429, headers=[(b"Retry-After", header)])
    assert _retry_after(answer.headers["Retry-After"]) == wait_s
    assert _retry_after(None) == 0.0
    with pytest.raises(SourceUnavailable) as told:
        get_json(client(answering(b"", 429, {b"Retry-After": header})), "https://data.example/x")
    assert told.value.args[0] == "data.example answered 429"


def test_a_date_to_wait_for_is_seconds_from_now_and_a_past_one_none():
    assert _retry_after("Fri, 31 Dec 9999 23:59:59 GMT") > 10**9
    assert _retry_after("Mon, 01 Jan 2001 00:00:00 GMT") == 0.0


@pytest.mark.parametrize(
    ("status", "body", "again", "too_much"),
    [
        (200, DEEP, True, False), (200, b"", True, False), (503, b"<html>", True, False),
        (404, b"<html>", False, False),
        (413, b"<html>", False, True), (400, b"{}", False, True), (429, b'{"error": {"code": 1}}', True, False),
        (500, b'{"error": {"code": 1}}', True, False),
    ],
)  # fmt: skip
def test_a_node_s_http_fault_says_whether_asking_again_may_help(status, body, again, too_much):
    transport = PlayedHttp(lambda *_: (status, {}, body))
    with pytest.raises(Unreachable, match=f"HTTP {status}") as told:
        transport.post(f"https://node.example/{SECRET}", {}, 1.0)
    assert (told.value.again, told.value.too_much) == (again, too_much)
    assert SECRET not in str(told.value)


def test_a_refusal_with_an_error_object_is_the_node_s_answer():
    body = b'{"jsonrpc": "2.0", "id": 1, "error": {"code": 3, "message": "reverted"}}'
    transport = PlayedHttp(lambda *_: (400, {}, body))
    assert transport.post("https://node.example", {}, 1.0) == json.loads(body)


@pytest.mark.parametrize(("status", "error"), [(418, SourceUnavailable), (404, SourceError), (403, SourceError)])
def test_a_source_that_refuses_is_told_apart_from_one_that_is_busy(status, error):
    with pytest.raises(error, match="data.example") as told:
        get_json(client(answering(b"{}", status)), f"https://data.example/x?key={SECRET}")
    assert type(told.value) is error
    assert SECRET not in str(told.value)


def head(number: int) -> dict[str, object]:
    return {
        "number": hex(number), "hash": "0x" + f"{number:064x}", "parentHash": "0x" + f"{number - 1:064x}",
        "timestamp": hex(1_700_000_000 + 12 * number), "baseFeePerGas": hex(10**9), "gasUsed": "0x1", "gasLimit": "0x2",
    }  # fmt: skip


def test_a_websocket_that_sends_brackets_without_end_is_a_lost_connection_and_is_opened_again():
    connections: list[int] = []

    async def serve(socket: websockets.ServerConnection) -> None:
        connections.append(1)
        await socket.recv()
        await socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "result": "0x1"}))
        await socket.send(DEEP.decode())
        await socket.wait_closed()

    async def follow() -> int:
        node = Rpc("https://node.example", transport=FakeTransport({"eth_getBlockByNumber": lambda *_: head(5)}))
        async with websockets.serve(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            follower = HeadFollower(f"ws://127.0.0.1:{port}", [node], clock=lambda: 1_700_000_060.0)
            listening = asyncio.ensure_future(follower._listen())
            for _ in range(300):
                await asyncio.sleep(0.01)
                if len(connections) > 1 or listening.done():
                    break
            assert not listening.done(), "the listener must outlive what it hears"
            listening.cancel()
        return len(connections)

    assert asyncio.run(follow()) > 1


def follower_of(ws: str | None = None) -> HeadFollower:
    node = Rpc("https://node.example", transport=FakeTransport({"eth_getBlockByNumber": lambda *_: head(5)}))
    return HeadFollower(ws, [node], clock=lambda: 1_700_000_060.0)


@pytest.mark.parametrize("ticks", range(6))
def test_a_follower_that_is_ended_while_a_block_is_announced_ends(ticks):
    async def cancelled_with_the_bell() -> bool:
        follower = follower_of()
        waiting = asyncio.ensure_future(follower._next())
        await asyncio.sleep(0.01)
        follower._bell.set()
        for _ in range(ticks):  # whether the bell is heard, or acted on as well
            await asyncio.sleep(0)
        over = waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting], timeout=20)
        return over or waiting.cancelled()

    assert asyncio.run(cancelled_with_the_bell())


@pytest.mark.parametrize("ticks", range(6))
def test_a_listener_that_is_ended_while_a_message_comes_ends(monkeypatch, ticks):
    async def cancelled_with_a_message() -> bool:
        mail: asyncio.Queue[str] = asyncio.Queue()
        mail.put_nowait(json.dumps({"id": 1, "result": "0x1"}))

        async def nothing(*_: object) -> None:
            """Do what nothing depends on."""

        async def connect(*_: object, **__: object) -> SimpleNamespace:
            transport = SimpleNamespace(abort=lambda: None)
            return SimpleNamespace(transport=transport, send=nothing, wait_closed=nothing, recv=mail.get)

        monkeypatch.setattr("lake.heads.connect", connect)
        follower = follower_of("ws://node.example")
        listening = asyncio.ensure_future(follower._listen())
        while not follower.counts["connected"]:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        mail.put_nowait("{}")
        for _ in range(ticks):
            await asyncio.sleep(0)
        listening.cancel()
        await asyncio.wait([listening], timeout=20)
        return listening.cancelled()

    assert asyncio.run(cancelled_with_a_message())
