"""What earlier runs left: finished, looked at once more, and set right after a reorganisation."""

from __future__ import annotations

from lake.errors import RpcError
from policy.execution.attempts import follow, look
from policy.execution.base import AttemptFate, OtherVault, Receipt, Settlement
from policy.execution.context import EngineContext
from policy.execution.offers import OffersOrders, tend
from policy.execution.records.hashlog import LOST
from policy.execution.records.journal import NOTHING_TRADED, Flight
from policy.execution.settling import GONE, canonical, executing, final_status, record, where
from policy.execution.submission.node import BlockHeader
from policy.execution.vaults.common import require_own

RECHECK_S = 86_400
"""A closed plan's receipt is asked for again for this long after its deadline, its block for ever."""


def recover(ctx: EngineContext) -> tuple[Flight | None, Settlement | None]:
    """Finish what an earlier run left: return the newest flight, open if its status is still not final.

    A dry run only looks it up. OtherVault where the plans are another vault's or another chain's.
    """
    flight, settlement = ctx.journal.last(), None
    if flight is None:
        return None, None
    require_own(flight.plan, ctx.vault_address, ctx.chain_id)
    if not flight.open:
        flight = _recheck(ctx, flight)
    if flight.open and flight.armed is not None:
        flight, settlement = tend(ctx, flight)
    elif flight.open and not ctx.live:
        flight, settlement = look(ctx, flight, ctx.node.head())  # a dry run sends nothing, not even again
    elif flight.open:
        flight, settlement = follow(ctx, flight)
        if flight.armed is not None and flight.open:
            flight, settlement = tend(ctx, flight)
    if not flight.open:
        _correct_earlier(ctx)
    return flight, settlement


def _recheck(ctx: EngineContext, flight: Flight) -> Flight:
    """Reopen a closed flight whose status turned out otherwise: a deep reorganisation, a node that lied or lagged.

    However late that is seen: past its deadline the plan cannot land any more, and is then found void.
    """
    head = ctx.node.head()
    gone = _block_gone(ctx, flight, head)
    recent = head.time - flight.plan.deadline <= RECHECK_S
    if flight.state in NOTHING_TRADED and (by := ctx.vault.executed_by(flight.plan)) is not None:
        return ctx.journal.reopen(f"the vault executed it in {by}")
    tried = bool(flight.attempts) or flight.mined is not None
    if flight.state == LOST or not tried or not (gone or recent):
        return flight
    foreign = flight.mined is not None and flight.mined[0] not in {a.tx_hash for a in flight.attempts}
    found = None if foreign else canonical(ctx, flight)
    if flight.armed is not None and (found is None or not flight.current):
        return ctx.journal.reopen(GONE) if gone else flight
    if found is None:
        if gone:
            _same_chain(ctx, flight)
        gone = gone or (not foreign and flight.state == "landed" and head.time <= flight.plan.deadline)
        return ctx.journal.reopen(GONE) if gone else flight
    _, receipt = found
    if flight.mined == (receipt.tx_hash, receipt.block_number, receipt.block_hash, receipt.status):
        return flight
    return ctx.journal.reopen(f"{receipt.tx_hash} is in block {receipt.block_number} with status {receipt.status}")


def _block_gone(ctx: EngineContext, flight: Flight, head: BlockHeader) -> bool:
    """Return whether the block that ``flight`` ended in is certainly not in the chain any more."""
    if flight.mined is None:
        return False
    _, number, block_hash, _ = flight.mined
    now = ctx.node.block_hash(number)
    return now != block_hash and (now is not None or number > head.number)


def _same_chain(ctx: EngineContext, flight: Flight) -> None:
    """Raise OtherVault where not only a block but the whole chain is another one, begun anew under the same id."""
    known, now = flight.context.get("genesis"), genesis(ctx)
    if known is not None and now is not None and known != now:
        name = f"before-{now[2:10]}"
        raise OtherVault(
            f"chain {ctx.chain_id} was begun anew: its first block is {now[:12]}..., {ctx.journal.path} knows "
            f"{str(known)[:12]}...; what it holds is of the old one: {ctx.journal.aside(name)}"
        )


def genesis(ctx: EngineContext) -> str | None:
    """Return the hash of the chain's first block, None where the node does not tell."""
    try:
        return ctx.node.block_hash(0)
    except RpcError:
        return None


def _correct_earlier(ctx: EngineContext) -> None:
    """Set the final status of earlier plans right that a reorganisation deeper than the newest one changed.

    Oldest first: a run that dies in between leaves the newer ones, where the next run finds where to go on.
    """
    head, gone = ctx.node.head(), list[Flight]()
    for flight in reversed([f for f in ctx.journal.flights()[:-1] if f.mined is not None]):
        if not _block_gone(ctx, flight, head):
            break
        gone.append(flight)
    for flight in reversed(gone):
        found, by = canonical(ctx, flight), None
        kind, receipt = ("", None) if found is None else (found[0].kind, found[1])
        if kind != "disarm" and flight.plan.order is None:
            by = ctx.vault.executed_by(flight.plan)
        if by is not None:
            kind, receipt = "plan", executing(ctx, flight.plan, by)
        if receipt is None:
            _same_chain(ctx, flight)
            ended = head.time > flight.plan.deadline + ctx.limits.confirmations * ctx.limits.block_time_s
            if not ended or ctx.vault.recover(flight.plan, flight.hashes()) is not AttemptFate.VOID:
                return  # the next step looks again
            _correct(ctx, flight, "void", None, GONE)
            continue
        if head.number - receipt.block_number + 1 < ctx.limits.confirmations:
            return
        _correct(ctx, flight, kind, receipt, where(receipt))


def _correct(ctx: EngineContext, flight: Flight, kind: str, receipt: Receipt | None, note: str) -> None:
    """Record the new final status of an earlier plan in audit and journal."""
    settlement, state, block = None, "void", None
    if receipt is not None:
        block = (receipt.tx_hash, receipt.block_number, receipt.block_hash, receipt.status)
        if kind == "disarm" and isinstance(ctx.vault, OffersOrders):
            filled = ctx.vault.ended(receipt, flight.plan)
            state = "void" if filled is None else "filled" if filled else "disarmed"
            settlement = ctx.vault.settle_fill(flight.plan, (receipt,)) if filled else None
        if kind == "plan":
            settlement = ctx.vault.verify(receipt, flight.plan)
            state = final_status(settlement, receipt)
    record(ctx, flight, state, settlement, note)
    ctx.checkpoint("audit_settled")
    ctx.journal.correct(flight.plan, state, block, note)
