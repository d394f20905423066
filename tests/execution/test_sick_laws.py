"""Leaving a token alone: what the policy sees, what is traded, and who is blamed when a plan fails."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.base import Decision, Market, State
from policy.costs import chain_fees
from policy.execution.base import Leg, Simulation, Token
from policy.execution.checks.verdicts import UNTRADABLE, passed, refused
from policy.execution.planner import Draft
from policy.execution.probes.sick import (
    LEAST_HEALTHY,
    masked,
    named,
    of_draft,
    of_market,
    of_simulation,
    positions,
    split,
    tradable,
    unmasked,
    without,
)
from policy.execution.routing.amm import V2Pool

N = 5
TOKENS = tuple(Token(name, f"0x{i}", 18) for i, name in enumerate(("USDC", "ETH", "BTC", "LINK", "UNI")))
SNAPSHOT = SimpleNamespace(tokens=TOKENS)
shares = st.lists(st.floats(0.05, 1.0), min_size=N, max_size=N).map(lambda x: np.array(x) / sum(x))
sets = st.sets(st.integers(0, N - 1), max_size=N - 2).map(sorted)


def state(weights: np.ndarray, target: np.ndarray) -> State:
    market = Market(20.0, 2_000.0, chain_fees(1), np.full(N, 0.003), np.full(N, 1e7))
    at = datetime(2024, 1, 1, tzinfo=UTC)
    names = tuple(t.symbol for t in TOKENS)
    return State(at, names, weights, target, np.full(N, 0.05), 1e6, 3.0, "soft", np.eye(N) * 1e-5, market)


def decision(weights: np.ndarray) -> Decision:
    return Decision("trade", weights, 1.0, 1.0, 0.0, "why")


@given(weights=shares, target=shares, sick=sets)
def test_a_sick_token_is_shown_on_target_and_the_others_keep_their_shares(weights, target, sick):
    seen = masked(state(weights, target), sick)
    healthy = [i for i in range(N) if i not in sick]
    assert seen.weights.sum() == pytest.approx(1.0)
    assert seen.weights[sick].tolist() == target[sick].tolist()
    if sick:
        ratio = seen.weights[healthy] / weights[healthy]
        assert ratio == pytest.approx(np.full(len(healthy), ratio[0]))
        assert seen.market.tradable is not None
        assert seen.market.tradable.tolist() == [i in healthy for i in range(N)]
    else:
        assert seen.weights is state(weights, target).weights or (seen.weights == weights).all()


@given(weights=shares, target=shares, wanted=shares, sick=sets)
def test_what_is_decided_moves_no_sick_token_and_spends_only_what_the_others_are(weights, target, wanted, sick):
    real = state(weights, target)
    found = unmasked(decision(wanted), real, sick).weights
    assert found.sum() == pytest.approx(1.0)
    assert found[sick].tolist() == weights[sick].tolist() if sick else (found == wanted).all()
    healthy = [i for i in range(N) if i not in sick]
    if sick:
        assert found[healthy].sum() == pytest.approx(weights[healthy].sum())


@given(weights=shares, target=shares, sick=sets.filter(bool))
def test_waiting_stays_waiting_and_to_target_is_to_target_among_the_others(weights, target, sick):
    real = state(weights, target)
    seen = masked(real, sick)
    healthy = [i for i in range(N) if i not in sick]
    stays = unmasked(decision(seen.weights), real, sick).weights
    assert stays == pytest.approx(weights)
    whole = unmasked(decision(target), real, sick).weights
    assert whole[healthy] / whole[healthy].sum() == pytest.approx(target[healthy] / target[healthy].sum())


@pytest.mark.parametrize("wrong", [np.full(N, np.nan), np.zeros(N), np.array([1.0, 0, 0, 0, np.inf])])
def test_what_is_no_portfolio_is_handed_on_as_it_is_for_the_engine_to_refuse(wrong):
    real = state(np.full(N, 0.2), np.full(N, 0.2))
    assert np.array_equal(unmasked(decision(wrong), real, [1]).weights, wrong, equal_nan=True)


@given(sick=st.sets(st.sampled_from([t.address for t in TOKENS])))
def test_two_healthy_tokens_are_needed_for_a_trade(sick):
    assert tradable(SNAPSHOT, sick) == (len(TOKENS) - len(sick) >= LEAST_HEALTHY)
    assert positions(SNAPSHOT, sick) == [i for i, t in enumerate(TOKENS) if t.address in sick]


blame = st.lists(
    st.tuples(st.booleans(), st.sampled_from([None, "0x0", "0x1", "0x2", "0x3", "0x4", "0x9"])), max_size=8
)


@given(rows=blame)
def test_verdicts_are_sorted_by_whom_they_concern_and_none_is_lost(rows):
    made = [
        (passed if ok else refused)(f"c{i}", "r", **({} if token is None else {"token": token}))
        for i, (ok, token) in enumerate(rows)
    ]
    found = split(SNAPSHOT, made)
    bad = {str(v.figures["token"]) for v in made if not v.ok and v.figures.get("token") in {"0x1", "0x2", "0x3", "0x4"}}
    if len(TOKENS) - len(bad) >= LEAST_HEALTHY:
        assert set(found.sick) == bad
        first = {t: next(v for v in made if not v.ok and v.figures.get("token") == t) for t in bad}
        assert found.sick == first
        assert all(v.ok or v.figures.get("token") not in bad for v in found.rest)
    else:
        assert (found.sick, found.rest) == ({}, made)


def test_a_fault_of_the_accounting_asset_concerns_everything():
    cash = refused("oracle_stale", "old", token="0x0")
    found = split(SNAPSHOT, [cash])
    assert (found.sick, found.rest) == ({}, [cash])


def test_every_sick_token_is_named_with_its_cause_in_the_order_of_the_tokens():
    sick = {"0x3": refused("no_market", "no bar", age=3), "0x1": refused("round_trip", "no sale", token="0x1")}
    found = named(SNAPSHOT, sick)
    assert [v.figures["symbol"] for v in found] == ["ETH", "LINK"]
    assert all(v.ok and v.check == UNTRADABLE for v in found)
    assert found[1].figures == {"age": 3, "token": "0x3", "symbol": "LINK", "cause": "no_market"}
    assert "tried again at the next step: no bar" in found[1].reason


@given(sick=st.sets(st.sampled_from(["0x1", "0x2", "0x3"])))
def test_no_route_leads_through_a_sick_token(sick):
    ends = [("0x0", "0x1"), ("0x1", "0x2"), ("0x0", "0x3"), ("0x0", "0x4")]
    pools = [V2Pool(f"p{i}", a, b, 1, 1) for i, (a, b) in enumerate(ends)]
    left = without(pools, sick)
    assert all({p.token0, p.token1}.isdisjoint(sick) for p in left)
    assert [p for p in pools if {p.token0, p.token1}.isdisjoint(sick)] == left


@given(market=st.lists(st.booleans(), min_size=N, max_size=N))
def test_a_token_without_a_market_is_left_alone_where_enough_have_one(market):
    found = of_market(SNAPSHOT, np.array(market), {})
    shut = {t.address for t, good in zip(TOKENS, market, strict=True) if not good}
    assert set(found) == (shut if len(TOKENS) - len(shut) >= LEAST_HEALTHY else set())
    known = {"0x1": refused("oracle_stale", "old", token="0x1")}
    assert of_market(SNAPSHOT, np.array(market), known)["0x1"] is known["0x1"]


def test_of_a_pair_that_cannot_be_planned_the_other_than_cash_is_to_blame_else_the_thinner():
    depths = np.array([0.0, 9e6, 5e6, 1e5, 2e6])

    def blamed(token_in: str, token_out: str) -> set[str]:
        note = refused("no_route", "no pool", token_in=token_in, token_out=token_out)
        return set(of_draft(SNAPSHOT, Draft(verdicts=(note, passed("x"))), depths))

    assert blamed("0x0", "0x1") == {"0x1"}
    assert blamed("0x1", "0x0") == {"0x1"}
    assert blamed("0x1", "0x3") == {"0x3"}
    assert blamed("0x4", "0x2") == {"0x4"}
    own = refused("leg_value", "poor", token="0x2")
    assert set(of_draft(SNAPSHOT, Draft(verdicts=(own,)), depths)) == {"0x2"}
    assert of_draft(SNAPSHOT, Draft(verdicts=(refused("gas", "dear"),)), depths) == {}


def leg(token_in: str, token_out: str) -> Leg:
    return Leg(token_in, token_out, 1, 1, 1, (), "0xr")


pairs = st.lists(
    st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)).filter(lambda p: p[0] != p[1]), min_size=1, max_size=6
)


@given(moves=pairs, broken=st.sets(st.integers(1, N - 1), max_size=2))
def test_whoever_makes_every_one_of_its_pairs_fail_is_found_and_no_one_who_trades_is_blamed(moves, broken):
    legs = [leg(TOKENS[i].address, TOKENS[j].address) for i, j in moves]
    bad = {TOKENS[i].address for i in broken}

    def alone(own):
        assert len({(x.token_in, x.token_out) for x in own}) == 1
        wrong = {own[0].token_in, own[0].token_out} & bad
        return Simulation(not wrong, 1, {}, "it is paused" if wrong else None)

    found = of_simulation(SNAPSHOT, legs, alone)
    ran = {t for x in legs if not {x.token_in, x.token_out} & bad for t in (x.token_in, x.token_out)}
    assert not set(found) & ran
    used = {t for x in legs for t in (x.token_in, x.token_out)}
    assert bad & used <= set(found)
    assert all("it is paused" in v.reason for v in found.values())


def test_the_accounting_asset_is_blamed_only_where_nothing_else_is():
    def fails(own):
        return Simulation(ok=False, gas_used=1, deltas={})

    assert set(of_simulation(SNAPSHOT, [leg("0x0", "0x1"), leg("0x2", "0x0")], fails)) == {"0x1", "0x2"}

    def runs_with_eth(own):
        return Simulation("0x1" in {own[0].token_in, own[0].token_out}, 1, {})

    found = of_simulation(SNAPSHOT, [leg("0x1", "0x2"), leg("0x0", "0x3")], runs_with_eth)
    assert set(found) == {"0x3"}
    assert "reverted without a reason" in found["0x3"].reason


def test_turnover_and_tolerances_of_the_others_are_left_as_they_are():
    real = replace(state(np.full(N, 0.2), np.full(N, 0.2)), max_turnover=0.3)
    seen = masked(real, [2])
    assert seen.max_turnover == 0.3
    assert seen.tolerance is real.tolerance
    assert seen.target is real.target
