"""Cash counted once: what lies on the chains and between them must be what came in, to the last raw unit.

Money in transit is what the chains' own logs say left and did not arrive; the journal only explains it. Each chain is
read at one height; a transfer that is seen to arrive at one height and to leave after the other's is counted where it
arrived, whichever side was read first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lake.errors import RpcError
from policy.execution.base import Verdict
from policy.execution.bridges.base import Departed, Sighting, Transfer
from policy.execution.bridges.finality import confirmed_block
from policy.execution.checks.verdicts import refused
from policy.execution.transfers.ends import End, TransferContext, TransferRules
from policy.execution.transfers.saga import Saga, SagaState

LONG_UNATTESTED_S = 86_400.0


@dataclass(frozen=True, slots=True)
class CashAt:
    """Cash of one chain at one height: raw units of its own ``decimals``. ``moved``: what came less what went."""

    chain_id: int
    block: int
    block_hash: str
    time: int
    held: int
    moved: int
    decimals: int


@dataclass(frozen=True, slots=True)
class MovingCash:
    """One transfer's money between the chains, raw units of the origin."""

    saga: Saga
    amount: int
    seen: Sighting


@dataclass(frozen=True, slots=True)
class CashCount:
    """One count of the cash of all chains. ``held``, ``moving``, ``early``, ``came``, ``fees``: units of ``scale``.

    ``early`` is what arrived by the heights read although it leaves the origin only after its height: it lies on both
    and is taken off once. ``doubts``: why the count cannot be believed (a side unread, a departure nobody planned).
    """

    places: tuple[CashAt, ...]
    transits: tuple[MovingCash, ...]
    scale: int
    held: int = 0
    moving: int = 0
    early: int = 0
    came: int = 0
    fees: int = 0
    doubts: tuple[str, ...] = field(default=())

    @property
    def total(self) -> int:
        """All cash, on the chains and between them."""
        return self.held + self.moving - self.early

    @property
    def mismatch(self) -> int:
        """What the identity is off by; 0 where every unit is explained."""
        return self.total - (self.came - self.fees)

    def verdict(self) -> Verdict | None:
        """Return the refusal where the count does not add up or cannot be believed; None where it does."""
        if self.doubts:
            return refused("ledger_mismatch", "; ".join(self.doubts))
        if self.mismatch:
            words = f"cash on all chains and in transit is {self.total}, {self.came - self.fees} is explained"
            return refused("ledger_mismatch", f"{words} (units of {self.scale} decimals)", raw=str(self.mismatch))
        return None


def count(ctx: TransferContext, heights: Mapping[int, int] | None = None) -> CashCount:
    """Count the cash of all chains at ``heights`` (None: at each chain's confirmed block) and explain it.

    A side that cannot be read is a doubt, never a zero. Where logs that were remembered do not add up they are read
    anew before it is said.
    """
    found = _count(ctx, heights)
    if not found.mismatch:
        return found
    forgot = [end.vault.forget() for end in ctx.ends.values()]
    return _count(ctx, heights) if any(forgot) else found


def _count(ctx: TransferContext, heights: Mapping[int, int] | None) -> CashCount:
    places, seen, doubts = [], dict[str, Sighting](), list[str]()
    scale = max(e.cash.decimals for e in ctx.ends.values())
    try:
        at = heights or {c: confirmed_block(e.node.head().number, e.chain) for c, e in ctx.ends.items()}
        logs = {c: tuple(end.vault.departures(0, end.node.head().number)) for c, end in ctx.ends.items()}
        sagas = ctx.log.sagas()
        for saga in sagas:
            found = ctx.bridge(saga.transfer).find(saga.transfer)
            if not found.known:
                doubts.append(f"transfer {saga.transfer.saga_id[:12]} cannot be looked up: {found.reason}")
            seen[saga.transfer.saga_id] = found
        places = [_cash(end, at[c], _unmarked(ctx, sagas, seen, c, at[c])) for c, end in ctx.ends.items()]
    except RpcError as error:
        return CashCount(tuple(places), (), scale, doubts=(f"a chain cannot be read: {error}",))
    doubts += _unplanned(logs, sagas, at)
    base = CashCount(
        tuple(places), (), scale,
        held=sum(_up(p.held, p.decimals, scale) for p in places),
        came=sum(_up(p.moved, p.decimals, scale) for p in places),
        doubts=tuple(doubts),
    )  # fmt: skip
    return _with_transits(base, [s for s in sagas if seen[s.transfer.saga_id].known], seen, at)


def _unmarked(
    ctx: TransferContext, sagas: tuple[Saga, ...], seen: Mapping[str, Sighting], chain_id: int, block: int
) -> int:
    """Return what transfers brought to a chain by ``block`` that its vault's own logs cannot tell from gifts."""
    total = 0
    for saga in sagas:
        t, s = saga.transfer, seen[saga.transfer.saga_id]
        if ctx.bridge(t).describe().marked or s.credit_block is None or s.credit_block > block:
            continue
        total += s.arrived if t.destination.chain_id == chain_id else 0
        total += s.returned if t.origin.chain_id == chain_id else 0
    return total


def _cash(end: End, block: int, unmarked: int) -> CashAt:
    """Return the cash of one chain; ``unmarked``: what came by transfers and would pass for gifts."""
    snapshot = end.vault.snapshot(block)
    index = [t.address.lower() for t in snapshot.tokens].index(end.cash.address.lower())
    moved = sum(m.amount for m in end.vault.cash_moves(block)) - unmarked
    held = snapshot.holdings[index]
    return CashAt(end.chain.chain_id, block, snapshot.block_hash, snapshot.block_time, held, moved, end.cash.decimals)


def _up(raw: int, decimals: int, scale: int) -> int:
    """Return ``raw`` in units of ``scale`` decimals, which is the finest of all chains: exact, and of either sign."""
    return int(raw * 10 ** (scale - decimals))


def _unplanned(logs: Mapping[int, tuple[Departed, ...]], sagas: tuple[Saga, ...], at: Mapping[int, int]) -> list[str]:
    """Return what left and nobody planned, and what left twice."""
    known = {(s.transfer.saga_id, s.transfer.origin.chain_id) for s in sagas}
    out, twice = [], set[tuple[str, int]]()
    for chain_id, departures in logs.items():
        for d in departures:
            key = (d.saga_id, chain_id)
            if key in twice:
                out.append(f"two departures of transfer {d.saga_id[:12]} left chain {chain_id}")
            if key not in known and d.block <= at[chain_id]:
                out.append(f"{d.amount} raw units left chain {chain_id} in block {d.block} and no journal knows why")
            twice.add(key)
    return out


def _with_transits(
    base: CashCount, sagas: list[Saga], seen: Mapping[str, Sighting], at: Mapping[int, int]
) -> CashCount:
    """Return the count with every transfer put in its one place by the heights read."""
    moving, early, fees, transits = 0, 0, 0, list[MovingCash]()
    for saga in sagas:
        t, s = saga.transfer, seen[saga.transfer.saga_id]
        amount = _up(s.sent or t.amount, t.origin.decimals, base.scale)
        left = s.departed and s.block is not None and s.block <= at[t.origin.chain_id]
        arrived = bool(s.arrived) and (s.credit_block or 0) <= at[t.destination.chain_id]
        home = bool(s.returned) and (s.credit_block or 0) <= at[t.origin.chain_id]
        if arrived:
            fees += amount - _up(s.arrived, t.destination.decimals, base.scale)
            early += 0 if left else amount
        elif home:
            fees += amount - _up(s.returned, t.origin.decimals, base.scale)
        elif left:
            moving += amount
            transits.append(MovingCash(saga, s.sent, s))
    return CashCount(base.places, tuple(transits), base.scale, base.held, moving, early, base.came, fees, base.doubts)


def mark(transit: MovingCash, rules: TransferRules, age_s: float) -> float:
    """Return the share of par at which a transfer in transit is REPORTED; a decision counts it at par.

    At par less the quoted fee, overdue or not; a stuck one that no attester vouched for within a day with a haircut; a
    written-down one at nothing.
    """
    t = transit.saga.transfer
    if transit.saga.state is SagaState.WRITTEN_DOWN:
        return 0.0
    par = 1.0 - min(t.max_fee, t.amount) / t.amount if t.amount else 1.0
    unverified = transit.saga.state is SagaState.STUCK and not transit.seen.attested and age_s > LONG_UNATTESTED_S
    return par * (1.0 - rules.unverified_haircut) if unverified and not transit.seen.expired else par


def in_transit_usd(found: CashCount, prices_e8: Mapping[int, int], kinds: Mapping[str, str] | None = None) -> float:
    """Return the money in transit at par, USD; ``prices_e8`` of the cash by chain, ``kinds`` a filter by saga id."""
    out = 0.0
    for transit in found.transits:
        t: Transfer = transit.saga.transfer
        if kinds is None or t.saga_id in kinds:
            out += transit.amount / 10**t.origin.decimals * prices_e8[t.origin.chain_id] / 1e8
    return out
