"""The JSON-RPC face of the local node over HTTP: pool methods answered here, the rest passed on, faults on the way."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_keys.exceptions import BadSignature
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

from lake.errors import RpcError
from lake.rpc import quantity
from policy.localnet.bundles import HINTS, Backrun, LocalBundle, Shared
from policy.localnet.faults import Fault, FaultKind, Faults
from policy.localnet.mempool import REFUSED, PooledTx, decode
from policy.localnet.node import LocalNode
from policy.localnet.socket_face import SocketFace, skewed

SIGNATURE = "X-Flashbots-Signature"
_RELAY = frozenset(
    {
        "eth_sendBundle",
        "eth_cancelBundle",
        "eth_sendPrivateTransaction",
        "eth_cancelPrivateTransaction",
        "mev_sendBundle",
    }
)
_BLOCKS = frozenset({"eth_getBlockByHash", "eth_getBlockByNumber"})
_TAGS = frozenset({"latest", "pending", "safe", "finalized"})
_STATE = {
    **dict.fromkeys(("eth_call", "eth_getBalance", "eth_getCode", "eth_getTransactionCount", "eth_simulateV1"), 1),
    "eth_getStorageAt": 2,
}
"""Methods that read state, with the position of the block among their parameters."""
Params = Sequence[Any]


class _Hang(Exception):
    """The connection ends without an answer, after ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class _Status(Exception):
    """The answer is an HTTP status and a body that is no JSON-RPC."""

    def __init__(self, code: int, body: bytes = b"try again later") -> None:
        super().__init__(code)
        self.code, self.body = code, body


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that hang up: with faults in force they often do."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(cast("Any", request), client_address)


class Front:
    """Serves ``node`` on a loopback port (0: any free one) until :meth:`close`.

    With ``signed_relay`` the private and bundle methods demand the signature header relays demand; without it the
    header is still checked where it is sent.
    """

    def __init__(self, node: LocalNode, *, port: int = 0, signed_relay: bool = False) -> None:
        self.node = node
        self.faults = Faults()
        self.signed_relay = signed_relay
        self.kept_states: int | None = None  # blocks whose state this node still has; None: all, like an archive node
        self.refused: set[str] = set()  # methods this node does not have
        self.old_reads: list[str] = []  # methods that asked for a state it no longer has
        self.calls: dict[str, int] = {}
        self.shown: dict[int, Mapping[str, str]] = {}  # header fields shown in place of the node's, by block number
        self._socket: SocketFace | None = None
        self._own: dict[str, Callable[[Params], object]] = {
            "eth_sendRawTransaction": lambda p: node.submit(p[0]),
            "eth_sendTransaction": lambda p: node.sign_and_submit(p[0]),
            "eth_sendPrivateTransaction": self._private,
            "eth_cancelPrivateTransaction": lambda p: node.cancel_private(str(p[0]["txHash"])),
            "eth_sendBundle": self._bundle,
            "eth_cancelBundle": lambda p: node.cancel_bundles(str(p[0]["replacementUuid"])),
            "mev_sendBundle": self._shared_bundle,
            "eth_getTransactionCount": self._count,
            "eth_getTransactionByHash": self._transaction,
            "txpool_content": lambda _: self._content(),
            "evm_mine": lambda _: hex(node.mine().number),
            "anvil_mine": lambda p: node.mine(quantity(p[0]) if p else 1) and None,
            "evm_snapshot": lambda _: node.snapshot(),
            "evm_revert": lambda p: node.revert(str(p[0])),
            "anvil_reorg": lambda p: node.reorg(int(p[0])) and None,
        }
        self._server = _Server(("127.0.0.1", port), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def listen(self, port: int = 0) -> str:
        """Open the websocket face (``newHeads``, ``logs``, every other method) on a port; return its URL."""
        if self._socket is None:
            self._socket = SocketFace(lambda body: self.answer(body, {}), self.faults, port)
            self.node.watchers.append(self._announce)
        return self._socket.url

    def close(self) -> None:
        """Stop serving."""
        if self._socket is not None:
            self.node.watchers.remove(self._announce)
            self._socket.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    def answer(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Return the JSON answer to one HTTP body: a call or a batch."""
        request = json.loads(body)
        if isinstance(request, list):
            reply: object = [self._one(r, body, headers) for r in request]
        else:
            reply = self._one(request, body, headers)
        return json.dumps(reply).encode()

    def _one(self, request: Mapping[str, Any], body: bytes, headers: Mapping[str, str]) -> dict[str, object]:
        method, params = str(request["method"]), request.get("params") or []
        head = {"jsonrpc": "2.0", "id": request.get("id")}
        self.calls[method] = self.calls.get(method, 0) + 1
        fault = self.faults.strike(method)
        try:
            if fault is not None:
                return {**head, "result": self._faulty(fault, method, params, body, headers)}
            return {**head, "result": self._serve(method, params, body, headers)}
        except RpcError as error:
            return {**head, "error": {"code": error.code or REFUSED, "message": str(error), "data": error.data}}
        except (KeyError, IndexError, TypeError, ValueError) as error:
            return {**head, "error": {"code": -32_602, "message": f"invalid params: {type(error).__name__}: {error}"}}

    def _serve(self, method: str, params: Params, body: bytes, headers: Mapping[str, str]) -> object:
        if method in _RELAY:
            self._check_signature(body, headers)
        if method in self.refused:
            raise RpcError(f"the method {method} does not exist/is not available", -32_601)
        own = self._own.get(method)
        with self.node.lock:  # a reader must not see a block that is only being tried
            self._prune(method, params)
            result = own(params) if own is not None else self._pass(method, params)
        return self._header(result) if method in _BLOCKS and isinstance(result, dict) else result

    def _header(self, header: dict[str, object]) -> dict[str, object]:
        return {**header, **self.shown.get(quantity(header["number"]), {})} if self.shown else header

    def _announce(self, number: int) -> None:
        """Tell the websocket of a canonical block and its logs."""
        assert self._socket is not None
        if self._socket.wanted:
            header = self.node.admin.call("eth_getBlockByNumber", [hex(number), False])
            logs = self.node.admin.call("eth_getLogs", [{"fromBlock": hex(number), "toBlock": hex(number)}])
            self._socket.announce(
                self._header(cast("dict[str, object]", header)), cast("list[dict[str, object]]", logs)
            )

    def _prune(self, method: str, params: Params) -> None:
        """Refuse a read of a state older than the node keeps, in geth's words."""
        where = _STATE.get(method)
        if self.kept_states is None or where is None or len(params) <= where:
            return
        block = params[where]
        if isinstance(block, Mapping):
            header = self.node.admin.call("eth_getBlockByHash", [block["blockHash"], False])
            block = header["number"] if isinstance(header, dict) else "latest"
        if str(block).startswith("0x") and quantity(block) <= self.node.head().number - self.kept_states:
            self.old_reads.append(method)
            raise RpcError(f"missing trie node: the state of block {quantity(block)} is not available", -32_000)

    def _pass(self, method: str, params: Params) -> object:
        try:
            return self.node.admin.call(method, params)
        except RpcError as error:
            prefix = f"{method}: "
            raise RpcError(str(error).removeprefix(prefix), error.code or -32_603, error.data) from None

    def _faulty(self, fault: Fault, method: str, params: Params, body: bytes, headers: Mapping[str, str]) -> object:
        if fault.kind is FaultKind.TIMEOUT:
            raise _Hang(fault.hold_s)
        if fault.kind in {FaultKind.HTTP_429, FaultKind.HTTP_502}:
            raise _Status(int(fault.kind[-3:]))
        if fault.kind is FaultKind.PAGE:
            raise _Status(200, b"<!DOCTYPE html><html><body>Sign in</body></html>")
        if fault.kind is FaultKind.ERROR:
            raise RpcError(fault.message, fault.code)
        if fault.kind is FaultKind.WRONG_CHAIN:
            return hex(fault.chain_id) if method == "eth_chainId" else str(fault.chain_id)
        if fault.kind is FaultKind.LAGGING:
            return self._lagging(fault.blocks, method, params, body, headers)
        result = self._serve(method, params, body, headers)
        if fault.kind is FaultKind.SKEW:
            return skewed(result, fault.skew_s) if method in _BLOCKS and isinstance(result, dict) else result
        if fault.kind is FaultKind.LYING:
            return fault.change(method, params, result) if fault.change is not None else None
        raise _Hang(0.0) if fault.kind is FaultKind.LOST_REPLY else _Status(200, b'{"jsonrpc": "2.0", "id": 1, "resu')

    def _lagging(self, blocks: int, method: str, params: Params, body: bytes, headers: Mapping[str, str]) -> object:
        """Answer as a node that is ``blocks`` behind would."""
        if method not in {"eth_blockNumber", "eth_getTransactionReceipt", "eth_getTransactionByHash"} and not any(
            isinstance(p, str) and p in _TAGS for p in params
        ):
            return self._serve(method, params, body, headers)
        with self.node.lock:
            seen = max(0, self.node.head().number - blocks)
            if method == "eth_blockNumber":
                return hex(seen)
            old = [hex(seen) if isinstance(p, str) and p in _TAGS else p for p in params]
            result = self._serve(method, old, body, headers)
        number = result.get("blockNumber") if isinstance(result, dict) else None
        if not isinstance(number, str) or quantity(number) <= seen:
            return result
        return None if method != "eth_getTransactionByHash" else self._unmined(cast("dict[str, object]", result))

    @staticmethod
    def _unmined(tx: dict[str, object]) -> dict[str, object]:
        return {**tx, "blockHash": None, "blockNumber": None, "transactionIndex": None}

    def _check_signature(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Check ``address:signature`` over the hex keccak of the body, the header Flashbots defines."""
        given = headers.get(SIGNATURE) or headers.get(SIGNATURE.lower())
        if not given:
            if self.signed_relay:
                raise RpcError(f"signature required: no {SIGNATURE} header", -32_600)
            return
        address, _, signature = given.partition(":")
        message = encode_defunct(text="0x" + keccak(body).hex())
        try:
            signer = str(Account.recover_message(message, signature=signature))
        except (BadSignature, ValidationError, ValueError) as error:
            raise RpcError("invalid relay signature", -32_600) from error
        if signer.lower() != address.lower():
            raise RpcError("relay signature is of another address", -32_600)

    def _private(self, params: Params) -> object:
        ask = params[0]
        last = ask.get("maxBlockNumber")
        # Flashbots Protect: an unset maxBlockNumber means 25 blocks from now
        limit = quantity(last) if last else self.node.head().number + 25
        return self.node.submit(ask["tx"], private=True, max_block=limit)

    def _bundle(self, params: Params) -> object:
        ask = params[0]
        block = quantity(ask["blockNumber"])
        bundle = LocalBundle(
            tuple(decode(raw, private=True) for raw in ask["txs"]),
            block,
            block,
            frozenset(ask.get("revertingTxHashes") or ()),
            int(ask.get("minTimestamp") or 0),
            int(ask.get("maxTimestamp") or 2**63),
            ask.get("replacementUuid"),
        )
        return {"bundleHash": self.node.add_bundle(bundle)}

    def _shared_bundle(self, params: Params) -> object:
        """MEV-Share's bundle: one transaction with hints is shared, one that names a shared hash first back-runs it."""
        ask = params[0]
        first = quantity(ask["inclusion"]["block"])
        last = quantity(ask["inclusion"].get("maxBlock") or ask["inclusion"]["block"])
        body = ask["body"]
        hints = frozenset((ask.get("privacy") or {}).get("hints") or ())
        if len(body) == 1 and hints:
            return {"bundleHash": self.node.share(_shared(ask, hints, first, last))}
        rest = tuple(decode(part["tx"], private=True) for part in (body[1:] if "hash" in body[0] else body))
        if "hash" in body[0]:  # a part without "tx" further on is refused above: nothing lands before what is shared
            return {"bundleHash": self.node.backrun(Backrun(str(body[0]["hash"]), rest), first, last)}
        may_revert = frozenset(t.hash for t, part in zip(rest, body, strict=True) if part.get("canRevert"))
        return {"bundleHash": self.node.add_bundle(LocalBundle(rest, first, last, may_revert))}

    def _count(self, params: Params) -> object:
        tag = params[1] if len(params) > 1 else "latest"
        count = self._pass("eth_getTransactionCount", [params[0], "latest" if tag == "pending" else tag])
        if tag != "pending":
            return count
        sender = next((s for s in self.node.pool.senders() if s.lower() == str(params[0]).lower()), str(params[0]))
        return hex(self.node.pool.pending_nonce(sender, quantity(count)))

    def _transaction(self, params: Params) -> object:
        found = self._pass("eth_getTransactionByHash", params)
        waiting = self.node.pool.find(str(params[0])) if found is None else None
        return waiting.view() if waiting is not None else found

    def _content(self) -> object:
        pending: dict[str, dict[str, object]] = {}
        for tx in self.node.pool.public.values():
            pending.setdefault(tx.sender, {})[str(tx.nonce)] = tx.view()
        return {"pending": pending, "queued": {}}


def _shared(ask: Mapping[str, Any], hints: frozenset[str], first: int, last: int) -> Shared:
    """Return the transaction that ``ask`` shares; the refund goes to its sender where no other address is named."""
    if not hints <= HINTS:
        raise RpcError(f"unknown hints {sorted(hints - HINTS)}; known are {sorted(HINTS)}", -32_602)
    tx: PooledTx = decode(ask["body"][0]["tx"], private=True, max_block=last)
    validity = ask.get("validity") or {}
    percent = sum(int(r["percent"]) for r in validity.get("refund") or () if int(r["bodyIdx"]) == 0)
    named = validity.get("refundConfig") or [{"address": tx.sender, "percent": 100}]
    if not 0 <= percent <= 100 or len(named) != 1 or int(named[0]["percent"]) != 100:
        raise RpcError("a refund is 0 to 100 percent of the payment, to one address", -32_602)
    return Shared(tx, hints, percent, str(named[0]["address"]), first, last)


def _handler(front: Front) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """One connection."""

        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # head and body leave in one packet

        def do_POST(self) -> None:
            """Answer one JSON-RPC body."""
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                self._reply(200, front.answer(body, dict(self.headers)))
            except _Hang as hang:
                time.sleep(hang.seconds)
                self.close_connection = True
            except _Status as status:
                self._reply(status.code, status.body)

        def _reply(self, code: int, content: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing; calls are counted in ``front.calls``."""

    return Handler
