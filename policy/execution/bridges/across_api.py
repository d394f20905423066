"""What is asked of Across' quote service, and the service itself over HTTPS. What it says is a hint.

``GET /suggested-fees`` answers the whole fee (``totalRelayFee.total``, raw units of the token that leaves), the limits
of a deposit and the pools of both chains; 400 with code ``AMOUNT_TOO_LOW`` below the least. ``GET /available-routes``
lists the pairs of tokens it serves. A departure is bounded by the route's own fee ceiling, whatever is quoted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from lake.errors import ConfigError
from policy.execution.bridges.attestations import LOOPBACK, MOST_BYTES, OK, TIMEOUT_S, ServiceDown

HOSTS = ("app.across.to", "testnet.across.to")
BAD_ASK = 400
TOO_LOW = "AMOUNT_TOO_LOW"
TOKENS = ("originToken", "destinationToken")


@dataclass(frozen=True, slots=True)
class AcrossAsk:
    """What a quote is about: tokens and chains of both ends, raw units that would leave."""

    input_token: str
    output_token: str
    origin: int
    destination: int
    amount: int

    def params(self) -> dict[str, str]:
        """Return the query of ``/suggested-fees``."""
        return {
            **self.route(),
            "inputToken": self.input_token,
            "outputToken": self.output_token,
            "amount": str(self.amount),
        }

    def route(self) -> dict[str, str]:
        """Return the chains of the query."""
        return {"originChainId": str(self.origin), "destinationChainId": str(self.destination)}


@dataclass(frozen=True, slots=True)
class AcrossFees:
    """A quote: ``fee`` of the raw units that leave, least and most of one deposit; ``fill_s``: usual time of a fill.

    ``pools``: of the origin and the destination, None where the service does not say. ``too_low``: nobody fills it.
    """

    fee: int
    least: int
    most: int
    fill_s: float = 0.0
    pools: tuple[str | None, str | None] = (None, None)
    too_low: bool = False


class AcrossQuotes(Protocol):
    """The service that says what relayers would take."""

    def fees(self, ask: AcrossAsk) -> AcrossFees:
        """Return the quote; ServiceDown where the service does not say."""
        ...

    def serves(self, ask: AcrossAsk) -> bool:
        """Return whether relayers carry this token to that one; ServiceDown where the service does not say."""
        ...


class AcrossApi:
    """Across' own service at ``url``, one of its hosts over HTTPS; ``local``: or of this machine."""

    def __init__(
        self, url: str = f"https://{HOSTS[0]}/api", client: httpx.Client | None = None, *, local: bool = False
    ) -> None:
        place = httpx.URL(url)
        here = local and place.scheme == "http" and place.host in LOOPBACK
        if not here and (place.scheme != "https" or place.host not in HOSTS):
            raise ConfigError(f"{url} is no quote service of Across'; known are https:// {' and '.join(HOSTS)}")
        self.url = url.rstrip("/")
        self.http = client or httpx.Client(timeout=TIMEOUT_S, follow_redirects=False)

    def fees(self, ask: AcrossAsk) -> AcrossFees:
        """Return the quote of a deposit."""
        status, body = self._ask("/suggested-fees", ask.params())
        if status == BAD_ASK and isinstance(body, dict) and body.get("code") == TOO_LOW:
            return AcrossFees(0, 0, 0, too_low=True)
        if status != OK:
            raise ServiceDown(f"Across' quote service answered {status}")
        try:
            limits, fee = body["limits"], int(body["totalRelayFee"]["total"])
            found = AcrossFees(
                fee,
                int(limits["minDeposit"]),
                int(limits["maxDeposit"]),
                float(body.get("estimatedFillTimeSec") or 0.0),
                (body.get("spokePoolAddress"), body.get("destinationSpokePoolAddress")),
                bool(body["isAmountTooLow"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ServiceDown(f"Across' quote service answered in another form: {error!r}") from None
        if not (0 <= found.least <= found.most and 0 <= found.fill_s < float("inf")):
            raise ServiceDown("Across' quote service answered limits that no deposit has")
        return found

    def serves(self, ask: AcrossAsk) -> bool:
        """Return whether the pair of tokens is among the routes served."""
        status, body = self._ask("/available-routes", ask.route())
        if status != OK:
            raise ServiceDown(f"Across' quote service answered {status}")
        wanted = (ask.origin, ask.destination, ask.input_token.lower(), ask.output_token.lower())
        try:
            rows = [
                (int(r["originChainId"]), int(r["destinationChainId"]), *(str(r[k]).lower() for k in TOKENS))
                for r in body
            ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ServiceDown(f"Across' quote service answered in another form: {error!r}") from None
        return wanted in rows

    def _ask(self, path: str, params: dict[str, str]) -> tuple[int, Any]:
        """Return status and JSON body; only a refused ask has another status than 200 that is read."""
        try:
            with self.http.stream("GET", self.url + path, params=params) as answer:
                body = b""
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > MOST_BYTES:
                        raise ServiceDown(f"Across' quote service sent more than {MOST_BYTES} bytes")
                status = answer.status_code
        except httpx.HTTPError as error:
            raise ServiceDown(f"Across' quote service did not answer: {type(error).__name__}") from None
        if status not in {OK, BAD_ASK}:
            return status, None
        try:
            return status, json.loads(body)
        except ValueError:
            raise ServiceDown("Across' quote service sent no JSON") from None
