"""A second node is asked where the first one is slow: the first answer counts, writes are sent once."""

from __future__ import annotations

import threading

import pytest

from lake.errors import RpcError
from lake.hedged import HUNG, HedgedTransport
from lake.rpc import Rpc
from lake.transport import Unreachable

A, B = "https://a.example/key", "https://b.example/key"


class Slow:
    """Nodes of which some do not answer before ``let_go``, and some fail; ``seen`` has what was asked of whom."""

    def __init__(self, *slow: str, failing: tuple[str, ...] = ()) -> None:
        self.slow, self.failing, self.seen = slow, failing, []
        self.let_go = threading.Event()

    def post(self, url, body, timeout):
        calls = body if isinstance(body, list) else [body]
        self.seen += [(url, call["method"]) for call in calls]
        if url in self.slow:
            self.let_go.wait(timeout)
            raise Unreachable("timeout")
        if url in self.failing:
            raise Unreachable("down")
        answers = [{"jsonrpc": "2.0", "id": c["id"], "result": "0x1" if url == A else "0x2"} for c in calls]
        return answers if isinstance(body, list) else answers[0]


def over(inner: Slow, **options) -> Rpc:
    return Rpc([A, B], 5.0, HedgedTransport([A, B], inner), sleep=lambda _: None, **options)


@pytest.fixture
def hung():
    inner = Slow(A)
    yield inner
    inner.let_go.set()


def test_a_node_that_answers_in_its_time_is_asked_alone():
    inner = Slow()
    assert [over(inner).call("eth_blockNumber") for _ in range(3)] == ["0x1"] * 3
    assert {url for url, _ in inner.seen} == {A}


def test_a_node_that_hangs_costs_a_read_no_more_than_asking_the_other(hung):
    node = over(hung)
    assert node.call("eth_getLogs", [{}]) == "0x2"
    assert node.batch([("eth_call", []), ("eth_gasPrice", [])]) == ["0x2", "0x2"]
    assert [url for url, _ in hung.seen] == [A, B, A, A, B, B]
    hung.seen.clear()
    assert node.call("eth_blockNumber") == "0x2"
    assert [url for url, _ in hung.seen] == [B], f"a node with {HUNG} open requests is asked second"


def test_writes_and_the_chain_id_are_asked_of_one_node_only(hung):
    node = Rpc([A, B], 0.05, HedgedTransport([A, B], hung), tries=1)
    for method in ("eth_sendRawTransaction", "eth_chainId"):
        with pytest.raises(RpcError):
            node.call(method)
    assert [url for url, _ in hung.seen] == [A, A]


def test_where_both_fail_the_read_has_no_answer_and_a_failure_is_followed_at_once():
    inner = Slow(failing=(A,))
    assert over(inner).call("eth_blockNumber") == "0x2"
    with pytest.raises(RpcError, match="no usable answer"):
        over(Slow(failing=(A, B))).call("eth_blockNumber")
    both = Slow(A, B)
    both.let_go.set()
    with pytest.raises(RpcError, match="timeout"):
        over(both, tries=2).call("eth_blockNumber")
