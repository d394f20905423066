"""A decision on several chains as plain data, and placed again from it: the same shares of the trade, to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lake.errors import DataError
from policy.base import Decision, State
from policy.chains.deciding import WholeDecision, decide_whole
from policy.chains.global_state import GlobalState, Place
from policy.chains.placement import PlacementTerms
from policy.chains.transfer_costs import bridge_terms
from policy.memory import market_from, market_json


def whole_json(whole: WholeDecision) -> dict[str, Any]:
    """Return where the portfolio lay, on what terms it was placed, and what was done; amounts in 1e-18 USD as texts."""
    p, t = whole.portfolio, whole.terms
    return {
        "cash_asset": p.cash_asset,
        "in_transit": str(p.in_transit),
        "places": [
            {
                "chain": one.chain_id,
                "holdings": [str(v) for v in one.holdings],
                "cash": str(one.cash),
                "market": market_json(one.market),
            }
            for one in p.places
        ],
        "floors_usd": [float(v) for v in t.floors_usd],
        "routes": [[a, b, terms.kind] for (a, b), terms in t.routes.items()],
        "most_usd": t.most_usd if np.isfinite(t.most_usd) else None,
        "overhead_usd": t.overhead_usd,
        "waiting_usd_per_h": t.waiting_usd_per_h,
        "placement": placement_json(whole),
    }


def placement_json(whole: WholeDecision) -> dict[str, Any] | None:
    """Return what is traded where and what cash moves first, USD; None where the policy waits."""
    made = whole.placement
    if made is None:
        return None
    return {
        "action": made.action,
        "trades": [{"chain": t.chain_id, "change_usd": [float(v) for v in t.change_usd]} for t in made.trades],
        "moves": [{"from": m.origin, "to": m.destination, "usd": m.usd} for m in made.moves],
        "gain_usd": made.gain_usd,
        "cost_usd": made.cost_usd,
        "done": made.done,
        "why": made.why,
    }


def place_again(data: Mapping[str, Any], asked: State, said: Decision) -> dict[str, Any] | None:
    """Return what ``placement_json`` wrote, placed again from the record ``data`` and the policy's answer ``said``.

    Raises DataError where the portfolio of the record is not the one the policy was ``asked`` about.
    """
    places = tuple(
        Place(int(one["chain"]), tuple(int(v) for v in one["holdings"]), int(one["cash"]), market_from(one["market"]))
        for one in data["places"]
    )
    portfolio = GlobalState(
        asked.ts, asked.assets, data["cash_asset"], places, int(data["in_transit"]), asked.target, asked.tolerance,
        asked.gamma, asked.scenario, asked.covariance, asked.last_trade, asked.max_turnover,
    )  # fmt: skip
    if not np.array_equal(portfolio.state().weights, asked.weights):
        raise DataError("the places of the record are not the portfolio that the policy was asked about")
    terms = PlacementTerms(
        np.array(data["floors_usd"], dtype=np.float64),
        {(int(a), int(b)): bridge_terms(kind) for a, b, kind in data["routes"]},
        float("inf") if data["most_usd"] is None else float(data["most_usd"]),
        float(data["waiting_usd_per_h"]),
        float(data["overhead_usd"]),
    )
    return placement_json(decide_whole(portfolio, lambda _: said, terms))
