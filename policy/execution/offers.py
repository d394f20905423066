"""The life of an order after it was armed: looked up, published, ended by a transaction of its own, settled.

While one is armed nothing else may be planned. Whoever ends it, and however, is read off the chain: the vault's own
record of the end, its state, and the venue's word on the fill. Every step is journaled before it is taken; a run that
dies goes on where the chain stands.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, runtime_checkable

from lake.errors import RpcError
from policy.execution.attempts import affordable, hand_over, push, send_signed, used_up
from policy.execution.base import Plan, Receipt, Settlement, UnsignedTx
from policy.execution.checks.verdicts import refusals
from policy.execution.context import EngineContext
from policy.execution.records.journal import Flight
from policy.execution.settling import canonical, noted, record, where
from policy.execution.submission.node import BlockHeader
from policy.execution.submission.signer import TxRequest
from policy.execution.vaults.reference.offering import OrderState

DISARM_GAS = 160_000
"""Gas limit of ending an order; it uses about 60,000, a token's own approval included."""


@runtime_checkable
class OffersOrders(Protocol):
    """A vault that offers orders, see ``vaults.reference.offering.Offering``."""

    def disarm(self, chain_id: int) -> UnsignedTx:
        """Return the call that ends the armed order."""
        ...

    def order_state(self, plan: Plan, block: int | str = "latest") -> OrderState:
        """Look up where the order stands."""
        ...

    def standing(self, chain_id: int, block: int | str = "latest") -> Plan | None:
        """Return the order that is armed on chain."""
        ...

    def ended(self, receipt: Receipt, plan: Plan) -> bool | None:
        """Return whether it was filled, by the record of its end."""
        ...

    def ended_elsewhere(self, plan: Plan) -> str | None:
        """Return the transaction that ended it."""
        ...

    def settle_fill(self, plan: Plan, paid: tuple[Receipt, ...]) -> Settlement:
        """Judge a filled order."""
        ...


def tend(ctx: EngineContext, flight: Flight, end: str = "") -> tuple[Flight, Settlement | None]:
    """Look an offered ``flight`` up, and end its order where it is filled, has expired, or ``end`` says why.

    Returns it open as long as somebody may still fill it, or its end is not final. A node that fails ends nothing.
    """
    told, first = "", None
    for _ in range(max(4 * ctx.limits.watch_blocks, 1)):
        head = BlockHeader(0, "", 0, 0, 0, 1)
        try:
            head = ctx.node.head()
            first = head.number if first is None else first
            flight, settlement = _look(ctx, flight, head, end)
            if not flight.open or flight.state == "offered":
                return flight, settlement
            flight = push(ctx, flight, head) if ctx.live else flight
            told = ""
            if head.number - first >= ctx.limits.watch_blocks or not ctx.live:
                break
            ctx.checkpoint("watch_order")
            ctx.wait(head)
        except RpcError as error:
            told = str(error)
            flight = ctx.journal.in_flight() or flight
            break
    return replace(flight, note=told or flight.note), None


def adopt(ctx: EngineContext) -> Flight | None:
    """Journal an order that is armed on chain and unknown here (a lost journal, another's key); None without one."""
    if not isinstance(ctx.vault, OffersOrders) or not ctx.live or ctx.signer is None:
        return None
    plan = ctx.vault.standing(ctx.chain_id)
    if plan is None:
        return None
    ctx.journal.plan(plan, channel="public", forced=True, benefit_usd=0.0, gas_used=DISARM_GAS, other_cost_usd=0.0)
    ctx.checkpoint("adopted")
    return ctx.journal.offered("it was found armed on chain")


def _vault(ctx: EngineContext) -> OffersOrders:
    assert isinstance(ctx.vault, OffersOrders)
    return ctx.vault


def _look(ctx: EngineContext, flight: Flight, head: BlockHeader, end: str) -> tuple[Flight, Settlement | None]:
    if flight.state == "offered" or not flight.current:
        return _standing(ctx, flight, head, end)
    found = canonical(ctx, flight)
    if found is not None:
        attempt, receipt = found
        flight, deep = noted(ctx, flight, receipt, head, "journal_end_mined")
        if not deep:
            return flight, None
        filled = _vault(ctx).ended(receipt, flight.plan) if attempt.kind == "disarm" else None
        if filled is None:
            return ctx.journal.offered(f"{receipt.tx_hash} did not end it"), None
        return _ended(ctx, flight, head, filled, where(receipt))
    if used_up(ctx, flight, head):
        return ctx.journal.offered("the account nonce of its end was used by another transaction"), None
    return flight, None


def _standing(ctx: EngineContext, flight: Flight, head: BlockHeader, end: str) -> tuple[Flight, Settlement | None]:
    """Decide on an order whose end is not on its way: leave it, end it, or read how somebody else did."""
    vault, plan = _vault(ctx), flight.plan
    now = vault.order_state(plan)
    if now.armed:
        why = "filled" if now.filled else "expired" if head.time > plan.deadline else end
        if not why:
            _publish(ctx, flight)
            return flight, None
        return (_disarm(ctx, flight, head) if not now.paused else flight), None
    settled = vault.order_state(plan, max(0, head.number - ctx.limits.confirmations + 1))
    if settled.armed:
        return flight, None
    late = head.time > plan.deadline + ctx.limits.confirmations * ctx.limits.block_time_s
    arming = [a for a in flight.attempts[: flight.armed] if a.kind == "plan"]
    receipts = [ctx.node.receipt(a.tx_hash) for a in arming]
    unseen = arming and not any(r is not None and r.status == 1 for r in receipts)
    if unseen and ctx.vault.executed_by(plan) is None:
        if not late:  # its block was replaced: the same bytes can only land once
            return (hand_over(ctx, plan, arming[-1], head) if ctx.live else flight), None
        return _closed(ctx, flight, "expired", None, "the transaction that armed it is no longer in the chain"), None
    by = vault.ended_elsewhere(plan)
    note = f"ended by {by}" if by else "the owner made it void"
    return _ended(ctx, flight, head, settled.filled, note)


def _ended(
    ctx: EngineContext, flight: Flight, head: BlockHeader, filled: bool, note: str
) -> tuple[Flight, Settlement | None]:
    """Close it as the chain says; a fill is settled from its transfers and the balances."""
    if not filled:
        state = "expired" if head.time > flight.plan.deadline else "disarmed"
        return _closed(ctx, flight, state, None, note), None
    paid = tuple(r for r in (ctx.node.receipt(a.tx_hash) for a in flight.attempts) if r is not None)
    settlement = _vault(ctx).settle_fill(flight.plan, paid)
    return _closed(ctx, flight, "filled", settlement, note), settlement


def _closed(ctx: EngineContext, flight: Flight, state: str, settlement: Settlement | None, note: str) -> Flight:
    record(ctx, flight, state, settlement, note)
    ctx.checkpoint("audit_ended")
    return ctx.journal.close(state, note)


def _disarm(ctx: EngineContext, flight: Flight, head: BlockHeader) -> Flight:
    """Sign and send the end of the order, where the keeper can pay for it."""
    if not ctx.live or ctx.signer is None:
        return flight
    bid, nonce, short = affordable(ctx, DISARM_GAS, head, urgent=True)
    if bid is None or refusals(short):
        return replace(flight, note=short[0].reason if short else "")
    tx = _vault(ctx).disarm(flight.plan.chain_id)
    request = TxRequest(tx.chain_id, tx.to, tx.data, 0, nonce, DISARM_GAS, bid.max_fee_wei, bid.tip_wei)
    ctx.checkpoint("end_order")
    return send_signed(ctx, ctx.signer, flight, request, "disarm", str(flight.context.get("channel", "public")))


def _publish(ctx: EngineContext, flight: Flight) -> None:
    """Tell the order book of the venue, where one is configured; it is told once, and again costs nothing."""
    if ctx.order_book is None or not ctx.live or flight.plan.order is None:
        return
    reply = ctx.order_book.publish(flight.plan.order, flight.plan.vault, flight.plan.plan_hash)
    if reply:
        ctx.journal.note("published", decision_id=flight.plan.decision_id, reply=reply)
    ctx.checkpoint("published")
