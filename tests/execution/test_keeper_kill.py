"""A keeper killed at every checkpoint, idle or with an order armed, signed or sent, and the chain reorganised.

At most one plan executes, and what is held at the end is what it is without any of it. ``make keeper-kills`` runs the
whole matrix; the suite a seeded part of it.
"""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from dataclasses import replace

import pytest

from policy.execution.records.audit import verify
from policy.execution.records.hashlog import read
from policy.execution.records.journal import FINAL
from tests.execution.simlab import chain, pools, view_of, world
from tests.keeping.kit import Bound, header, keeper

GWEI = 10**9
STAGES = (
    "start", "recover", "snapshot", "guards", "read_pools", "decide", "route", "check", "simulate", "audit", "journal",
    "sign", "journal_signed", "send", "journal_sent", "submit", "journal_mined", "audit_settled", "follow",
)  # fmt: skip
STARTS = {"idle": 12, "armed": 20}  # gwei of the first block: below what the order pays, and above
SENT = frozenset(STAGES[STAGES.index("sign") :])  # signed or sent when it is killed there
MATRIX = list(itertools.product(STARTS, STAGES, range(4), (True, False), (0, 2)))
CASES = MATRIX if os.environ.get("FOREDRIFT_KEEPER_KILLS") else random.Random(5).sample(MATRIX, 44)
BLOCKS = 45


class Killed(BaseException):
    """The process is gone."""


class Killer:
    """Ends the process at the first pass of a stage once ``ready`` says so."""

    def __init__(self, stage: str | None, ready) -> None:
        self.stage, self.ready, self.passed, self.done = stage, ready, Counter(), False

    def __call__(self, name: str) -> None:
        self.passed[name] += 1
        if name == self.stage and not self.done and self.ready():
            self.done = True
            raise Killed(name)


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Processes are killed here, not machines: what was written is in the page cache (test_journal checks fsync)."""
    monkeypatch.setattr("policy.execution.records.hashlog.os.fsync", lambda fd: None)


def small() -> object:
    """A vault of 50,000 USD off its targets among deep pools: one swap ends it, at 15 gwei or less."""
    return replace(world(weights=(0.48, 0.22, 0.30), nav=5e4), pools=pools(usd=5e8))


def kept(tmp_path, start="idle", stage=None, reorg=0, keep=True, dead_blocks=0):
    """Blocks of falling gas under a keeper that is killed once; returns chain, context, cycles, armed orders, kills."""
    sim = chain(small(), base_fee_wei=STARTS[start] * GWEI)
    for _ in range(2):
        sim.mine(background=15_000_000)
    killer = Killer(stage, lambda: True)
    acts, armed, kills = [], 0, 0

    def started():
        return keeper(
            tmp_path, sim, checkpoint=killer, policy=Bound(reserve_gwei=15.0),
            view=view_of(sim, usual_gwei=14.0),
        )  # fmt: skip

    now, ctx = started()
    for _ in range(BLOCKS):
        try:
            acts += now.on_block(header(sim))
        except Killed:
            kills += 1
            for _ in range(dead_blocks):
                sim.mine(background=12_000_000)
            if reorg:
                sim.reorg(reorg, keep=keep)
            now, ctx = started()
        armed += now.desks[0].order is not None
        sim.mine(background=12_000_000)
    return sim, ctx, acts, armed, kills


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    sim, *_ = kept(tmp_path_factory.mktemp("calm"))
    return dict(sim.world.balances)


@pytest.mark.parametrize(("start", "stage", "reorg", "keep", "dead"), CASES)
def test_one_execution_at_most_and_the_same_holdings_in_the_end(tmp_path, undisturbed, start, stage, reorg, keep, dead):
    sim, ctx, acts, armed, kills = kept(tmp_path, start, stage, reorg, keep, dead)
    assert kills == 1, f"{stage} was never passed"
    flights = ctx.journal.flights()
    told = [(f.state, f.note) for f in flights], [(a.block, a.triggers, a.report.outcome, a.report.why) for a in acts]
    assert sim.world.clock.nonce == 1, told
    assert dict(sim.world.balances) == undisturbed, told
    assert (armed > 0) == (start == "armed")
    done = [(t, r) for b in sim.blocks for t, r in zip(b.txs, b.receipts, strict=True) if r.status == 1 and t.data]
    assert len(done) == 1
    landed = [f for f in flights if f.state == "landed"]
    assert [f.plan.nonce for f in landed] == [0]
    assert done[0][0].tx_hash in landed[0].hashes()
    assert all(f.state in FINAL for f in flights)
    assert verify(tmp_path / "audit.jsonl").ok
    if stage in SENT and not reorg:
        assert len([f for f in flights if f.attempts]) <= 2


@pytest.mark.parametrize("reorg", [1, 2, 3])
def test_a_reorganisation_lets_go_of_what_was_armed_in_a_block_that_is_gone(tmp_path, reorg):
    sim = chain(small(), base_fee_wei=20 * GWEI)
    for _ in range(3):
        sim.mine()
    now, ctx = keeper(
        tmp_path, sim, policy=Bound(reserve_gwei=15.0), view=view_of(sim, usual_gwei=14.0)
    )  # fmt: skip
    now.on_block(header(sim))
    before = now.desks[0].order
    assert before is not None
    ancestor = sim.head().number - reorg
    sim.reorg(reorg)
    now.undo(ancestor)
    assert now.desks[0].order is None
    now.on_block(header(sim))
    after = now.desks[0].order
    assert after is not None
    assert after.block_hash == sim.head().hash != before.block_hash
    notes = [line.body["about"] for line in read(tmp_path / "journal.jsonl").lines if line.body["event"] == "note"]
    assert notes == ["armed", "let go", "armed"]
    assert ctx.journal.flights() == ()


def test_a_landed_plan_that_a_reorganisation_took_out_is_followed_until_it_is_in_again(tmp_path, undisturbed):
    sim = chain(small(), base_fee_wei=12 * GWEI)
    sim.mine()
    now, ctx = keeper(
        tmp_path, sim, policy=Bound(reserve_gwei=15.0), view=view_of(sim, usual_gwei=14.0)
    )  # fmt: skip
    for _ in range(4):
        now.on_block(header(sim))
        sim.mine(background=12_000_000)
    assert ctx.journal.last().state == "landed"
    ancestor = sim.head().number - 4
    sim.reorg(4, keep=False)  # the plan is in no block and in no pool
    assert sim.world.clock.nonce == 0
    now.undo(ancestor)
    for _ in range(12):
        now.on_block(header(sim))
        sim.mine(background=12_000_000)
    assert sim.world.clock.nonce == 1
    assert dict(sim.world.balances) == undisturbed


def test_while_it_is_told_to_keep_quiet_it_looks_and_sends_nothing(tmp_path):
    sim = chain(small(), base_fee_wei=12 * GWEI)
    now, ctx = keeper(
        tmp_path, sim, policy=Bound(reserve_gwei=15.0), view=view_of(sim, usual_gwei=14.0)
    )  # fmt: skip
    for _ in range(5):
        assert now.on_block(header(sim), quiet="clock") == []
        sim.mine(background=12_000_000)
    assert now.tally.blocks == 5
    assert ctx.journal.flights() == ()
    assert [a.report.outcome for a in now.on_block(header(sim))] == ["pending"]
