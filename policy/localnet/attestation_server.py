"""The local services behind HTTP, each in the form of the real one: what another process asks on local chains."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from lake.errors import ForedriftError
from policy.execution.bridges.services import NOT_FOUND, OK, ServiceDown
from policy.execution.checks.port_rules import FAST, FINAL
from policy.localnet.across_quotes import LocalQuotes
from policy.localnet.attester import LocalAttester

DOWN, WRONG = 503, 400
PIPS_A_BPS = 100
Answer = Callable[[str, str], tuple[int, Any]]
"""(method, path with its query) -> (status, JSON body)."""


@contextmanager
def serve_attester(attester: LocalAttester, port: int = 0) -> Iterator[str]:
    """Serve ``attester`` on 127.0.0.1:``port`` (0: any free one) for the length of a ``with`` block; yields its URL."""
    with _served(lambda method, target: answered(attester, method, target), port) as url:
        yield url


@contextmanager
def serve_quotes(quotes: LocalQuotes, port: int = 0) -> Iterator[str]:
    """Serve ``quotes`` in Across' form on 127.0.0.1:``port`` (0: any free one); yields its URL."""

    def answer(method: str, target: str) -> tuple[int, Any]:
        place = urlsplit(target)
        return quotes.answered(place.path, dict(parse_qsl(place.query))) if method == "GET" else (WRONG, {})

    with _served(answer, port) as url:
        yield url


@contextmanager
def _served(answer: Answer, port: int) -> Iterator[str]:
    class _Asked(BaseHTTPRequestHandler):
        """One request."""

        def do_GET(self) -> None:
            """Answer a question."""
            self._answer()

        def do_POST(self) -> None:
            """Take a request."""
            self._answer()

        def log_message(self, *_: object) -> None:
            """Say nothing on the terminal."""

        def _answer(self) -> None:
            status, body = answer(self.command, self.path)
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    server = ThreadingHTTPServer(("127.0.0.1", port), _Asked)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answered(attester: LocalAttester, method: str, target: str) -> tuple[int, Any]:
    """Return (status, JSON body) of one request; 400 where it is none of the service's."""
    place = urlsplit(target)
    try:
        match [method, *place.path.strip("/").split("/")]:
            case ["GET", "v2", "messages", domain]:
                return _messages(attester, int(domain), parse_qs(place.query).get("transactionHash", [""])[0])
            case ["GET", "v2", "burn", "USDC", "fees", origin, destination]:
                return OK, _fees(attester, int(origin), int(destination))
            case ["POST", "v2", "reattest", nonce]:
                attester.renew(bytes.fromhex(nonce.removeprefix("0x")))
                return OK, {}
            case _:
                return WRONG, {"error": "no such request"}
    except ServiceDown as error:
        return DOWN, {"error": str(error)}
    except (ForedriftError, ValueError, KeyError) as error:
        return WRONG, {"error": f"{error}"}


def _messages(attester: LocalAttester, domain: int, tx_hash: str) -> tuple[int, Any]:
    rows = [
        {
            "message": "0x" + m.message.hex(),
            "attestation": "0x" + m.signatures.hex() if m.signatures else "PENDING",
            "status": "complete" if m.signatures else "pending_confirmations",
        }
        for m in attester.of(domain, tx_hash)
    ]
    return (OK, {"messages": rows}) if rows else (NOT_FOUND, {"error": "no message of that transaction is known"})


def _fees(attester: LocalAttester, origin: int, destination: int) -> list[dict[str, float]]:
    offers = [(speed, attester.fee_pips(origin, destination, speed)) for speed in (FAST, FINAL)]
    return [{"finalityThreshold": s, "minimumFee": p / PIPS_A_BPS} for s, p in offers if p is not None]
