"""Carrying JSON to a node and back: the seam below :mod:`lake.rpc`, over HTTP or played from a table."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Protocol
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi
import urllib3

from lake.errors import RpcError
from lake.json_text import parsed

RETRY_STATUS = frozenset({408, 425, 429})
"""HTTP answers that say "later": too slow, too early, too many requests. Everything from 500 on says so too."""
SUCCESS = 200
SERVER_FAULT = 500
TOO_MUCH = frozenset({400, 413})
"""What gateways answer without JSON-RPC to a batch that is too large for them."""


_HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "gzip, deflate", "User-Agent": "foredrift"}
_KEPT = 32  # connections to a node
Send = Callable[..., urllib3.BaseHTTPResponse]


class Unreachable(Exception):
    """A transport got no usable answer. ``again`` says whether a read may be tried again.

    ``after_s`` is the wait the node asked for (HTTP Retry-After), 0 where it asked for none; ``too_much`` says that it
    was the size of the request which was refused.
    """

    def __init__(self, reason: str, *, again: bool = True, after_s: float = 0.0, too_much: bool = False) -> None:
        super().__init__(reason)
        self.again = again
        self.after_s = after_s
        self.too_much = too_much


class Transport(Protocol):
    """Carries one JSON body to a URL and returns the JSON that came back."""

    def post(self, url: str, body: object, timeout: float) -> object:
        """Return the parsed answer; raises Unreachable when there is none within ``timeout`` seconds."""
        ...


class HttpTransport:
    """Transport over HTTP with kept connections, through the proxies that the environment names."""

    def __init__(self) -> None:
        self._ways: dict[str, Send] = {}

    def post(self, url: str, body: object, timeout: float) -> object:
        """Return the parsed answer; raises Unreachable without the URL in its text."""
        sent = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
        try:
            code, headers, raw = self._sent(url, sent, timeout)
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(type(error).__name__) from None  # the library's text holds the full URL
        after_s = _retry_after(headers.get("Retry-After"))
        success, passing = code // 100 == SUCCESS // 100, code in RETRY_STATUS or code >= SERVER_FAULT
        try:
            found: object = parsed(raw)
        except ValueError:  # half an answer, a gateway's page, brackets without end
            raise Unreachable(
                f"HTTP {code} without JSON", again=success or passing, after_s=after_s, too_much=code in TOO_MUCH
            ) from None
        if passing or (not success and not _has_error(found)):
            raise Unreachable(f"HTTP {code}", again=passing, after_s=after_s, too_much=code in TOO_MUCH)
        return found

    def _sent(self, url: str, body: bytes, timeout: float) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body of the answer; raises urllib3's HTTPError without one."""
        way = self._ways.get(url)
        if way is None:
            way = self._ways[url] = _way(url)
        answer = way(body=body, timeout=urllib3.Timeout(timeout), retries=False, redirect=False)
        return answer.status, answer.headers, answer.data


def _way(url: str) -> Send:
    """Return how to send to ``url``: over a pool of kept connections to its host, or by a proxy of the environment."""
    parts = urlsplit(url)
    headers = dict(_HEADERS)
    if parts.username is not None:
        who = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers |= urllib3.util.make_headers(basic_auth=who)
    clean = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
    trust = {"ca_certs": os.environ.get("SSL_CERT_FILE") or certifi.where()} if parts.scheme == "https" else {}
    named = getproxies()
    proxy = named.get(parts.scheme) or named.get("all")
    if proxy and not proxy_bypass(parts.hostname or ""):
        through = urllib3.ProxyManager(
            proxy, maxsize=_KEPT, ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where()
        )
        return partial(through.urlopen, "POST", clean, headers=headers)
    pool = urllib3.connection_from_url(clean, maxsize=_KEPT, **trust)
    return partial(pool.urlopen, "POST", urllib3.util.parse_url(clean).request_uri, headers=headers)


@dataclass
class FakeTransport:
    """A node made of a table, for tests: method -> value, exception, or function of the parameters.

    A list is played one item a call, its last item for ever. ``seen`` logs (url, method, params).
    """

    answers: Mapping[str, object]
    seen: list[tuple[str, str, Sequence[object]]] = field(default_factory=list)
    _played: dict[str, int] = field(default_factory=dict)

    def post(self, url: str, body: object, timeout: float) -> object:
        """Answer from the table; an unknown method is JSON-RPC error -32601."""
        del timeout
        if isinstance(body, list):
            return [self._one(url, request) for request in body]
        return self._one(url, body)

    def _one(self, url: str, request: object) -> object:
        assert isinstance(request, dict)
        method, params = request["method"], request["params"]
        self.seen.append((url, method, params))
        head = {"jsonrpc": "2.0", "id": request["id"]}
        if method not in self.answers:
            return {**head, "error": {"code": -32601, "message": f"no method {method}"}}
        answer = self.answers[method]
        if isinstance(answer, list):
            position = self._played.get(method, 0)
            self._played[method] = position + 1
            answer = answer[min(position, len(answer) - 1)]
        if callable(answer):
            answer = answer(*params)
        if isinstance(answer, RpcError):
            return {**head, "error": {"code": answer.code, "message": str(answer), "data": answer.data}}
        if isinstance(answer, Exception):
            raise answer
        return {**head, "result": answer}


def mask(url: str) -> str:
    """Return scheme and host of ``url`` only: paths, queries and user names of providers carry keys."""
    parts = urlsplit(url)
    host = parts.hostname or "?"
    port = f":{parts.port}" if parts.port else ""
    hidden = "/***" if parts.path.strip("/") or parts.query or parts.username or parts.password else ""
    return f"{parts.scheme or '?'}://{host}{port}{hidden}"


def _has_error(parsed: object) -> bool:
    return isinstance(parsed, dict) and isinstance(parsed.get("error"), dict)


def _retry_after(text: str | None) -> float:
    """Return the seconds a Retry-After header asks for (a number, or an HTTP date); 0 where it says nothing."""
    if text is None:
        return 0.0
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
