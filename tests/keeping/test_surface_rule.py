"""A kept vault is looked up in the surface that is published, by the same column that its decisions are taken from."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from lake.errors import StoreError
from lake.units import utc
from pipelines.deployments import deployment
from pipelines.stages.surface import publish_surface
from pipelines.vault_setup.kept_paper import paper_desks
from pipelines.vault_setup.kept_surface import GasWatch, KeptSurface
from pipelines.wiring import lake_of
from policy.comparison import surface_evidence
from policy.keeping.keeper import Keeper
from policy.keeping.sights import Reserves, Sights
from policy.keeping.terms import terms_of
from policy.memory import PolicyMemory
from policy.realtime import proof
from policy.realtime.proof import Proof
from policy.realtime.published import NoSurface, publish
from policy.realtime.surface import FAST, NEVER, NODES, SLOW, GasStates, ReservationSurface
from policy.strategies.planner_policy import RulePolicy
from policy.strategies.registry import recall
from policy.strategies.surface_rule import SurfaceRule, at_node, memory_of, usual_legs
from tests.keeping.test_sights import state_of
from tests.pipelines.market import moment, project

BUILT = 1_800_000_000
Q = SLOW * FAST
PROOF = Proof("terms", BUILT - 86_400, 20, {"gas_band": 9.0}, {"gas_band": 0.1})


def surface(level_gwei: float = 10.0, built_s: int = BUILT, scale: float = 1e-3) -> ReservationSurface:
    """A surface whose reserve grows with distance and is the higher, the cheaper the state of gas."""
    edges = np.log(level_gwei) + np.linspace(-0.5, 0.5, SLOW - 1)
    fast = np.linspace(-0.3, 0.3, FAST - 1)
    states = GasStates(np.full(Q, level_gwei), np.eye(Q), edges, fast, math.log(level_gwei), 60, built_s)
    r = np.linspace(0.0, 1.0, NODES)[:, None]
    reserve = scale * r**2 * np.linspace(1.0, 2.0, Q)
    return ReservationSurface(reserve, 0.3 * np.repeat(r, Q, axis=1), reserve.copy(), 1.0 / (NODES - 1), states)


@pytest.mark.parametrize("seed", range(4))
def test_the_look_and_the_decision_agree_on_which_gas_is_paid(seed):
    rng = np.random.default_rng(seed)
    made = surface(scale=3e-3)
    for _ in range(25):
        s = state_of(rng, 10.0)
        q = int(rng.integers(Q))
        memory = memory_of(made, q, s.ts)
        names = list(s.assets)
        sights = Sights(1, 6)
        sights.read(0, terms_of(s), names, s.weights * s.nav_usd, dict.fromkeys(names, 1.0))
        sights.table(0, Reserves(made.reserve[:, q], made.node, usual_legs(len(names))))
        gwei = float(sights.look().reserve_gwei[0])
        forced = s.scenario == "hard" and sights.look().in_tolerances[0] >= 1.0
        if forced or gwei == 0.0:
            assert not forced or gwei == math.inf
            continue
        for gas, acts in ((0.99 * gwei, True), (1.01 * gwei, False)):
            here = replace(s, market=replace(s.market, gas_gwei=gas))
            decision = RulePolicy(SurfaceRule(memory), memory).decide(here, {})
            assert (decision.action != "wait") == acts, (gwei, gas, decision.why)


def test_a_decision_is_taken_again_from_its_memory_alone():
    s = state_of(np.random.default_rng(3), 1.0)
    memory = memory_of(surface(), 5, s.ts)
    again = PolicyMemory.from_json(memory.to_json())
    assert again.digest == memory.digest
    first = RulePolicy(SurfaceRule(memory), memory).decide(s, {})
    second = RulePolicy(recall(again), again).decide(s, {})
    assert first.action == second.action
    assert np.array_equal(first.weights, second.weights)


def test_a_node_at_which_a_trade_is_forced_is_not_smeared_over_the_one_before():
    table = np.array([0.0, 1.0, 2.0, NEVER])
    assert at_node(table, 0.5) == 0.5
    assert at_node(table, 2.9) == 2.0
    assert at_node(table, 3.0) == NEVER
    assert at_node(table, 99.0) == NEVER


@dataclass(frozen=True)
class Block:
    number: int
    timestamp_s: int
    next_base_fee_wei: int
    hash: str = "0x1"


@pytest.fixture
def kept(tmp_path):
    deployment = SimpleNamespace(
        name="main", path=lambda p: tmp_path / p, portfolio=SimpleNamespace(assets=("A", "B", "C")),
        chain=SimpleNamespace(history=1),
    )  # fmt: skip
    watch = GasWatch(math.log(10.0), math.log(10.0), BUILT)
    return KeptSurface(deployment, None, watch), tmp_path / ".foredrift" / "tables"


def test_a_surface_is_swapped_in_between_blocks_and_refused_when_old_or_when_gas_has_left_its_level(kept):
    one, folder = kept
    block = Block(1, BUILT + 12, 9 * 10**9)
    assert one.look(block) is None
    assert one.memory(datetime.now(UTC)) is None
    made = publish(folder, "main", surface(), {}, PROOF)
    found = one.look(replace(block, number=2, timestamp_s=BUILT + 24))
    assert found is not None
    assert found[1] == made.digest
    at = datetime.fromtimestamp(BUILT, UTC)
    assert np.array_equal(one.memory(at).values["reserve"], found[0].table)
    other = publish(folder, "main", surface(scale=2e-3), {}, PROOF)
    assert one.look(replace(block, number=3, timestamp_s=BUILT + 36))[1] == other.digest
    assert one.look(replace(block, number=4, timestamp_s=BUILT + 3 * 3_600 + 13)) is None  # too old
    assert one.memory(at + timedelta(hours=3)) is None
    publish(folder, "main", surface(level_gwei=1.0, scale=1e-3), {}, PROOF)
    assert one.look(replace(block, number=5, timestamp_s=BUILT + 60)) is None  # ten times its level
    assert isinstance(one.found, NoSurface)


def test_a_surface_built_from_the_lake_is_what_a_kept_vault_is_looked_up_in(tmp_path, monkeypatch):
    monkeypatch.setattr(surface_evidence, "PATHS", 1)
    settings = project(tmp_path, "\n[vault]\nstart = [0.5, 0.3, 0.2]\n")
    own, at = deployment(settings), utc(moment(48))
    made = publish_surface(own, lake_of(own), at)
    assert "hash" in made, made
    time_s = int(at.timestamp()) + 12
    desks, market = paper_desks([own])
    unproven = Keeper(desks, market, width=3, workers=1)
    unproven.on_block(Block(1, time_s, 20 * 10**9), quiet="only a look")
    assert unproven.table == [""]  # a surface that has not shown its worth keeps out of the way
    monkeypatch.setattr(proof, "PROVEN", 0.0)
    desks, market = paper_desks([own])
    keeper = Keeper(desks, market, width=3, workers=1)
    keeper.on_block(Block(1, time_s, 20 * 10**9), quiet="only a look")
    assert keeper.tally.blind == 0, keeper.tally.reason
    assert keeper.table == [made["hash"]]
    looked = float(keeper.glance.reserve_gwei[0])
    closed = replace(keeper.desks[0], reserves=None)
    other = Keeper([closed], market, width=3, workers=1)
    other.on_block(Block(1, time_s, 20 * 10**9), quiet="only a look")
    assert other.table == [""]
    assert 0.0 < looked < 50.0 * float(other.glance.reserve_gwei[0])
    assert looked != float(other.glance.reserve_gwei[0])


def test_a_lake_that_does_not_answer_leaves_the_means_to_the_blocks_that_come():
    class Broken:
        def scan(self, *_args, **_more):
            raise StoreError("the disk is gone")

    watch = GasWatch.of(Broken(), 1, BUILT)
    assert math.isnan(watch.level)


def test_the_trailing_means_follow_gas_and_count_blocks_that_were_not_looked_at():
    every, some = GasWatch(0.0, 0.0, 0), GasWatch(0.0, 0.0, 0)
    for b in range(1, 601):
        every.take(1.0, 12 * b)
        if b % 5 == 0:
            some.take(1.0, 12 * b)
    assert every.slow == pytest.approx(1.0 - (1.0 - 1.0 / 300) ** 600, rel=1e-9)
    assert some.slow == pytest.approx(every.slow, rel=0.02)
    assert GasWatch().take(0.7, 12) == 0.7
