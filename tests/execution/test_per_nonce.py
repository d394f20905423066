"""One decision a plan nonce, whoever takes it; and what a keeper must not decide on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policy.execution.engine import step
from policy.execution.observation import decision_id, nonce_decision_id
from tests.execution.simlab import VAULT, ToTarget, chain, context


def test_the_name_follows_vault_policy_and_plan_nonce_and_is_never_an_epoch_s():
    names = {nonce_decision_id(v, p, n) for v in ("0xA", "0xB") for p in ("x", "y") for n in (0, 1)}
    assert len(names) == 8
    assert nonce_decision_id("0xAb", "x", 1) == nonce_decision_id("0xaB", "x", 1)
    assert nonce_decision_id("0xa", "x", 1) != decision_id("0xa", "x", 1)


def test_by_nonce_a_vault_may_trade_twice_in_an_epoch_but_once_a_nonce(tmp_path):
    sim = chain()
    ctx = context(tmp_path, sim, per_nonce=True, policy=ToTarget(trigger=0.0))
    first = step(ctx)
    assert first.outcome == "traded"
    assert first.decision_id == nonce_decision_id(VAULT, "to_target", 0)
    second = step(ctx)
    assert second.decision_id == nonce_decision_id(VAULT, "to_target", 1)
    by_hand = step(replace(ctx, per_nonce=False))
    assert by_hand.decision_id == decision_id(VAULT, "to_target", sim.head().time // 3_600)


def test_a_scheduled_run_s_failed_plans_count_for_the_same_nonce(tmp_path):
    sim = chain()
    ctx = context(tmp_path, sim, wait=lambda head: sim.mine(include=False))
    step(ctx)  # never mined: the plan stays open, then is void by its deadline
    for _ in range(120):
        sim.mine(include=False)
    spent = step(replace(ctx, per_nonce=True, limits=replace(ctx.limits, tries=1)))
    assert (spent.recovered, spent.outcome) == ("void", "refused")
    assert [v.check for v in spent.verdicts if not v.ok] == ["tries"]
    sim.mine(include=False, skip_s=7_200)  # an epoch later the nonce is tried again: nothing is stopped for ever
    sim.set_world(replace(sim.world, prices={t: (p, sim.head().time, r) for t, (p, _, r) in sim.world.prices.items()}))
    sim.mine(include=False)
    assert step(replace(ctx, per_nonce=True, wait=lambda head: sim.mine())).outcome == "traded"


def test_a_node_behind_the_block_that_was_seen_elsewhere_is_not_decided_on(tmp_path):
    sim = chain()
    report = step(context(tmp_path, sim, not_before=sim.head().number + 1))
    assert report.outcome == "refused"
    assert "node_lagging" in [v.check for v in report.verdicts if not v.ok]
    assert step(context(tmp_path, sim, not_before=sim.head().number)).outcome == "traded"


@pytest.mark.parametrize("stage", ["decide", "simulate"])
def test_a_plan_whose_block_was_replaced_meanwhile_is_not_signed(tmp_path, stage):
    sim, done = chain(), []

    def reorganise(name):
        if name == stage and not done:
            done.append(name)
            sim.reorg(1)

    sim.mine()
    report = step(context(tmp_path, sim, checkpoint=reorganise))
    assert report.outcome == "refused"
    assert "orphaned" in [v.check for v in report.verdicts if not v.ok]
    assert sim.world.clock.nonce == 0
    assert step(context(tmp_path, sim)).outcome == "traded"


@pytest.mark.parametrize("stage", ["audit", "journal"])
def test_a_plan_whose_block_was_replaced_while_it_was_written_down_is_void_unsigned(tmp_path, stage):
    sim, done = chain(), []

    def reorganise(name):
        if name == stage and not done:
            done.append(name)
            sim.reorg(1)

    sim.mine()
    ctx = context(tmp_path, sim, checkpoint=reorganise, per_nonce=True)
    assert step(ctx).outcome == "void"
    assert [f.attempts for f in ctx.journal.flights()] == [()]
    assert step(ctx).outcome == "traded"
    assert sim.world.clock.nonce == 1


def test_without_waiting_a_step_looks_once_and_the_next_goes_on(tmp_path):
    sim = chain()
    sim.mine()
    ctx = context(tmp_path, sim)
    ctx = replace(ctx, limits=replace(ctx.limits, watch_blocks=0), wait=lambda head: pytest.fail("it waited"))
    assert step(ctx).outcome == "pending"
    sim.mine()
    assert step(ctx).outcome == "pending"  # one confirmation of two
    sim.mine()
    report = step(ctx)
    assert report.recovered == "landed"
    assert sim.world.clock.nonce == 1
