"""Carrying JSON to a node and back: the seam below :mod:`lake.rpc`, over HTTP or played from a table."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import urlsplit

import httpx

from lake.errors import RpcError
from lake.json_text import parsed

RETRY_STATUS = frozenset({408, 425, 429})
"""HTTP answers that say "later": too slow, too early, too many requests. Everything from 500 on says so too."""
SERVER_FAULT = 500
TOO_MUCH = frozenset({400, 413})
"""What gateways answer without JSON-RPC to a batch that is too large for them."""


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
    """Transport over HTTP with kept connections."""

    def __init__(self) -> None:
        self._client = httpx.Client(follow_redirects=False)

    def post(self, url: str, body: object, timeout: float) -> object:
        """Return the parsed answer; raises Unreachable without the URL in its text."""
        try:
            answer = self._client.post(url, json=body, timeout=timeout)
        except httpx.HTTPError as error:
            raise Unreachable(type(error).__name__) from None  # the library's text holds the full URL
        code, after_s = answer.status_code, _retry_after(answer.headers.get("Retry-After"))
        passing = code in RETRY_STATUS or code >= SERVER_FAULT
        try:
            found: object = parsed(answer.content)
        except ValueError:  # half an answer, a gateway's page, brackets without end
            again = answer.is_success or passing
            raise Unreachable(
                f"HTTP {code} without JSON", again=again, after_s=after_s, too_much=code in TOO_MUCH
            ) from None
        if passing or (not answer.is_success and not _has_error(found)):
            raise Unreachable(f"HTTP {code}", again=passing, after_s=after_s, too_much=code in TOO_MUCH)
        return found


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
