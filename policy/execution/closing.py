"""Close deposits and oracle-priced exits while the market denies NAV: one order, journalled, looked up, never doubled.

The keeper may close them by the vault's own contract, for at most a day, and open them never: that is a person's to do,
and is not overruled. An order lives like a plan (write-ahead, bumped, looked up after a kill), in a journal of its own;
it is sent when no plan is on its way, and no plan while it is. What it costs in gas is never weighed against a benefit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from eth_utils.crypto import keccak

from lake.errors import RpcError
from policy.execution.attempts import affordable, follow, launch, standing
from policy.execution.base import AttemptFate, Plan, Receipt, Settlement, Snapshot, UnsignedTx
from policy.execution.checks.verdicts import NAV_DENIED, explain, passed, refusals, refused
from policy.execution.context import EngineContext, StepReport
from policy.execution.observation import decision_id
from policy.execution.records.audit import Audit
from policy.execution.records.hashlog import Body, Line
from policy.execution.records.journal import Flight, Journal
from policy.execution.recovery import genesis, recover
from policy.execution.submission.node import Node
from policy.execution.submission.quorum import quorum

DEADLINE_S = 3_600
"""Seconds after which an order that was not mined is given up; the next step finds out anew whether one is needed."""
KEPT, SENT, WAITS = "kept", "sent", "waits"
"""What came of looking: nothing was sent, an order landed (or failed) now, one is still on its way."""
NAME = "close"
"""What stands in the place of a policy's name in an order's decision id."""


@runtime_checkable
class Closable(Protocol):
    """A vault whose deposits and exits at the oracle's price the keeper can close for a while."""

    def doubt(self, seconds: int) -> UnsignedTx:
        """Return the call that closes them."""
        ...

    def doubted_until(self, block: int | str = "latest") -> int:
        """Return until when they are closed, unix seconds."""
        ...


class _Closings(Audit):
    """The same record; an order is written as ``closing``, so that nobody takes it for a plan that was settled."""

    def append(self, event: str, body: Body) -> Line:
        """Write one record."""
        return super().append("closing" if event == "settlement" else event, body)

    def has(self, event: str, **fields: str) -> bool:
        """Return whether a record is there."""
        return super().has("closing" if event == "settlement" else event, **fields)


@dataclass(frozen=True, slots=True)
class Closing:
    """Orders in the shape of plans without legs; ``min_nav`` of one holds the seconds that it closes for."""

    vault: Closable
    node: Node

    def build(self, plan: Plan) -> UnsignedTx:
        """Encode the order."""
        return self.vault.doubt(plan.min_nav)

    def verify(self, receipt: Receipt, plan: Plan) -> Settlement:
        """Judge a mined order: it moves nothing."""
        del plan
        cost = receipt.gas_used * receipt.effective_gas_price_wei
        return Settlement(receipt.status == 1, {}, 0, 0, receipt.gas_used, cost, ())

    def executed_by(self, plan: Plan) -> str | None:
        """Return None: the vault keeps no record of orders; whether it is closed is read before each."""
        del plan
        return None

    def recover(self, plan: Plan, tx_hashes: Sequence[str]) -> AttemptFate:
        """Look an order up by its transactions."""
        for receipt in (self.node.receipt(h) for h in tx_hashes):
            if receipt is not None:
                return AttemptFate.LANDED if receipt.status == 1 else AttemptFate.VOID
        return AttemptFate.VOID if self.node.head().time > plan.deadline else AttemptFate.REPLACEABLE


def closings_of(journal: Path) -> Path:
    """Return where the orders of the vault with this journal are kept."""
    return journal.with_name(f"{journal.name}.{NAME}")


def orders(ctx: EngineContext) -> EngineContext:
    """Return the context of the vault's closing orders: their own journal, the same keeper, node and record."""
    vault: Any = Closing(ctx.vault, ctx.node)  # type: ignore[arg-type]
    journal = Journal(closings_of(ctx.journal.path))
    return replace(ctx, vault=vault, journal=journal, audit=_Closings(ctx.audit.path))


def recovered(ctx: EngineContext, report: StepReport) -> bool:
    """Finish an order that an earlier run left; return whether none is on its way any more."""
    if not isinstance(ctx.vault, Closable):
        return True
    own = orders(ctx)
    if not own.journal.path.exists():
        return True
    with own.journal.lease():
        flight, _ = recover(own)
    if flight is None or not flight.open:
        return True
    _waits(report, flight)
    return False


def close(ctx: EngineContext, report: StepReport) -> str:
    """Close the vault where the market denies its NAV and it is open; return KEPT, SENT or WAITS.

    Every way it ends is said in a verdict of the report.
    """
    denial = report.denial
    if denial is None or not isinstance(ctx.vault, Closable):
        return KEPT
    report.verdicts = [v for v in report.verdicts if v.check != NAV_DENIED]
    snapshot, why = denial.snapshot, "; ".join(v.reason for v in denial.verdicts)
    figures = {"tokens": ", ".join(str(v.figures["symbol"]) for v in denial.verdicts)}
    own = orders(ctx)
    told, seconds = _left_alone(ctx, own, snapshot)
    if told:
        report.verdicts.append(passed(NAV_DENIED, f"{why}; {told}", **figures))
        return KEPT
    with own.journal.lease():
        told, flight = _send(ctx, own, denial.snapshot, denial.pools, seconds)
    if flight is not None and flight.open:
        _waits(report, flight, why)
        return WAITS
    report.verdicts.append(passed(NAV_DENIED, f"{why}; {told}", **figures))
    return KEPT if flight is None else SENT


def _left_alone(ctx: EngineContext, own: EngineContext, snapshot: Snapshot) -> tuple[str, int]:
    """Return why no order is sent now (empty: one is), and the seconds of one that is."""
    assert isinstance(ctx.vault, Closable)
    soon = snapshot.block_time + ctx.limits.epoch_s  # until the next look
    until, seconds = ctx.vault.doubted_until(snapshot.block_hash), ctx.limits.close_s
    if until >= soon:
        return f"deposits and exits at the oracle's price are closed until {_at(until)}", 0
    if not seconds:
        return "closing deposits and exits is left to people: send the vault's doubt()", 0
    last = own.journal.last() if own.journal.path.exists() else None
    if last is not None and last.state == "landed":
        ours = last.plan.deadline - DEADLINE_S + last.plan.min_nav
        if ours > soon:
            return f"somebody has opened deposits and exits again: they are not closed anew before {_at(ours)}", 0
    name = decision_id(ctx.vault_address, NAME, snapshot.block_time // ctx.limits.epoch_s)
    tried = [] if last is None else [f for f in own.journal.of_decision(name) if f.attempts and f.state != "landed"]
    if len(tried) >= ctx.limits.tries:
        return f"{len(tried)} orders to close deposits and exits failed ({tried[-1].note}): send the vault's doubt()", 0
    if not ctx.live or ctx.signer is None:
        return f"a live run would close deposits and exits at the oracle's price for {seconds} s", 0
    return "", seconds


def _send(
    ctx: EngineContext, own: EngineContext, snapshot: Snapshot, pools: Sequence[Any], seconds: int
) -> tuple[str, Flight | None]:
    """Journal, sign, send and follow the order; return what became of it, and the flight where one began."""
    order = _order(ctx, snapshot, seconds)
    dry = ctx.vault.simulate(own.vault.build(order), ctx.sender, snapshot.block_number)
    if not dry.ok:
        return f"deposits and exits cannot be closed by the keeper: {dry.revert}; send the vault's doubt()", None
    head, gas_limit = ctx.node.head(), dry.gas_used * 5 // 4 * (100 + ctx.limits.gas_margin_percent) // 100
    bid, nonce, short = affordable(ctx, gas_limit, head, urgent=True)
    found = [*quorum(ctx.witnesses, snapshot, pools, nonce), *short]
    if refusals(found) or bid is None or ctx.signer is None:
        return f"deposits and exits are still open: {explain(found)}", None
    flight = own.journal.plan(order, **_context(ctx, dry.gas_used), genesis=genesis(ctx))
    ctx.checkpoint("journal_closing")
    try:
        flight = launch(own, ctx.signer, flight, bid, nonce, gas_limit)
    except RpcError:
        flight = own.journal.in_flight() or flight  # the lookup that follows finds out
    flight, _ = follow(own, flight)
    if flight.state != "landed":
        return f"the order to close deposits and exits is {flight.state}: {flight.note}", flight
    until = ctx.vault.doubted_until() if isinstance(ctx.vault, Closable) else 0
    return f"closed deposits and exits at the oracle's price until {_at(until)} ({flight.note})", flight


def _order(ctx: EngineContext, snapshot: Snapshot, seconds: int) -> Plan:
    assert isinstance(ctx.vault, Closable)
    name = decision_id(ctx.vault_address, NAME, snapshot.block_time // ctx.limits.epoch_s)
    data = ctx.vault.doubt(seconds).data
    made = keccak(data + snapshot.block_number.to_bytes(8, "big"))
    return Plan(
        decision_id=name,
        vault=ctx.vault_address,
        chain_id=ctx.chain_id,
        nonce=0,
        deadline=snapshot.block_time + DEADLINE_S,
        min_nav=seconds,
        legs=(),
        plan_hash=bytes(made),
        block_number=snapshot.block_number,
        block_hash=snapshot.block_hash,
    )


def _context(ctx: EngineContext, gas_used: int) -> Mapping[str, Any]:
    """Return what a later run needs to push the order on: it always pays."""
    hidden = next((name for name, channel in ctx.channels.items() if channel.private), "public")
    channel = hidden if ctx.channel == "auto" else ctx.channel
    worth = {"forced": True, "benefit_usd": 0.0, "other_cost_usd": 0.0, "native_usd": 0.0}
    return {"channel": channel, "gas_used": gas_used, **worth}


def _waits(report: StepReport, flight: Flight, why: str = "the market denied NAV") -> None:
    reason = f"{why}; the order to close deposits and exits is on its way: {standing(flight)}"
    report.verdicts.append(refused("pending", reason))
    report.outcome, report.why = "pending", reason


def _at(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
