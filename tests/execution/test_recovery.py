"""Kill at every stage x node faults x reorganisations: nothing runs twice, nothing is lost, the end is the same."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import pytest

from policy.execution.context import Limits
from policy.execution.engine import dry, step
from policy.execution.records.audit import verify
from policy.execution.records.hashlog import read
from policy.execution.records.journal import FINAL
from policy.execution.settling import contradicted
from policy.execution.submission.signer import TxRequest
from policy.execution.vaults.simulated.chain import SimChannel, SimSigner
from tests.execution.faulty_node import KINDS, FaultyNode
from tests.execution.simlab import KEEPER, ToTarget, chain, context, spec

STAGES = (
    "start",
    "recover",
    "snapshot",
    "guards",
    "read_pools",
    "decide",
    "route",
    "check",
    "simulate",
    "audit",
    "journal",
    "sign",
    "journal_signed",
    "send",
    "journal_sent",
    "submit",
    "watch",
    "journal_mined",
    "audit_settled",
    "follow",
)


class Killed(BaseException):
    """The process is gone."""


class Killer:
    """Ends the process at the n-th pass of a stage."""

    def __init__(self, stage: str | None, nth: int = 1) -> None:
        self.stage, self.left, self.passed = stage, nth, Counter()

    def __call__(self, name: str) -> None:
        self.passed[name] += 1
        if name == self.stage:
            self.left -= 1
            if self.left == 0:
                raise Killed(name)


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Processes are killed here, not machines: what was written is in the page cache (test_journal checks fsync)."""
    monkeypatch.setattr("policy.execution.records.hashlog.os.fsync", lambda fd: None)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    sim = chain()
    assert step(context(tmp_path_factory.mktemp("calm"), sim)).outcome == "traded"
    return dict(sim.world.balances)


def run(tmp_path, *, stage=None, nth=1, fault=None, calls=0, reorg=0, keep=True, delay=0, dead_blocks=0, private=False):
    """Steps until the decision is executed, over kills, faults and reorganisations; returns what is left."""
    sim = chain()
    node = FaultyNode(sim, fault, calls)
    killer = Killer(stage, nth)
    reorgs = iter([reorg] if reorg else [])
    waits = itertools.count()

    def wait(head):
        sim.mine()
        if next(waits) == 1:  # one confirmation in: the worst moment
            for depth in reorgs:
                sim.reorg(depth, keep=keep, delay=delay)

    written: list[str] = []
    outcomes = []
    for _ in range(60):
        ctx = context(tmp_path, node, sim, checkpoint=killer, wait=wait, limits=Limits(confirmations=2))
        channels = {"public": SimChannel(node)} | ({"private": SimChannel(node, private=True)} if private else {})
        ctx = replace(ctx, channels=channels, channel="private" if private else "public")
        try:
            outcomes.append(step(ctx).outcome)
        except Killed:
            outcomes.append("killed")
            for _ in range(dead_blocks):
                sim.mine()
        # nothing that was on the disk is ever gone or changed
        lines = [line.hash for line in read(tmp_path / "journal.jsonl").lines]
        assert lines[: len(written)] == written
        written = lines
        if outcomes[-1] in {"traded", "done"} and node.left <= 0:
            break
        if outcomes[-1] == "refused":
            sim.mine()
    # look once more with a sound node, as the next scheduled run does
    node.left = 0
    for _ in range(3):
        sim.mine()
    last = step(context(tmp_path, node, sim))
    return sim, ctx, outcomes, last


def assert_sound(result, undisturbed, tmp_path):
    sim, ctx, outcomes, last = result
    flights = ctx.journal.flights()
    landed = [f for f in flights if f.state == "landed"]
    assert sim.world.clock.nonce == 1, (outcomes, [f.state for f in flights])
    assert sim.world.balances == undisturbed, outcomes
    assert len(landed) == 1
    assert landed[0].plan.nonce == 0
    assert all(f.state in FINAL for f in flights)
    # exactly one successful plan transaction in the canonical chain, and the journal knew its hash beforehand
    done = [(t, r) for b in sim.blocks for t, r in zip(b.txs, b.receipts, strict=False) if r.status == 1 and t.data]
    assert len(done) == 1
    assert done[0][0].tx_hash in landed[0].hashes()
    assert last.outcome == "done"
    report = verify(tmp_path / "audit.jsonl")
    assert report.ok, report
    settled = [line.body for line in ctx.audit.records() if line.body["event"] == "settlement"]
    assert any(s["outcome"] == "landed" for s in settled)
    decided = {line.body["plan_hash"] for line in ctx.audit.records() if line.body["event"] == "decision"}
    assert "0x" + landed[0].plan.plan_hash.hex() in decided


@pytest.mark.parametrize("dead_blocks", [0, 1, 4])
@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_every_stage(tmp_path, undisturbed, stage, dead_blocks):
    result = run(tmp_path, stage=stage, dead_blocks=dead_blocks)
    assert "killed" in result[2], "the stage was never passed"
    assert_sound(result, undisturbed, tmp_path)


@pytest.mark.parametrize("calls", [3, 9, 15, 24, 40])
@pytest.mark.parametrize("fault", KINDS)
def test_every_fault_at_different_lengths(tmp_path, undisturbed, fault, calls):
    assert_sound(run(tmp_path, fault=fault, calls=calls), undisturbed, tmp_path)


@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("stage", [None, "journal_sent", "watch", "journal_mined", "audit_settled"])
def test_reorganised_and_killed(tmp_path, undisturbed, stage, depth, keep, delay):
    result = run(tmp_path, stage=stage, reorg=depth, keep=keep, delay=delay, dead_blocks=1)
    assert_sound(result, undisturbed, tmp_path)


@pytest.mark.parametrize("fault", KINDS)
@pytest.mark.parametrize("stage", ["journal", "journal_signed", "send", "watch", "journal_mined", "audit_settled"])
def test_killed_with_a_faulty_node(tmp_path, undisturbed, stage, fault):
    assert_sound(run(tmp_path, stage=stage, fault=fault, calls=30, dead_blocks=2), undisturbed, tmp_path)


@pytest.mark.parametrize("fault", KINDS)
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("keep", [True, False])
def test_reorganised_with_a_faulty_node(tmp_path, undisturbed, fault, depth, keep):
    assert_sound(run(tmp_path, fault=fault, calls=36, reorg=depth, keep=keep), undisturbed, tmp_path)


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("stage", ["journal_signed", "send", "watch", "journal_mined"])
@pytest.mark.parametrize("fault", [None, "lost_reply", "no_receipts", "drops"])
def test_private_transactions(tmp_path, undisturbed, stage, fault, nth):
    result = run(tmp_path, stage=stage, nth=nth, fault=fault, calls=25, private=True, dead_blocks=1)
    assert_sound(result, undisturbed, tmp_path)


def test_a_reorganisation_deeper_than_the_confirmations_is_noticed_by_the_next_step(tmp_path, undisturbed):
    sim = chain()
    assert step(context(tmp_path, sim)).outcome == "traded"
    sim.reorg(3, keep=False)  # the plan is gone from chain and pool
    assert sim.world.clock.nonce == 0
    report = step(context(tmp_path, sim))
    assert report.recovered == "landed"
    assert sim.world.balances == undisturbed
    assert sim.world.clock.nonce == 1
    events = [line.body["event"] for line in read(tmp_path / "journal.jsonl").lines]
    assert events.count("planned") == 1
    assert "reopened" in events


class Chaos:
    """Kills with a small chance at every checkpoint, a bounded number of times."""

    def __init__(self, rng: random.Random, kills: int) -> None:
        self.rng, self.left = rng, kills

    def __call__(self, name: str) -> None:
        if self.left and self.rng.random() < 0.12:
            self.left -= 1
            raise Killed(name)


def disaster(tmp_path, seed: int):
    """Several kills, faults, reorganisations and slow blocks in one run, all drawn from ``seed``."""
    rng = random.Random(seed)
    sim = chain()
    node = FaultyNode(sim)
    chaos = Chaos(rng, rng.randint(0, 6))
    private = rng.random() < 0.3
    troubles = rng.randint(0, 5)

    def wait(head):
        nonlocal troubles
        if rng.random() < 0.25 and troubles:
            troubles -= 1
            sim.reorg(rng.randint(1, 3), keep=rng.random() < 0.7, delay=rng.randint(0, 3))
        elif rng.random() < 0.2 and troubles:
            troubles -= 1
            node.kind, node.left = rng.choice(KINDS), rng.randint(1, 40)
        sim.mine(include=rng.random() < 0.8 or not troubles, background=rng.choice([0, 15_000_000, 29_000_000]))

    outcomes = []
    for _ in range(80):
        ctx = context(tmp_path, node, sim, checkpoint=chaos, wait=wait, policy=ToTarget(benefit_usd=1e5))
        channels = {"public": SimChannel(node)} | ({"private": SimChannel(node, private=True)} if private else {})
        ctx = replace(ctx, channels=channels, channel="private" if private else "public")
        try:
            outcomes.append(step(ctx).outcome)
        except Killed:
            outcomes.append("killed")
            for _ in range(rng.randint(0, 4)):
                sim.mine()
        if outcomes[-1] in {"traded", "done"} and node.left <= 0:
            break
        if outcomes[-1] == "refused":
            sim.mine()
    node.left = 0
    for _ in range(4):
        sim.mine()
    last = step(context(tmp_path, node, sim))
    if last.outcome in {"traded", "pending"}:  # a deep reorganisation was noticed just now
        last = step(context(tmp_path, node, sim))
    return sim, ctx, outcomes, last


def test_a_dry_run_looks_up_what_is_in_flight_and_sends_nothing(tmp_path, undisturbed):
    sim = chain()
    with pytest.raises(Killed):
        step(context(tmp_path, sim, checkpoint=Killer("journal_signed")))
    report = step(dry(context(tmp_path, sim)))
    assert report.outcome == "pending"
    assert not sim.public
    sim.mine()
    assert sim.executions == 0
    assert step(context(tmp_path, sim)).recovered == "landed"
    assert sim.world.balances == undisturbed


def test_a_node_that_dies_after_the_hand_over_leaves_a_pending_plan_that_the_next_step_finishes(tmp_path, undisturbed):
    sim = chain()
    node = FaultyNode(sim)

    def die(name: str) -> None:
        if name == "journal_sent":
            node.kind, node.left = "timeout", 10**6

    def wait(head) -> None:
        node.head()
        sim.mine()

    report = step(context(tmp_path, node, sim, checkpoint=die, wait=wait, limits=Limits(watch_blocks=3)))
    assert report.outcome == "pending"
    assert report.attempts
    node.left = 0
    later = step(context(tmp_path, node, sim))
    assert later.recovered == "landed"
    assert sim.world.balances == undisturbed


@pytest.mark.parametrize("seed", [*range(60), 1468, 2042])
def test_several_disasters_at_once(tmp_path, undisturbed, seed):
    assert_sound(disaster(tmp_path, seed), undisturbed, tmp_path)


def told(ctx):
    return [line.body["outcome"] for line in ctx.audit.records() if line.body["event"] == "settlement"]


def test_a_plan_that_the_vault_executed_is_never_recorded_as_failed(tmp_path):
    sim = chain(the_spec=spec(turnover_bps=500))
    node = FaultyNode(sim, "wrong_status", 10**6)

    def honest(name: str) -> None:  # the lie ends once the earlier plan was looked at: the next would be decided
        node.left = 0 if name == "recover" else node.left

    report = step(context(tmp_path, node, sim, spec=spec(turnover_bps=500)))
    assert report.outcome == "pending"
    assert "the node contradicts itself: the vault executed plan 0" in report.why
    ctx = context(tmp_path, node, sim, spec=spec(turnover_bps=500), checkpoint=honest)
    assert step(ctx).outcome == "pending"
    assert sim.world.clock.nonce == 1  # one plan an epoch
    assert told(ctx) == []
    assert step(ctx).recovered == "landed"
    assert told(ctx) == ["landed"]


def test_a_record_of_failure_that_the_vault_denies_stops_the_cycle_and_is_set_right_by_the_next(tmp_path):
    sim = chain(the_spec=spec(turnover_bps=500))
    ctx = context(tmp_path, sim, spec=spec(turnover_bps=500))
    assert step(ctx).outcome == "traded"
    last = ctx.journal.last()
    with ctx.journal.lease():
        ctx.journal.correct(last.plan, "reverted", last.mined, "a node said so")
    assert [v.check for v in contradicted(ctx.journal, ctx.vault, 1)] == ["node_lagging"]
    assert contradicted(ctx.journal, ctx.vault, 0) == []
    report = step(ctx)
    assert (report.recovered, ctx.journal.last().state, sim.world.clock.nonce) == ("landed", "landed", 1)
    assert contradicted(ctx.journal, ctx.vault, 1) == []


@pytest.mark.parametrize("never_signed", [False, True])
def test_a_plan_that_somebody_else_sent_is_settled_by_his_transaction(tmp_path, undisturbed, never_signed):
    sim = chain()
    sent: list[str] = []

    def overtake(name: str) -> None:
        flight = ctx.journal.in_flight()
        if flight is None or sent or name != ("journal" if never_signed else "journal_sent"):
            return
        tx = ctx.vault.build(flight.plan)
        bid = 900 * 10**9
        sent.append(
            sim.send_raw(SimSigner(KEEPER).sign(TxRequest(tx.chain_id, tx.to, tx.data, 0, 0, 10**6, bid, bid)).raw)
        )
        if never_signed:
            raise Killed(name)

    ctx = context(tmp_path, sim, checkpoint=overtake)
    with suppress(Killed):
        assert step(ctx).outcome in {"traded", "pending"}
    for _ in range(3):
        sim.mine()
    later = context(tmp_path, sim)
    step(later)
    flight = later.journal.last()
    assert (flight.state, flight.mined[0]) == ("landed", sent[0])
    assert sent[0] not in flight.hashes()
    assert told(later) == ["landed"]
    assert (sim.world.clock.nonce, sim.world.balances) == (1, undisturbed)
    lines = len(read(tmp_path / "journal.jsonl").lines)
    assert step(later).outcome == "done"
    assert len(read(tmp_path / "journal.jsonl").lines) == lines
    sim.reorg(40, keep=False)
    sim.mine()
    assert step(later).recovered in {"pending", "void", "landed"}
    assert sim.world.clock.nonce <= 1
