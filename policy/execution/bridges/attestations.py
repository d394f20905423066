"""What is asked of CCTP's attestation service, and Circle's own service over HTTPS. What it says is a hint.

``GET /v2/messages/{domain}?transactionHash=..`` answers ``{"messages": [{"message", "attestation", "status"}]}``,
``POST /v2/reattest/{nonce}`` renews one that expired, ``GET /v2/burn/USDC/fees/{from}/{to}`` answers
``[{"finalityThreshold", "minimumFee"}]`` in basis points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from policy.execution.bridges.services import NOT_FOUND, OK, HttpService, ServiceDown

HOSTS = ("iris-api.circle.com", "iris-api-sandbox.circle.com")
NAME = "Circle's attestation service"


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
        self.service = HttpService(NAME, HOSTS, url, client, local=local)

    def of(self, domain: int, tx_hash: str) -> Sequence[Attested]:
        """Return the messages of a transaction; none while the service does not know it."""
        found = self._ask("GET", f"/v2/messages/{domain}", {"transactionHash": tx_hash})
        if found is None:
            return ()
        try:
            rows = [(str(m["message"]), str(m.get("attestation") or ""), m.get("status")) for m in found["messages"]]
            return tuple(_attested(message, said, status == "complete") for message, said, status in rows)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self.service.other_form(error) from None

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
            raise self.service.other_form(error) from None
        return min((f for f in fees if f >= 0), default=None)

    def _ask(self, method: str, path: str, params: Mapping[str, str]) -> Any:
        """Return the answer as JSON, None where the service knows nothing of it."""
        status, found = self.service.ask(method, path, params)
        if status not in {OK, NOT_FOUND}:
            raise ServiceDown(f"{NAME} answered {status}")
        return found


def _attested(message: str, said: str, complete: bool) -> Attested:
    raw = b"" if message in {"", "0x"} else bytes.fromhex(message.removeprefix("0x"))
    ready = complete and said.startswith("0x")
    return Attested(raw, bytes.fromhex(said[2:]) if ready else b"")
