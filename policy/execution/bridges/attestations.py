"""What is asked of CCTP's attestation service, and Circle's own service over HTTPS. What it says is a hint.

``GET /v2/messages/{domain}?transactionHash=..`` answers ``{"messages": [{"message", "attestation", "status"}]}``,
``POST /v2/reattest/{nonce}`` renews one that expired, ``GET /v2/burn/USDC/fees/{from}/{to}`` answers
``[{"finalityThreshold", "minimumFee"}]`` in basis points. Every fact is read on chain again by who uses it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from lake.errors import ConfigError, SourceUnavailable
from lake.json_text import parsed

HOSTS = ("iris-api.circle.com", "iris-api-sandbox.circle.com")
LOOPBACK = ("127.0.0.1", "localhost")
TIMEOUT_S = 10.0
MOST_BYTES = 2**20
OK, NOT_FOUND = 200, 404


class ServiceDown(SourceUnavailable):
    """The service did not answer in a way that can be read: that is no absence."""


@dataclass(frozen=True, slots=True)
class Attested:
    """A message with its signatures, empty while it is not attested yet."""

    message: bytes = field(repr=False)
    signatures: bytes = field(repr=False)


class Attestations(Protocol):
    """The service that vouches on the destination for what left the origin."""

    def of(self, domain: int, tx_hash: str) -> Sequence[Attested]:
        """Return the messages of a transaction on ``domain``; ServiceDown where the service does not say."""
        ...

    def renew(self, nonce: bytes) -> None:
        """Ask for a new attestation of an expired message."""
        ...

    def fee_pips(self, origin: int, destination: int, finality: int) -> int | None:
        """Return the least fee in millionths of the amount, rounded up; None where there is no such offer."""
        ...


class CircleAttestations:
    """Circle's service at ``url``, which must be one of its own hosts over HTTPS; ``local``: or of this machine."""

    def __init__(
        self, url: str = f"https://{HOSTS[0]}", client: httpx.Client | None = None, *, local: bool = False
    ) -> None:
        place = httpx.URL(url)
        here = local and place.scheme == "http" and place.host in LOOPBACK
        if not here and (place.scheme != "https" or place.host not in HOSTS):
            raise ConfigError(f"{url} is no attestation service of Circle's; known are https:// {' and '.join(HOSTS)}")
        self.url = url.rstrip("/")
        self.http = client or httpx.Client(timeout=TIMEOUT_S, follow_redirects=False)

    def of(self, domain: int, tx_hash: str) -> Sequence[Attested]:
        """Return the messages of a transaction; none while the service does not know it."""
        found = self._ask("GET", f"/v2/messages/{domain}", {"transactionHash": tx_hash})
        if found is None:
            return ()
        try:
            rows = [(str(m["message"]), str(m.get("attestation") or ""), m.get("status")) for m in found["messages"]]
            return tuple(_attested(message, said, status == "complete") for message, said, status in rows)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ServiceDown(f"the attestation service answered in another form: {error!r}") from None

    def renew(self, nonce: bytes) -> None:
        """Ask for a new attestation."""
        self._ask("POST", f"/v2/reattest/0x{nonce.hex()}", {})

    def fee_pips(self, origin: int, destination: int, finality: int) -> int | None:
        """Return the least fee of this finality, millionths."""
        found = self._ask("GET", f"/v2/burn/USDC/fees/{origin}/{destination}", {})
        try:
            rows = [r for r in found or () if int(r["finalityThreshold"]) == finality]
            fees = [math.ceil(float(r["minimumFee"]) * 100) for r in rows]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ServiceDown(f"the attestation service answered in another form: {error!r}") from None
        return min((f for f in fees if f >= 0), default=None)

    def _ask(self, method: str, path: str, params: dict[str, str]) -> Any:
        """Return the answer as JSON, None where the service knows nothing of it."""
        try:
            with self.http.stream(method, self.url + path, params=params) as answer:
                body = b""
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > MOST_BYTES:
                        raise ServiceDown(f"the attestation service sent more than {MOST_BYTES} bytes")
                status = answer.status_code
        except httpx.HTTPError as error:
            raise ServiceDown(f"the attestation service did not answer: {type(error).__name__}") from None
        if status == NOT_FOUND:
            return None
        if status != OK:
            raise ServiceDown(f"the attestation service answered {status}")
        try:
            return parsed(body)
        except ValueError:
            raise ServiceDown("the attestation service sent no JSON") from None


def _attested(message: str, said: str, complete: bool) -> Attested:
    raw = b"" if message in {"", "0x"} else bytes.fromhex(message.removeprefix("0x"))
    ready = complete and said.startswith("0x")
    return Attested(raw, bytes.fromhex(said[2:]) if ready else b"")
