"""What a portfolio on several chains leaves in the lake: tables ``transfers`` and ``places``. Writing twice is once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

import polars as pl

from lake.errors import RpcError
from lake.store import Lake
from lake.tables import table
from policy.execution.records.hashlog import Body
from policy.execution.transfers.checks import price_e8
from policy.execution.transfers.ends import TransferContext
from policy.execution.transfers.journal import TransferLog
from policy.execution.transfers.saga import Saga, SagaState, folded, planned

HOUR_S = 3_600
ENDED = ("is", str(SagaState.SETTLED))


def write_transfers(ctx: TransferContext, lake: Lake, at: datetime, natives_usd: Mapping[int, float]) -> int:
    """Write the events of the journal that the lake lacks and return their number; ``natives_usd``: by chain."""
    known = set(lake.scan("transfers").select("saga_id", "event_no").collect().iter_rows())
    new = [r for r in event_rows(ctx.log, at) if (r["saga_id"], r["event_no"]) not in known]
    rows = [
        r | _priced(ctx, ctx.log.saga(r["saga_id"]), natives_usd) if (r["event"], r["state"]) == ENDED else r
        for r in new
    ]
    if rows:
        lake.write("transfers", pl.DataFrame(rows, schema=table("transfers").columns))
    return len(rows)


def event_rows(log: TransferLog, at: datetime) -> list[dict[str, Any]]:
    """Return every event of the journal as a row of ``transfers``, oldest first."""
    sagas: dict[str, Saga] = {}
    rows = []
    for body in log.events():
        name = str(body["saga"])
        sagas[name] = planned(body) if body["event"] == "planned" else folded(sagas[name], body)
        rows.append(_row(sagas[name], body, at))
    return rows


def _row(saga: Saga, body: Body, at: datetime) -> dict[str, Any]:
    t = saga.transfer
    words = saga.told.get("why", "") if body["event"] == "planned" else body.get("note") or body.get("reply") or ""
    return {
        "saga_id": t.saga_id, "event_no": saga.events - 1, "ts": at, "event": body["event"], "state": str(saga.state),
        "bridge": t.kind, "origin": t.origin.chain_id, "destination": t.destination.chain_id, "asset": t.asset,
        "amount_raw": str(t.amount), "arrived_raw": str(saga.arrived), "returned_raw": str(saga.returned),
        "fee_raw": str(saga.fee), "leg": body.get("leg"), "tx_hash": body.get("tx_hash"), "usd": None,
        "fee_usd": None, "gas_usd": None, "note": str(words), "person": saga.person or None,
        "decision_id": str(saga.told.get("decision_id") or "") or None, "available_at": at,
    }  # fmt: skip


def _priced(ctx: TransferContext, saga: Saga, natives_usd: Mapping[int, float]) -> dict[str, Any]:
    """Return a settled transfer in USD; gas is unknown where a node has no receipt of one of its transactions."""
    t = saga.transfer
    near = ctx.end(t.origin.chain_id)
    usd = price_e8(near.vault.snapshot(), near.cash.address) / 1e8 / 10**t.origin.decimals
    gas: float | None = 0.0
    for sent in saga.attempts:
        if sent.failed and not sent.reply.startswith("reverted"):
            continue
        try:
            receipt = ctx.end(sent.chain_id).node.receipt(sent.tx_hash)
        except RpcError:
            receipt = None
        coin = natives_usd.get(sent.chain_id)
        if receipt is None or coin is None:
            gas = None if sent is saga.live(sent.leg) or coin is None else gas  # a replaced one was never mined
        elif gas is not None:
            gas += receipt.gas_used * receipt.effective_gas_price_wei / 1e18 * coin
    return {"usd": t.amount * usd, "fee_usd": saga.fee * usd, "gas_usd": gas}


def look_id(at: datetime) -> str:
    """Return the name of an hour's look at which nothing was placed."""
    return f"look-{int(at.timestamp()) // HOUR_S}"


def whole_id(parts: Sequence[str]) -> str:
    """Return the name of a decision on the whole from those of its vaults."""
    return sha256("|".join(parts).encode()).hexdigest()[:24]


def write_places(
    lake: Lake, chains: Sequence[Mapping[str, Any]], at: datetime, cash: str, coming: Mapping[int, float],
    placed: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """Write where the portfolio lies by the rows ``chains`` of a fleet's view; return the name they are kept under.

    ``coming``: USD on its way, by chain. ``placed``: {change_usd: by chain and asset, plans: the vaults' decisions by
    chain} where a decision on the whole was placed; its rows hold what lay there after it was executed.
    """
    plans: Mapping[int, str] = {} if placed is None else placed["plans"]
    changes: Mapping[int, Mapping[str, float]] = {} if placed is None else placed["change_usd"]
    name = whole_id([plans[c] for c in sorted(plans)]) if plans else look_id(at)
    rows = [
        {
            "decision_id": name, "chain_id": c["chain"], "asset": asset, "ts": at, "vault": c["deployment"],
            "block": c["block"], "usd": usd, "change_usd": changes.get(c["chain"], {}).get(asset, 0.0),
            "cash": asset == cash, "floor_usd": c["floor_usd"] if asset == cash else None,
            "goal_usd": c["goal_usd"] if asset == cash else None,
            "floor_why": c["floor_why"] if asset == cash else None,
            "coming_usd": coming.get(c["chain"], 0.0) if asset == cash else None, "plan_id": plans.get(c["chain"]),
            "available_at": at,
        }
        for c in chains
        for asset, usd in c["assets_usd"].items()
    ]  # fmt: skip
    if rows:
        lake.write("places", pl.DataFrame(rows, schema=table("places").columns))
    return name
