"""A plan laid before a Safe's owners: what became of it, and its execution once enough of them have signed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lake.errors import ConfigError, ExecutionError
from lake.private import opener, private_folder
from lake.units import BPS
from policy.execution.attempts import affordable, follow, launch, standing
from policy.execution.base import Settlement
from policy.execution.checks.verdicts import explain, refusals, refused
from policy.execution.containment import contained
from policy.execution.context import EngineContext, StepReport, attempts_json
from policy.execution.engine import step
from policy.execution.halting import halted_cycle
from policy.execution.observation import refuse
from policy.execution.records.codec import settlement_json
from policy.execution.records.journal import Flight, VaultBusy
from policy.execution.recovery import genesis, recover
from policy.execution.submission.node import read_receipt
from policy.execution.submission.reverts import failing_leg
from policy.execution.vaults.safe.proposal import Proposal, ProposedSafe, proposal_of

Lay = Callable[[Proposal], str]
"""Lays a proposal before the owners and returns in words where they find it."""
Collect = Callable[[Proposal], Mapping[str, bytes]]
"""Returns the owners' signatures of a proposal, by owner."""


@dataclass(frozen=True, slots=True)
class ProposalFile:
    """The one proposal of a vault that is on its way, in a file for its owner only."""

    path: Path

    def read(self) -> Proposal | None:
        """Return the proposal on its way, None where there is none; ExecutionError names a file that is none."""
        if not self.path.exists():
            return None
        try:
            return proposal_of(json.loads(self.path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError) as error:
            raise ExecutionError(f"{self.path} holds no proposal ({error!r}); move it aside and propose anew") from None

    def write(self, proposal: Proposal) -> None:
        """Keep ``proposal``, whole or not at all."""
        private_folder(self.path.parent)
        part = self.path.with_name(self.path.name + ".part")
        with open(part, "w", encoding="utf-8", opener=opener) as out:
            json.dump(proposal.json(), out, indent=1)
        part.replace(self.path)

    def clear(self) -> None:
        """Forget the proposal."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class ProposalFate:
    """Where a proposal stands: waiting, ready, executed or void, with the reason and the signatures there are."""

    state: str
    reason: str
    signatures: Mapping[str, bytes]
    settlement: Settlement | None = None
    block: int | None = None


def look_up(ctx: EngineContext, vault: ProposedSafe, proposal: Proposal, collect: Collect) -> ProposalFate:
    """Return where ``proposal`` stands, by the chain first, then by the signatures collected."""
    plan, head = proposal.plan, ctx.node.head()
    landed = vault._done(plan.block_number, head.number)  # noqa: SLF001 - the register's record of this Safe
    mine = next((row for row in landed if row[2] == "0x" + plan.plan_hash.hex()), None)
    if mine is not None:
        receipt = read_receipt(vault.rpc, mine[1])
        settlement = None if receipt is None else vault.verify(receipt, plan)
        return ProposalFate("executed", f"executed by {mine[1]} in block {mine[0]}", {}, settlement, mine[0])
    told = vault.signers(head.hash)
    if told.nonce != proposal.safe_nonce:
        return _void(f"nonce {proposal.safe_nonce} of the Safe was taken by another of its transactions")
    if set(told.owners) != set(proposal.owners) or told.threshold != proposal.threshold:
        return _void(f"the owners changed: {_changed(proposal, told.owners, told.threshold)}")
    if head.time > plan.deadline:
        return _void(f"its deadline {plan.deadline} has passed at block time {head.time}")
    broken = refusals(vault.check(plan))
    if broken:
        return _void(explain(broken))
    culprit = failing_leg(vault.rpc, plan, vault.spec.tokens, head)
    if culprit is not None:
        return _void(f"the market left the plan's limits: {culprit}")
    signed = {o: s for o, s in {**vault.approvals(proposal), **collect(proposal)}.items() if o in told.owners}
    if len(signed) < told.threshold:
        return ProposalFate("waiting", f"{len(signed)} of {told.threshold} owners have signed", signed)
    return ProposalFate("ready", f"{len(signed)} owners have signed, {told.threshold} are needed", signed)


def _void(reason: str) -> ProposalFate:
    return ProposalFate("void", reason, {})


def _changed(proposal: Proposal, owners: tuple[str, ...], threshold: int) -> str:
    gone, new = set(proposal.owners) - set(owners), set(owners) - set(proposal.owners)
    parts = [f"{', '.join(sorted(gone))} left" if gone else "", f"{', '.join(sorted(new))} joined" if new else ""]
    parts.append(f"threshold {proposal.threshold} is {threshold} now" if threshold != proposal.threshold else "")
    return "; ".join(p for p in parts if p)


def execute(
    ctx: EngineContext, vault: ProposedSafe, proposal: Proposal, found: ProposalFate
) -> tuple[Flight, Settlement | None]:
    """Send a proposal that enough owners signed, journaled like any plan; who sends it only pays the gas.

    ExecutionError, with nothing signed, where it would revert or costs more gas than may be offered.
    """
    if ctx.signer is None:
        raise ExecutionError("a key that pays the gas is needed to send what the owners signed")
    enough = dict(sorted(found.signatures.items(), key=lambda item: int(item[0], 16))[: proposal.threshold])
    vault.use(proposal, enough)
    tx = vault.build(proposal.plan)
    dry = vault.simulate(tx, ctx.sender)
    if not dry.ok:
        raise ExecutionError(f"the signed plan reverts: {vault.why(proposal.plan, dry.revert)}")
    gas_limit = dry.gas_used * 5 // 4 * (100 + ctx.limits.gas_margin_percent) // 100
    bid, nonce, short = affordable(ctx, gas_limit, ctx.node.head(), urgent=True)
    if bid is None or refusals(short):
        raise ExecutionError(explain(short) or "no gas price can be offered now")
    flight = ctx.journal.plan(proposal.plan, **_context(ctx, dry.gas_used), genesis=genesis(ctx))
    flight = launch(ctx, ctx.signer, flight, bid, nonce, gas_limit)
    return follow(ctx, flight)


def _context(ctx: EngineContext, gas_used: int) -> dict[str, Any]:
    """Return what a later run needs: the owners want this plan, so it is never cancelled for its price."""
    channel = "public" if ctx.channel == "auto" else ctx.channel
    figures = dict.fromkeys(("benefit_usd", "native_usd", "other_cost_usd"), 0.0)
    return {"channel": channel, "forced": True, "gas_used": gas_used, **figures}


def close(ctx: EngineContext, proposal: Proposal, found: ProposalFate) -> None:
    """Put the end of a proposal that this side did not send into the audit record, once."""
    outcome = {"executed": "landed", "void": "void"}[found.state]
    plan_hash = "0x" + proposal.plan.plan_hash.hex()
    note = found.reason
    if ctx.audit.has("settlement", plan_hash=plan_hash, outcome=outcome):
        return
    body: dict[str, Any] = {
        "decision_id": proposal.plan.decision_id, "ts": ctx.clock().isoformat(), "plan_hash": plan_hash,
        "outcome": outcome, "note": note, "attempts": [],
        "settlement": None if found.settlement is None else settlement_json(found.settlement),
    }  # fmt: skip
    ctx.audit.append("settlement", body)


def propose(ctx: EngineContext, store: ProposalFile, collect: Collect, lay: Lay) -> StepReport:
    """Look up the proposal on its way, or decide and lay a new one before the owners; return the report.

    outcome: ``proposed`` (waits for signatures), ``ready`` (they are there; a live run sends it), ``traded``, ``void``
    (with the reason; the next run decides anew), or what :func:`policy.execution.engine.step` reports where there is
    nothing to propose. Run with ``ctx.live`` and a signer it sends what the owners signed, once, journaled.
    """
    vault = ctx.vault
    if not isinstance(vault, ProposedSafe):
        raise ConfigError("only a Safe whose owners sign takes proposals")
    words = ctx.halted()
    if words is not None:
        quiet = StepReport(policy=ctx.policy.name, assets=ctx.portfolio.assets)
        return contained(ctx, quiet, lambda: halted_cycle(ctx, quiet, words))
    try:
        with ctx.journal.lease():
            ctx.journal.require(ctx.chain_id, ctx.vault_address)
            report = _pending(ctx, vault, store, collect)
    except VaultBusy as error:
        report = StepReport(policy=ctx.policy.name, assets=ctx.portfolio.assets)
        refuse(report, [refused("vault_busy", str(error))])
    if report is not None:
        return report
    report = step(replace(ctx, live=True, signer=None, others_sign=True))  # recorded as acted on, signed by nobody here
    if report.outcome == "planned" and report.plan is not None:
        proposal = vault.propose(report.plan)
        store.write(proposal)
        report.outcome, report.why = "proposed", f"{report.why}; {lay(proposal)}"
    return report


def _pending(ctx: EngineContext, vault: ProposedSafe, store: ProposalFile, collect: Collect) -> StepReport | None:
    """Return the report on what is on its way; None where nothing is."""
    report = StepReport(policy=ctx.policy.name, assets=ctx.portfolio.assets)
    flight, settlement = recover(ctx)
    proposal = store.read()
    sent = flight is not None and proposal is not None and flight.plan.plan_hash == proposal.plan.plan_hash
    if flight is not None and (flight.open or sent):
        return _sent(report, store, flight, settlement)
    if proposal is None:
        return None
    found = look_up(ctx, vault, proposal, collect)
    report.decision_id, report.plan, report.why = proposal.plan.decision_id, proposal.plan, found.reason
    if found.state == "ready" and ctx.live and ctx.signer is not None:
        return _sent(report, store, *execute(ctx, vault, proposal, found))
    if found.state in {"executed", "void"}:
        close(ctx, proposal, found)
        store.clear()
    report.outcome = {"executed": "traded", "waiting": "proposed"}.get(found.state, found.state)
    if found.settlement is not None:
        report.settlement = found.settlement
        report.weights_after = tuple(w / BPS for w in found.settlement.weights_after_bps)
        report.verdicts += found.settlement.verdicts
    return report


def _sent(report: StepReport, store: ProposalFile, flight: Flight, settlement: Settlement | None) -> StepReport:
    """Report a proposal that this side sent; one that has ended is forgotten."""
    report.outcome = {"landed": "traded", "reverted": "reverted", "void": "void"}.get(flight.state, "pending")
    report.decision_id, report.plan, report.attempts = flight.plan.decision_id, flight.plan, attempts_json(flight)
    report.why = standing(flight) if flight.open else flight.note
    if settlement is not None:
        report.settlement = settlement
        report.weights_after = tuple(w / BPS for w in settlement.weights_after_bps)
        report.verdicts += settlement.verdicts
    if not flight.open:
        store.clear()
    return report
