"""How much cash each chain of a portfolio keeps: as set, or by the (s, S) rule from the flows its vault has recorded.

A level is the lower point a chain is filled up from and the goal it is filled up to, with its reason in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from lake.errors import NotEnoughData
from lake.store import Lake
from pipelines.sections import BridgeSection
from pipelines.vault_setup.decider import history_at, portfolio_at
from pipelines.vault_setup.transfer_fleet import OpenFleet
from policy.base import Market, Matrix, Vector
from policy.chains.cash import FEWEST, CashCosts, chain_levels
from policy.chains.transfer_costs import BRIDGE_TERMS, BridgeTerms, bridge_terms, work_usd
from policy.costs import gas_lines, impact_per_square
from policy.execution.bridges.finality import confirmed_block
from policy.execution.transfers.checks import price_e8, worth_usd
from policy.simulation.history import History

AUTO_FLOOR = 0.025
"""Floor of a chain's cash while too few withdrawals were seen, share of the portfolio: the study of flows found its
size not delicate."""
REFILL = 2.0
"""A chain below a fixed floor is filled up to so many of it."""
OVERHEAD = 2e-5
"""What a transfer is taken to cost beyond its price, share of NAV: as in the ledger of several chains."""
FLOW_DAYS = 90
"""Days of flows that are looked at, at most: older ones are of other investors."""
WEEK_H = 168
HOUR_S = 3_600
PEOPLE = frozenset({"deposit", "withdrawal"})


@dataclass(frozen=True, slots=True)
class CashLevel:
    """Cash of one chain in USD: filled up where it is below ``low``, to ``goal``; ``why`` says where both are from."""

    low: float
    goal: float
    why: str


def fixed_levels(fleet: OpenFleet, why: str = "no run has looked at the flows yet") -> dict[int, CashLevel]:
    """Return the levels that look at no flows: those set, and AUTO_FLOOR of the portfolio for the others."""
    given = {c.id: c.min_cash_usd for c in fleet.fleet.shared.chains}
    auto = AUTO_FLOOR * worth_usd(e.vault.snapshot() for e in fleet.context.ends.values())
    out = {}
    for chain_id in fleet.context.ends:
        floor = given.get(chain_id, "auto")
        if isinstance(floor, str):
            out[chain_id] = CashLevel(auto, REFILL * auto, f"auto, {why}: {AUTO_FLOOR:.1%} of the portfolio")
        else:
            out[chain_id] = CashLevel(float(floor), REFILL * float(floor), "min_cash_usd, as set")
    return out


def last_levels(fleet: OpenFleet, lake: Lake) -> dict[int, CashLevel]:
    """Return the levels of the newest look in table ``places``; set ones, and those without a look, as they are."""
    given = {c.id: c.min_cash_usd for c in fleet.fleet.shared.chains}
    out = fixed_levels(fleet)
    rows = lake.scan("places").filter(pl.col("cash") & pl.col("floor_usd").is_not_null())
    newest = rows.sort("ts").unique("chain_id", keep="last").collect()
    for row in newest.iter_rows(named=True):
        if row["chain_id"] in out and isinstance(given.get(row["chain_id"], "auto"), str):
            out[row["chain_id"]] = CashLevel(row["floor_usd"], row["goal_usd"], row["floor_why"])
    return out


def cash_levels(fleet: OpenFleet, lake: Lake, at: datetime) -> dict[int, CashLevel]:
    """Return every chain's levels at ``at``: set ones as they are, ``auto`` ones by the flows recorded so far.

    Where too little is known, of flows or of gas, the fixed floor stands and its reason says so.
    """
    given = {c.id: c.min_cash_usd for c in fleet.fleet.shared.chains}
    if not any(isinstance(given.get(c, "auto"), str) for c in fleet.context.ends):
        return fixed_levels(fleet)
    ids = tuple(fleet.context.ends)
    flows = recorded_flows(fleet, at)
    seen = int(np.count_nonzero(flows < 0.0))
    try:
        costs, cash_usd, lead_h = _costs(fleet, ids, lake, at)
    except NotEnoughData as error:
        return fixed_levels(fleet, f"gas and prices are not known ({error})")
    found = chain_levels(flows, costs, lead_h, cash_usd)
    if found is None:
        return fixed_levels(fleet, f"{seen} withdrawals seen, {FEWEST} are needed")
    days = flows.shape[0] / 24
    fixed = fixed_levels(fleet)
    out = {}
    for n, chain_id in enumerate(ids):
        if not isinstance(given.get(chain_id, "auto"), str):
            out[chain_id] = fixed[chain_id]
            continue
        own = int(np.count_nonzero(flows[:, n] < 0.0))
        why = f"auto, from {own} withdrawals here and {seen} in all in {days:.0f} days, help takes {lead_h:.0f} h"
        out[chain_id] = CashLevel(float(found[0][n]), float(found[1][n]), why)
    return out


def recorded_flows(fleet: OpenFleet, at: datetime) -> Matrix:
    """Return what people brought and took, USD by hour and chain (T, C), up to ``at``; (0, C) where nothing is known.

    At today's price of the cash. The record begins with the first flow of any chain, FLOW_DAYS ago at the earliest.
    """
    now = int(at.timestamp())
    rows: list[tuple[int, int, float]] = []
    for n, end in enumerate(fleet.context.ends.values()):
        usd = price_e8(end.vault.snapshot(), end.cash.address) / 1e8 / 10**end.cash.decimals
        last = confirmed_block(end.node.head().number, end.chain)
        rows += [
            (max(0, now - m.time) // HOUR_S, n, m.amount * usd)
            for m in end.vault.cash_moves(last)
            if m.kind in PEOPLE and m.time
        ]
    rows = [r for r in rows if r[0] < 24 * FLOW_DAYS]
    hours = 1 + max((r[0] for r in rows), default=-1)
    out = np.zeros((hours, len(fleet.context.ends)))
    for ago, n, usd in rows:
        out[hours - 1 - ago, n] += usd
    return out


def market_in(history: History, fleet: OpenFleet, chain_id: int, at: datetime) -> Market:
    """Return gas, fee and depth of a chain as the lake's newest hour has them."""
    deployment = fleet.fleet.members[chain_id]
    p = portfolio_at(deployment, at)
    deep = history.depth_usd[-1, [history.assets.index(a) for a in p.assets]]
    return Market(float(history.recent_gwei[-1]), float(history.native_usd[-1]), p.fees, p.swap_fee, deep)


def terms_of(row: BridgeSection) -> BridgeTerms:
    """Return the prices of a configured route; on paper the fee is the route's own."""
    fast = f"{row.kind}_fast"
    return bridge_terms(fast if row.speed == "fast" and fast in BRIDGE_TERMS else row.kind)


def _costs(
    fleet: OpenFleet, ids: tuple[int, ...], lake: Lake, at: datetime
) -> tuple[list[CashCosts], float, float]:  # fmt: skip
    """Return each chain's costs, what the portfolio wants of cash in USD, and the hours that help takes."""
    whole = worth_usd(e.vault.snapshot() for e in fleet.context.ends.values())
    routes = [terms_of(b) for b in fleet.fleet.shared.bridges] or [bridge_terms("cctp")]
    slow, fast = max(routes, key=lambda b: b.hours), bridge_terms("cctp_fast")
    send, receive, swaps = [], [], []
    first = fleet.fleet.members[ids[0]]
    weights = np.array([first.portfolio.weights[a] for a in first.portfolio.assets])
    k = first.portfolio.assets.index(fleet.fleet.cash)
    for chain_id in ids:
        deployment = fleet.fleet.members[chain_id]
        history = history_at(deployment, lake, at)
        m = market_in(history, fleet, chain_id, at)
        last = slice(max(0, len(history.ts) - WEEK_H), None)
        gas, coin = history.gas_gwei[last], history.native_usd[last]
        send.append(float(np.mean(work_usd(m.fees, slow.units_out, slow.bytes_out, gas, coin))))
        receive.append(float(np.mean(work_usd(m.fees, slow.units_in, slow.bytes_in, gas, coin))))
        base, leg = gas_lines(m.fees, m.gas_gwei, m.native_usd)
        columns = [history.assets.index(a) for a in deployment.portfolio.assets]
        deep = impact_per_square(1.0, history.depth_usd[last][:, columns])
        deep[:, k] = 0.0  # a swap moves the risky asset's pool
        push = float(deep.mean(axis=0) @ (weights**2 / max(1e-9, 1.0 - weights[k]) ** 2))
        swaps.append((float(base) + float(leg) * max(1, weights.size - 1), float(m.fee[k]), push))
    fix = _fix(np.array(send), np.array(receive)) + OVERHEAD * whole
    costs = [
        CashCosts(float(f), gas, fee, push, fast.fee - slow.fee) for f, (gas, fee, push) in zip(fix, swaps, strict=True)
    ]
    return costs, whole * float(weights[k]), slow.hours + 1.0


def _fix(send: Vector, receive: Vector) -> Vector:
    """Return (C,) USD of gas of a transfer to each chain, from whichever it comes."""
    return np.asarray((send[None, :] + receive[:, None]).mean(axis=1))
