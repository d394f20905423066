"""A local HTTP server that speaks Binance's documented spot REST format for exchangeInfo and klines.

https://developers.binance.com/docs/binance-spot-api-docs/rest-api: klines are arrays of open time (ms), open, high,
low, close, volume (strings), close time, and six more fields; the running bar is included; 429 carries Retry-After.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

HOUR_MS = 3_600_000


@dataclass
class Market:
    """What the server knows: bars from ``first_ms`` on, without the ``holes``, and faults by number of request."""

    first_ms: int
    hours: int
    holes: set[int] = field(default_factory=set)
    faults: dict[int, str] = field(default_factory=dict)
    cap: int = 1000
    requests: int = 0
    url: str = ""
    gone: threading.Event = field(default_factory=threading.Event)  # ends the wait of a request that is not answered

    def klines(self, since: int, limit: int) -> list[list[object]]:
        """Return up to ``limit`` bars that open at ``since`` or later."""
        bars: list[list[object]] = []
        for hour in range(self.hours):
            opened = self.first_ms + hour * HOUR_MS
            if opened >= since and hour not in self.holes and len(bars) < min(limit, self.cap):
                o, c = 100 + hour % 7, 100 + (hour + 1) % 7
                prices = [f"{v:.8f}" for v in (o, max(o, c) + 1, min(o, c) - 1, c, 10 + hour)]
                bars.append([opened, *prices, opened + HOUR_MS - 1, "1.0", 5, "0.5", "50.0", "0"])
        return bars


INFO = {
    "timezone": "UTC", "serverTime": 0, "rateLimits": [], "exchangeFilters": [],
    "symbols": [{
        "symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "baseAssetPrecision": 8, "quoteAsset": "USDT",
        "quotePrecision": 8, "quoteAssetPrecision": 8, "orderTypes": ["LIMIT"], "icebergAllowed": True,
        "ocoAllowed": True, "isSpotTradingAllowed": True, "isMarginTradingAllowed": False,
        "permissions": ["SPOT"], "permissionSets": [["SPOT"]],
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"},
            {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000.0", "stepSize": "0.00001"},
        ],
    }],
}  # fmt: skip


@contextmanager
def serve(market: Market) -> Iterator[Market]:
    """Run the server on a free loopback port; sets ``market.url``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {k: v[0] for k, v in parse_qs(url.query).items()}
            if url.path == "/api/v3/exchangeInfo":
                return self.answer(200, json.dumps(INFO).encode())
            if url.path != "/api/v3/klines":
                return self.answer(404, b"{}")
            fault = market.faults.get(market.requests)
            market.requests += 1
            body = json.dumps(market.klines(int(query["startTime"]), int(query.get("limit", 500)))).encode()
            if fault == "429":
                return self.answer(429, b'{"code":-1003,"msg":"Too many requests."}', {"Retry-After": "3"})
            if fault == "timeout":
                market.gone.wait()
            if fault == "truncated":
                body = body[: len(body) // 2]
            if fault == "503":
                return self.answer(503, b"<html>unavailable</html>")
            return self.answer(200, body)

        def answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            try:
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):
                return

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True)
    thread.start()
    market.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield market
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
