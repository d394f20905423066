"""When cash moves: a chain below its floor is refilled from the one with most to spare."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.vault_setup.transfer_fleet import OpenFleet
from policy.execution.transfers.checks import price_e8, worth_usd
from policy.execution.transfers.planning import Wish

AUTO_FLOOR = 0.025
"""Floor of a chain's cash where none is set, share of the portfolio: the study of flows found its size not delicate."""
REFILL = 2.0
"""A chain below its floor is filled to so many floors; what another has above that may go."""


def floors_usd(paper: OpenFleet) -> dict[int, float]:
    """Return every chain's least cash, USD."""
    whole = worth_usd(e.vault.snapshot() for e in paper.context.ends.values())
    given = {c.id: c.min_cash_usd for c in paper.fleet.shared.chains}
    return {
        c: AUTO_FLOOR * whole if isinstance(f := given.get(c, "auto"), str) else float(f) for c in paper.context.ends
    }


def cash_usd(paper: OpenFleet) -> dict[int, float]:
    """Return every chain's spendable cash, USD: what is in transit is nowhere's to spend."""
    out = {}
    for chain_id, end in paper.context.ends.items():
        snapshot = end.vault.snapshot()
        held = dict(zip((t.address for t in snapshot.tokens), snapshot.holdings, strict=True))[end.cash.address]
        out[chain_id] = held / 10**end.cash.decimals * price_e8(snapshot, end.cash.address) / 1e8
    return out


def needed(paper: OpenFleet) -> Wish | None:
    """Return the one transfer that the floors ask for most, None where none does.

    Money on its way counts for its destination, so a need is filled once; it is never a surplus to send on.
    """
    cash, floors = cash_usd(paper), floors_usd(paper)
    coming = _coming(paper)
    short = {c: floors[c] - cash[c] - coming.get(c, 0.0) for c in cash}
    spare = {c: cash[c] - REFILL * floors[c] for c in cash}
    for to in sorted((c for c in short if short[c] > 0), key=lambda c: -short[c]):
        rows = [b for b in paper.fleet.shared.bridges if b.destination == to and spare[b.origin] > 0]
        if not rows:
            continue
        row = max(rows, key=lambda b: spare[b.origin])
        whole = worth_usd(e.vault.snapshot() for e in paper.context.ends.values())
        most = min(row.max_transfer_usd, paper.context.rules.max_share * whole)
        usd = min(short[to] + (REFILL - 1) * floors[to], spare[row.origin], 0.999 * most)
        end = paper.context.ends[row.origin]
        price = price_e8(end.vault.snapshot(), end.cash.address) / 1e8
        low = f"cash on chain {to} is {cash[to]:,.0f} USD, its floor {floors[to]:,.0f}"
        why = f"{low}; chain {row.origin} has {cash[row.origin]:,.0f}"
        raw = int(usd / price * 10**end.cash.decimals)
        return Wish(paper.fleet.kind(row), row.origin, to, row.route, raw, why, speed=row.speed)
    return None


def _coming(paper: OpenFleet) -> Mapping[int, float]:
    """Return what open transfers bring to each chain, USD at par."""
    out: dict[int, float] = {}
    for saga in paper.context.log.open():
        t = saga.transfer
        if not saga.arrived and not saga.returned:
            end = paper.context.ends[t.destination.chain_id]
            price = price_e8(end.vault.snapshot(), end.cash.address) / 1e8
            out[t.destination.chain_id] = (
                out.get(t.destination.chain_id, 0.0) + t.least / 10**t.destination.decimals * price
            )
    return out
