"""A node over HTTP that answers from a chain of blocks which grows as it is told to: for keepers that poll."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.realtime.head_server import TruthNodes
from tests.realtime.truth import TruthChain


@contextmanager
def http_node(chain: TruthChain, grow: Callable[[dict[str, Any]], None]) -> Iterator[str]:
    """Yield the address of a node on ``chain``; ``grow`` gets every question, one after another, before its answer."""
    truth, lock = TruthNodes(chain), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                grow(body)
                data = json.dumps(truth.post("", body, 1.0)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
