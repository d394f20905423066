"""What is asked of Across' quote service, and the service itself over HTTPS. What it says is a hint.

``GET /suggested-fees`` answers the whole fee (``totalRelayFee.total``, raw units of the token that leaves), the limits
of a deposit and the pools of both chains; 400 with code ``AMOUNT_TOO_LOW`` below the least. ``GET /available-routes``
lists the pairs of tokens it serves. A departure is bounded by the route's own fee ceiling, whatever is quoted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import httpx

from policy.execution.bridges.services import BAD_ASK, OK, HttpService, ServiceDown

HOSTS = ("app.across.to", "testnet.across.to")
NAME = "Across' quote service"
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
        self.service = HttpService(NAME, HOSTS, url, client, local=local)

    def fees(self, ask: AcrossAsk) -> AcrossFees:
        """Return the quote of a deposit."""
        status, body = self.service.ask("GET", "/suggested-fees", ask.params(), (OK, BAD_ASK))
        if status == BAD_ASK and isinstance(body, dict) and body.get("code") == TOO_LOW:
            return AcrossFees(0, 0, 0, too_low=True)
        if status != OK:
            raise ServiceDown(f"{NAME} answered {status}")
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
            raise self.service.other_form(error) from None
        if not (0 <= found.least <= found.most and 0 <= found.fill_s < float("inf")):
            raise ServiceDown(f"{NAME} answered limits that no deposit has")
        return found

    def serves(self, ask: AcrossAsk) -> bool:
        """Return whether the pair of tokens is among the routes served."""
        status, body = self.service.ask("GET", "/available-routes", ask.route())
        if status != OK:
            raise ServiceDown(f"{NAME} answered {status}")
        wanted = (ask.origin, ask.destination, ask.input_token.lower(), ask.output_token.lower())
        try:
            rows = [
                (int(r["originChainId"]), int(r["destinationChainId"]), *(str(r[k]).lower() for k in TOKENS))
                for r in body
            ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self.service.other_form(error) from None
        return wanted in rows
