"""One hedge decision: recover, read the account, guards, ask the rule, plan, simulate, journal, sign, send, audit.

The journal, the channels, the signer and the lookup of what was sent are those of every plan: one in flight an account,
bytes on disk before they are sent, an unknown outcome looked up and never resent. What the world may refuse is a
verdict in the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from lake.units import Bps
from policy.execution.attempts import affordable, follow
from policy.execution.base import Leg, Plan, Verdict
from policy.execution.checks.verdicts import explain, passed, refusals, refused
from policy.execution.containment import contained
from policy.execution.context import Stages, StepReport
from policy.execution.halting import halted_cycle
from policy.execution.hedge_guards import guards
from policy.execution.hedge_sending import HedgeSending, launched, recovered
from policy.execution.observation import decision_id, refuse
from policy.execution.outcomes import settled
from policy.execution.records.audit import inputs_digest
from policy.execution.records.codec import plan_json, verdicts_json
from policy.execution.recovery import genesis
from policy.execution.routing.amm import Pool
from policy.execution.submission.gas import next_base_fee, usual_tip
from policy.execution.vaults.hedge.adapter import in_cash
from policy.execution.vaults.hedge.state import WAD, HedgeState
from policy.execution.vaults.hedge.venues import HedgeVenue, PerpVenue, SpotVenue, split

HEDGE_GAS = 450_000  # of a plan, before it is simulated
LEAST_USD = 1.0  # smaller legs are dust
TOLERANCE = Bps(30)


@dataclass(frozen=True, slots=True)
class HedgeQuestion:
    """What a rule is asked: the account, what a plan costs in gas (USD) and what trading costs by venue (fractions)."""

    state: HedgeState
    gas_usd: float
    spot_fee: float
    perp_fee: float
    at: datetime


@dataclass(frozen=True, slots=True)
class HedgeAnswer:
    """By how many units of the underlying the net delta is to change (0: not), and why; ``refusals`` stop the cycle."""

    change_units: float
    why: str
    benefit_usd: float = 0.0
    details: Mapping[str, float] = field(default_factory=dict)
    refusals: tuple[Verdict, ...] = ()
    notes: tuple[Verdict, ...] = ()  # worth knowing, and stop nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeContext(HedgeSending):
    """Everything a hedge decision works with.

    ``rule`` answers from the question alone. ``native_usd`` prices gas at the account's block.
    """

    rule: Callable[[HedgeQuestion], HedgeAnswer]
    name: str
    pools: Callable[[HedgeState], Sequence[Pool]]
    native_usd: Callable[[HedgeState], float]
    on_plan: Callable[[StepReport], None] | None = None


def hedge_step(ctx: HedgeContext) -> StepReport:
    """Run one hedge decision and report it; at most one plan of an account is ever in flight."""
    report = StepReport(policy=ctx.name)
    sending = ctx.engine()
    words = ctx.halted() if ctx.live else None
    if words is not None:
        return contained(sending, report, lambda: halted_cycle(sending, report, words))
    return contained(sending, report, lambda: _cycle(ctx, report, Stages(sending, report)))


def _cycle(ctx: HedgeContext, report: StepReport, stages: Stages) -> None:
    if not recovered(ctx.engine(), report, stages):
        return
    state = ctx.vault.state()
    layout = state.layout
    report.assets = (layout.cash.symbol, layout.asset.symbol)
    report.block_number = state.head.number
    report.decision_id = decision_id(ctx.vault_address, ctx.name, state.head.time // ctx.limits.epoch_s)
    stages.done("snapshot")
    if _decided_before(ctx, report):
        return
    perp = PerpVenue(state)
    report.verdicts += [*guards(ctx, state), *perp.margin()]
    stages.done("guards")
    if refusals(report.verdicts):
        _refused(ctx, report, state, stages)
        return
    spot = SpotVenue(state, ctx.vault_address, tuple(ctx.pools(state)))
    head = ctx.node.head()
    price = next_base_fee(head, ctx.limits.gas) + usual_tip(ctx.node.fee_history(20), ctx.limits.gas)
    gas_usd = HEDGE_GAS * price / 1e18 * ctx.native_usd(state)
    size = max(WAD // 10, abs(int(state.net_units * WAD)))
    question = HedgeQuestion(state, gas_usd, spot.fee(size), perp.fee(size), ctx.clock())
    answer = ctx.rule(question)
    report.verdicts += [*answer.notes, *answer.refusals]
    _note(report, state, answer, gas_usd)
    stages.done("decide")
    if refusals(report.verdicts):
        _refused(ctx, report, state, stages)
        return
    plan = _planned(ctx, report, state, answer, spot, perp)
    stages.done("route")
    if plan is None:
        _finish(ctx, report, state, question, answer, stages)
        return
    report.plan, report.legs = plan, plan.legs
    _simulated(ctx, report, state, plan)
    stages.done("simulate")
    if ctx.on_plan is not None and not refusals(report.verdicts):
        ctx.on_plan(report)
    if refusals(report.verdicts) or not ctx.live or ctx.signer is None:
        report.outcome = "planned"
        _finish(ctx, report, state, question, answer, stages)
        return
    _execute(ctx, report, question, answer, plan, stages)


def _decided_before(ctx: HedgeContext, report: StepReport) -> bool:
    """Return whether this epoch's decision was executed, or tried often enough; the report says so."""
    earlier = ctx.journal.of_decision(report.decision_id)
    if any(f.state == "landed" for f in earlier):
        report.outcome, report.why = "done", "this epoch's decision was executed already"
        return True
    tried = sum(1 for f in earlier if f.attempts)
    if tried >= ctx.limits.tries:
        refuse(report, [refused("tries", f"{tried} plans of this decision failed; the next epoch decides anew")])
        return True
    return False


def _note(report: StepReport, s: HedgeState, answer: HedgeAnswer, gas_usd: float) -> None:
    report.why = answer.why
    report.action = "trade" if answer.change_units else "wait"
    report.expected = {
        "benefit_usd": answer.benefit_usd, "gas_usd": gas_usd, "nav_usd": s.nav_usd, "price_usd": s.price_usd,
        "net_delta_units": s.net_units, "hedge_units": s.hedge_units, "change_units": answer.change_units,
        **answer.details,
    }  # fmt: skip


def _planned(
    ctx: HedgeContext, report: StepReport, s: HedgeState, answer: HedgeAnswer, spot: SpotVenue, perp: PerpVenue
) -> Plan | None:
    """Return the sealed plan; None (with the reason) where nothing is to be traded or nothing can be."""
    deadline = s.head.time + ctx.limits.plan.deadline_s
    change = int(answer.change_units * WAD)
    legs: list[Leg] = []
    venues: tuple[HedgeVenue, HedgeVenue] = (spot, perp)
    for venue, size in zip(venues, split(change, spot.exposure(), perp.exposure()), strict=True):
        if abs(size) / WAD * s.price_usd >= LEAST_USD:
            made = venue.build(size, deadline, TOLERANCE)
            if isinstance(made, Verdict):
                report.verdicts.append(made)
            else:
                legs.append(made)
    if change > 0:
        legs.reverse()  # what closing the short frees pays for the spot
    added = perp.top_up() if not legs else None
    if added is not None:
        legs, report.action = [added], "margin"
        report.why = f"margin at the venue is thin; {report.why}"
    if refusals(report.verdicts) or not legs:
        return None
    budget = s.limits.leg_loss_bps * sum(_worth(s, leg) for leg in legs) // 10_000
    return ctx.vault.seal(
        Plan(report.decision_id, ctx.vault_address, ctx.chain_id, s.nonce, deadline,
             max(0, s.standing.nav - budget - len(legs) - 1), tuple(legs), b"", s.head.number, s.head.hash)
    )  # fmt: skip


def _worth(s: HedgeState, leg: Leg) -> int:
    """Return what a leg trades, raw cash."""
    if leg.target == s.layout.perp:
        size = abs(int.from_bytes(leg.calldata[:32], "big", signed=True))
    elif leg.token_in == s.layout.cash.address:
        return leg.amount_in
    else:
        size = leg.amount_in * WAD // 10**s.layout.asset.decimals
    return in_cash(size, s)


def _simulated(ctx: HedgeContext, report: StepReport, s: HedgeState, plan: Plan) -> None:
    """Dry-run the plan; its gas limit and the verdict go into the report."""
    found = ctx.vault.simulate(ctx.vault.build(plan), ctx.sender, s.head.number)
    if not found.ok:
        report.verdicts.append(refused("simulation", f"the plan reverts: {found.revert}", revert=str(found.revert)))
        return
    report.gas_limit = found.gas_used * 5 // 4 * (100 + ctx.limits.gas_margin_percent) // 100
    report.channel = ctx.channel
    report.expected["gas_used"] = float(found.gas_used)
    report.verdicts.append(passed("simulation", f"{found.gas_used} gas", gas=found.gas_used))


def _execute(
    ctx: HedgeContext, report: StepReport, question: HedgeQuestion, answer: HedgeAnswer, plan: Plan, stages: Stages
) -> None:
    """Journal, sign, send and follow the plan."""
    sending, s = ctx.engine(), question.state
    head, first_block = ctx.node.head(), genesis(sending)
    bid, nonce, short = affordable(sending, report.gas_limit, head)
    report.verdicts += short
    if ctx.node.block_hash(plan.block_number) not in {None, plan.block_hash}:
        words = f"block {plan.block_number} was replaced while the plan was made; the next decision is on the new one"
        report.verdicts.append(refused("orphaned", words, block=plan.block_number))
    _record(ctx, report, question.state, question, answer)
    stages.done("audit")
    if refusals(report.verdicts) or bid is None:
        refuse(report, [])
        return
    context = {
        "channel": ctx.channel, "forced": report.action == "margin", "benefit_usd": answer.benefit_usd,
        "gas_used": report.expected["gas_used"], "native_usd": ctx.native_usd(s), "other_cost_usd": 0.0,
    }  # fmt: skip
    flight = ctx.journal.plan(plan, **context, genesis=first_block)
    stages.done("journal")
    flight = launched(sending, flight, bid, nonce, report.gas_limit)
    stages.done("submit")
    flight, settlement = follow(sending, flight)
    stages.done("follow")
    settled(report, flight, settlement)


def _refused(ctx: HedgeContext, report: StepReport, s: HedgeState, stages: Stages) -> None:
    report.outcome, report.why = "refused", explain(report.verdicts)
    _record(ctx, report, s, None, None)
    stages.done("audit")


def _finish(
    ctx: HedgeContext, report: StepReport, s: HedgeState, question: HedgeQuestion, answer: HedgeAnswer, stages: Stages
) -> None:
    """End a decision that sends nothing."""
    if refusals(report.verdicts):
        report.outcome, report.why = "refused", explain(report.verdicts)
    elif report.plan is None:
        report.outcome = "waited"
    _record(ctx, report, s, question, answer)
    stages.done("audit")


def _record(
    ctx: HedgeContext, report: StepReport, s: HedgeState, question: HedgeQuestion | None, answer: HedgeAnswer | None
) -> None:
    """Append what was known, asked and answered to the audit."""
    inputs: dict[str, Any] = {
        "chain_id": ctx.chain_id, "block_number": s.head.number, "block_hash": s.head.hash,
        "block_time": s.head.time, "standing": {k: str(v) for k, v in asdict(s.standing).items()},
        "book": str(s.book), "wanted": str(s.wanted), "posted_at": s.posted_at, "source_verdict": s.source_verdict,
        "prices_e8": [str(s.cash_price), str(s.price)], "nonce": s.nonce, "lost_ppb": s.lost_ppb,
        "funding": str(s.terms.funding), "asset": s.layout.asset.symbol,
        "lines": [[str(v) for v in asdict(line).values()] for line in s.lines],
        "question": None if question is None else {
            "gas_usd": question.gas_usd, "spot_fee": question.spot_fee, "perp_fee": question.perp_fee,
            "at": question.at.isoformat(),
        },
    }  # fmt: skip
    ctx.audit.append(
        "hedge",
        {
            "decision_id": report.decision_id, "ts": ctx.clock().isoformat(), "vault": ctx.vault_address,
            "policy": ctx.name, "live": ctx.live and ctx.signer is not None, "action": report.action or "refuse",
            "outcome_so_far": report.outcome, "why": report.why, "verdicts": verdicts_json(report.verdicts),
            "inputs": inputs, "inputs_digest": inputs_digest(inputs), "expected": report.expected,
            "answer": None if answer is None else {"change_units": answer.change_units,
                                                   "benefit_usd": answer.benefit_usd},
            "plan": None if report.plan is None else plan_json(report.plan),
            "plan_hash": None if report.plan is None else "0x" + report.plan.plan_hash.hex(),
        },
    )  # fmt: skip
