"""What a decision stands on: everything read at one block, judged, with the sick tokens named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from lake.units import WEI_PER_GWEI
from policy.base import State
from policy.execution.base import Snapshot, Verdict
from policy.execution.checks import guards, inputs
from policy.execution.checks.verdicts import explain, passed, refusals, refused
from policy.execution.context import Denial, EngineContext, Stages, StepReport
from policy.execution.decision_record import audit_refusal
from policy.execution.probes import sick
from policy.execution.probes.denial import denied
from policy.execution.probes.roundtrip import Proven, prove
from policy.execution.records.journal import EXECUTED, Flight
from policy.execution.routing.amm import Pool
from policy.execution.settling import contradicted
from policy.execution.state_builder import OffchainView, state_of
from policy.execution.submission.gas import next_base_fee, usual_tip
from policy.execution.submission.node import BlockHeader, JsonNode
from policy.execution.submission.quorum import alone

BLIND = frozenset({"chain_id", "node_behind", "node_lagging", "clock", "vault_paused", "vault_empty"})
"""Refusals after which nothing is said about the market: what was read is not of now, or the vault is closed anyway."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read for one decision."""

    snapshot: Snapshot
    view: OffchainView
    pools: tuple[Pool, ...]
    head: BlockHeader
    gas_price_wei: int
    state: State


def decision_id(vault: str, policy: str, epoch: int) -> str:
    """Return the name of the decision of ``policy`` for ``vault`` in ``epoch``."""
    return sha256(f"{vault.lower()}|{policy}|{epoch}".encode()).hexdigest()[:24]


def nonce_decision_id(vault: str, policy: str, plan_nonce: int) -> str:
    """Return the name of the decision of ``policy`` for the vault's plan ``plan_nonce``."""
    return sha256(f"{vault.lower()}|{policy}|nonce {plan_nonce}".encode()).hexdigest()[:24]


def _earlier(ctx: EngineContext, report: StepReport, snapshot: Snapshot) -> tuple[str, list[Flight], list[Flight]]:
    """Name the decision; return what it is one of, its earlier plans, and those that count against ``limits.tries``.

    By plan nonce, every earlier plan of that nonce is the decision's, also a scheduled run's, and those of the last
    epoch count: a nonce that never moves must not stop the vault for ever.
    """
    name, limits = ctx.policy.name, ctx.limits
    if not ctx.per_nonce:
        report.decision_id = _part(ctx, snapshot, name)
        made = list(ctx.journal.of_decision(report.decision_id))
        return "this epoch", made, made
    report.decision_id = nonce_decision_id(ctx.vault_address, name, snapshot.plan_nonce)
    made = [f for f in ctx.journal.flights() if f.plan.nonce == snapshot.plan_nonce]
    recent = [f for f in made if f.plan.deadline > snapshot.block_time - limits.epoch_s]
    return f"plan {snapshot.plan_nonce}", made, recent


def _part(ctx: EngineContext, snapshot: Snapshot, name: str) -> str:
    """Return the epoch's decision; of a vault that takes one leg a call the first part of it that has not landed.

    Each part is decided anew on what the vault then holds: a rebalance that is half done goes on from there, or waits.
    """
    whole = decision_id(ctx.vault_address, name, snapshot.block_time // ctx.limits.epoch_s)
    if snapshot.max_legs > 1:
        return whole
    parts = [whole, *(f"{whole}-{n}" for n in range(2, len(snapshot.tokens) + 1))]
    open_ = (p for p in parts if not any(f.state in EXECUTED for f in ctx.journal.of_decision(p)))
    return next(open_, parts[-1])


def observe(ctx: EngineContext, report: StepReport, stages: Stages) -> Seen | None:
    """Read everything at one block and judge it; None (with the refusals in the report) where it will not do."""
    snapshot = ctx.vault.snapshot()
    report.block_number = snapshot.block_number
    of, earlier, counted = _earlier(ctx, report, snapshot)
    stages.done("snapshot")
    if any(f.state in EXECUTED for f in earlier):
        report.outcome = "done"
        report.why = f"{of}'s decision was executed already"
        return None
    tried = sum(1 for f in counted if f.attempts)  # a plan that was never signed cost nothing
    if tried >= ctx.limits.tries:
        reason = f"{tried} plans of this decision failed; the next epoch decides anew"
        refuse(report, [refused("tries", reason, tries=tried)])
        return None
    view = ctx.view(snapshot)
    report.data = inputs.inputs_json(view.inputs)
    parted = sick.split(snapshot, _guard(ctx, snapshot, view))
    report.verdicts += [*parted.rest, *alone(ctx.witnesses)]
    report.sick = parted.sick
    stages.done("guards")
    if refusals(parted.rest):
        if not {v.check for v in refusals(parted.rest)} & BLIND:
            _deny(ctx, report, snapshot, view)
        refuse(report, list(parted.sick.values()))
        audit_refusal(ctx, report, snapshot)
        stages.done("audit")
        return None
    pools = tuple(ctx.pools(snapshot))
    _deny(ctx, report, snapshot, view, pools)
    if not _healthy(ctx, report, snapshot, pools, stages):
        return None
    head = ctx.node.head()
    price = next_base_fee(head, ctx.limits.gas) + usual_tip(ctx.node.fee_history(20), ctx.limits.gas)
    report.verdicts.append(guards.gas_plausible(price / WEI_PER_GWEI, view.highest_gwei))
    if not report.verdicts[-1].ok:
        refuse(report, [])
        audit_refusal(ctx, report, snapshot)
        stages.done("audit")
        return None
    state = state_of(snapshot, ctx.portfolio, view, pools, price)
    stages.done("read_pools")
    return Seen(snapshot, view, pools, head, price, state)


def _deny(
    ctx: EngineContext,
    report: StepReport,
    snapshot: Snapshot,
    view: OffchainView,
    pools: tuple[Pool, ...] | None = None,
) -> None:
    """Put it into the report where the market denies NAV."""
    pools = tuple(ctx.pools(snapshot)) if pools is None else pools
    averages = {} if view.evidence is None else view.evidence.average_e8
    found = denied(snapshot, pools, averages, ctx.limits.plan.max_gain_bps)
    report.denial = Denial(snapshot, pools, tuple(found)) if found else None
    report.verdicts += found


def _healthy(ctx: EngineContext, report: StepReport, snapshot: Snapshot, pools: Sequence[Pool], stages: Stages) -> bool:
    """Prove the tokens, put the sick ones into the report; False (with the refusal) where too few are left."""
    proven = Proven()
    if ctx.probe is not None:
        proven = ctx.probe(snapshot, pools)
    elif isinstance(ctx.node, JsonNode):
        proven = prove(ctx.node.rpc, ctx.vault_address, snapshot, pools)
    report.sick = {**proven.sick, **report.sick}
    report.verdicts += [passed("token_unproven", words, token=token) for token, words in proven.unproven.items()]
    stages.done("prove")
    if sick.tradable(snapshot, report.sick):
        return True
    refuse(report, list(report.sick.values()))
    audit_refusal(ctx, report, snapshot)
    stages.done("audit")
    return False


def _guard(ctx: EngineContext, snapshot: Snapshot, view: OffchainView) -> list[Verdict]:
    """Return every verdict on chain, oracles and data."""
    limits = ctx.limits
    now = ctx.clock()
    found = guards.chain(snapshot, ctx.chain_id, now, limits.max_block_age_s)
    found += guards.forecasts_issued(view.forecasts, now)
    found += guards.oracles(snapshot, limits.feeds, view.evidence, limits.sequencer_grace_s)
    if view.inputs:
        found += inputs.judged(view.inputs, now, limits.max_data_age)
    else:
        found.append(guards.data_fresh(view.data_at, now, limits.max_data_age))
    found += view.doubts
    found += [passed("not_traded", f"{asset}: {why}") for asset, why in sorted(view.shut.items())]
    found += list(snapshot.verdicts)
    if snapshot.block_number < ctx.not_before:
        reason = f"the node is at block {snapshot.block_number}, block {ctx.not_before} is there already: it lags"
        found.append(refused("node_lagging", reason, block=snapshot.block_number))
    landed = [f for f in ctx.journal.flights() if f.state == "landed"]
    if landed and snapshot.plan_nonce <= landed[-1].plan.nonce:
        reason = (
            f"the node shows plan nonce {snapshot.plan_nonce}, plan {landed[-1].plan.nonce} has landed: it lags; run "
            "again when it has caught up, or set [chain] rpc_urls to another node"
        )
        found.append(refused("node_lagging", reason, nonce=snapshot.plan_nonce))
    found += contradicted(ctx.journal, ctx.vault, snapshot.plan_nonce)
    if snapshot.nav <= 0:
        found.append(refused("vault_empty", "the vault holds nothing"))
    return found


def refuse(report: StepReport, found: Sequence[Verdict]) -> None:
    """Put ``found`` into the report and end the cycle as refused, with every reason in words."""
    report.verdicts += found
    report.outcome = "refused"
    report.why = explain(report.verdicts)
