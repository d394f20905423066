"""When cash moves: a chain below its level is filled up by the cheapest transfer; else what a trade waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np

from lake.errors import NotEnoughData
from lake.store import Lake
from pipelines.sections import BridgeSection
from pipelines.vault_setup.cash_levels import OVERHEAD, CashLevel, market_in, terms_of
from pipelines.vault_setup.decider import history_at
from pipelines.vault_setup.transfer_fleet import OpenFleet
from policy.base import Matrix
from policy.chains.netting import CashMove, refills
from policy.chains.transfer_costs import ends_usd
from policy.execution.transfers.checks import price_e8, worth_usd
from policy.execution.transfers.planning import Wish


def cash_usd(fleet: OpenFleet) -> dict[int, float]:
    """Return every chain's spendable cash, USD: what is in transit is nowhere's to spend."""
    out = {}
    for chain_id, end in fleet.context.ends.items():
        snapshot = end.vault.snapshot()
        held = dict(zip((t.address for t in snapshot.tokens), snapshot.holdings, strict=True))[end.cash.address]
        out[chain_id] = held / 10**end.cash.decimals * price_e8(snapshot, end.cash.address) / 1e8
    return out


def needed(
    fleet: OpenFleet, levels: Mapping[int, CashLevel], lake: Lake, at: datetime, first: Sequence[CashMove] = ()
) -> Wish | None:
    """Return the one transfer to begin now, None where none is wanted.

    A chain below its level comes before a trade that waits for cash (``first``); of several chains the one that lacks
    most. Money on its way counts for its destination, so a need is filled once; it is never a surplus to send on.
    """
    ids, cash, coming = tuple(fleet.context.ends), cash_usd(fleet), _coming(fleet)
    fixed, rate = _prices(fleet, ids, lake, at)
    low, goal = (np.array([getattr(levels[c], name) for c in ids]) for name in ("low", "goal"))
    held, due = np.array([cash[c] for c in ids]), np.array([coming.get(c, 0.0) for c in ids])
    moves = np.zeros(fixed.shape)
    refills(held, due, low, low, goal, fixed, rate, moves)
    if moves.max() > 0.0:
        a, b = np.unravel_index(int(np.argmax(moves)), moves.shape)
        origin, to = ids[int(a)], ids[int(b)]
        why = f"cash on chain {to} is {cash[to]:,.0f} USD, its floor {levels[to].low:,.0f}"
        return _wish(fleet, CashMove(origin, to, float(moves[a, b])), f"{why}; chain {origin} has {cash[origin]:,.0f}")
    if not first:
        return None
    return _wish(fleet, first[0], f"the portfolio's trade gains most on chain {first[0].destination}; cash goes first")


def _wish(fleet: OpenFleet, move: CashMove, why: str) -> Wish | None:
    row = _route(fleet, move.origin, move.destination)
    if row is None:
        return None
    end = fleet.context.ends[move.origin]
    whole = worth_usd(e.vault.snapshot() for e in fleet.context.ends.values())
    most = min(row.max_transfer_usd, fleet.context.rules.max_share * whole)
    price = price_e8(end.vault.snapshot(), end.cash.address) / 1e8
    raw = int(min(move.usd, 0.999 * most) / price * 10**end.cash.decimals)
    if raw <= 0:
        return None
    return Wish(fleet.fleet.kind(row), move.origin, move.destination, row.route, raw, why, speed=row.speed)


def _route(fleet: OpenFleet, origin: int, destination: int) -> BridgeSection | None:
    rows = (b for b in fleet.fleet.shared.bridges if (b.origin, b.destination) == (origin, destination))
    return next(rows, None)


def _prices(fleet: OpenFleet, ids: tuple[int, ...], lake: Lake, at: datetime) -> tuple[Matrix, Matrix]:
    """Return (C, C) USD a transfer and its fraction a USD; inf where there is no route.

    Where gas is not known every route costs the same, so that the fee and what lies there decide.
    """
    overhead = OVERHEAD * worth_usd(e.vault.snapshot() for e in fleet.context.ends.values())
    fixed, rate = np.full((len(ids), len(ids)), np.inf), np.zeros((len(ids), len(ids)))
    try:
        known = {c: market_in(history_at(fleet.fleet.members[c], lake, at), fleet, c, at) for c in ids}
    except NotEnoughData:
        known = {}
    for b in fleet.fleet.shared.bridges:
        i, j, terms = ids.index(b.origin), ids.index(b.destination), terms_of(b)
        gas = ends_usd(terms, known[b.origin])[0] + ends_usd(terms, known[b.destination])[1] if known else 0.0
        fixed[i, j] = gas + terms.fixed_usd + overhead
        rate[i, j] = terms.fee + terms.risk + terms.stuck
    return fixed, rate


def _coming(fleet: OpenFleet) -> Mapping[int, float]:
    """Return what open transfers bring to each chain, USD at par."""
    out: dict[int, float] = {}
    for saga in fleet.context.log.open():
        t = saga.transfer
        if not saga.arrived and not saga.returned:
            end = fleet.context.ends[t.destination.chain_id]
            price = price_e8(end.vault.snapshot(), end.cash.address) / 1e8
            out[t.destination.chain_id] = (
                out.get(t.destination.chain_id, 0.0) + t.least / 10**t.destination.decimals * price
            )
    return out
