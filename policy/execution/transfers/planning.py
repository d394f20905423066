"""From a wish (so much from here to there) to a journalled transfer, or the verdicts that say why not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from lake.errors import ExecutionError, RpcError
from policy.execution.base import Verdict
from policy.execution.bridges.base import Side, Speed, Transfer, TransferQuote
from policy.execution.checks.verdicts import refused
from policy.execution.records.codec import verdicts_json
from policy.execution.records.halt import REMEDY
from policy.execution.transfers.checks import Prospect, departure_verdicts
from policy.execution.transfers.ends import End, TransferContext
from policy.execution.transfers.ledger import count
from policy.execution.transfers.saga import Saga


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person or a decision wants: raw units of the origin's cash, and by which route."""

    kind: str
    origin: int
    destination: int
    route: int
    amount: int
    why: str
    decision_id: str = ""
    speed: Speed = "final"


@dataclass(frozen=True, slots=True)
class PlannedTransfer:
    """A transfer made of a wish, its quote and the verdicts that stop it; ``saga`` where it was journalled."""

    transfer: Transfer
    quote: TransferQuote | None
    verdicts: tuple[Verdict, ...] = ()
    saga: Saga | None = None

    def json(self) -> dict[str, Any]:
        """Return the plan as JSON, amounts as texts."""
        q = self.quote
        return {
            "saga_id": self.transfer.saga_id,
            "bridge": self.transfer.kind,
            "from": self.transfer.origin.chain_id,
            "to": self.transfer.destination.chain_id,
            "asset": self.transfer.asset,
            "amount": str(self.transfer.amount),
            "least": None if q is None else str(q.least),
            "fee": None if q is None else str(q.fee),
            "native_fee_wei": None if q is None else str(q.native_fee_wei),
            "gas_origin": None if q is None else q.gas_origin,
            "gas_destination": None if q is None else q.gas_destination,
            "usual_s": None if q is None else q.usual_s,
            "verdicts": verdicts_json(self.verdicts),
            "planned": self.saga is not None,
        }


def plan_transfer(ctx: TransferContext, wish: Wish) -> PlannedTransfer:
    """Quote ``wish``, size it down to what the bridge takes, check it on both chains and journal it where it may go.

    A dry context journals nothing. The amounts of the plan are the quote's: least received, fee at most.
    """
    if wish.origin == wish.destination:
        raise ExecutionError("a transfer goes from one chain to another; both are the same")
    if wish.amount <= 0:
        raise ExecutionError(f"a transfer moves more than 0 raw units; {wish.amount} were asked for")
    origin, destination = ctx.end(wish.origin), ctx.end(wish.destination)
    try:
        snapshots = {c: e.vault.snapshot() for c, e in ctx.ends.items()}
        transfer = _draft(ctx, wish, origin, destination)
        bridge = ctx.bridge(transfer)
        heads = (snapshots[wish.origin].block_number, snapshots[wish.destination].block_number)
        quote = bridge.quote(transfer, heads)
        if isinstance(quote, Verdict):
            return PlannedTransfer(transfer, None, (quote,))
        transfer = replace(transfer, amount=quote.amount, least=quote.least, max_fee=quote.fee)
        quote = bridge.quote(transfer, heads)
        if isinstance(quote, Verdict):
            return PlannedTransfer(transfer, None, (quote,))
        transfer = replace(transfer, native_fee_wei=quote.native_fee_wei)
        found = departure_verdicts(ctx, Prospect(transfer, quote, snapshots, count(ctx)))
    except RpcError as error:
        raise ExecutionError(f"no transfer is planned while a chain cannot be read: {error}") from None
    words = ctx.halted()
    if words is not None:
        found = (*found, refused("halted", f"{words}; {REMEDY}"))
    made = PlannedTransfer(transfer, quote, found)
    if found or not ctx.live:
        return made
    told = {
        "why": wish.why,
        "decision_id": wish.decision_id,
        "least": str(quote.least),
        "fee": str(quote.fee),
        "usual_s": quote.usual_s,
        "blocks": [[s.chain_id, s.block_number, s.block_hash] for s in snapshots.values()],
    }
    return replace(made, saga=ctx.log.plan(transfer, snapshots[wish.origin].block_time, told))


def _draft(ctx: TransferContext, wish: Wish, origin: End, destination: End) -> Transfer:
    a, b = origin.vault.snapshot(), destination.node.head()
    number = len(ctx.log.sagas())
    words = f"{wish.decision_id}|{wish.origin}|{wish.destination}|{a.plan_nonce}|{number}|{a.block_hash}"
    made = Transfer(
        saga_id="0x" + sha256(words.encode()).hexdigest(),
        kind=wish.kind,
        asset=origin.cash.symbol,
        origin=Side(wish.origin, origin.address, origin.cash.address, origin.cash.decimals),
        destination=Side(wish.destination, destination.address, destination.cash.address, destination.cash.decimals),
        route=wish.route,
        amount=wish.amount,
        max_fee=0,
        least=0,
        nonce=a.plan_nonce,
        deadline=a.block_time + ctx.rules.deadline_s,
        since=(a.block_number, b.number),
        speed=wish.speed,
    )
    timed = ctx.bridge(made).describe().has_deadline
    return replace(made, fill_deadline=b.time + ctx.rules.fill_s) if timed else made
