"""How soon the portfolio page shows something, on loopback in a real browser, beside a page of one sentence."""

from __future__ import annotations

import statistics
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from pipelines.scheduled.page import page_port
from pipelines.servers.subprocesses import free_port
from tests.pipelines.browser import CHROMIUM, chromium
from tests.pipelines.page_data import WHOLE

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}: install chromium to measure the page"),
]
PAINTED = "performance.getEntriesByName('first-contentful-paint').map(e => e.startTime)"


class Sentence(BaseHTTPRequestHandler):
    """The peer: as little as a browser can show."""

    def do_GET(self) -> None:
        body = b"<!doctype html><title>one</title><p>NAV 1,000,000 USD</p>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """Say nothing."""


def test_first_paint_beside_a_page_of_one_sentence(pace):
    looks = pace.pick(15, 1)
    peer = ThreadingHTTPServer(("127.0.0.1", 0), Sentence)
    threading.Thread(target=peer.serve_forever, daemon=True).start()
    try:
        with page_port({"main": lambda: WHOLE}, lambda _: {}, ("127.0.0.1", free_port())) as address:
            while "NAV" not in httpx.get(address, timeout=30).text:
                time.sleep(0.05)
            with chromium() as browser:
                least = [painted(browser, f"http://127.0.0.1:{peer.server_port}/") for _ in range(looks)]
                page = [painted(browser, address) for _ in range(looks)]
    finally:
        peer.shutdown()
        peer.server_close()
    assert min(page) > 0
    if pace.timed:
        ours, theirs = statistics.median(page), statistics.median(least)
        print(f"\nfirst paint, median of {looks}: the page {ours:.0f} ms, one sentence {theirs:.0f} ms")
        assert ours < 10 * theirs


def painted(browser, address: str) -> float:
    """Milliseconds from the request to the first thing seen, in a context without a cache."""
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(address)
        while not (found := page.evaluate(PAINTED)):
            page.wait_for_timeout(20)
        return found[0]
    finally:
        context.close()
