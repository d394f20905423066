"""Nodes that refuse for now, refuse by size, lag, or send odd JSON: retried within bounds, or one error in words."""

from __future__ import annotations

import itertools
import json

import pytest

from lake.answers import Fields, data, fields, log_of, quantity, rows, share
from lake.errors import RpcError, SourceError
from lake.evm import head_of, read_head, read_logs
from lake.rpc import FakeTransport, Rpc, Unreachable
from lake.sources.blocks import fee_history
from tests.lake.played_http import PlayedHttp

A, B = "https://a.example/key", "https://b.example/key"
HASH, PARENT = "0x" + "ab" * 32, "0x" + "cd" * 32
HEADER = {
    "number": "0x10",
    "hash": HASH,
    "parentHash": PARENT,
    "timestamp": "0x6553f100",
    "baseFeePerGas": "0x7",
    "gasUsed": "0x5208",
    "gasLimit": "0x1c9c380",
}
WRONG = [None, "", "0x", "0xzz", "0x_1", "-0x1", "1", 1, 1.5, True, [], {}, "0x" + "f" * 200, "0x" + "f" * 64, "\x00"]


def rpc(answers, urls=A, **options):
    transport = FakeTransport(answers)
    slept: list[float] = []
    return Rpc(urls, transport=transport, sleep=slept.append, **options), transport, slept


def over_http(plays, urls=A, **options):
    """A client whose HTTP answers are played: (status, headers, text of the body or function of the request)."""
    seen, slept = [], []

    def serve(url: str, sent: bytes) -> tuple[int, dict[str, str], bytes]:
        body = json.loads(sent)
        seen.append((url, body))
        status, headers, text = plays(url, body) if callable(plays) else plays.pop(0)
        return status, headers, (text if isinstance(text, str) else json.dumps(text)).encode()

    return Rpc(urls, transport=PlayedHttp(serve), sleep=slept.append, **options), seen, slept


def result(body, value):
    return {"jsonrpc": "2.0", "id": body["id"], "result": value}


def test_a_rate_limit_at_the_chain_question_passes():
    calls = itertools.count()

    def node(url, body):
        return (429, {"Retry-After": "2"}, "slow down") if next(calls) == 0 else (200, {}, result(body, "0x1"))

    client, seen, slept = over_http(node)
    client.expect_chain(1)
    assert len(seen) >= 2
    assert 1.9 < slept[0] <= 2.6, "the wait the node asked for"


def test_a_wait_beyond_patience_is_said_and_the_next_node_asked_at_once():
    client, _, slept = over_http(lambda u, b: (429, {"Retry-After": "600"}, ""))
    with pytest.raises(RpcError, match="429.*to be asked again in (599|600) s"):
        client.call("eth_blockNumber")
    assert not slept

    def two(url, body):
        return (429, {"Retry-After": "600"}, "") if "a.example" in url else (200, {}, result(body, "0x5"))

    client, seen, slept = over_http(two, [A, B])
    assert client.call("eth_blockNumber") == "0x5"
    assert [u for u, _ in seen] == [A, B]
    assert not slept


@pytest.mark.parametrize("status", [408, 425, 429, 500, 501, 502, 503, 504, 520, 522, 530])
def test_every_passing_status_is_retried(status):
    client, seen, _ = over_http([(status, {}, "<html>"), (200, {}, {"jsonrpc": "2.0", "id": 2, "result": "0x5"})])
    assert client.call("eth_blockNumber") == "0x5"


@pytest.mark.parametrize(
    "words", ["header not found", "unknown block", "Block not found: 0x10", "no state available for"]
)
def test_a_node_that_lags_gives_way_to_the_next(words):
    client, seen, _ = rpc({"eth_call": [RpcError(words, -32000), "0x01"]}, [A, B])
    assert client.call("eth_call", [{}, "0x10"]) == "0x01"
    assert [u for u, _, _ in seen.seen] == [A, B]


def test_a_block_one_node_does_not_have_is_asked_of_the_next():
    client, seen, _ = rpc({"eth_getBlockByNumber": [None, HEADER]}, [A, B])
    assert head_of(client, 16).hash == HASH
    assert [u for u, _, _ in seen.seen] == [A, B]
    none, _, _ = rpc({"eth_getBlockByNumber": None}, [A, B])
    with pytest.raises(RpcError, match="no block 16"):
        head_of(none, 16)


@pytest.mark.parametrize("limit", [99, 50, 7, 1])
@pytest.mark.parametrize("refusal", ["object", "limit code", "413", "400", "short", "each"])
def test_a_batch_shrinks_until_the_node_takes_it(limit, refusal):
    def node(url, body):
        if isinstance(body, list) and len(body) > limit:
            told = {"code": -32600, "message": f"batch size {len(body)} too large, limit is {limit}"}
            return {
                "object": (200, {}, {"jsonrpc": "2.0", "id": None, "error": told}),
                "limit code": (200, {}, {"jsonrpc": "2.0", "id": None, "error": {**told, "code": -32005}}),
                "413": (413, {}, "<html>"),
                "400": (400, {}, "bad request"),
                "short": (200, {}, [result(b, b["params"][0]) for b in body[:limit]]),
                "each": (200, {}, [{"jsonrpc": "2.0", "id": b["id"], "error": told} for b in body]),
            }[refusal]
        answers = [result(b, b["params"][0]) for b in (body if isinstance(body, list) else [body])]
        return 200, {}, answers if isinstance(body, list) else answers[0]

    client, seen, slept = over_http(node)
    calls = [("eth_getBalance", [hex(i), "latest"]) for i in range(150)]
    assert client.batch(calls) == [hex(i) for i in range(150)]
    assert not slept, "a smaller batch needs no wait"
    asked = len(seen)
    assert client.batch(calls[:limit]) == [hex(i) for i in range(limit)]
    assert len(seen) - asked <= 2, "the size is kept"


def test_a_batch_of_a_hundred_refused_for_its_rate_waits_instead():
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32005, "message": "limit exceeded"}}
    calls = [("eth_getBalance", [hex(i), "latest"]) for i in range(3)]
    client, _, slept = over_http(lambda u, b: (200, {}, error), tries=3)
    with pytest.raises(RpcError, match="limit exceeded"):
        client.batch(calls)
    assert len(slept) == 2


ODD = [
    b"",
    b"nul",
    b"null",
    b"[]",
    b"5",
    b'"x"',
    b"[" * 2_000,
    b'{"id":[1],"result":1}',
    b'{"id":{"a":1}}',
    b"\xff\xfe",
]


@pytest.mark.parametrize("body", ODD, ids=range(len(ODD)))
def test_odd_bodies_are_errors_in_words(body):
    node = Rpc(A, transport=PlayedHttp(lambda *_: (200, {}, body)), sleep=lambda _: None, tries=2)
    with pytest.raises(RpcError, match=r"eth_\w+: no usable answer"):
        node.call("eth_blockNumber")
    with pytest.raises(RpcError):
        node.batch([("eth_blockNumber", [])] * 3)
    with pytest.raises(RpcError):
        node.expect_chain(1)
    with pytest.raises(RpcError, match="look it up"):
        node.call("eth_sendRawTransaction", ["0x"])


@pytest.mark.parametrize(
    "error", ["busy", 5, [], {"code": "x"}, {"code": True, "message": None}, {"data": {"data": 1}}]
)
def test_odd_error_objects_are_errors(error):
    answers = FakeTransport({})
    answers.post = lambda url, body, timeout: {"id": body["id"], "error": error}  # type: ignore[method-assign]
    with pytest.raises(RpcError):
        Rpc(A, transport=answers, sleep=lambda _: None, tries=2).call("eth_call", [])


@pytest.mark.parametrize("name", sorted(HEADER))
def test_every_field_of_a_head_is_checked(name):
    assert read_head(HEADER, 16).number == 16
    shorter = {k: v for k, v in HEADER.items() if k != name}
    for odd in [shorter, *({**HEADER, name: w} for w in WRONG if "ash" not in name or w != "0x" + "f" * 64)]:
        with pytest.raises(RpcError, match=f"block 16.*{name}"):
            read_head(odd, 16)
    with pytest.raises(RpcError, match="answered with block 17"):
        read_head({**HEADER, "number": "0x11"}, 16)
    with pytest.raises(RpcError, match="answered with block"):
        read_head(HEADER, PARENT)
    with pytest.raises(RpcError, match="which no block can"):
        read_head({**HEADER, "gasUsed": "0x1c9c381"}, "latest")


@pytest.mark.parametrize("odd", [w for w in WRONG if w != {}])
def test_readers_of_single_values_refuse_what_does_not_fit(odd):
    with pytest.raises(RpcError):
        quantity(odd, 10)
    if odd not in {"", "0x"} if isinstance(odd, str) else True:
        with pytest.raises(RpcError):
            fields(odd, "x")
    with pytest.raises(RpcError):
        rows(odd, "x", 1)
    with pytest.raises(RpcError):
        Fields("x", {"f": odd}).hash("f") if odd != "0x" + "f" * 64 else quantity(odd, 10)
    for wrong in (float("nan"), float("inf"), -1.0, True, "0.5", None):
        with pytest.raises(RpcError):
            share(wrong, "x")
    for wrong in ("0x0", "12", None, 5):
        with pytest.raises(RpcError):
            data(wrong)


def test_logs_are_checked_one_by_one():
    good = {"address": "0x" + "11" * 20, "topics": [HASH], "data": "0x", "blockNumber": "0x1", "transactionHash": HASH}
    assert log_of({**good, "topics": []}, "x")["topics"] == []
    found = read_logs(rpc({"eth_getLogs": lambda _: [good]})[0], {})
    assert found[0]["blockNumber"] == 1
    for name in good:
        for odd in [{k: v for k, v in good.items() if k != name}, {**good, name: 5}, {**good, name: None}]:
            with pytest.raises(RpcError):
                read_logs(rpc({"eth_getLogs": lambda _, odd=odd: [odd]})[0], {})
    with pytest.raises(RpcError, match="list"):
        read_logs(rpc({"eth_getLogs": None})[0], {})


HISTORY = {
    "oldestBlock": "0x10",
    "baseFeePerGas": ["0x7", "0x8"],
    "gasUsedRatio": [0.5],
    "reward": [["0x1", "0x2", "0x3"]],
}


@pytest.mark.parametrize("name", sorted(HISTORY))
@pytest.mark.parametrize("odd", [5, "0x", [], [None], [[]], {}, [{}], [float("nan")], [-1.0]])
def test_a_fee_history_out_of_shape_is_an_error(name, odd):
    def collect(answer):
        return fee_history(rpc({"eth_feeHistory": lambda *_: answer, "eth_getBlockByNumber": HEADER})[0], 16, 16)

    assert collect(HISTORY)[0].tips_wei == (1, 2, 3)
    if name == "reward" and odd == [None]:
        assert collect({**HISTORY, name: odd})[0].tips_wei is None
        return
    with pytest.raises(SourceError):
        collect({**HISTORY, name: odd})
    if name != "reward":
        with pytest.raises(SourceError):
            collect({k: v for k, v in HISTORY.items() if k != name})


def test_a_write_is_not_repeated_whatever_comes_back():
    for odd in (Unreachable("x"), RpcError("limit exceeded", -32005), RpcError("header not found", -32000)):
        client, seen, _ = rpc({"eth_sendRawTransaction": odd}, [A, B])
        with pytest.raises(RpcError):
            client.call("eth_sendRawTransaction", ["0x"])
        assert len(seen.seen) == 1
