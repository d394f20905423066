"""How a plan's end is told: by its receipt, and by what the vault itself says it executed.

A receipt that says failed, or none at all, ends nothing that the vault says was executed. What owners signed anybody
may send, so it may be a transaction of somebody else's that did; it is settled by that one. Where the node does not
show the transaction that the vault names it contradicts itself, and the next look decides.
"""

from __future__ import annotations

from typing import Protocol

from lake.errors import RpcError
from policy.execution.base import Plan, Receipt, Settlement, Verdict
from policy.execution.checks.verdicts import refused
from policy.execution.context import EngineContext, attempts_json
from policy.execution.records.codec import settlement_json
from policy.execution.records.journal import NOTHING_TRADED, Attempt, Flight, Journal
from policy.execution.submission.node import BlockHeader

GONE = "its transaction is no longer in the chain"


class Executing(Protocol):
    """Whatever says itself which of its plans it executed."""

    def executed_by(self, plan: Plan) -> str | None:
        """Return the transaction that executed ``plan``, None where there is none."""
        ...


def canonical(ctx: EngineContext, flight: Flight) -> tuple[Attempt, Receipt] | None:
    """Return the attempt that is in the canonical chain, checked against the block's own hash."""
    for attempt in reversed(flight.current):
        receipt = ctx.node.receipt(attempt.tx_hash)
        if receipt is not None and ctx.node.block_hash(receipt.block_number) == receipt.block_hash:
            return attempt, receipt
    return None


def noted(
    ctx: EngineContext, flight: Flight, receipt: Receipt, head: BlockHeader, checkpoint: str
) -> tuple[Flight, bool]:
    """Journal where ``receipt`` was mined, where that is new; return also whether it lies deep enough to count."""
    seen = (receipt.tx_hash, receipt.block_number, receipt.block_hash, receipt.status)
    if flight.mined != seen or flight.state != "mined":
        flight = ctx.journal.mined(*seen)
        ctx.checkpoint(checkpoint)
    return flight, head.number - receipt.block_number + 1 >= ctx.limits.confirmations


def settle(
    ctx: EngineContext, flight: Flight, attempt: Attempt, receipt: Receipt, head: BlockHeader
) -> tuple[Flight, Settlement | None]:
    """Close a flight whose transaction is final: landed, reverted, or void by its no-op.

    Raises RpcError where the node contradicts itself about it.
    """
    if attempt.kind == "cancel":
        return untraded(ctx, flight, head, "void", "cancelled by a no-op")
    settlement = ctx.vault.verify(receipt, flight.plan)
    if final_status(settlement, receipt) == "landed":
        return _traded(ctx, flight, settlement, receipt)
    return untraded(ctx, flight, head, "reverted", where(receipt), (settlement, receipt.tx_hash))


def untraded(
    ctx: EngineContext,
    flight: Flight,
    head: BlockHeader,
    state: str,
    note: str,
    told: tuple[Settlement, str] | None = None,
) -> tuple[Flight, Settlement | None]:
    """Close a flight of which nothing was traded, unless the vault says that its plan was executed.

    ``told``: the settlement and the transaction that the audit names, where there are any. Raises RpcError where the
    node does not show the transaction that the vault names.
    """
    by = ctx.vault.executed_by(flight.plan)
    if by is not None:
        receipt = executing(ctx, flight.plan, by)
        flight, deep = noted(ctx, flight, receipt, head, "journal_mined")
        if not deep:
            return flight, None
        settlement = ctx.vault.verify(receipt, flight.plan)
        if final_status(settlement, receipt) != "landed":
            raise _denied(flight.plan, by)
        return _traded(ctx, flight, settlement, receipt)
    if flight.mined is not None and state == "void" and canonical(ctx, flight) is None:
        flight = ctx.journal.reopen(GONE)
    found, name = told or (None, note)
    record(ctx, flight, state, found, name)
    ctx.checkpoint("audit_settled")
    return ctx.journal.close(state, note), found


def executing(ctx: EngineContext, plan: Plan, by: str) -> Receipt:
    """Return the receipt of the transaction that the vault says executed ``plan``; RpcError without a good one."""
    receipt = ctx.node.receipt(by)
    if receipt is None or receipt.status != 1 or ctx.node.block_hash(receipt.block_number) != receipt.block_hash:
        raise _denied(plan, by)
    return receipt


def _denied(plan: Plan, by: str) -> RpcError:
    return RpcError(
        f"the node contradicts itself: the vault executed plan {plan.nonce} in {by}, which it does not show as done"
    )


def contradicted(journal: Journal, vault: Executing, nonce: int) -> list[Verdict]:
    """Return the refusal of a node that said a plan came to nothing and shows now, at plan ``nonce``, that it landed.

    The next cycle looks that plan up anew before it decides.
    """
    last = journal.last()
    if last is None or last.state not in NOTHING_TRADED or nonce <= last.plan.nonce:
        return []
    by = vault.executed_by(last.plan)
    if by is None:
        return []
    words = f"the node said that plan {last.plan.nonce} came to nothing, and says now that {by} executed it"
    return [refused("node_lagging", words, nonce=last.plan.nonce)]


def _traded(
    ctx: EngineContext, flight: Flight, settlement: Settlement, receipt: Receipt
) -> tuple[Flight, Settlement | None]:
    if flight.plan.order is not None:
        return ctx.journal.offered(where(receipt)), None
    record(ctx, flight, "landed", settlement, receipt.tx_hash)
    ctx.checkpoint("audit_settled")
    return ctx.journal.close("landed", where(receipt)), settlement


def final_status(settlement: Settlement, receipt: Receipt) -> str:
    """Return landed or reverted; what succeeded and moved balances was a trade, and is never made a second time."""
    acted = settlement.landed or (receipt.status == 1 and any(settlement.deltas.values()))
    return "landed" if acted else "reverted"


def record(ctx: EngineContext, flight: Flight, outcome: str, settlement: Settlement | None, note: str) -> None:
    """Append the settlement to the audit, once per plan, outcome and transaction."""
    plan_hash = "0x" + flight.plan.plan_hash.hex()
    if ctx.audit.has("settlement", plan_hash=plan_hash, outcome=outcome, note=note):
        return
    ctx.audit.append(
        "settlement",
        {
            "decision_id": flight.plan.decision_id,
            "ts": ctx.clock().isoformat(),
            "plan_hash": plan_hash,
            "outcome": outcome,
            "note": note,
            "attempts": attempts_json(flight),
            "settlement": None if settlement is None else settlement_json(settlement),
        },
    )


def where(receipt: Receipt) -> str:
    """Return transaction and block of a receipt in words."""
    return f"{receipt.tx_hash} in block {receipt.block_number}"
