"""One JSON or text read over HTTP, its failures sorted into those that pass and those that do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from lake.errors import SourceError, SourceUnavailable
from lake.json_text import parsed

TIMEOUT_S = 20.0
PASSING = frozenset({408, 418, 425, 429, 500, 502, 503, 504})
"""Status codes after which the same read may succeed (418 is Binance's ban for ignoring 429)."""


def client(transport: httpx.BaseTransport | None = None) -> httpx.Client:
    """Return a client with our time-out; ``transport`` is the seam for tests."""
    return httpx.Client(transport=transport, timeout=TIMEOUT_S, follow_redirects=True)


def get_text(http: httpx.Client, url: str, params: Mapping[str, str | int] | None = None) -> str:
    """Return the body of a successful GET; SourceUnavailable when it may work later, SourceError when not."""
    try:
        response = http.get(url, params=dict(params or {}))
    except httpx.TransportError as error:
        raise SourceUnavailable(f"{httpx.URL(url).host} did not answer: {type(error).__name__}: {error}") from error
    if response.status_code in PASSING:
        wait = response.headers.get("retry-after", "")
        raise SourceUnavailable(
            f"{response.url.host} answered {response.status_code}", float(wait) if wait.isdecimal() else None
        )
    if response.is_error:
        raise SourceError(f"{response.url.host} refused {response.url.path} with {response.status_code}")
    return response.text


def get_json(http: httpx.Client, url: str, params: Mapping[str, str | int] | None = None) -> Any:
    """Return the parsed body; an unreadable one is a SourceUnavailable (a cut connection looks like that)."""
    text = get_text(http, url, params)
    try:
        return parsed(text)
    except ValueError as error:
        raise SourceUnavailable(f"{httpx.URL(url).host} sent broken JSON ({error})") from error
