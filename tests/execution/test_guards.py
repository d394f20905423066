"""Oracle and chain guards as relations on their thresholds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from lake.units import bps
from policy.execution.base import Quote
from policy.execution.checks import guards
from policy.execution.checks.guards import FeedRule, OracleEvidence, RoundAnswer
from policy.execution.vaults.simulated.adapter import SimulatedVault
from tests.execution.simlab import START, TOKENS, WETH, chain, spec

SNAPSHOT = SimulatedVault(spec(), chain()).snapshot()


@given(st.integers(-10, 10**6), st.integers(1, 10**5))
def test_a_feed_is_fresh_exactly_within_its_own_heartbeat(age, heartbeat):
    verdict = guards.feed("X", Quote("x", 10**8, 1, START - age), FeedRule(heartbeat), START)
    assert verdict.ok == (0 <= age <= heartbeat)
    if not verdict.ok:
        assert verdict.check == ("oracle_time" if age < 0 else "oracle_stale")
        assert verdict.figures["heartbeat_s"] == heartbeat


@given(st.integers(-(10**12), 10**12))
def test_only_positive_answers_pass(price):
    assert guards.feed("X", Quote("x", price, 1, START), FeedRule(), START).ok == (price > 0)


@given(st.integers(1, 10**12), st.integers(1, 10**12), st.integers(0, 2_000))
def test_deviation_is_measured_in_basis_points_of_the_second_source(price, second, allowed):
    verdict = guards.agrees("X", price, "twap", second, bps(allowed))
    assert verdict.ok == (abs(price - second) * 10_000 <= allowed * second)


def test_every_feed_is_judged_by_its_own_rule():
    old = replace(SNAPSHOT, quotes=tuple(replace(q, updated_at=START - 7_200) for q in SNAPSHOT.quotes))
    rules = {WETH.address: FeedRule(heartbeat_s=10_000)}
    failed = {v.reason.split(":")[0] for v in guards.oracles(old, rules, OracleEvidence()) if not v.ok}
    assert failed == {"USDC", "WBTC"}
    gone = replace(SNAPSHOT, quotes=SNAPSHOT.quotes[1:])
    assert [v.check for v in guards.oracles(gone, {}, OracleEvidence()) if not v.ok] == ["oracle_missing"]


def test_rounds_must_be_finished_and_move():
    rule = FeedRule(frozen_rounds=3)
    moving = [RoundAnswer(i, 100 + i, 0, START, i) for i in range(5)]
    assert guards.complete("X", moving, rule).ok
    stuck = [*moving, *(RoundAnswer(i, 7, 0, START, i) for i in range(5, 8))]
    assert guards.complete("X", stuck, rule).check == "oracle_frozen"
    assert guards.complete("X", stuck[:-1], rule).ok
    assert guards.complete("X", stuck, FeedRule(frozen_rounds=0)).ok
    assert guards.complete("X", [RoundAnswer(9, 1, 0, START, 8)], rule).check == "oracle_incomplete"
    assert guards.complete("X", [RoundAnswer(9, 1, 0, 0, 9)], rule).check == "oracle_incomplete"


def test_a_second_source_may_be_required():
    rules = {t.address: FeedRule(second_required=True) for t in TOKENS}
    assert {v.check for v in guards.oracles(SNAPSHOT, rules, OracleEvidence()) if not v.ok} == {"oracle_second"}
    seconds = {q.token: {"twap": q.price_e8} for q in SNAPSHOT.quotes}
    assert all(v.ok for v in guards.oracles(SNAPSHOT, rules, OracleEvidence(second_e8=seconds)))


@given(st.booleans(), st.integers(0, 10_000))
def test_the_sequencer_must_be_up_for_longer_than_its_grace(up, since):
    verdict = guards.sequencer((up, START - since), START, 3_600)
    assert verdict.ok == (up and since > 3_600)


@given(st.integers(0, 10**18), st.integers(21_000, 10**6), st.integers(1, 10**12), st.integers(0, 10**16))
def test_gas_money_covers_the_plan_and_a_no_op(balance, limit, fee, reserve):
    assert guards.gas_money(balance, limit, fee, reserve).ok == (balance >= limit * fee + reserve)


def test_chain_and_data():
    now = datetime.fromtimestamp(SNAPSHOT.block_time, UTC)
    assert all(v.ok for v in guards.chain(SNAPSHOT, 31_337, now, 60))
    assert {v.check for v in guards.chain(replace(SNAPSHOT, paused=True), 1, now + timedelta(hours=1), 60)} == {
        "chain_id",
        "node_behind",
        "vault_paused",
    }
    assert guards.data_fresh(now, now, timedelta(0)).ok
    assert guards.data_fresh(None, now, timedelta(1)).check == "data_missing"
    assert guards.data_fresh(now, now + timedelta(hours=2), timedelta(hours=1)).check == "data_stale"
