"""One look at one transfer: what both chains show is journalled, and at most one thing is done about it.

Money moves by look-up only. A look that fails changes nothing; no answer is never absence; the only thing signed for a
departure is the one departure. It is called until the transfer is settled, by whoever runs next: it keeps nothing.
"""

from __future__ import annotations

from lake.errors import RpcError
from lake.universe import bridge as bridge_row
from policy.execution.bridges.base import Departure, Sighting, Transfer
from policy.execution.transfers.ends import End, Refused, TransferContext, route_key
from policy.execution.transfers.saga import BEFORE, HOME, MOVING, Saga, SagaState
from policy.execution.transfers.sending import canonical, last_final, launch, pursue

S = SagaState
LATER_BLOCKS = 2
"""Blocks after which a departure that is missing past its deadline is looked for once more before it is called void."""


def look(ctx: TransferContext, saga: Saga) -> Saga:
    """Look ``saga`` up once and move it on; a node that fails leaves it as it was, with the words as its note."""
    if saga.state in {S.SETTLED, S.VOID}:
        return _recheck(ctx, saga)
    try:
        seen = ctx.bridge(saga.transfer).find(saga.transfer)
        if not seen.known:
            return _say(ctx, saga, f"the last look failed: {seen.reason}")
        return _advance(ctx, saga, seen)
    except RpcError as error:
        return _say(ctx, saga, f"the last look failed: {error}")


def look_at_all(ctx: TransferContext) -> tuple[Saga, ...]:
    """Look every open and every written-down transfer up once; return them all as they are then."""
    for saga in ctx.log.sagas():
        if saga.open or saga.state is S.WRITTEN_DOWN or _young(ctx, saga):
            look(ctx, saga)
    return ctx.log.sagas()


def _young(ctx: TransferContext, saga: Saga) -> bool:
    """Return whether a closed transfer is among the newest of its route: a deep reorganisation may reopen it."""
    same = [s for s in ctx.log.sagas() if s.key == saga.key]
    return saga in same[-2:]


def _say(ctx: TransferContext, saga: Saga, words: str) -> Saga:
    ctx.told("look", saga.transfer.saga_id, words)
    return saga


def _advance(ctx: TransferContext, saga: Saga, seen: Sighting) -> Saga:
    if saga.state is S.WRITTEN_DOWN:
        return _credited(ctx, saga, seen) if seen.departed and (seen.arrived or seen.returned) else saga
    if not seen.departed:
        if saga.state in BEFORE:
            return _leave(ctx, saga)
        why = seen.reason or "its departure is no longer in the origin's chain"
        ctx.told("reorganised", saga.transfer.saga_id, why)
        return ctx.log.moved(saga, S.SENT, note=why)
    if saga.state in BEFORE:
        at = _departed_at(ctx, saga, seen)
        saga = ctx.log.moved(saga, S.DEPARTED, departed_at=at, message_id=seen.message_id, note="seen, not final")
        ctx.checkpoint("departed")
    if seen.arrived or seen.returned:
        return _credited(ctx, saga, seen)
    if saga.state in HOME:
        ctx.told("reorganised", saga.transfer.saga_id, "the credit is no longer in the chain")
        saga = ctx.log.moved(saga, S.FINAL, note="its credit is no longer in the chain")
    if seen.final and saga.state is S.DEPARTED:
        saga = ctx.log.moved(saga, S.FINAL, message_id=seen.message_id, note=seen.reason)
        ctx.checkpoint("final")
    if not seen.final and not seen.deliverable:
        return saga
    return _wait(ctx, saga, seen)


def _departed_at(ctx: TransferContext, saga: Saga, seen: Sighting) -> int:
    """Return the time on the origin's clock when the departure was first seen."""
    del seen
    return ctx.end(saga.transfer.origin.chain_id).node.head().time


def departure_of(transfer: Transfer) -> Departure:
    """Return what the keeper asks the port for."""
    return Departure(
        transfer.route, transfer.amount, transfer.max_fee, transfer.nonce, transfer.deadline, transfer.saga_id,
        transfer.speed, transfer.fill_deadline, transfer.native_fee_wei,
    )  # fmt: skip


def _leave(ctx: TransferContext, saga: Saga) -> Saga:
    """Sign and send the departure, or look for the one that was sent; void where it can never land any more."""
    t = saga.transfer
    end = ctx.end(t.origin.chain_id)
    tx = end.vault.build_departure(departure_of(t))
    sent = saga.live("depart")
    if sent is None and saga.of("depart"):
        return ctx.log.moved(saga, S.VOID, note=f"its departure failed: {saga.of('depart')[-1].reply}")
    if end.node.head().time > t.deadline:
        return _too_late(ctx, saga, end)
    if sent is not None:
        return pursue(ctx, saga, sent, end, tx)
    try:
        return launch(ctx, saga, "depart", end, tx)
    except Refused as error:
        return ctx.log.moved(saga, S.VOID, note=f"nothing was signed: {error}")


def _too_late(ctx: TransferContext, saga: Saga, end: End) -> Saga:
    """Call a departure void once its deadline is past in a FINAL block, and it it is missing there twice."""
    sent = saga.live("depart")
    if sent is None:
        return ctx.log.moved(saga, S.VOID, note="its deadline passed before it was signed")
    receipt = canonical(end, sent.tx_hash)
    if receipt is not None:
        return pursue(ctx, saga, sent, end, None)
    final = last_final(end)
    if final < 0 or end.vault.snapshot(final).block_time <= saga.transfer.deadline:
        return saga
    if not saga.absent:
        return ctx.log.absent(saga, final)
    second = ctx.second.get(route_key(saga.transfer))
    other = second.find(saga.transfer) if second is not None else None
    if final < saga.absent + LATER_BLOCKS or (other is not None and (not other.known or other.departed)):
        return saga
    return ctx.log.moved(saga, S.VOID, note=f"its deadline is past in final block {final}, which holds no departure")


def _credited(ctx: TransferContext, saga: Saga, seen: Sighting) -> Saga:
    """Journal the credit to our vault, free the port's counter, settle once all of it is final."""
    state = S.RECEIVED if seen.arrived else S.REFUNDED
    facts = {"arrived": seen.arrived, "returned": seen.returned, "fee": seen.fee, "message_id": seen.message_id}
    if saga.state not in HOME:
        saga = ctx.log.moved(saga, state, note=f"credited in block {seen.credit_block}", **facts)
        ctx.checkpoint(str(state))
    elif (saga.arrived, saga.returned) != (seen.arrived, seen.returned):
        saga = ctx.log.moved(saga, state, note=f"credited otherwise in block {seen.credit_block}", **facts)
    if not seen.settled_final:
        return saga
    if not _freed(ctx, saga):
        saga = _settle(ctx, saga, returned=bool(seen.returned))
    if not _freed(ctx, saga):
        return saga
    saga = ctx.log.moved(saga, S.SETTLED, note="final on both chains, the port's counter is freed", **facts)
    ctx.checkpoint("settled")
    return saga


def _freed(ctx: TransferContext, saga: Saga) -> bool:
    """Return whether the settling call is mined for good, or the port counts nothing on the route any more."""
    if any(a.mined for a in saga.of("settle")):
        return True
    t, end = saga.transfer, ctx.end(saga.transfer.origin.chain_id)
    return end.vault.port_transit(t.route) == 0


def _settle(ctx: TransferContext, saga: Saga, *, returned: bool) -> Saga:
    """Free the port's counter; the call moves no money, so it may be tried again."""
    end = ctx.end(saga.transfer.origin.chain_id)
    tx = end.vault.build_settle(saga.transfer, returned=returned)
    sent = saga.live("settle")
    if sent is not None:
        return pursue(ctx, saga, sent, end, tx)
    try:
        return launch(ctx, saga, "settle", end, tx)
    except Refused as error:
        return _say(ctx, saga, f"the port's counter is not freed: {error}")


def _wait(ctx: TransferContext, saga: Saga, seen: Sighting) -> Saga:
    """Move a departed transfer on: deliver it, wait for a relayer or a refund, or raise the alarm that it is late."""
    bridge = ctx.bridge(saga.transfer)
    if seen.expired:
        saga = _late(ctx, saga, seen) if saga.state in {S.EXPIRED, S.REFUND_DUE, S.STUCK} else saga
        if saga.state in {S.EXPIRED, S.REFUND_DUE, S.STUCK}:
            return ctx.log.moved(saga, S.REFUND_DUE, note=seen.reason) if saga.state is S.EXPIRED else saga
        ctx.checkpoint("expired")
        return ctx.log.moved(saga, S.EXPIRED, note=seen.reason)
    if saga.state in {S.EXPIRED, S.REFUND_DUE}:
        saga = ctx.log.moved(saga, S.FINAL, note="not expired by the destination's clock after all")
    if saga.state is S.FINAL and bridge.describe().receive == "relayer":
        saga = ctx.log.moved(saga, S.FILLABLE, note=seen.reason)
    if seen.attested and saga.state is S.FINAL:
        saga = ctx.log.moved(saga, S.ATTESTED, message_id=seen.message_id, note=seen.reason)
        ctx.checkpoint("attested")
    saga = _deliver(ctx, saga, seen) if seen.deliverable else saga
    return _late(ctx, saga, seen)


def _deliver(ctx: TransferContext, saga: Saga, seen: Sighting) -> Saga:
    """Bring the message: sign one delivery at a time, a failed one again with gas simulated anew, twice at most."""
    end = ctx.end(saga.transfer.destination.chain_id)
    tx = ctx.bridge(saga.transfer).deliver(saga.transfer, seen)
    sent = saga.live("deliver")
    if tx is None:
        return saga
    if sent is not None and not (sent.mined and tx.data not in sent.raw):  # a final commit asks for the execution
        return pursue(ctx, saga, sent, end, tx)
    if _failures(saga) >= ctx.rules.delivery_tries:
        failed = f"{_failures(saga)} deliveries failed: {saga.of('deliver')[-1].reply}"
        words = f"{failed}; mend why and resume it; anybody may send it to {tx.to}"
        return saga if saga.state is S.STUCK else _alarm(ctx, saga, S.STUCK, words)
    if end.sequencer():
        return saga
    try:
        return launch(ctx, saga, "deliver", end, tx, ctx.rules.least_delivery_gas)
    except Refused as error:
        return _say(ctx, saga, f"not delivered yet: {error}")


def _failures(saga: Saga) -> int:
    return sum("reverted" in a.reply for a in saga.of("deliver") if a.failed)


def _late(ctx: TransferContext, saga: Saga, seen: Sighting) -> Saga:
    """Raise the alarm for a transfer that takes longer than it should, with what it waits for: overdue, then stuck."""
    t = saga.transfer
    if saga.state not in MOVING or saga.state is S.STUCK or not saga.departed_at:
        return saga
    age = age_s(ctx, saga)
    row = bridge_row(t.kind)
    usual = row.usual_s + (ctx.end(t.origin.chain_id).chain.usual_final_s if row.wait_final else 0.0)
    overdue = ctx.rules.overdue_s.get(t.kind, row.overdue_s)
    waits = t.fill_deadline - saga.departed_at if t.fill_deadline else 0.0
    slow = max(ctx.rules.stuck_factor * usual, 2 * overdue)
    stuck = waits + ctx.rules.refund_stuck_s if saga.state in {S.EXPIRED, S.REFUND_DUE} or t.fill_deadline else slow
    waited = f"; {seen.reason}" if seen.reason else ""
    if age > stuck:
        return _alarm(ctx, saga, S.STUCK, f"{age:.0f} s after its departure; at most {stuck:.0f} s are usual{waited}")
    if age > overdue and saga.state in {S.FINAL, S.ATTESTED, S.FILLABLE}:
        return _alarm(ctx, saga, S.OVERDUE, f"{age:.0f} s after its departure; {overdue:.0f} s are allowed{waited}")
    return saga


def age_s(ctx: TransferContext, saga: Saga) -> float:
    """Return the seconds since the departure, by whichever chain's clock went further; 0 before it."""
    if not saga.departed_at:
        return 0.0
    t = saga.transfer
    heads = [ctx.end(side.chain_id).node.head().time for side in (t.origin, t.destination)]
    return float(max(0, max(heads) - saga.departed_at))


def _alarm(ctx: TransferContext, saga: Saga, state: SagaState, words: str) -> Saga:
    ctx.told(str(state), saga.transfer.saga_id, words)
    return ctx.log.moved(saga, state, note=words)


def _recheck(ctx: TransferContext, saga: Saga) -> Saga:
    """Reopen a closed transfer that both chains now show otherwise."""
    try:
        seen = ctx.bridge(saga.transfer).find(saga.transfer)
        if not seen.known:
            return saga
        if saga.state is S.VOID and seen.departed:
            ctx.told("reorganised", saga.transfer.saga_id, "a departure that was void is in the chain")
            at = _departed_at(ctx, saga, seen)
            return ctx.log.moved(saga, S.DEPARTED, departed_at=at, note="it left after all")
        if saga.state is S.SETTLED and not seen.departed:
            ctx.told("reorganised", saga.transfer.saga_id, "a settled departure is gone from the origin's chain")
            return ctx.log.moved(saga, S.SENT, note="its departure is gone from the origin's chain")
        if saga.state is S.SETTLED and not (seen.arrived or seen.returned):
            ctx.told("reorganised", saga.transfer.saga_id, "a settled credit is gone from the chain")
            return ctx.log.moved(saga, S.FINAL, note="its credit is gone from the chain")
    except RpcError:
        return saga
    return saga


def write_down(ctx: TransferContext, saga: Saga, person: str, reason: str) -> Saga:
    """Write a stuck transfer down, by a named person with a reason; it is looked for ever after and reopened."""
    return ctx.log.moved(saga, S.WRITTEN_DOWN, person=person.strip(), note=reason.strip())
