"""One decision cycle on the simulated chain: what it does, refuses and records."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from lake.errors import ConfigError, RpcError
from policy.base import Decision
from policy.costs import chain_fees
from policy.execution.checks.guards import OracleEvidence, RoundAnswer
from policy.execution.context import Limits
from policy.execution.engine import dry, step
from policy.execution.planner import PlanRules
from policy.execution.records.audit import verify
from policy.execution.state_builder import OffchainView, RiskTerms
from policy.execution.submission.gas import FeeRules
from policy.execution.vaults.simulated.chain import SimChannel
from tests.execution import simlab
from tests.execution.simlab import KEEPER, USDC, WETH, ToTarget, chain, context, spec, world


def checks(report) -> set[str]:
    return {v.check for v in report.verdicts if not v.ok}


def test_a_live_step_moves_the_vault_to_the_wanted_weights(tmp_path):
    sim = chain()
    before = sim.world
    ctx = context(tmp_path, sim)
    report = step(ctx)
    assert report.outcome == "traded"
    assert np.abs(np.array(report.weights_after) - report.weights_wanted).max() < 0.002
    # the settlement is the balances, to the unit
    moved = {t.address: sim.world.balances[t.address] - before.balances[t.address] for t in simlab.TOKENS}
    assert report.settlement.deltas == moved
    assert sim.executions == 1
    assert sim.world.clock.nonce == 1
    assert verify(tmp_path / "audit.jsonl").ok
    events = [line.body["event"] for line in ctx.audit.records()]
    assert events == ["decision", "settlement"]
    decision, settlement = (line.body for line in ctx.audit.records())
    assert decision["plan_hash"] == settlement["plan_hash"] == "0x" + report.plan.plan_hash.hex()


def test_the_same_epoch_is_never_traded_twice(tmp_path):
    sim = chain()
    assert step(context(tmp_path, sim)).outcome == "traded"
    sim.set_world(replace(sim.world, balances=world().balances))  # drifted away again within the hour
    again = step(context(tmp_path, sim))
    assert again.outcome == "done"
    assert sim.executions == 1


def test_a_dry_run_sends_and_journals_nothing(tmp_path):
    sim = chain()
    ctx = dry(context(tmp_path, sim))
    report = step(ctx)
    assert report.outcome == "planned"
    assert report.plan is not None
    assert not sim.public
    assert ctx.journal.last() is None
    assert report.json()["plan"]["legs"]


def test_waiting_is_recorded_with_its_inputs(tmp_path):
    sim = chain()
    ctx = context(tmp_path, sim, policy=ToTarget(trigger=0.5))
    assert step(ctx).outcome == "waited"
    (line,) = ctx.audit.records()
    assert line.body["action"] == "wait"
    assert len(line.body["inputs_digest"]) == 64


class Down:
    """A node that never answers."""

    def __getattr__(self, name):
        def fail(*args, **kwargs):
            raise RpcError("no usable answer")

        return fail


def stale(w):
    return replace(w, prices={k: (p, u - 80_000, r) for k, (p, u, r) in w.prices.items()})


def negative(w):
    return replace(w, prices={**w.prices, WETH.address: (-1, simlab.START - 60, 7)})


FROZEN = [RoundAnswer(i, 2_000 * 10**8, 0, simlab.START - 60, i) for i in range(1, 8)]
REFUSALS = {
    "oracle_stale": {"world": stale},
    "oracle_not_positive": {"world": negative},
    "oracle_frozen": {"evidence": OracleEvidence(rounds={WETH.address: FROZEN})},
    "oracle_deviates": {"evidence": OracleEvidence(second_e8={WETH.address: {"twap": 1_900 * 10**8}})},
    "oracle_incomplete": {"evidence": OracleEvidence(rounds={WETH.address: [RoundAnswer(9, 1, 0, simlab.START, 8)]})},
    "sequencer_down": {"evidence": OracleEvidence(sequencer=(False, simlab.START - 5))},
    "sequencer_grace": {"evidence": OracleEvidence(sequencer=(True, simlab.START - 5))},
    "rpc": {"node": Down()},
    "chain_id": {"context": {"chain_id": 1}},
    "gas_money": {"wei": 10**12},
    "vault_paused": {"world": lambda w: replace(w, paused=True)},
    "node_behind": {"context": {"clock": lambda: datetime.fromtimestamp(simlab.START + 3_600, UTC)}},
    "data_stale": {"age": timedelta(hours=9)},
    "gas_ceiling": {"limits": Limits(gas=FeeRules(ceiling_wei=2 * 10**8))},
    "vault_empty": {"world": lambda w: replace(w, balances={})},
    "unprofitable": {"context": {"policy": ToTarget(benefit_usd=100.0)}},
    "slippage": {"limits": Limits(plan=PlanRules(max_slippage_bps=simlab.bps(5)))},
    "no_route": {"world": lambda w: replace(w, pools={})},
    "turnover": {"spec": spec(turnover_bps=100), "blind": True},
    "loss budget": {"spec": spec(loss_budget_ppb=10)},
    "leg value": {"spec": spec(leg_loss_bps=1)},
    "progress": {"context": {"policy": ToTarget(action="forced")}, "worse": True},
}


@pytest.mark.parametrize("name", REFUSALS)
def test_each_refusal_has_its_own_verdict_and_sends_nothing(tmp_path, name):
    case = REFUSALS[name]
    made = case.get("world", lambda w: w)(world())
    the_spec = case.get("spec", spec())
    sim = chain(made, the_spec)
    if "wei" in case:
        sim.blocks[0] = replace(sim.blocks[0], wei={KEEPER: case["wei"]})
    age = case.get("age", timedelta(minutes=5))

    def view(snapshot):
        at = datetime.fromtimestamp(snapshot.block_time, UTC) - age
        return OffchainView({}, simlab.COVARIANCE, 2_000.0, at, evidence=case.get("evidence", OracleEvidence()))

    more = dict(case.get("context", {}))
    if "limits" in case:
        more["limits"] = case["limits"]
    if case.get("worse"):
        more["policy"] = Away()
    ctx = context(tmp_path, case.get("node", sim), sim, spec=the_spec, view=view, **more)
    if case.get("blind"):
        ctx = replace(ctx, vault=Blind(ctx.vault))
    report = step(ctx)
    assert report.outcome == "refused"
    assert name in checks(report), report.verdicts
    assert not sim.public
    assert not sim.private
    assert sim.executions == 0
    assert ctx.journal.last() is None
    refusal = next(v for v in report.verdicts if v.check == name)
    assert refusal.reason


class Away:
    """A policy gone wrong: moves away from the targets."""

    name = "away"

    def decide(self, state, forecasts):
        w = np.array([0.52, 0.3, 0.18])
        return Decision("forced", w, 0.0, 0.0, 0.0, "wrong")


class Blind:
    """A vault adapter that reports no turnover cap, so that the planner cannot shrink the trade."""

    def __init__(self, vault):
        self.vault = vault

    def __getattr__(self, name):
        return getattr(self.vault, name)

    def snapshot(self, block="latest"):
        return replace(self.vault.snapshot(block), max_turnover_bps=simlab.bps(10_000))


@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.5, 0.6, 0.2], [1.2, -0.2, 0.0], [float("nan"), 0.5, 0.5]])
def test_weights_that_are_no_portfolio_are_refused(tmp_path, weights):
    class Broken:
        name = "broken"

        def decide(self, state, forecasts):
            return Decision("forced", np.array(weights), float("inf"), 0.0, float("nan"), "broken")

    sim = chain()
    report = step(context(tmp_path, sim, policy=Broken()))
    assert report.outcome == "refused"
    assert checks(report) == {"decision_invalid"}
    assert verify(tmp_path / "audit.jsonl").ok
    assert not sim.public


def test_a_token_that_keeps_a_fee_is_found_by_the_simulation(tmp_path):
    class Skimming(Blind):
        def simulate(self, tx, sender, block="latest"):
            found = self.vault.simulate(tx, sender, block)
            deltas = {t: d * 9_990 // 10_000 if d > 0 else d for t, d in found.deltas.items()}
            return replace(found, deltas=deltas)

    sim = chain()
    channels = {"private": SimChannel(sim, private=True)}
    ctx = context(tmp_path, sim, channels=channels, channel="private")
    report = step(replace(ctx, vault=Skimming(ctx.vault)))
    assert report.outcome == "refused"
    assert checks(report) == {"quote_unconfirmed"}


def test_quotes_that_grew_old_while_planning_are_refused(tmp_path):
    sim = chain()

    def slow(report):
        for _ in range(5):
            sim.mine()

    ctx = context(tmp_path, sim, on_plan=slow)
    report = step(ctx)
    assert report.outcome == "refused"
    assert "quote_expired" in checks(report)
    assert ctx.journal.last() is None


def test_the_turnover_cap_splits_the_trade(tmp_path):
    the_spec = spec(turnover_bps=400)
    sim = chain(the_spec=the_spec)
    report = step(context(tmp_path, sim, spec=the_spec))
    assert report.outcome == "traded"
    assert 0.039 < report.weights_before[0] - report.weights_after[0] < 0.041


def test_a_second_run_of_the_same_vault_is_refused(tmp_path):
    sim = chain()
    ctx = context(tmp_path, sim)
    other = context(tmp_path, sim)
    with other.journal.lease():
        report = step(ctx)
    assert report.outcome == "refused"
    assert checks(report) == {"vault_busy"}
    assert step(ctx).outcome == "traded"


def test_a_transaction_left_behind_is_bumped_by_the_rule_and_lands(tmp_path):
    sim = chain()
    waits = iter(range(1_000))
    ctx = context(tmp_path, sim)
    ctx = replace(ctx, wait=lambda head: sim.mine(include=next(waits) > 8))
    report = step(ctx)
    assert report.outcome == "traded"
    assert sim.executions == 1
    fees = [(int(a["max_fee_wei"]), int(a["tip_wei"])) for a in report.attempts]
    assert len(fees) >= 3
    for (f0, t0), (f1, t1) in zip(fees, fees[1:], strict=False):
        assert f1 * 100 >= f0 * 110
        assert t1 * 100 >= t0 * 110
    assert len({a["account_nonce"] for a in report.attempts}) == 1


def test_a_trade_that_no_longer_pays_is_cancelled_for_21000_gas(tmp_path):
    sim = chain(base_fee_wei=10**9)
    waits = iter(range(1_000))
    cost = step(dry(context(tmp_path / "dry", sim))).expected["cost_usd"]
    policy = ToTarget(benefit_usd=cost + 1.0)  # pays at today's gas, barely
    ctx = context(tmp_path, sim, policy=policy, limits=Limits(gas=FeeRules(blocks=1)))
    # full blocks drive the base fee up while the plan waits
    ctx = replace(
        ctx, wait=lambda head: sim.mine(include=(i := next(waits)) > 20, background=30_000_000 if i < 20 else 0)
    )
    report = step(ctx)
    assert report.outcome == "void"
    assert sim.executions == 0
    assert report.attempts[-1]["kind"] == "cancel"
    assert sim.world.balances == world().balances
    assert ctx.journal.last().note == "cancelled by a no-op"


def test_a_forced_trade_bids_for_more_full_blocks(tmp_path):
    fees = {}
    for action in ("trade", "forced"):
        sim = chain()
        report = step(context(tmp_path / action, sim, policy=ToTarget(action=action)))
        fees[action] = int(report.attempts[0]["max_fee_wei"])
    assert fees["forced"] > 1.9 * fees["trade"]


def test_the_gas_ceiling_leaves_room_for_the_no_op(tmp_path):
    rules = FeeRules(ceiling_wei=4 * 10**9, blocks=1)
    sim = chain(base_fee_wei=10**9)
    waits = iter(range(1_000))
    ctx = context(tmp_path, sim, policy=ToTarget(action="forced"), limits=Limits(gas=rules))
    ctx = replace(
        ctx, wait=lambda head: sim.mine(include=(i := next(waits)) > 30, background=30_000_000 if i < 9 else 0)
    )
    report = step(ctx)
    assert report.outcome in {"void", "traded"}
    assert report.attempts[-1]["kind"] == "cancel"
    assert all(int(a["max_fee_wei"]) * 110 <= rules.ceiling_wei * 100 for a in report.attempts if a["kind"] == "plan")
    assert all(int(a["max_fee_wei"]) <= rules.ceiling_wei for a in report.attempts)


def test_a_stuck_plan_becomes_void_by_its_deadline_and_is_planned_anew(tmp_path):
    sim = chain()
    ctx = replace(context(tmp_path, sim), wait=lambda head: sim.mine(include=False), signer=simlab.SimSigner(KEEPER))
    stuck = step(ctx)
    assert stuck.outcome in {"pending", "void"}
    for _ in range(60):
        sim.mine(include=False)
    report = step(context(tmp_path, sim))
    assert report.recovered == "void" or stuck.outcome == "void"
    assert report.outcome == "traded"
    assert sim.executions == 1
    assert USDC.address in report.settlement.deltas


def test_a_roll_ups_data_are_paid_at_the_settlement_price_and_count_in_the_profit(tmp_path):
    """By its row where no contract tells what bytes cost, as the contract says where one does; no price, no State."""
    sim = chain(base_fee_wei=10**7)
    fees, seen = chain_fees(8453), {}

    def run(name, **more):
        (tmp_path / name).mkdir()
        ctx = context(
            tmp_path / name,
            sim,
            portfolio=RiskTerms(("USDC", "ETH", "BTC"), np.full(3, 0.05), 3.0, "soft", fees),
            **more,
        )
        return step(dry(ctx))

    def told(data):
        seen["bytes"] = len(data)
        return 10**16  # 20 USD

    free, costly = (run(f"at{g}", view=simlab.view_of(sim, settlement_gwei=g)) for g in (0.0, 30.0))
    asked = run("told", view=simlab.view_of(sim, settlement_gwei=30.0), data_fee=told)
    state = costly.asked[0]
    assert state.market.gas_gwei == 30.0
    assert state.market.fees.l2_gas_gwei == pytest.approx(0.01 + 0.1, rel=0.2), "its own price and the tip"
    by_row = 16 * fees.l1_scalar * seen["bytes"] * 30e-9 * 2_000.0
    assert costly.expected["gas_usd"] - free.expected["gas_usd"] == pytest.approx(by_row, rel=1e-6)
    assert asked.expected["gas_usd"] - free.expected["gas_usd"] == pytest.approx(20.0)
    with pytest.raises(ConfigError, match="history_id"):
        run("unknown")
