"""Relay requests as they go over the wire, and what answers and lost answers are taken for."""

from __future__ import annotations

import json

import httpx
import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_utils.crypto import keccak

from lake.errors import RpcError
from lake.rpc import FakeTransport, Rpc, Unreachable
from policy.execution.submission.channels import (
    BundleChannel,
    PrivateChannel,
    PublicChannel,
    ShareChannel,
    SignedRelay,
    classify,
)

RAW, HASH = b"\x02signed", "0x" + "ab" * 32
KEEPER = "0x" + "11" * 20


class AuthKey:
    """A throw-away relay identity."""

    def __init__(self) -> None:
        self._account = Account.create()
        self.address = self._account.address

    def sign_message(self, text: str) -> str:
        return "0x" + bytes(self._account.sign_message(encode_defunct(text=text)).signature).hex()


def relay(answer, seen: list):
    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    key = AuthKey()
    return SignedRelay("https://relay.example/secret-path", key, transport=httpx.MockTransport(handle)), key


OK = {"jsonrpc": "2.0", "id": 1, "result": HASH}


def test_the_header_is_signed_by_the_auth_key_over_the_exact_body():
    seen: list[httpx.Request] = []
    made, key = relay(OK, seen)
    assert PrivateChannel(made).send(RAW, HASH, 101, 120).taken is True
    (request,) = seen
    address, signature = request.headers["X-Flashbots-Signature"].split(":")
    text = "0x" + keccak(request.content).hex()
    assert Account.recover_message(encode_defunct(text=text), signature=signature) == address == key.address
    body = json.loads(request.content)
    assert body["method"] == "eth_sendPrivateTransaction"
    assert body["params"][0]["tx"] == "0x" + RAW.hex()
    assert body["params"][0]["maxBlockNumber"] == hex(120)


def test_a_bundle_targets_each_of_the_next_blocks_under_one_name():
    seen: list[httpx.Request] = []
    made, _ = relay(OK, seen)
    channel = BundleChannel(made, blocks=3)
    assert channel.send(RAW, HASH, 11, 50).taken is True
    assert channel.send(RAW, HASH, 49, 50).taken is True
    bodies = [json.loads(r.content) for r in seen]
    assert [int(b["params"][0]["blockNumber"], 16) for b in bodies] == [11, 12, 13, 49, 50]
    assert len({b["params"][0]["replacementUuid"] for b in bodies}) == 1
    channel.cancel(HASH)
    assert json.loads(seen[-1].content)["method"] == "eth_cancelBundle"


def test_mev_share_shows_only_its_hints_and_asks_for_the_refund():
    seen: list[httpx.Request] = []
    made, _ = relay(OK, seen)
    assert ShareChannel(made, ("hash",), 80, refund_to=KEEPER).send(RAW, HASH, 51, 60).taken is True
    bundle = json.loads(seen[0].content)["params"][0]
    assert bundle["privacy"]["hints"] == ["hash"]
    assert bundle["validity"]["refund"][0]["percent"] == 80
    assert bundle["validity"]["refundConfig"] == [{"address": KEEPER, "percent": 100}]
    assert [int(bundle["inclusion"][k], 16) for k in ("block", "maxBlock")] == [51, 60]
    ShareChannel(made).send(RAW, HASH, 51, 500)
    bundle = json.loads(seen[1].content)["params"][0]
    assert [int(bundle["inclusion"][k], 16) for k in ("block", "maxBlock")] == [51, 75]
    assert "refundConfig" not in bundle["validity"]


@pytest.mark.parametrize(
    ("answer", "taken"),
    [
        (httpx.ReadTimeout("late"), None),
        (httpx.ConnectError("down"), None),
        (httpx.Response(502, text="<html>"), None),
        ({"error": {"code": -32000, "message": "already known"}}, True),
        ({"error": {"code": -32000, "message": "nonce too low"}}, False),
        ({"error": {"code": -32000, "message": "replacement transaction underpriced"}}, False),
        ({"error": {"code": -32000, "message": "insufficient funds for gas * price + value"}}, False),
        ({"error": {"code": -32603, "message": "internal error"}}, None),
        ([1, 2], None),
    ],
)
def test_no_answer_is_unknown_never_failed(answer, taken):
    made, _ = relay(answer, [])
    reply = PrivateChannel(made).send(RAW, HASH, 1, 1)
    assert reply.taken is taken
    assert "secret-path" not in reply.text


def test_public_sends_once_and_reports_a_lost_answer_as_unknown():
    transport = FakeTransport({"eth_sendRawTransaction": Unreachable("read timed out")})
    reply = PublicChannel(Rpc("http://node", transport=transport)).send(RAW, HASH, 1, 9)
    assert reply.taken is None
    assert len(transport.seen) == 1
    good = FakeTransport({"eth_sendRawTransaction": HASH, "eth_sendPrivateTransaction": HASH})
    rpc = Rpc("http://node", transport=good)
    assert PublicChannel(rpc).send(RAW, HASH, 1, 9).taken
    assert PrivateChannel(rpc).send(RAW, HASH, 1, 9).taken
    assert good.seen[-1][2][0]["maxBlockNumber"] == "0x9"


def test_names_say_who_sees_the_transaction_and_nothing_prints_a_url():
    made, _ = relay(OK, [])
    assert "secret" not in repr(made)
    assert classify(RpcError("boom")).taken is None
    assert not PublicChannel.private
    assert PrivateChannel.private
    assert BundleChannel.private
    assert ShareChannel.private
