"""The RPC seam: reads are repeated, writes never, fallbacks serve, nothing leaks."""

from __future__ import annotations

import http.server
import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import ConfigError, RpcError
from lake.evm import Call, at_block, calldata, read, split_types, try_read
from lake.rpc import READS, FakeTransport, HttpTransport, Rpc, Unreachable, mask, quantity

KEY = "s3cr3tk3y"
A, B = f"https://a.example/v2/{KEY}", f"https://user:{KEY}@b.example/?k={KEY}"


def rpc(answers, urls=A, **options):
    transport = FakeTransport(answers)
    return Rpc(urls, transport=transport, sleep=lambda _: None, **options), transport


def test_a_read_survives_named_failures():
    node, seen = rpc({"eth_blockNumber": [Unreachable("timeout"), RpcError("limit", -32005), "0x10"]})
    assert node.call("eth_blockNumber") == "0x10"
    assert len(seen.seen) == 3


def test_retries_are_bounded_in_tries_and_in_time():
    node, seen = rpc({"eth_blockNumber": Unreachable("timeout")}, tries=3)
    with pytest.raises(RpcError, match="3 tries"):
        node.call("eth_blockNumber")
    assert len(seen.seen) == 3
    slept = []
    node = Rpc(A, transport=FakeTransport({"eth_call": Unreachable("x")}), patience=0.0, tries=9, sleep=slept.append)
    with pytest.raises(RpcError):
        node.call("eth_call")
    assert slept == []


@pytest.mark.parametrize("method", ["eth_sendRawTransaction", "eth_sendPrivateTransaction", "evm_mine", "anything"])
def test_a_write_is_sent_once_to_one_node(method):
    node, seen = rpc({method: Unreachable("lost")}, urls=[A, B])
    with pytest.raises(RpcError, match="look it up") as caught:
        node.call(method, ["0x00"])
    assert caught.value.code is None
    assert len(seen.seen) == 1


def test_an_answer_of_the_node_is_final():
    refusal = RpcError("execution reverted", 3, "0xdead")
    node, seen = rpc({"eth_call": refusal})
    with pytest.raises(RpcError, match="execution reverted") as caught:
        node.call("eth_call", [{}, "latest"])
    assert (caught.value.code, caught.value.data) == (3, "0xdead")
    assert len(seen.seen) == 1


def test_a_fallback_serves_reads_when_the_first_is_down():
    class Split(FakeTransport):
        def post(self, url, body, timeout):
            if url == A:
                raise Unreachable("down")
            return super().post(url, body, timeout)

    node = Rpc([A, B], transport=Split({"eth_chainId": "0x1"}), sleep=lambda _: None)
    assert node.call("eth_chainId") == "0x1"


def test_a_wrong_chain_is_noticed_on_every_node_even_a_fallback():
    class Two(FakeTransport):
        def post(self, url, body, timeout):
            if url == A and body["method"] != "eth_chainId":
                raise Unreachable("down")
            self.answers = {"eth_chainId": "0x1" if url == A else "0xa", "eth_blockNumber": "0x5"}
            return super().post(url, body, timeout)

    node = Rpc([A, B], transport=Two({}), sleep=lambda _: None)
    with pytest.raises(RpcError, match="serves chain id 10, required is 1"):
        node.expect_chain(1)
    moved, _ = rpc({"eth_chainId": ["0x1", "0x1", "0x1", "0x2"]})
    moved.expect_chain(1)
    assert moved.call("eth_chainId") == "0x1"
    with pytest.raises(RpcError, match="serves chain id 2, required is 1"):
        moved.call("eth_chainId")
    late, _ = rpc({"eth_chainId": [Unreachable("down"), Unreachable("down"), "0x2"], "eth_blockNumber": "0x1"}, tries=2)
    with pytest.raises(RpcError, match="no node answered"):
        late.expect_chain(1)
    with pytest.raises(RpcError, match="chain id 2"):
        late.call("eth_blockNumber")


def test_no_key_in_any_text():
    node, _ = rpc({"eth_call": Unreachable("down")}, urls=[A, B])
    with pytest.raises(RpcError) as caught:
        node.call("eth_call")
    assert KEY not in repr(node) + str(caught.value) + repr(caught.value)
    with pytest.raises(ConfigError) as wrong:
        Rpc(f"ftp://{KEY}@x/{KEY}")
    assert KEY not in str(wrong.value)


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=8, max_size=20))
def test_masking_keeps_only_scheme_and_host(key):
    secret = "zz" + key
    masked = mask(f"https://{secret}:{secret}@node.example:8545/{secret}?k={secret}")
    assert secret.lower() not in masked.lower()
    assert "node.example:8545" in masked


def test_a_batch_keeps_its_order_and_reports_single_errors():
    class Shuffled(FakeTransport):
        def post(self, url, body, timeout):
            return list(reversed(super().post(url, body, timeout)))

    node = Rpc(A, transport=Shuffled({"eth_getBalance": lambda a, _t: a, "eth_call": RpcError("no", 3, "0x")}))
    assert node.batch([("eth_getBalance", [hex(i), "latest"]) for i in range(250)]) == [hex(i) for i in range(250)]
    mixed = node.batch([("eth_getBalance", ["0x1", "latest"]), ("eth_call", [{}, "latest"])], errors=True)
    assert mixed[0] == "0x1"
    assert isinstance(mixed[1], RpcError)
    with pytest.raises(RpcError):
        node.batch([("eth_call", [{}, "latest"])])
    with pytest.raises(ConfigError, match="eth_sendRawTransaction"):
        node.batch([("eth_sendRawTransaction", ["0x"])])


def test_nothing_that_changes_a_node_is_called_a_read():
    assert not [m for m in READS if "send" in m.lower() or m.startswith(("evm_", "anvil_", "personal_", "debug_"))]


@pytest.mark.parametrize("nonsense", [None, 5, "12", "0xzz", {"a": 1}])
def test_a_quantity_is_hex(nonsense):
    with pytest.raises(RpcError, match="hex quantity"):
        quantity(nonsense)


def test_a_missing_answer_in_a_batch_is_no_answer():
    class Short(FakeTransport):
        def post(self, url, body, timeout):
            made = super().post(url, body, timeout)
            return made[:-1] if isinstance(made, list) else {}

    node = Rpc(A, transport=Short({"eth_call": "0x"}), sleep=lambda _: None)
    with pytest.raises(RpcError, match="answers missing"):
        node.batch([("eth_call", []), ("eth_call", [])])


@pytest.fixture
def web():
    """A web server that plays (status, body) pairs and logs the requests."""
    plays, seen = [], []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            status, body = plays.pop(0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{KEY}", plays, seen
    server.shutdown()
    server.server_close()


def test_over_http(web):
    url, plays, seen = web
    plays += [
        (429, b"slow down"),
        (502, b"<html>"),
        (200, b'{"jsonrpc": "2.0", "id'),
        (200, b'{"jsonrpc":"2.0","id":4,"result":"0x7"}'),
    ]
    node = Rpc(url, transport=HttpTransport(), sleep=lambda _: None)
    assert node.call("eth_blockNumber") == "0x7"
    assert [s["method"] for s in seen] == ["eth_blockNumber"] * 4
    plays += [(401, b"who are you")]
    with pytest.raises(RpcError, match="401") as caught:
        node.call("eth_blockNumber")
    assert KEY not in str(caught.value)
    plays += [(400, b'{"jsonrpc":"2.0","id":6,"error":{"code":-32602,"message":"bad"}}')]
    with pytest.raises(RpcError, match="bad"):
        node.call("eth_blockNumber")
    dead = Rpc("http://127.0.0.1:9/" + KEY, timeout=0.5, tries=2, sleep=lambda _: None)
    with pytest.raises(RpcError, match="NewConnectionError") as refused:
        dead.call("eth_blockNumber")
    assert KEY not in str(refused.value)


def test_views_are_encoded_and_decoded():
    data = calldata("f(uint256,(address,uint24)[],bytes)", 1, [("0x" + "11" * 20, 5)], b"xy")
    assert len(data) == 4 + 32 * 3 + (32 + 64) + 64  # three heads, an array of one pair, two bytes
    assert split_types("uint256,(address,uint24)[],bytes") == ["uint256", "(address,uint24)[]", "bytes"]
    assert split_types("") == []
    assert at_block(16) == "0x10"
    assert at_block("0x" + "ab" * 32) == {"blockHash": "0x" + "ab" * 32, "requireCanonical": True}
    node, seen = rpc({"eth_call": ["0x" + f"{7:064x}" + f"{9:064x}", "0x", RpcError("reverted", 3, "0x08")]})
    view = Call("0x" + "22" * 20, "pair()", "uint256,uint8")
    assert read(node, [view], "0x" + "cd" * 32) == [(7, 9)]
    assert seen.seen[0][2][1]["blockHash"] == "0x" + "cd" * 32
    empty, reverted = (try_read(node, [view])[0] for _ in range(2))
    assert "answered nothing" in str(empty)
    assert reverted.data == "0x08"
    short, _ = rpc({"eth_call": "0x0123"})
    with pytest.raises(RpcError, match="which is not"):
        read(short, [view])
