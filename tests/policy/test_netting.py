"""Holders' money netted against a rebalance: conservation, what is never spent, and nothing without it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.base import CashFlows, ChainFees, Decision, Market, State
from policy.costs import gas_share
from policy.memory import state_from, state_json
from policy.netting import LEAST_NAV, after, decide, netted, to_trade, within

N = 4
MARKET = Market(10.0, 2_000.0, ChainFees(1), np.full(N, 0.003), np.full(N, 1e7))
PARTS = st.lists(st.floats(0.01, 1.0), min_size=N, max_size=N).map(lambda x: np.array(x) / sum(x))
FLOWS = st.builds(CashFlows, st.floats(0, 0.6), st.floats(0, 0.9), st.floats(0, 0.2))


def state(weights, flows: CashFlows | None = None) -> State:
    target = np.full(N, 1 / N)
    names = ("USDC", "ETH", "BTC", "LINK")
    at = datetime(2024, 5, 1, tzinfo=UTC)
    return State(
        at, names, np.asarray(weights), target, np.full(N, 0.05), 1e6, 3.0, "soft", np.eye(N), MARKET, flows=flows
    )


def decided(shown: State, weights) -> Decision:
    return Decision("trade", np.asarray(weights), 1.0, 0.5, 0.0, "because")


@given(PARTS, PARTS)
def test_without_flows_state_and_decision_are_the_very_same(weights, wanted):
    for flows in (None, CashFlows(0.0, 0.0, 0.0)):
        given_ = state(weights, flows)
        assert netted(given_) is given_
    plain = state(weights)
    decision = decided(plain, wanted)
    assert to_trade(decision, plain, plain) is decision


@given(PARTS, FLOWS)
def test_what_is_shown_is_the_portfolio_after_the_money_has_moved(weights, flows):
    shown, growth = after(weights, flows)
    assert shown.sum() == pytest.approx(1)
    held = weights * 1e6
    held[0] += (growth - 1) * 1e6
    assert shown * growth * 1e6 == pytest.approx(held)
    assert growth == pytest.approx(max(LEAST_NAV, 1 + flows.coming - flows.leaving))


@given(PARTS, PARTS, FLOWS)
def test_a_trade_is_a_portfolio_and_never_spends_cash_that_is_owed_or_not_there(weights, wanted, flows):
    given_ = state(weights, flows)
    shown = netted(given_)
    traded = to_trade(decided(shown, wanted), given_, shown)
    w = traded.weights
    assert w.sum() == pytest.approx(1)
    assert w.min() >= 0
    kept = min(weights[0], flows.leaving + flows.reserve)
    assert w[0] >= kept - 1e-9


@given(PARTS, PARTS, FLOWS)
def test_where_cash_is_enough_the_settled_portfolio_is_what_the_policy_wanted(weights, wanted, flows):
    given_ = state(weights, flows)
    shown = netted(given_)
    traded = to_trade(decided(shown, wanted), given_, shown)
    ideal = weights + (shown.nav_usd / given_.nav_usd) * (wanted - shown.weights)
    if ideal[0] < flows.leaving + flows.reserve or ideal.min() < 0:
        return
    settled, _ = after(traded.weights, flows)
    assert settled == pytest.approx(wanted, abs=1e-9)


@given(PARTS, FLOWS)
def test_purchases_are_cut_and_sales_are_not(weights, flows):
    rng = np.random.default_rng(3)
    change = rng.normal(0, 0.1, N)
    change -= change.mean()
    cut = within(weights, change, flows)
    assert cut.sum() == pytest.approx(0, abs=1e-12)
    for had, has in zip(change[1:], cut[1:], strict=True):
        assert has == had if had <= 0 else -1e-12 <= has <= had + 1e-12


@pytest.mark.parametrize(("now", "later", "trades"), [(0, 0, False), (1, 0, False), (0, 1, False), (1, 1, True)])
def test_only_what_is_wanted_both_now_and_once_the_money_has_moved_is_traded(now, later, trades):
    given_ = state([0.4, 0.2, 0.2, 0.2], CashFlows(coming=0.05, leaving=0.1))
    seen = []

    def ask(told: State):
        seen.append(told)
        does = now if told is given_ else later
        made = replace(decided(told, np.full(N, 0.25)), action="trade" if does else "wait")
        made = made if does else replace(made, weights=told.weights)
        return told, made, made

    asked, said, decision = decide(ask, given_)
    assert (decision.action != "wait") == trades
    assert asked is seen[-1]
    assert said.action == decision.action
    assert len(seen) == 1 + bool(now)
    assert (decision.weights == given_.weights).all() != trades


def test_where_the_cash_does_not_reach_the_settled_portfolio_alone_is_asked_about():
    given_ = state([0.1, 0.3, 0.3, 0.3], CashFlows(leaving=0.4))
    seen = []

    def ask(told: State):
        seen.append(told)
        made = decided(told, np.full(N, 0.25))
        return told, made, made

    _, _, decision = decide(ask, given_)
    assert [s is given_ for s in seen] == [False]
    assert decision.weights == pytest.approx([0.4 + 0.25 * 0.6, *[0.15] * 3])


def test_a_mandate_that_does_not_net_is_asked_as_it_is_and_still_keeps_what_is_owed():
    wanted = np.array([0.1, 0.3, 0.3, 0.3])
    given_ = state([0.4, 0.2, 0.2, 0.2], CashFlows(coming=0.5, leaving=0.3, net=False))
    assert netted(given_) is given_
    _, _, decision = decide(lambda told: (told, decided(told, wanted), decided(told, wanted)), given_)
    assert decision.weights[0] == pytest.approx(0.3)
    short = state([0.2, 0.3, 0.3, 0.2], CashFlows(leaving=0.3, net=False))
    assert netted(short) is not short  # what is owed must be raised all the same


def test_without_flows_the_policy_is_asked_once_and_its_answer_kept():
    plain = state([0.4, 0.2, 0.2, 0.2])
    answer = decided(plain, np.full(N, 0.25))
    assert decide(lambda told: (told, answer, answer), plain) == (plain, answer, answer)


def test_what_a_withdrawal_takes_is_not_sold_and_what_a_deposit_brings_is_not_bought():
    heavy = state([0.35, 0.25, 0.25, 0.15], CashFlows(leaving=0.10))  # too much cash, a tenth leaves
    assert netted(heavy).weights[0] == pytest.approx(0.25 / 0.9)
    light = state([0.10, 0.30, 0.30, 0.30], CashFlows(coming=0.20))  # too little cash, a fifth comes
    assert netted(light).weights == pytest.approx([0.25] * 4)


def test_a_trade_for_which_no_cash_is_free_waits_and_says_why():
    given_ = state([0.25, 0.25, 0.25, 0.25], CashFlows(coming=0.5, leaving=0.25))
    shown = netted(given_)
    waits = to_trade(decided(shown, np.full(N, 0.25)), given_, shown)
    assert waits.action == "wait"
    assert "25.00% of NAV is to be paid out" in waits.why
    assert waits.weights is given_.weights
    later = to_trade(replace(waits, weights=shown.weights), given_, shown)
    assert later.weights is given_.weights


@given(PARTS, st.one_of(st.none(), FLOWS))
def test_the_record_of_a_state_gives_its_flows_again_and_is_silent_without(weights, flows):
    given_ = state(weights, flows)
    data = state_json(given_)
    assert ("flows" in data) == (flows is not None)
    assert state_from(data).flows == flows


@given(st.floats(1e3, 1e9), st.floats(0.01, 500.0))
def test_the_gas_of_a_trade_is_a_share_of_what_there_is(nav_usd, gas_gwei):
    share = gas_share(replace(MARKET, gas_gwei=gas_gwei), nav_usd)
    assert share * nav_usd == pytest.approx(275_000 * gas_gwei * 1e-9 * 2_000.0)
    assert gas_share(MARKET, 0.0) == float("inf")
