"""From a decision to a plan that passed every check: routed, held to the vault's rules, simulated, worth its cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lake.units import BPS
from policy.base import Decision, State, Vector, tradable
from policy.costs import data_wei
from policy.execution.base import Leg, Plan, Simulation, UnsignedTx, Vault, Verdict
from policy.execution.checks.verdicts import passed, refusals, refused
from policy.execution.context import EngineContext, Stages, StepReport
from policy.execution.observation import Seen
from policy.execution.planner import Costs, Draft, PriceRisk, draft, seal_ready
from policy.execution.probes import sick
from policy.execution.records.anchors import carrying, due
from policy.execution.state_builder import depth_usd, slippage_spread
from policy.execution.submission.channels import choose_channel
from policy.execution.submission.reverts import explained

ROUNDING = 1e-6
"""Most a policy's weights may miss a portfolio by float rounding; more is a bug and refused."""
AROUND_BYTES = 180
"""Of a signed transaction around its call data: bids, nonce, gas, recipient and signature."""
FORCED_LEAST_USD = 1.0
"""Smallest leg of a forced trade: a cap is not left broken because what would end the breach is small."""
CONFIRM_BPS = 1
"""Most a simulated fill may fall short of its quote; more means a token or pool that is not what it was taken for."""


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


def prepare(
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
    anchored = carrying(made.legs, due(ctx.audit.records()))
    plan = report.plan = _sealed(ctx, report, seen, anchored)
    report.verdicts += list(ctx.vault.check(plan))
    stages.done("check")
    if refusals(report.verdicts):
        return None, {}
    tx = ctx.vault.build(plan)
    simulation = ctx.vault.simulate(tx, ctx.sender, seen.snapshot.block_number)
    if not simulation.ok and anchored != made.legs:  # what only travels along never stops a trade
        plan = report.plan = _sealed(ctx, report, seen, made.legs)
        tx = ctx.vault.build(plan)
        simulation = ctx.vault.simulate(tx, ctx.sender, seen.snapshot.block_number)
        report.verdicts.append(passed("anchor", "the plan does not go through with the record's head behind it"))
    stages.done("simulate")
    report.verdicts += _judge(ctx.vault, plan, simulation)
    # what is reported as used is after refunds, up to a fifth (EIP-3529), which the limit must first cover
    report.gas_limit = simulation.gas_used * 5 // 4 * (100 + limits.gas_margin_percent) // 100
    data_usd = _data_usd(ctx, seen, tx)
    report.channel, other = _channel(ctx, report, made, decision)
    report.verdicts.append(_profit(report, decision, made, costs.gas_usd(simulation.gas_used) + data_usd, other))
    if refusals(report.verdicts):
        return None, _blamed(ctx, report, seen, made, simulation)
    return Ready(plan, made, tx, simulation, report.gas_limit, report.channel, made.slippage_usd + other + data_usd), {}


def _data_usd(ctx: EngineContext, seen: Seen, tx: UnsignedTx) -> float:
    """Return USD that a roll-up charges for the transaction's data: as its own contract says, else by its row."""
    price = seen.view.settlement_gwei
    if ctx.portfolio.fees.l2_gas_gwei is None or price is None:
        return 0.0
    around = tx.data + b"\xff" * AROUND_BYTES
    wei = data_wei(ctx.portfolio.fees, len(around), price) if ctx.data_fee is None else ctx.data_fee(around)
    return wei / 1e18 * seen.view.native_usd


def _sealed(ctx: EngineContext, report: StepReport, seen: Seen, legs: Sequence[Leg]) -> Plan:
    """Return the plan of ``legs`` with the hash that the chain recomputes."""
    bare = seal_ready(report.decision_id, ctx.vault_address, seen.snapshot, legs, ctx.limits.plan)
    return ctx.vault.seal(bare)


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
        bare = _sealed(ctx, report, seen, legs)
        return ctx.vault.simulate(ctx.vault.build(bare), ctx.sender, seen.snapshot.block_number)

    return sick.of_simulation(seen.snapshot, made.legs, alone)


def _hidden(ctx: EngineContext) -> bool:
    """Return whether the plan can be sent where no searcher sees it."""
    if ctx.channel == "auto":
        return any(c.private for c in ctx.channels.values())
    return ctx.channel in ctx.channels and ctx.channels[ctx.channel].private


def sane(decision: Decision, state: State) -> Verdict | None:
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
