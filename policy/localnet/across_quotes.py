"""Across' quote service for local chains, in the form of its own: a flat fee, limits, and faults as it is told to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from policy.execution.bridges.across_api import TOO_LOW, AcrossApi
from policy.execution.bridges.services import BAD_ASK, OK

DOWN = 503
PIPS = 1_000_000
Pool = tuple[str, str]
"""Across' pool and the cash of one chain."""


@dataclass
class LocalQuotes:
    """Serves the chains of ``places`` (chain id: pool, cash). ``faults``: ``down`` and ``garbage``, so many answers.

    ``fee_pips``: millionths of the amount that relayers keep; ``least`` and ``most`` raw units of one deposit.
    """

    places: dict[int, Pool]
    fee_pips: int = 500
    least: int = 10**6
    most: int = 10**12
    served: bool = True
    faults: dict[str, int] = field(default_factory=dict)

    def answered(self, path: str, query: Mapping[str, str]) -> tuple[int, Any]:
        """Return (status, JSON body) of one request; 400 where it is none of the service's."""
        if self._strike("down"):
            return DOWN, {"message": "unavailable"}
        if self._strike("garbage"):
            return OK, {"totalRelayFee": "none"}
        try:
            ends = int(query["originChainId"]), int(query["destinationChainId"])
            (pool, cash), (there, far_cash) = (self.places[c] for c in ends)
            if path == "/available-routes":
                return OK, self._routes(ends, cash, far_cash)
            if path != "/suggested-fees":
                return BAD_ASK, {"code": "INVALID_PARAM"}
            return self._fees(int(query["amount"]), pool, there)
        except (KeyError, ValueError):
            return BAD_ASK, {"code": "INVALID_PARAM"}

    def _routes(self, ends: tuple[int, int], cash: str, far_cash: str) -> list[dict[str, Any]]:
        row = {
            "originChainId": ends[0],
            "destinationChainId": ends[1],
            "originToken": cash,
            "destinationToken": far_cash,
        }
        return [row] if self.served else []

    def _fees(self, amount: int, pool: str, there: str) -> tuple[int, Any]:
        if amount < self.least:
            return BAD_ASK, {"type": "AcrossApiError", "code": TOO_LOW, "status": BAD_ASK, "message": "too low"}
        fee, most = -(-amount * self.fee_pips // PIPS), str(self.most)
        return OK, {
            "estimatedFillTimeSec": 4,
            "isAmountTooLow": False,
            "spokePoolAddress": pool,
            "destinationSpokePoolAddress": there,
            "totalRelayFee": {"pct": str(self.fee_pips * 10**12), "total": str(fee)},
            "limits": {
                "minDeposit": str(self.least),
                "maxDeposit": most,
                "maxDepositInstant": most,
            },
            "outputAmount": str(amount - fee),
        }

    def _strike(self, name: str) -> bool:
        left = self.faults.get(name, 0)
        self.faults[name] = max(0, left - 1)
        return left > 0


def asked_in_process(quotes: LocalQuotes) -> AcrossApi:
    """Return the client of the service whose requests are answered by ``quotes`` without a socket."""

    def handle(request: httpx.Request) -> httpx.Response:
        status, body = quotes.answered(request.url.path.removeprefix("/api"), dict(request.url.params))
        return httpx.Response(status, json=body)

    return AcrossApi(client=httpx.Client(transport=httpx.MockTransport(handle)))
