"""What people see of a portfolio on several chains: chains, what is on its way, every transfer. Nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pipelines.vault_setup.cash_levels import CashLevel, last_levels
from pipelines.vault_setup.fleet_health import chain_health, oracle_gaps, told_by_lake
from pipelines.vault_setup.transfer_fleet import Fleet, OpenFleet, not_begun
from pipelines.vault_setup.transfer_opening import opened_to_look
from pipelines.wiring import lake_of, now
from policy.execution.transfers.checks import price_e8, worth_usd
from policy.execution.transfers.ledger import CashCount, count, in_transit_usd, mark
from policy.execution.transfers.machine import age_s
from policy.execution.transfers.saga import Saga


def saga_row(saga: Saga, age: float) -> dict[str, Any]:
    """Return one transfer as JSON; amounts are raw units as texts, ages in seconds."""
    t = saga.transfer
    return {
        "saga_id": t.saga_id,
        "bridge": t.kind,
        "from": t.origin.chain_id,
        "to": t.destination.chain_id,
        "asset": t.asset,
        "amount": t.amount / 10**t.origin.decimals,
        "amount_raw": str(t.amount),
        "state": str(saga.state),
        "age_s": age,
        "usual_s": float(saga.told.get("usual_s") or 0.0),
        "arrived_raw": str(saga.arrived),
        "returned_raw": str(saga.returned),
        "fee_raw": str(saga.fee),
        "why": str(saga.told.get("why", "")),
        "note": saga.note,
        "person": saga.person,
    }


def fleet_view(
    fleet: Fleet, paper: OpenFleet | None = None, levels: Mapping[int, CashLevel] | None = None
) -> dict[str, Any]:
    """Return {chains, in_transit, transfers, mismatch, mismatch_raw, oracle_gaps, waiting}: USD by chain and asset.

    ``mismatch`` says in words where the cash does not add up, "" where it does; ``waiting`` names vaults that have not
    begun, which no count can include. ``levels``: of each chain's cash; None: those that the lake recorded last.
    ``forced_sales`` and ``bridge_cost_bp_year``: see ``pipelines.vault_setup.fleet_health``.
    """
    paper = paper or opened_to_look(fleet)
    if paper is None:
        sagas = [saga_row(s, 0.0) for s in fleet.log.sagas()]
        empty: dict[str, Any] = {"chains": [], "in_transit": [], "mismatch": "", "mismatch_raw": "0", "oracle_gaps": []}
        empty |= {"forced_sales": 0, "bridge_cost_bp_year": None}
        return empty | {"transfers": sagas, "waiting": not_begun(fleet)}
    found, lake = count(paper.context), lake_of(fleet.first)
    wrong = found.verdict()
    chains = _chains(paper, found, last_levels(paper, lake) if levels is None else levels)
    at = max(datetime.fromtimestamp(max((c["block_time"] for c in chains), default=0), UTC), now())
    told = told_by_lake(lake, at, sum(c["usd"] for c in chains))
    below = told.pop("below_floor_s")
    return {
        "chains": [c | {"below_floor_s": below.get(c["chain"], 0.0)} for c in chains],
        "in_transit": _transit(paper, found),
        "transfers": [saga_row(s, age_s(paper.context, s) if s.open else 0.0) for s in paper.context.log.sagas()],
        "mismatch": "" if wrong is None else wrong.reason,
        "mismatch_raw": str(found.mismatch),
        "oracle_gaps": oracle_gaps(paper),
        **told,
        "waiting": [],
    }


def _chains(paper: OpenFleet, found: CashCount, levels: Mapping[int, CashLevel]) -> list[dict[str, Any]]:
    snapshots = {p.chain_id: paper.context.ends[p.chain_id].vault.snapshot(p.block) for p in found.places}
    prices = {c: price_e8(s, paper.context.ends[c].cash.address) for c, s in snapshots.items()}
    whole = worth_usd(snapshots.values()) + in_transit_usd(found, prices)
    rows = []
    for chain_id, s in snapshots.items():
        cash = paper.context.ends[chain_id].cash.address
        assets = {
            paper.fleet.cash if t.address == cash else t.symbol: h / 10**t.decimals * price_e8(s, t.address) / 1e8
            for t, h in zip(s.tokens, s.holdings, strict=True)
        }
        usd = sum(assets.values())
        rows.append(
            {
                "chain": chain_id,
                "deployment": paper.fleet.members[chain_id].name,
                "assets_usd": assets,
                "usd": usd,
                "share": usd / whole if whole else 0.0,
                "cash_usd": assets[paper.fleet.cash],
                "floor_usd": levels[chain_id].low,
                "goal_usd": levels[chain_id].goal,
                "floor_why": levels[chain_id].why,
                "block": s.block_number,
                "block_time": s.block_time,
                "gas_gwei": s.base_fee_wei / 1e9,
            }
            | chain_health(paper, chain_id)
        )
    return rows


def _transit(paper: OpenFleet, found: CashCount) -> list[dict[str, Any]]:
    rows = []
    for transit in found.transits:
        t = transit.saga.transfer
        end = paper.context.ends[t.origin.chain_id]
        usd = transit.amount / 10**t.origin.decimals * price_e8(end.vault.snapshot(), end.cash.address) / 1e8
        age = age_s(paper.context, transit.saga)
        rows.append(
            {
                "saga_id": t.saga_id,
                "bridge": t.kind,
                "from": t.origin.chain_id,
                "to": t.destination.chain_id,
                "usd": usd,
                "reported_usd": usd * mark(transit, paper.context.rules, age),
                "age_s": age,
                "usual_s": float(transit.saga.told.get("usual_s") or 0.0),
                "state": str(transit.saga.state),
            }
        )
    return rows
