"""One decision cycle: recover, snapshot, guards, decide, plan, simulate, journal, sign, send, watch, verify, audit.

``step`` is the same for dry run, simulated chain and live chain; only the context differs. Whatever the world may
refuse is a verdict in the report; an exception is a bug or a broken file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np

from lake.errors import RpcError
from lake.units import BPS, WEI_PER_GWEI
from policy.base import Decision, State, Vector
from policy.execution.attempts import affordable, follow, genesis, launch, recover, standing
from policy.execution.base import Leg, OtherVault, Plan, Settlement, Simulation, Snapshot, UnsignedTx, Vault, Verdict
from policy.execution.checks import guards, inputs, sick
from policy.execution.checks.roundtrip import Proven, prove
from policy.execution.checks.verdicts import explain, passed, refusals, refused
from policy.execution.context import EngineContext, Stages, StepReport, attempts_json
from policy.execution.decision_record import audit_decision, audit_refusal
from policy.execution.planner import Costs, Draft, PriceRisk, draft, seal_ready
from policy.execution.records.hashlog import Damaged
from policy.execution.records.journal import Flight, VaultBusy
from policy.execution.routing.amm import Pool
from policy.execution.state_builder import OffchainView, depth_usd, slippage_spread, state_of
from policy.execution.submission.channels import choose_channel
from policy.execution.submission.gas import Bid, next_base_fee, usual_tip
from policy.execution.submission.node import Head, JsonNode
from policy.execution.submission.quorum import alone, quorum
from policy.execution.submission.reverts import explained
from policy.simulation.planner import tradable

ROUNDING = 1e-6
"""Most a policy's weights may miss a portfolio by float rounding; more is a bug and refused."""
FORCED_LEAST_USD = 1.0
"""Smallest leg of a forced trade: a cap is not left broken because what would end the breach is small."""
CONFIRM_BPS = 1
"""Most a simulated fill may fall short of its quote; more means a token or pool that is not what it was taken for."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read for one decision."""

    snapshot: Snapshot
    view: OffchainView
    pools: tuple[Pool, ...]
    head: Head
    gas_price_wei: int
    state: State


@dataclass(frozen=True, slots=True)
class Ready:
    """A plan that passed every check."""

    plan: Plan
    draft: Draft
    tx: UnsignedTx
    simulation: Simulation
    gas_limit: int
    channel: str
    other_cost_usd: float


def step(ctx: EngineContext) -> StepReport:
    """Run one decision cycle and report it; at most one plan of a vault is ever in flight."""
    report = StepReport(policy=ctx.policy.name, assets=ctx.portfolio.assets)
    try:
        with ctx.journal.lease():
            ctx.journal.require(ctx.chain_id, ctx.vault_address)
            _cycle(ctx, report, Stages(ctx, report))
    except VaultBusy as error:
        _refuse(report, [refused("vault_busy", str(error))])
    except OtherVault as error:
        _refuse(report, [refused("wrong_journal", str(error))])
    except Damaged as error:
        _refuse(report, [refused("log_damaged", str(error))])
    except RpcError as error:
        _failed(ctx, report, "rpc", f"the node did not answer: {error}")
    except OSError as error:
        _failed(ctx, report, "disk", _disk_words(error))
    return report


def _failed(ctx: EngineContext, report: StepReport, check: str, reason: str) -> None:
    """Report what failed underneath; what is on its way is looked up by the next step."""
    try:
        open_plan = ctx.journal.in_flight() is not None
    except OSError:
        open_plan = True  # nobody knows: the next run that can read the journal does
    if check == "disk":
        safe = "what was signed is journalled and is looked up, never sent anew," if open_plan else "nothing was sent;"
        reason = f"{reason}; {safe} free space or make it writable, then run again"
    _refuse(report, [refused(check, reason)])
    if open_plan:
        report.outcome = "pending"


def _disk_words(error: OSError) -> str:
    """Return what the operating system refused, in words."""
    where = f" at {error.filename}" if error.filename else ""
    return f"the disk failed: {error.strerror or type(error).__name__}{where}"


def decision_id(vault: str, policy: str, epoch: int) -> str:
    """Return the name of the decision of ``policy`` for ``vault`` in ``epoch``."""
    return sha256(f"{vault.lower()}|{policy}|{epoch}".encode()).hexdigest()[:24]


def _cycle(ctx: EngineContext, report: StepReport, stages: Stages) -> None:
    if not _recovered(ctx, report, stages):
        return
    seen = _observe(ctx, report, stages)
    if seen is None:
        return
    decision, ready = _decided(ctx, report, seen, stages)
    if ready is None and decision.action == "wait":
        audit_decision(ctx, report, seen.snapshot, (seen.state, seen.view.forecasts), decision)
        stages.done("audit")
        return
    if ready is not None and ctx.on_plan is not None:
        ctx.on_plan(report)
    if ready is None or not ctx.live or ctx.signer is None:
        report.outcome = _outcome_without_sending(report, ready)
        audit_decision(ctx, report, seen.snapshot, (seen.state, seen.view.forecasts), decision)
        stages.done("audit")
        return
    _execute(ctx, report, seen, decision, ready, stages)


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
        state = sick.masked(seen.state, places)
        decision = sick.unmasked(ctx.policy.decide(state, seen.view.forecasts), seen.state, places)
        _note(report, seen, decision)
        stages.done("decide")
        fault = _sane(decision, seen.state)
        ready, culprits = None, sick.Sick()
        if fault is not None:
            report.verdicts.append(fault)
        elif decision.action != "wait":
            ready, culprits = _prepare(ctx, report, seen, decision, stages)
        left = {t: v for t, v in culprits.items() if t not in report.sick}
        first = first or [v for v in refusals(report.verdicts[told:]) if left]
        if ready is not None or not left or not sick.tradable(seen.snapshot, {*report.sick, *left}):
            break
        report.sick |= left
    report.verdicts += sick.named(seen.snapshot, report.sick)
    if ready is None and (first or refusals(report.verdicts)):  # nothing else to trade: say what stopped it
        said = {id(v) for v in report.verdicts}
        report.verdicts += [v for v in (*first, *known.values()) if id(v) not in said]
        _refuse(report, [])
        return replace(decision, action="wait"), None
    if decision.action == "wait":
        report.outcome = "waited"
    return decision, ready


def _outcome_without_sending(report: StepReport, ready: Ready | None) -> str:
    if ready is not None:
        return "planned"
    return "refused" if refusals(report.verdicts) else "waited"


def _recovered(ctx: EngineContext, report: StepReport, stages: Stages) -> bool:
    """Finish earlier plans first; return whether a new decision may be taken."""
    ctx.checkpoint("start")
    before = ctx.journal.last()
    flight, settlement = recover(ctx)
    stages.done("recover")
    if flight is None:
        return True
    if flight.open:
        report.recovered = "pending"
        report.decision_id = flight.plan.decision_id
        _settled(report, flight, settlement)
        return False
    if flight != before:  # an earlier run's plan was finished, or turned out otherwise
        report.recovered = flight.state
        report.decision_id = flight.plan.decision_id
        _settled(report, flight, settlement)
    return True


def _observe(ctx: EngineContext, report: StepReport, stages: Stages) -> Seen | None:
    """Read everything at one block and judge it; None (with the refusals in the report) where it will not do."""
    snapshot = ctx.vault.snapshot()
    report.block_number = snapshot.block_number
    report.decision_id = decision_id(ctx.vault_address, ctx.policy.name, snapshot.block_time // ctx.limits.epoch_s)
    stages.done("snapshot")
    earlier = ctx.journal.of_decision(report.decision_id)
    if any(f.state == "landed" for f in earlier):
        report.outcome = "done"
        report.why = "this epoch's decision was executed already"
        return None
    tried = sum(1 for f in earlier if f.attempts)  # a plan that was never signed cost nothing
    if tried >= ctx.limits.tries:
        reason = f"{tried} plans of this decision failed; the next epoch decides anew"
        _refuse(report, [refused("tries", reason, tries=tried)])
        return None
    view = ctx.view(snapshot)
    report.data = inputs.inputs_json(view.inputs)
    parted = sick.split(snapshot, _guard(ctx, snapshot, view))
    report.verdicts += [*parted.rest, *alone(ctx.witnesses)]
    report.sick = parted.sick
    stages.done("guards")
    if refusals(parted.rest):
        _refuse(report, list(parted.sick.values()))
        audit_refusal(ctx, report, snapshot)
        stages.done("audit")
        return None
    pools = tuple(ctx.pools(snapshot))
    if not _healthy(ctx, report, snapshot, pools, stages):
        return None
    head = ctx.node.head()
    price = next_base_fee(head, ctx.limits.gas) + usual_tip(ctx.node.fee_history(20), ctx.limits.gas)
    report.verdicts.append(guards.gas_plausible(price / WEI_PER_GWEI, view.dearest_gwei))
    if not report.verdicts[-1].ok:
        _refuse(report, [])
        audit_refusal(ctx, report, snapshot)
        stages.done("audit")
        return None
    state = state_of(snapshot, ctx.portfolio, view, pools, price)
    stages.done("read_pools")
    return Seen(snapshot, view, pools, head, price, state)


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
    _refuse(report, list(report.sick.values()))
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
    landed = [f for f in ctx.journal.flights() if f.state == "landed"]
    if landed and snapshot.plan_nonce <= landed[-1].plan.nonce:
        reason = (
            f"the node shows plan nonce {snapshot.plan_nonce}, plan {landed[-1].plan.nonce} has landed: it lags; run "
            "again when it has caught up, or set [chain] rpc_urls to another node"
        )
        found.append(refused("node_lagging", reason, nonce=snapshot.plan_nonce))
    if snapshot.nav <= 0:
        found.append(refused("vault_empty", "the vault holds nothing"))
    return found


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


def _prepare(
    ctx: EngineContext, report: StepReport, seen: Seen, decision: Decision, stages: Stages
) -> tuple[Ready | None, sick.Sick]:
    """Make, check and simulate the plan; None with verdicts where there is none to send, and the tokens to blame."""
    limits = ctx.limits
    costs = Costs(seen.gas_price_wei, seen.view.native_usd, limits.block_time_s)
    spread = slippage_spread(seen.view.forecasts, seen.snapshot, seen.pools)
    least = (
        min(limits.plan.min_trade_usd, FORCED_LEAST_USD) if decision.action == "forced" else limits.plan.min_trade_usd
    )
    rules = replace(limits.plan, hidden=_hidden(ctx), min_trade_usd=least)
    outlook = PriceRisk(seen.view.covariance, {**spread, **seen.view.slippage_spread})
    pools, left = sick.without(seen.pools, report.sick), sick.positions(seen.snapshot, report.sick)
    weights = _rounded(decision.weights)
    made = draft(ctx.vault_address, seen.snapshot, weights, pools, outlook, costs, rules, left)
    report.legs = made.legs
    report.verdicts += made.verdicts
    stages.done("route")
    if not made.legs or refusals(made.verdicts):
        return None, sick.of_draft(seen.snapshot, made, depth_usd(seen.snapshot, seen.pools))
    plan = ctx.vault.seal(seal_ready(report.decision_id, ctx.vault_address, seen.snapshot, made.legs, limits.plan))
    report.plan = plan
    report.verdicts += list(ctx.vault.check(plan))
    stages.done("check")
    if refusals(report.verdicts):
        return None, {}
    tx = ctx.vault.build(plan)
    simulation = ctx.vault.simulate(tx, ctx.sender, seen.snapshot.block_number)
    stages.done("simulate")
    report.verdicts += _judge(ctx.vault, plan, simulation)
    # what is reported as used is after refunds, up to a fifth (EIP-3529), which the limit must first cover
    report.gas_limit = simulation.gas_used * 5 // 4 * (100 + limits.gas_margin_percent) // 100
    report.channel, other = _channel(ctx, report, made, decision)
    report.verdicts.append(_profit(report, decision, made, costs.gas_usd(simulation.gas_used), other))
    if refusals(report.verdicts):
        return None, _blamed(ctx, report, seen, made, simulation)
    return Ready(plan, made, tx, simulation, report.gas_limit, report.channel, made.slippage_usd + other), {}


def _blamed(ctx: EngineContext, report: StepReport, seen: Seen, made: Draft, simulation: Simulation) -> sick.Sick:
    """Return the tokens that failed the simulation: those whose amounts are short, or whose pairs revert alone."""
    short = {
        str(v.figures["token"]): v
        for v in refusals(report.verdicts)
        if v.check in {"simulation", "quote_unconfirmed"} and "token" in v.figures
    }
    if simulation.ok:
        return short

    def alone(legs: Sequence[Leg]) -> Simulation:
        bare = seal_ready(report.decision_id, ctx.vault_address, seen.snapshot, legs, ctx.limits.plan)
        return ctx.vault.simulate(ctx.vault.build(ctx.vault.seal(bare)), ctx.sender, seen.snapshot.block_number)

    return sick.of_simulation(seen.snapshot, made.legs, alone)


def _hidden(ctx: EngineContext) -> bool:
    """Return whether the plan can be sent where no searcher sees it."""
    if ctx.channel == "auto":
        return any(c.private for c in ctx.channels.values())
    return ctx.channel in ctx.channels and ctx.channels[ctx.channel].private


def _sane(decision: Decision, state: State) -> Verdict | None:
    """Return the refusal of a decision whose weights are no portfolio or move what has no market, else None."""
    w, n = decision.weights, len(state.assets)
    if w.shape == (n,) and np.isfinite(w).all() and w.min() >= -ROUNDING and abs(w.sum() - 1) <= ROUNDING:
        moved = (np.abs(w - state.weights) > ROUNDING) & ~tradable(state)
        names = ", ".join(a for a, m in zip(state.assets, moved, strict=True) if m)
        return refused("decision_invalid", f"the policy trades {names}, which has no market now") if names else None
    reason = f"the policy wants weights {w.tolist()}; required are {n} numbers from 0 to 1 that sum to 1"
    return refused("decision_invalid", reason)


def _rounded(weights: Vector) -> Vector:
    """Return weights clipped to 0 .. 1 and summing to 1 (a policy's rounding is not the plan's)."""
    clipped = np.clip(weights, 0.0, 1.0)
    return np.asarray(clipped / clipped.sum())


def _judge(vault: Vault, plan: Plan, simulation: Simulation) -> list[Verdict]:
    """Return the verdict on the simulation: it runs, and every token bought arrives."""
    if not simulation.ok:
        why = explained(vault, plan, simulation.revert)
        return [refused("simulation", f"the plan reverts: {why}", revert=str(simulation.revert))]
    if not simulation.deltas:
        reason = "the node does not say what would move; an account that does not tell itself needs eth_simulateV1"
        return [refused("simulation", reason)]
    least: dict[str, int] = {}
    for leg in plan.legs:
        least[leg.token_out] = least.get(leg.token_out, 0) + leg.min_out
        least[leg.token_in] = least.get(leg.token_in, 0) - leg.amount_in
    short = [t for t, m in least.items() if simulation.deltas.get(t, 0) < m]
    if short:
        return [refused("simulation", f"less than the minimum arrives of {t}", token=t) for t in short]
    return [passed("simulation", f"{simulation.gas_used} gas", gas=simulation.gas_used), *_confirm(plan, simulation)]


def _confirm(plan: Plan, simulation: Simulation) -> list[Verdict]:
    """Return whether the contracts give what the router quoted, token by token, to a basis point."""
    quoted: dict[str, int] = {}
    for leg in plan.legs:
        quoted[leg.token_out] = quoted.get(leg.token_out, 0) + leg.quoted_out
        quoted[leg.token_in] = quoted.get(leg.token_in, 0) - leg.amount_in
    found = []
    for token, expected in quoted.items():
        gap = expected - simulation.deltas.get(token, 0)
        if gap * BPS > CONFIRM_BPS * abs(expected):
            reason = f"{token}: simulated {simulation.deltas.get(token, 0)}, quoted {expected}"
            found.append(
                refused("quote_unconfirmed", reason, token=token, simulated=str(expected - gap), quoted=str(expected))
            )
    return found or [passed("quotes", "the contracts give what was quoted")]


def _channel(ctx: EngineContext, report: StepReport, made: Draft, decision: Decision) -> tuple[str, float]:
    """Return the channel and the loss it is expected to add, USD."""
    if ctx.channel != "auto":
        cost = ctx.channel_costs.get(ctx.channel)
        return ctx.channel, made.at_risk_usd * cost.loss_share if cost is not None else made.at_risk_usd
    blocks_per_epoch = ctx.limits.epoch_s / ctx.limits.block_time_s
    name, verdict = choose_channel(
        tuple(ctx.channels), made.at_risk_usd, max(0.0, decision.benefit_usd) / blocks_per_epoch, ctx.channel_costs
    )
    report.verdicts.append(verdict)
    return name, made.at_risk_usd * ctx.channel_costs[name].loss_share


def _profit(report: StepReport, decision: Decision, made: Draft, gas_usd: float, mev_usd: float) -> Verdict:
    """Return whether the trade pays at exact quotes and simulated gas; a forced trade need not."""
    total = gas_usd + made.slippage_usd + mev_usd
    report.expected |= {
        "gas_usd": gas_usd,
        "slippage_usd": made.slippage_usd,
        "mev_usd": mev_usd,
        "cost_usd": total,
        "value_usd": made.value_usd,
    }
    figures = {"benefit_usd": decision.benefit_usd, "cost_usd": total}
    if decision.action != "forced" and decision.benefit_usd <= total:
        reason = f"benefit {decision.benefit_usd:.2f} USD does not exceed the cost {total:.2f} USD"
        return refused("unprofitable", reason, **figures)
    return passed("profitable", f"benefit {decision.benefit_usd:.2f}, cost {total:.2f} USD", **figures)


def _execute(
    ctx: EngineContext, report: StepReport, seen: Seen, decision: Decision, ready: Ready, stages: Stages
) -> None:
    """Journal, sign, send and follow the plan."""
    head, first_block = ctx.node.head(), genesis(ctx)
    late = guards.quote_age(ready.plan, head.number, head.time, ctx.limits.max_quote_blocks)
    agreed = quorum(ctx.witnesses, seen.snapshot, seen.pools, ctx.node.account_nonce(ctx.sender))
    bid, nonce, short = affordable(ctx, ready.gas_limit, head, urgent=decision.action == "forced")
    found = [late, *agreed, *short]
    report.verdicts += found
    if refusals(found) or bid is None or ctx.signer is None:
        _refuse(report, [])
        audit_decision(ctx, report, seen.snapshot, (seen.state, seen.view.forecasts), decision)
        stages.done("audit")
        return
    audit_decision(ctx, report, seen.snapshot, (seen.state, seen.view.forecasts), decision)
    stages.done("audit")
    flight = ctx.journal.plan(ready.plan, **_context(seen, decision, ready), genesis=first_block)
    stages.done("journal")
    flight = _launch(ctx, flight, bid, nonce, ready.gas_limit, stages)
    flight, settlement = follow(ctx, flight)
    stages.done("follow")
    _settled(report, flight, settlement)


def _launch(ctx: EngineContext, flight: Flight, bid: Bid, nonce: int, gas_limit: int, stages: Stages) -> Flight:
    """Sign and send; a node that fails in between leaves the flight to the lookup that follows."""
    assert ctx.signer is not None
    try:
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


def _settled(report: StepReport, flight: Flight, settlement: Settlement | None) -> None:
    """Put the fate of ``flight`` into the report."""
    outcomes = {"landed": "traded", "reverted": "reverted", "void": "void"}
    report.outcome = outcomes.get(flight.state, "pending")
    report.attempts = attempts_json(flight)
    report.plan = flight.plan
    if flight.open:
        report.verdicts.append(refused("pending", standing(flight)))
    if flight.open or flight.state == "void":
        report.why = standing(flight) if flight.open else flight.note
    if settlement is not None:
        report.settlement = settlement
        report.verdicts += settlement.verdicts
        report.weights_after = tuple(w / 10_000 for w in settlement.weights_after_bps)
        if refusals(settlement.verdicts):
            report.why = explain(settlement.verdicts)


def _refuse(report: StepReport, found: Sequence[Verdict]) -> None:
    report.verdicts += found
    report.outcome = "refused"
    report.why = explain(report.verdicts)


def dry(ctx: EngineContext) -> EngineContext:
    """Return the same context as a dry run."""
    return replace(ctx, live=False, signer=None)
