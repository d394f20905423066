"""Records to JSON and back: amounts as decimal strings (other JSON readers lose digits), bytes as 0x hex."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from policy.execution.auctions.orders import Order, VenueKind
from policy.execution.base import Hop, Leg, Plan, Settlement, Verdict

Json = dict[str, Any]


def plain(value: object) -> Any:
    """Return ``value`` as what JSON can hold: numpy scalars and arrays unpacked, NaN and infinities as words."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def hex_of(data: bytes) -> str:
    """Return 0x hex."""
    return "0x" + data.hex()


def bytes_of(text: str) -> bytes:
    """Return the bytes of 0x hex."""
    return bytes.fromhex(text.removeprefix("0x"))


def verdict_json(verdict: Verdict) -> Json:
    """Return a verdict as JSON."""
    return {"check": verdict.check, "ok": verdict.ok, "reason": verdict.reason, "figures": _figures(verdict.figures)}


def _figures(figures: Mapping[str, str | int | float]) -> Json:
    return {k: str(v) if isinstance(v, int) and abs(v) >= 2**53 else v for k, v in figures.items()}


def verdicts_json(verdicts: Sequence[Verdict]) -> list[Json]:
    """Return verdicts as JSON."""
    return [verdict_json(v) for v in verdicts]


def leg_json(leg: Leg) -> Json:
    """Return a leg as JSON, calldata included."""
    return {
        "token_in": leg.token_in,
        "token_out": leg.token_out,
        "amount_in": str(leg.amount_in),
        "min_out": str(leg.min_out),
        "quoted_out": str(leg.quoted_out),
        "path": [
            {"venue": h.venue, "pool": h.pool, "token_in": h.token_in, "token_out": h.token_out, "fee_pips": h.fee_pips}
            for h in leg.path
        ],
        "target": leg.target,
        "calldata": hex_of(leg.calldata),
    }


def leg_of(data: Json) -> Leg:
    """Return the leg :func:`leg_json` wrote."""
    return Leg(
        token_in=data["token_in"],
        token_out=data["token_out"],
        amount_in=int(data["amount_in"]),
        min_out=int(data["min_out"]),
        quoted_out=int(data["quoted_out"]),
        path=tuple(Hop(**hop) for hop in data["path"]),
        target=data["target"],
        calldata=bytes_of(data["calldata"]),
    )


def order_json(order: Order) -> Json:
    """Return an order as JSON."""
    kept = {"kind": str(order.kind), "venue": order.venue, "sell": order.sell, "buy": order.buy}
    numbers = ("amount", "least", "expiry", "nonce", "charge_ppb", "start", "starts", "ends")
    return {**kept, **{name: str(getattr(order, name)) for name in numbers}, "app": hex_of(order.app)}


def order_of(data: Json) -> Order:
    """Return the order :func:`order_json` wrote."""
    numbers = ("amount", "least", "expiry", "nonce", "charge_ppb", "start", "starts", "ends")
    return Order(
        kind=VenueKind(data["kind"]),
        venue=data["venue"],
        sell=data["sell"],
        buy=data["buy"],
        app=bytes_of(data["app"]),
        **{name: int(data[name]) for name in numbers},
    )


def plan_json(plan: Plan) -> Json:
    """Return a plan as JSON; only that of an offer has an ``order``."""
    return _plan_json(plan) | ({} if plan.order is None else {"order": order_json(plan.order)})


def _plan_json(plan: Plan) -> Json:
    return {
        "decision_id": plan.decision_id,
        "vault": plan.vault,
        "chain_id": plan.chain_id,
        "nonce": plan.nonce,
        "deadline": plan.deadline,
        "min_nav": str(plan.min_nav),
        "legs": [leg_json(leg) for leg in plan.legs],
        "plan_hash": hex_of(plan.plan_hash),
        "block_number": plan.block_number,
        "block_hash": plan.block_hash,
    }


def plan_of(data: Json) -> Plan:
    """Return the plan :func:`plan_json` wrote."""
    return Plan(
        decision_id=data["decision_id"],
        vault=data["vault"],
        chain_id=data["chain_id"],
        nonce=data["nonce"],
        deadline=data["deadline"],
        min_nav=int(data["min_nav"]),
        legs=tuple(leg_of(leg) for leg in data["legs"]),
        plan_hash=bytes_of(data["plan_hash"]),
        block_number=data["block_number"],
        block_hash=data["block_hash"],
        order=order_of(data["order"]) if data.get("order") else None,
    )


def settlement_json(settlement: Settlement) -> Json:
    """Return a settlement as JSON."""
    return {
        "landed": settlement.landed,
        "deltas": {token: str(delta) for token, delta in settlement.deltas.items()},
        "nav_before": str(settlement.nav_before),
        "nav_after": str(settlement.nav_after),
        "gas_used": settlement.gas_used,
        "gas_cost_wei": str(settlement.gas_cost_wei),
        "weights_after_bps": list(settlement.weights_after_bps),
        "verdicts": verdicts_json(settlement.verdicts),
    }
