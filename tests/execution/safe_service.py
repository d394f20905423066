"""The Safe transaction service as a local HTTP server: what it is documented to take, to answer and to refuse."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REQUIRED = {"contractTransactionHash", "nonce", "operation", "safe", "sender", "to", "value"}
REQUIRED |= {"baseGas", "gasPrice", "safeTxGas"}


class Service:
    """What is proposed, by hash, with its confirmations; ``down`` answers 503, ``junk`` something else than JSON."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.proposed: dict[str, dict] = {}
        self.keys: list[str | None] = []
        self.down = self.junk = False

    def confirm(self, safe_hash: str, owner: str, signature: bytes) -> None:
        self.proposed[safe_hash]["confirmations"].append({"owner": owner, "signature": "0x" + signature.hex()})


@contextmanager
def safe_service() -> Iterator[Service]:
    """Run the service for the length of a ``with`` block."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def _answer(self, status: int, body: object) -> None:
            raw = b"<html>" if service.junk else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            service.keys.append(self.headers.get("Authorization"))
            if service.down:
                return self._answer(503, {})
            if self.path != f"/api/v2/safes/{body.get('safe')}/multisig-transactions/" or REQUIRED - set(body):
                return self._answer(422, {"code": 1, "message": "Invalid data"})
            service.proposed.setdefault(body["contractTransactionHash"], {**body, "confirmations": []})
            return self._answer(201, {})

        def do_GET(self) -> None:
            found = service.proposed.get(self.path.split("/")[-2])
            if service.down:
                return self._answer(503, {})
            return self._answer(200 if found else 404, found or {"detail": "Not found."})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service = Service(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
