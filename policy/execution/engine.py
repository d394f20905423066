"""One decision cycle: recover, snapshot, guards, decide, plan, simulate, journal, sign, send, watch, verify, audit.

``step`` is the same for dry run, simulated chain and live chain; only the context differs. Whatever the world may
refuse is a verdict in the report; an exception is a bug or a broken file.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from lake.errors import RpcError
from policy.base import Decision, State, tradable
from policy.execution import closing
from policy.execution.attempts import affordable, follow, launch
from policy.execution.base import Plan, Verdict
from policy.execution.channel_choice import choose
from policy.execution.checks import guards
from policy.execution.checks.verdicts import NAV_DENIED, refusals, refused
from policy.execution.containment import contained
from policy.execution.context import EngineContext, Stages, StepReport
from policy.execution.decision_record import audit_decision
from policy.execution.halting import halted_cycle, note_halt
from policy.execution.observation import Seen, observe, refuse
from policy.execution.offers import adopt, tend
from policy.execution.outcomes import settled
from policy.execution.preparation import Ready, prepare, sane
from policy.execution.probes import sick
from policy.execution.records.journal import Flight
from policy.execution.recovery import genesis, recover
from policy.execution.submission.gas import Bid
from policy.execution.submission.quorum import quorum
from policy.netting import decide as netted_decision


def step(ctx: EngineContext) -> StepReport:
    """Run one decision cycle and report it; at most one plan of a vault is ever in flight."""
    report = StepReport(policy=ctx.policy.name, assets=ctx.portfolio.assets)
    words = ctx.halted() if ctx.live else None
    if words is not None:
        return contained(ctx, report, lambda: halted_cycle(ctx, report, words))
    return contained(ctx, report, lambda: _cycle(ctx, report, Stages(ctx, report)))


def _cycle(ctx: EngineContext, report: StepReport, stages: Stages) -> None:
    if not _recovered(ctx, report, stages) and not _needed_now(ctx, report, stages):
        return
    note_halt(ctx, report)
    seen = observe(ctx, report, stages)
    if report.denial is not None:
        seen = _closed(ctx, report, seen, stages)
    if seen is None:
        return
    decision, ready = _decided(ctx, report, seen, stages)
    if ready is None and decision.action == "wait":
        audit_decision(ctx, report, seen.snapshot, seen.view.forecasts, decision)
        stages.done("audit")
        return
    if ready is not None:
        ready = choose(ctx, report, seen, decision, ready)
        stages.done("channel")
    if ready is not None and ctx.on_plan is not None:
        ctx.on_plan(report)
    if ready is None or not ctx.live or ctx.signer is None:
        report.outcome = _outcome_without_sending(report, ready)
        audit_decision(ctx, report, seen.snapshot, seen.view.forecasts, decision)
        stages.done("audit")
        return
    _execute(ctx, report, seen, decision, ready, stages)


def _closed(ctx: EngineContext, report: StepReport, seen: Seen | None, stages: Stages) -> Seen | None:
    """Close deposits and exits where the market denies NAV; return what to decide on now, None where nothing is."""
    went = closing.close(ctx, report)
    stages.done("close")
    if went == closing.WAITS:
        return None
    if went == closing.KEPT or seen is None:
        return seen
    told = [v for v in report.verdicts if v.check == NAV_DENIED]  # blocks went by: look again
    report.verdicts.clear()
    seen = observe(ctx, report, stages)
    report.verdicts = [*told, *(v for v in report.verdicts if v.check != NAV_DENIED)]
    return seen


def _decided(ctx: EngineContext, report: StepReport, seen: Seen, stages: Stages) -> tuple[Decision, Ready | None]:
    """Decide and prepare a plan; a token that fails it is left out and the rest decided anew, until a plan holds.

    Every round leaves out at least one token more, so there are no more rounds than tokens.
    """
    told = len(report.verdicts)
    report.sick = sick.of_market(seen.snapshot, tradable(seen.state), report.sick)
    known = dict(report.sick)
    first: list[Verdict] = []
    while True:
        del report.verdicts[told:]
        report.plan, report.legs = None, ()
        places = sick.positions(seen.snapshot, report.sick)
        asked, said, decision = netted_decision(partial(_asked, ctx, seen, places), seen.state)
        report.asked = asked, said
        _note(report, seen, decision)
        stages.done("decide")
        fault = sane(decision, seen.state)
        ready, culprits = None, sick.Sick()
        if fault is not None:
            report.verdicts.append(fault)
        elif decision.action != "wait":
            ready, culprits = prepare(ctx, report, seen, decision, stages)
        left = {t: v for t, v in culprits.items() if t not in report.sick}
        first = first or [v for v in refusals(report.verdicts[told:]) if left]
        if ready is not None or not left or not sick.tradable(seen.snapshot, {*report.sick, *left}):
            break
        report.sick |= left
    report.verdicts += sick.named(seen.snapshot, report.sick)
    if ready is None and (first or refusals(report.verdicts)):  # nothing else to trade: say what stopped it
        there = {id(v) for v in report.verdicts}
        report.verdicts += [v for v in (*first, *known.values()) if id(v) not in there]
        refuse(report, [])
        return replace(decision, action="wait"), None
    if decision.action == "wait":
        report.outcome = "waited"
    return decision, ready


def _asked(ctx: EngineContext, seen: Seen, places: list[int], state: State) -> tuple[State, Decision, Decision]:
    """Return the state the policy is given, sick tokens masked, its answer, and that answer for ``state`` itself."""
    if ctx.part is not None:
        return ctx.part.decide(state, places)
    given = sick.masked(state, places)
    said = ctx.policy.decide(given, seen.view.forecasts)
    return given, said, sick.unmasked(said, state, places)


def _netted(ctx: EngineContext, seen: Seen) -> Decision:
    """Return what the policy would do with all tokens healthy, holders' money netted."""
    return netted_decision(partial(_asked, ctx, seen, []), seen.state)[2]


def _outcome_without_sending(report: StepReport, ready: Ready | None) -> str:
    if ready is not None:
        return "planned"
    return "refused" if refusals(report.verdicts) else "waited"


def _recovered(ctx: EngineContext, report: StepReport, stages: Stages) -> bool:
    """Finish earlier plans first; return whether a new decision may be taken."""
    ctx.checkpoint("start")
    before = ctx.journal.last()
    flight, settlement = recover(ctx)
    if (flight is None or not flight.open) and (found := adopt(ctx)) is not None:
        flight, settlement = tend(ctx, found, "nothing here knows of it")
    stages.done("recover")
    if flight is None:
        return closing.recovered(ctx, report)
    if flight.open:
        report.recovered = "pending"
        report.decision_id = flight.plan.decision_id
        settled(report, flight, settlement)
        return False
    if flight != before:  # an earlier run's plan was finished, or turned out otherwise
        report.recovered = flight.state
        report.decision_id = flight.plan.decision_id
        settled(report, flight, settlement)
    return closing.recovered(ctx, report)


def _needed_now(ctx: EngineContext, report: StepReport, stages: Stages) -> bool:
    """End an armed order whose prices a guard doubts, or that a forced trade cannot wait for; whether to go on.

    The policy is asked as if nothing were armed; what it says is only used to end the order.
    """
    flight = ctx.journal.in_flight()
    if flight is None or flight.plan.order is None or flight.state != "offered" or not ctx.live:
        return False
    look = StepReport(policy=report.policy, assets=report.assets)
    seen, order = observe(ctx, look, stages), flight.plan.order
    doubted = look.denial is not None or bool({order.sell, order.buy} & look.sick.keys())
    doubted = doubted or any(v.check.startswith("oracle") for v in refusals(look.verdicts))
    forced = seen is not None and _netted(ctx, seen).action == "forced"
    if not doubted and not forced:
        return False
    flight, settlement = tend(ctx, flight, "its prices are in doubt" if doubted else "a forced trade cannot wait")
    stages.done("disarm")
    report.verdicts.clear()
    settled(report, flight, settlement)
    report.recovered = "pending" if flight.open else flight.state
    return not flight.open


def _note(report: StepReport, seen: Seen, decision: Decision) -> None:
    report.action = decision.action
    report.why = decision.why
    report.weights_before = tuple(float(w) for w in seen.state.weights)
    report.weights_wanted = tuple(float(w) for w in decision.weights)
    report.expected = {
        "benefit_usd": decision.benefit_usd,
        "policy_cost_usd": decision.cost_usd,
        "value_of_waiting_usd": decision.value_of_waiting_usd,
        "nav_usd": seen.state.nav_usd,
    }


def _execute(
    ctx: EngineContext, report: StepReport, seen: Seen, decision: Decision, ready: Ready, stages: Stages
) -> None:
    """Journal, sign, send and follow the plan."""
    head, first_block = ctx.node.head(), genesis(ctx)
    late = guards.quote_age(ready.plan, head.number, head.time, ctx.limits.max_quote_blocks)
    agreed = quorum(ctx.witnesses, seen.snapshot, seen.pools, ctx.node.account_nonce(ctx.sender))
    bid, nonce, short = affordable(ctx, ready.gas_limit, head, urgent=decision.action == "forced")
    found = [late, *_orphaned(ctx, ready.plan), *agreed, *short]
    report.verdicts += found
    if refusals(found) or bid is None or ctx.signer is None:
        refuse(report, [])
        audit_decision(ctx, report, seen.snapshot, seen.view.forecasts, decision)
        stages.done("audit")
        return
    audit_decision(ctx, report, seen.snapshot, seen.view.forecasts, decision)
    stages.done("audit")
    flight = ctx.journal.plan(ready.plan, **_context(seen, decision, ready), genesis=first_block)
    stages.done("journal")
    flight = _launch(ctx, flight, bid, nonce, ready.gas_limit, stages)
    flight, settlement = follow(ctx, flight)
    if flight.open and flight.armed is not None:
        flight, settlement = tend(ctx, flight)
    stages.done("follow")
    settled(report, flight, settlement)


def _orphaned(ctx: EngineContext, plan: Plan) -> list[Verdict]:
    """Return the refusal of a plan whose block is no longer the chain's."""
    now = ctx.node.block_hash(plan.block_number)
    if now in {None, plan.block_hash}:
        return []
    reason = f"block {plan.block_number} was replaced while the plan was made; the next look decides on the new one"
    return [refused("orphaned", reason, block=plan.block_number)]


def _launch(ctx: EngineContext, flight: Flight, bid: Bid, nonce: int, gas_limit: int, stages: Stages) -> Flight:
    """Sign and send; a node that fails in between leaves the flight to the lookup that follows.

    A plan whose block was replaced while it was written down is not signed, and so void at that lookup.
    """
    assert ctx.signer is not None
    try:
        if not _orphaned(ctx, flight.plan):
            flight = launch(ctx, ctx.signer, flight, bid, nonce, gas_limit)
    except RpcError:
        flight = ctx.journal.in_flight() or flight
    stages.done("submit")
    return flight


def _context(seen: Seen, decision: Decision, ready: Ready) -> dict[str, Any]:
    """Return what a later run needs to judge whether the plan still pays."""
    return {
        "channel": ready.channel,
        "forced": decision.action == "forced",
        "benefit_usd": decision.benefit_usd,
        "gas_used": ready.simulation.gas_used,
        "native_usd": seen.view.native_usd,
        "other_cost_usd": ready.other_cost_usd,
    }


def dry(ctx: EngineContext) -> EngineContext:
    """Return the same context as a dry run."""
    return replace(ctx, live=False, signer=None)
