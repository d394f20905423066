"""Random hedge decisions behind faults, in short; and what the run holds them to does see what is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policy.execution.hedge_engine import HedgeAnswer, hedge_step
from policy.execution.vaults.hedge.state import E8, GOOD, STALE, WAD, BookLine, HedgeLimits, HedgeStanding, PerpTerms
from policy.execution.vaults.simulated.chain import SimTx
from policy.hedging.decision import HedgeMandate
from tests.hedging import plan_fuzz
from tests.hedging.plan_fuzz import BEGIN, Desk, Found, broken, fuzz, judged, random_world
from tests.hedging.sim_account import (
    KEEPER,
    HedgeWorld,
    Record,
    Reverted,
    SimHedgeNode,
    chain_of,
    executed,
    exposure,
    judge,
)

TERMS = PerpTerms(0, 1, 5, 500, 250, False)
LONG = (BookLine(3, 100 * WAD, 0, 0, 0),)


def world(**over) -> HedgeWorld:
    given = {"cash": 500_000 * 10**6, "price": 1_500 * E8, "lines": LONG, "posted_at": BEGIN, "depth": 10**13,
             "terms": TERMS, "marked": 1_500 * E8}  # fmt: skip
    return HedgeWorld(**{**given, **over})


def desk(tmp_path, at: HedgeWorld | None = None, gamma: float = 100.0) -> Desk:
    chain = chain_of(at or world(), BEGIN, 10**9)
    return Desk(chain, SimHedgeNode(chain), tmp_path, HedgeMandate(gamma=gamma))


def test_nothing_is_doubled_lost_or_beyond_a_limit(tmp_path):
    found = fuzz(140, 5, tmp_path)
    assert found.clean, found
    assert found.plans == 140
    assert found.landed > 5
    assert found.kills > 3
    assert found.reorganisations > 10
    assert len(found.faults) >= 8


def test_a_run_that_goes_on_takes_the_same_decisions(tmp_path):
    whole, first, rest = fuzz(40, 5, tmp_path / "a"), fuzz(20, 5, tmp_path / "b"), fuzz(40, 5, tmp_path / "c", 20)
    assert whole.outcomes == first.outcomes + rest.outcomes
    assert whole.landed == first.landed + rest.landed


@pytest.mark.parametrize("kind", ["wrong_status", "no_receipts", "wrong_hash", "lost_reply", "drops"])
@pytest.mark.parametrize("calls", [30, 80])
def test_a_node_that_lies_about_a_plan_leaves_its_record_right_in_the_end(tmp_path, kind, calls):
    d, found = desk(tmp_path), Found()
    d.node.kind, d.node.left = kind, calls
    hedge_step(d.context())
    d.node.left = 0
    for _ in range(4):
        d.chain.mine()
        hedge_step(d.context())
    judged(d, found)
    assert found.landed >= 1
    assert (found.doubled, found.lost, found.limits_broken) == (0, 0, 0)


def test_a_plan_the_journal_does_not_know_is_seen(tmp_path):
    d, found = desk(tmp_path), Found()
    assert hedge_step(d.context()).outcome == "traded"
    judged(d, found)
    assert (found.lost, found.landed) == (0, 1)
    (tmp_path / "journal.jsonl").unlink()
    d.restart()
    judged(d, found)
    assert found.lost == 1


def test_a_decision_executed_twice_is_seen(tmp_path):
    d, found = desk(tmp_path), Found()
    assert hedge_step(d.context()).outcome == "traded"
    d.chain.set_world(replace(d.chain.world, records=d.chain.world.records * 2))
    judged(d, found)
    assert found.doubled >= 1


def record(**over) -> Record:
    before = HedgeStanding(500_000 * 10**6, 0, 0, 0, 500_000 * 10**6)
    after = HedgeStanding(470_000 * 10**6, 0, -90 * WAD, 29_950 * 10**6, 499_950 * 10**6)
    return Record(0, b"", "0x", *({"before": before, "after": after} | over).values(), 100 * WAD, 1_500 * E8, 0, 0)


def test_each_limit_that_is_broken_is_seen():
    limits = HedgeLimits()
    good = record()
    assert not broken(good, limits)

    def with_after(**change):
        return record(after=replace(good.after, **change))

    assert broken(with_after(size=WAD), limits)  # outward
    assert broken(with_after(size=-120 * WAD), limits)  # across
    assert broken(with_after(equity=10**9), limits)  # thin margin
    assert broken(with_after(equity=300_000 * 10**6), limits)  # too much at the venue
    assert broken(with_after(nav=490_000 * 10**6), limits)  # dearer than the budget
    assert broken(good, replace(limits, max_hedge_bps=1_000))  # a hedge beyond its size


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"size": WAD}, "progress"), ({"size": -120 * WAD}, "crossing"), ({"equity": 10**9}, "margin"),
        ({"equity": 300_000 * 10**6}, "venue"), ({"nav": 10**9}, "size"),
    ],
)  # fmt: skip
def test_the_account_in_memory_refuses_by_the_contracts_words(change, word):
    good = record()
    judge(good.before, good.after, 100 * WAD, GOOD, world())
    with pytest.raises(Reverted, match=word):
        judge(good.before, replace(good.after, **change), 100 * WAD, GOOD, world())
    with pytest.raises(Reverted, match="stale"):
        judge(good.before, good.after, 100 * WAD, STALE, world())


def test_a_plan_of_another_nonce_sender_or_time_is_refused():
    body = {"legs": [], "hash": "00", "nonce": 0, "deadline": BEGIN + 60, "min_nav": "0"}
    tx = SimTx(KEEPER, "0x", b"", 0, 10**6, 0, 0, 31_337, "0x")
    assert executed(world(), body, tx, BEGIN).nonce == 1
    cases = {
        "nonce": (body | {"nonce": 3}, tx, BEGIN), "deadline": (body, tx, BEGIN + 61),
        "keeper": (body, replace(tx, sender="0x1"), BEGIN), "nav floor": (body | {"min_nav": str(10**15)}, tx, BEGIN),
    }  # fmt: skip
    for word, given in cases.items():
        with pytest.raises(Reverted, match=word):
            executed(world(), *given)
    with pytest.raises(Reverted, match="paused"):
        executed(world(paused=True), body, tx, BEGIN)


def test_a_rule_that_trades_outward_never_lands(tmp_path):
    d, found = desk(tmp_path), Found()
    for size in (50.0, -400.0):
        report = hedge_step(d.context(rule=lambda q, size=size: HedgeAnswer(size, "rogue", 1e9)))
        assert report.outcome == "refused"
        assert {v.check for v in report.verdicts if not v.ok} <= {"simulation", "perp_margin"}
        d.chain.mine()
    judged(d, found)
    assert found.landed == 0


def test_the_books_are_of_every_kind_and_their_deltas_finite():
    kinds, rng = set(), np.random.default_rng(1)
    for _ in range(60):
        made = random_world(rng)
        kinds |= {line.kind for line in made.lines}
        assert abs(exposure(made, BEGIN)[0]) < 10**30
        assert made.standing().nav == made.cash
    assert kinds == {0, 1, 2, 3}
    assert plan_fuzz.AN_ACCOUNT > 1
