"""The life of one plan after it was journaled: sign, send, watch, bump, cancel, and what became of it.

Nothing is sent before its bytes are on disk; no answer is never "failed" but "look it up"; a status is final only
after enough blocks on the canonical chain, and is looked at once more by the next step.
"""

from __future__ import annotations

from dataclasses import replace

from lake.errors import ExecutionError, RpcError
from policy.execution.base import AttemptFate, Plan, Settlement, UnsignedTx, Vault, Verdict
from policy.execution.checks.guards import gas_money
from policy.execution.checks.verdicts import refusals, refused
from policy.execution.context import EngineContext
from policy.execution.records.journal import Attempt, Flight
from policy.execution.settling import canonical, noted, settle, untraded
from policy.execution.submission.channels import Reply
from policy.execution.submission.gas import (
    NOOP_GAS,
    Bid,
    bump,
    first_bid,
    next_base_fee,
    noop,
    plan_ceiling,
    raised,
    usual_tip,
)
from policy.execution.submission.node import BlockHeader
from policy.execution.submission.signer import Signer, TxRequest
from policy.execution.vaults.common import require_own
from policy.execution.vaults.reference.offering import Offering


class Stopped(ExecutionError):
    """Trading was stopped while a cycle was under way; what it had journaled is looked up when it goes on."""


OLD_BLOCKS = 64
"""Blocks after which what was mined is in every node's count; only younger transactions are remembered against it."""


def account_nonce(ctx: EngineContext, head: BlockHeader) -> int:
    """Return the sender's next nonce; a lagging node cannot make it fall below what was mined just now."""
    used = [
        a.account_nonce + 1
        for f in ctx.journal.flights()
        if f.mined is not None and not f.open and f.mined[1] + OLD_BLOCKS > head.number
        for a in _own(ctx, f)
        if a.tx_hash == f.mined[0]
    ]
    return max([ctx.node.account_nonce(ctx.sender), *used])


def _own(ctx: EngineContext, flight: Flight) -> list[Attempt]:
    """Return the attempts of the present keeper's account (those of old journals do not say whose they are)."""
    return [a for a in flight.attempts if a.sender.lower() in {"", ctx.sender.lower()}]


def earlier_bids(ctx: EngineContext, nonce: int) -> list[Bid]:
    """Return the bids ever signed at ``nonce``: what is still pooled there must be outbid."""
    return [
        Bid(a.max_fee_wei, a.tip_wei) for f in ctx.journal.flights() for a in _own(ctx, f) if a.account_nonce == nonce
    ]


def affordable(
    ctx: EngineContext, gas_limit: int, head: BlockHeader, *, urgent: bool = False
) -> tuple[Bid | None, int, list[Verdict]]:
    """Return the first bid, the account nonce and the refusals: market above the ceiling, or too little gas money.

    An ``urgent`` bid survives ``limits.urgent_blocks`` full blocks instead of the usual number.
    """
    nonce = account_nonce(ctx, head)
    rules = replace(ctx.limits.gas, blocks=ctx.limits.urgent_blocks) if urgent else ctx.limits.gas
    bid = first_bid(head, ctx.node.fee_history(20), rules, earlier_bids(ctx, nonce))
    if bid is None:
        base = next_base_fee(head, ctx.limits.gas)
        reason = f"the next base fee is {base} wei, a plan may offer {plan_ceiling(ctx.limits.gas)} at most"
        return None, nonce, [refused("gas_ceiling", reason, base_fee_wei=str(base))]
    reserve = NOOP_GAS * raised(bid.max_fee_wei)
    money = gas_money(ctx.node.balance(ctx.sender), gas_limit, bid.max_fee_wei, reserve)
    return bid, nonce, list(refusals([money]))


def launch(ctx: EngineContext, signer: Signer, flight: Flight, bid: Bid, nonce: int, gas_limit: int) -> Flight:
    """Sign the plan of a journaled ``flight`` and send it once."""
    require_own(flight.plan, ctx.vault_address, ctx.chain_id)
    tx = ctx.vault.build(flight.plan)
    request = TxRequest(tx.chain_id, tx.to, tx.data, tx.value, nonce, gas_limit, bid.max_fee_wei, bid.tip_wei)
    return send_signed(ctx, signer, flight, request, "plan", str(flight.context["channel"]))


def send_signed(
    ctx: EngineContext, signer: Signer, flight: Flight, request: TxRequest, kind: str, channel: str
) -> Flight:
    """Sign, journal, hand over, journal the reply. Raises Stopped where trading was stopped meanwhile."""
    _require_running(ctx)
    signed = signer.sign(request)
    ctx.checkpoint("sign")
    head = ctx.node.head()
    attempt = Attempt(
        kind,
        signed.tx_hash,
        signed.raw,
        request.nonce,
        request.gas_limit,
        request.max_fee_wei,
        request.tip_wei,
        channel,
        head.number,
        sender=ctx.sender,
    )
    ctx.journal.signed(attempt)
    ctx.checkpoint("journal_signed")
    return hand_over(ctx, flight.plan, attempt, head)


def hand_over(ctx: EngineContext, plan: Plan, attempt: Attempt, head: BlockHeader) -> Flight:
    """Give the signed bytes to their channel (the first time or again: the same bytes can only land once)."""
    _require_running(ctx)
    blocks = max(1, int((plan.deadline - head.time) // ctx.limits.block_time_s))
    name = attempt.channel if attempt.channel in ctx.channels else "public"
    reply = ctx.channels[name].send(attempt.raw, attempt.tx_hash, head.number + 1, head.number + blocks)
    ctx.checkpoint("send")
    flight = ctx.journal.sent(attempt.tx_hash, reply.text, reply.taken)
    ctx.checkpoint("journal_sent")
    return flight


def _require_running(ctx: EngineContext) -> None:
    words = ctx.halted()
    if words is not None:
        raise Stopped(words)


def follow(ctx: EngineContext, flight: Flight) -> tuple[Flight, Settlement | None]:
    """Watch ``flight`` until its status is final or the step's patience ends; bumps, cancels, rebroadcasts on the way.

    A node that fails or contradicts itself ends nothing: the next look decides. A flight that stays open carries the
    error of the last look, if it failed, as its note.
    """
    told = ""
    first: int | None = None
    for _ in range(max(4 * ctx.limits.watch_blocks, 1)):
        head = BlockHeader(0, "", 0, 0, 0, 1)
        try:
            head = ctx.node.head()
            first = head.number if first is None else first
            flight, settlement = look(ctx, flight, head)
            if not flight.open or flight.armed is not None:
                return flight, settlement
            flight = push(ctx, flight, head)
            told = ""
            if head.number - first >= ctx.limits.watch_blocks:
                break
            ctx.checkpoint("watch")
            ctx.wait(head)
        except RpcError as error:
            told = str(error)
            flight = ctx.journal.in_flight() or flight  # what was journaled before the node failed counts
            if ctx.limits.watch_blocks:
                _pause(ctx, head)
    return replace(flight, note=told), None


def standing(flight: Flight) -> str:
    """Return what keeps an open flight open: what the node said to the last hand-over, and the last error."""
    parts = []
    if flight.state == "offered":
        return f"an order is armed and may be filled until {flight.plan.deadline}: {flight.note}"
    if flight.attempts:
        last = flight.attempts[-1]
        held = "" if last.taken is not False else f"; the {last.channel} channel did not take it: {last.reply}"
        lost = f"; no clear reply to it: {last.reply}" if last.taken is None and last.sent and last.reply else ""
        parts.append(f"{last.kind} {last.tx_hash} waits since block {last.block}{held}{lost}")
    if flight.note:
        parts.append(f"the last look failed: {flight.note}")
    return "; ".join(parts) or "planned, not signed"


def _pause(ctx: EngineContext, head: BlockHeader) -> None:
    """Wait although the node just failed; it may fail here too."""
    try:
        ctx.wait(head)
    except RpcError:
        ctx.checkpoint("node_down")


def look(ctx: EngineContext, flight: Flight, head: BlockHeader) -> tuple[Flight, Settlement | None]:
    """Look the flight up once: journal what is found, settle it when final. RpcError when the node does not answer."""
    found = canonical(ctx, flight)
    if found is not None:
        attempt, receipt = found
        flight, deep = noted(ctx, flight, receipt, head, "journal_mined")
        return settle(ctx, flight, attempt, receipt, head) if deep else (flight, None)
    if not flight.attempts:
        return untraded(ctx, flight, head, "void", "it was planned but never signed")
    late = head.time > flight.plan.deadline + ctx.limits.confirmations * ctx.limits.block_time_s
    if late and ctx.vault.recover(flight.plan, flight.hashes()) is not AttemptFate.REPLACEABLE:
        why = f"block time {head.time} is past its deadline {flight.plan.deadline}"
    elif used_up(ctx, flight, head):
        nonce, sender = flight.attempts[-1].account_nonce, flight.attempts[-1].sender or ctx.sender
        why = f"account nonce {nonce} of {sender} was used by another transaction"
    else:
        return flight, None
    return untraded(ctx, flight, head, "void", f"{why}{_refusal(flight)}")


def used_up(ctx: EngineContext, flight: Flight, head: BlockHeader) -> bool:
    """Return whether another transaction has used the account nonce of the newest attempt, finally."""
    nonce, sender = flight.attempts[-1].account_nonce, flight.attempts[-1].sender or ctx.sender
    settled = max(0, head.number - ctx.limits.confirmations + 1)
    return ctx.node.account_nonce(sender, settled) > nonce and canonical(ctx, flight) is None


def _refusal(flight: Flight) -> str:
    """Return the words of a channel that did not take the last attempt."""
    last = flight.attempts[-1]
    return f"; it was never taken: {last.reply}" if last.taken is False else ""


def push(ctx: EngineContext, flight: Flight, head: BlockHeader) -> Flight:
    """Move a waiting flight on: send unsent or forgotten bytes again, replace what waits too long."""
    if flight.state == "mined" and canonical(ctx, flight) is not None:
        return flight
    last = flight.attempts[-1]
    if head.time > flight.plan.deadline and last.kind == "plan":
        return flight  # it can no longer execute; the deadline will close it
    if not last.sent or flight.state in {"mined", "reopened"}:
        return hand_over(ctx, flight.plan, last, head)
    waited = head.number - last.block
    if waited <= 0:
        return flight
    held, outbid = _stands(ctx, flight, last)
    worth = last.kind in {"plan", "disarm"} and last in _own(ctx, flight) and waited >= ctx.limits.bump_after
    if ctx.signer is not None and worth and (held or outbid):
        return _replace(ctx, ctx.signer, flight, last, head)
    return flight if held else hand_over(ctx, flight.plan, last, head)


def _stands(ctx: EngineContext, flight: Flight, last: Attempt) -> tuple[bool, bool]:
    """Return whether ``last`` is held by a pool, and whether a higher bid is what its pool asks for.

    Only what a pool holds is worth a bump; what it refused is offered again as it is, at no cost. A refused replacement
    is outbid where an earlier attempt of ours is in its way, never what somebody else sent at this nonce.
    """
    reply = Reply(last.taken, last.reply)
    if last.channel != "public":
        return last.taken is True, reply.outbid
    if reply.known or ctx.node.knows(last.tx_hash):
        return True, False
    if reply.outbid and "replacement" in reply.text.lower():
        return False, any(ctx.node.knows(a.tx_hash) for a in flight.attempts[:-1])
    return False, reply.outbid


def _replace(ctx: EngineContext, signer: Signer, flight: Flight, last: Attempt, head: BlockHeader) -> Flight:
    """Bump the plan if it still pays at the new price, else replace it by a no-op of 21,000 gas."""
    history = ctx.node.fee_history(20)
    old = Bid(last.max_fee_wei, last.tip_wei)
    bid = bump(old, head, history, ctx.limits.gas)
    price = next_base_fee(head, ctx.limits.gas) + usual_tip(history, ctx.limits.gas)
    if bid is not None and (last.kind == "disarm" or _still_pays(flight, price)):
        request = _again(ctx, flight.plan, last, bid)
        return send_signed(ctx, signer, flight, request, last.kind, last.channel)
    bid = noop(old, head, history, ctx.limits.gas)
    request = TxRequest(
        flight.plan.chain_id, ctx.sender, b"", 0, last.account_nonce, NOOP_GAS, bid.max_fee_wei, bid.tip_wei
    )
    ctx.channels[last.channel if last.channel in ctx.channels else "public"].cancel(last.tx_hash)
    return send_signed(ctx, signer, flight, request, "cancel", "public")


def _again(ctx: EngineContext, plan: Plan, last: Attempt, bid: Bid) -> TxRequest:
    require_own(plan, ctx.vault_address, ctx.chain_id)
    tx = ending(ctx.vault, plan.chain_id) if last.kind == "disarm" else ctx.vault.build(plan)
    return TxRequest(
        tx.chain_id, tx.to, tx.data, tx.value, last.account_nonce, last.gas_limit, bid.max_fee_wei, bid.tip_wei
    )


def ending(vault: Vault, chain_id: int) -> UnsignedTx:
    """Return the call that ends the vault's order; only a vault that offers has been asked for one."""
    assert isinstance(vault, Offering)
    return vault.disarm(chain_id)


def _still_pays(flight: Flight, gas_price_wei: int) -> bool:
    """Return whether the plan's benefit still exceeds its cost at ``gas_price_wei``; a forced trade always does."""
    c = flight.context
    if c["forced"]:
        return True
    gas_usd = float(c["gas_used"]) * gas_price_wei / 1e18 * float(c["native_usd"])
    return float(c["benefit_usd"]) > gas_usd + float(c["other_cost_usd"])
