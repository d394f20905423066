"""Services beside the chains over HTTPS: which hosts may be asked, how much of an answer is read, and its JSON.

What a service says is a hint; every fact is read on chain again by who uses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from lake.errors import ConfigError, SourceUnavailable
from lake.json_text import parsed

LOOPBACK = ("127.0.0.1", "localhost")
TIMEOUT_S = 10.0
MOST_BYTES = 2**20
OK, BAD_ASK, NOT_FOUND = 200, 400, 404


class ServiceDown(SourceUnavailable):
    """The service did not answer in a way that can be read: that is no absence."""


class HttpService:
    """The service called ``name`` at ``url``, one of ``hosts`` over HTTPS; ``local``: or of this machine."""

    def __init__(
        self, name: str, hosts: Sequence[str], url: str, client: httpx.Client | None = None, *, local: bool = False
    ) -> None:
        place = httpx.URL(url)
        here = local and place.scheme == "http" and place.host in LOOPBACK
        if not here and (place.scheme != "https" or place.host not in hosts):
            raise ConfigError(f"{url} is not {name}; known are https:// {' and '.join(hosts)}")
        self.name = name
        self.url = url.rstrip("/")
        self.http = client or httpx.Client(timeout=TIMEOUT_S, follow_redirects=False)

    def ask(self, method: str, path: str, params: Mapping[str, str], read: Sequence[int] = (OK,)) -> tuple[int, Any]:
        """Return status and JSON; None instead of the JSON of a status that is none of ``read``.

        Raises ServiceDown where nobody answers, or more than MOST_BYTES, or no JSON.
        """
        try:
            with self.http.stream(method, self.url + path, params=dict(params)) as answer:
                body = b""
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > MOST_BYTES:
                        raise ServiceDown(f"{self.name} sent more than {MOST_BYTES} bytes")
                status = answer.status_code
        except httpx.HTTPError as error:
            raise ServiceDown(f"{self.name} did not answer: {type(error).__name__}") from None
        if status not in read:
            return status, None
        try:
            return status, parsed(body)
        except ValueError:
            raise ServiceDown(f"{self.name} sent no JSON") from None

    def other_form(self, error: Exception) -> ServiceDown:
        """Return what to raise where an answer has another form than the published one."""
        return ServiceDown(f"{self.name} answered in another form: {error!r}")
