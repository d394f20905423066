"""The keeper's budgets and the vault's book: what the integers promise whoever trades, thieves included."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.execution.base import Leg, Plan, Token
from policy.execution.checks.rules import (
    DAY_S,
    FLOW_AGE_S,
    PPB,
    Clock,
    Flow,
    Mandate,
    VaultBook,
    add_loss,
    after_trading,
    before_trading,
    long_lost,
    loss_left,
    lost,
    spend,
    stolen_key,
    trade,
    wrong_keeper,
)

USDC, ETH, WBTC = Token("USDC", "0xa", 6), Token("ETH", "0xb", 18), Token("WBTC", "0xc", 8)
TOKENS = (USDC, ETH, WBTC)
PRICES = (100_000_000, 200_000_000_000, 6_000_000_000_000)
START = 1_700_000_000

times = st.lists(st.tuples(st.integers(0, 2 * DAY_S), st.integers(0, 10**6)), max_size=40)
mandates = st.builds(
    Mandate,
    window_s=st.sampled_from([3_600, DAY_S]),
    loss_budget_ppb=st.integers(1, 10**7),
    long_window_s=st.sampled_from([7 * DAY_S, 90 * DAY_S]),
    long_budget_ppb=st.integers(1, 10**8),
    life_budget_ppb=st.integers(1, 10**8),
    strikes=st.integers(1, 255),
)


def booked(events: list[tuple[int, int]], window_s: int) -> tuple[Clock, list[tuple[int, int]]]:
    """The clock after losses at growing times, and the losses with their times."""
    clock, now, seen = Clock(), START, []
    for wait, loss in events:
        now += wait
        clock = add_loss(clock, window_s, now, loss)
        seen.append((now, loss))
    return clock, seen


@given(events=times, window_s=st.sampled_from([600, 3_600, DAY_S]), later=st.integers(0, 3 * DAY_S))
def test_no_loss_of_the_last_window_is_forgotten_and_none_counts_longer_than_two(events, window_s, later):
    clock, seen = booked(events, window_s)
    now = (seen[-1][0] if seen else START) + later
    counted = lost(clock, window_s, now)
    assert counted >= sum(loss for at, loss in seen if at > now - window_s)
    assert counted <= sum(loss for at, loss in seen if at > now - 2 * window_s)


@given(events=times, mandate=mandates)
def test_what_is_left_never_grows_by_spending_and_is_never_negative(events, mandate):
    clock, now = Clock(), START
    for wait, loss in events:
        now += wait
        before = loss_left(clock, mandate, now)
        clock, _ = spend(clock, mandate, now, loss)
        after = loss_left(clock, mandate, now)
        assert 0 <= after <= before
        assert after == 0 or before - after >= loss
    assert clock.life == sum(loss for _, loss in events)
    assert 0 <= clock.strikes <= 255


@given(events=times, mandate=mandates)
def test_the_vault_pauses_when_nine_tenths_of_its_life_are_gone_and_not_for_nothing(events, mandate):
    clock, now = Clock(), START
    for wait, loss in events:
        now += wait
        before = clock
        clock, paused = spend(clock, mandate, now, loss)
        if loss == 0:
            assert (clock, paused) == (before, False)
        else:
            assert paused == (clock.strikes >= mandate.strikes or clock.life * 10 >= mandate.life_budget_ppb * 9)


@settings(max_examples=60)
@given(
    waits=st.lists(st.integers(0, DAY_S), min_size=1, max_size=120),
    share=st.floats(0.1, 1.0),
    mandate=mandates.filter(lambda m: m.window_s == DAY_S),
)
def test_a_thief_who_takes_all_he_may_stays_within_the_exposure_that_is_stated(waits, share, mandate):
    clock, now, taken = Clock(), START, []
    for wait in waits:
        now += wait
        left = loss_left(clock, mandate, now)
        loss = int(left * share)
        clock, paused = spend(clock, mandate, now, loss)
        taken.append((now, loss))
        if paused:
            break
    stated = stolen_key(mandate)
    for at, _ in taken:
        assert sum(x for t, x in taken if at <= t < at + DAY_S) <= stated.day_ppb
        assert sum(x for t, x in taken if at <= t < at + 90 * DAY_S) <= stated.quarter_ppb
    assert sum(x for _, x in taken) <= stated.ever_ppb


@given(mandate=mandates)
def test_exposure_grows_with_time_and_is_said_in_basis_points(mandate):
    stated = stolen_key(mandate)
    assert 0 < stated.day_ppb <= stated.quarter_ppb <= stated.ever_ppb
    assert f"{stated.ever_ppb / 100_000:g} bp for ever" in stated.words()


@given(events=times)
def test_the_long_budget_counts_like_the_short_one(events):
    window = 7 * DAY_S
    mandate = Mandate(window_s=window, long_window_s=window, loss_budget_ppb=PPB, long_budget_ppb=PPB)
    clock, now = Clock(), START
    for wait, loss in events:
        now += wait
        clock, _ = spend(clock, mandate, now, loss)
    assert long_lost(clock, window, now) == lost(clock, window, now)


amounts = st.tuples(st.integers(0, 10**13), st.integers(0, 10**21), st.integers(0, 10**10))


def book(held: tuple[int, ...], targets: tuple[int, ...] = (2_000, 5_000, 3_000)) -> VaultBook:
    return VaultBook(TOKENS, targets, PRICES, held)


@given(held=amounts)
def test_a_books_weights_sum_to_one_and_its_parts_to_its_total(held):
    mine = book(held)
    assert mine.total() == sum(mine.value(i, h) for i, h in enumerate(held))
    weights = mine.weights_bps()
    if mine.total():
        assert abs(sum(weights) - 10_000) <= len(weights)
        assert mine.nav() <= mine.total() // 10**12 + 1
        assert mine.nav() >= mine.total() // 10**12 - 1
    else:
        assert weights == (0, 0, 0)
        assert mine.distance() == 0


@given(held=amounts.filter(lambda h: sum(h) > 0), scale=st.integers(2, 1_000))
def test_distance_depends_on_weights_only_and_is_at_most_two(held, scale):
    one, many = book(held), book(tuple(h * scale for h in held))
    if one.total() < 10**18:
        return
    assert abs(one.distance() - many.distance()) <= 10
    assert 0 <= one.distance() <= 2 * PPB


def test_a_book_on_target_is_at_no_distance_and_without_a_price_it_is_worth_nothing():
    on_target = book((2_000 * 10**6, 25 * 10**17, 5 * 10**6))
    assert on_target.weights_bps() == (2_000, 5_000, 3_000)
    assert on_target.distance() == 0
    assert replace(on_target, prices_e8=(0, *PRICES[1:])).nav() == 0
    assert on_target.index("0xc") == 2
    assert on_target.index("0xd") == -1


def leg(sold: int, bought: int, amount_in: int, out: int, min_out: int | None = None) -> Leg:
    ends = TOKENS[sold].address, TOKENS[bought].address
    return Leg(*ends, amount_in, out if min_out is None else min_out, out, (), "0xrouter")


def plan(*legs: Leg, **more) -> Plan:
    return Plan(
        "d",
        "0xvault",
        1,
        more.pop("nonce", 3),
        more.pop("deadline", START + 60),
        more.pop("min_nav", 0),
        legs,
        b"",
        1,
        "0x",
    )


GOOD = {"nonce": 3, "last_block": 10, "last_time": START - 3_600}
BROKEN_BEFORE = {
    "deadline": ({"deadline": START - 1}, {}, START, 11),
    "nonce": ({"nonce": 4}, {}, START, 11),
    "cooldown": ({}, {"last_time": START - 30}, START, 11),
}


@pytest.mark.parametrize("rule", BROKEN_BEFORE)
def test_each_rule_before_trading_is_named_alone(rule):
    given_plan, given_clock, now, block = BROKEN_BEFORE[rule]
    mine = book((2_000 * 10**6, 25 * 10**17, 5 * 10**6))
    clock = Clock(**{**GOOD, **given_clock})
    found = before_trading(plan(leg(0, 1, 10**6, 10**15), **given_plan), mine, clock, Mandate(), now, block)
    assert [v.check for v in found] == [rule]
    assert not found[0].ok


def test_a_block_is_traded_in_once_a_plan_has_legs_and_a_vault_something():
    mine, clock = book((10**9, 0, 0)), Clock(**GOOD)
    checks = [v.check for v in before_trading(plan(), mine, clock, Mandate(), START, 11)]
    assert checks == ["legs"]
    many = plan(*[leg(0, 1, 1, 1)] * 9)
    assert [v.check for v in before_trading(many, mine, clock, Mandate(), START, 11)] == ["legs"]
    again = before_trading(plan(leg(0, 1, 1, 1)), mine, clock, Mandate(), START, 10)
    assert [v.check for v in again] == ["cooldown"]
    empty = before_trading(plan(leg(0, 1, 1, 1)), book((0, 0, 0)), clock, Mandate(), START, 11)
    assert [v.check for v in empty] == ["empty"]
    assert before_trading(plan(leg(0, 1, 1, 1)), mine, clock, Mandate(), START, 11) == []


@given(
    usd=st.integers(1, 1_000),
    gain_bps=st.integers(-300, 300),
)
def test_a_leg_passes_exactly_within_what_it_may_lose_and_gain(usd, gain_bps):
    mine = book((2_000 * 10**6, 25 * 10**17, 5 * 10**6))
    sold = usd * 10**6
    fair = sold * 10**12 // 2_000
    got = fair + fair * gain_bps // 10_000
    after, turnover, failed = trade(
        plan(leg(0, 1, sold, got)), mine, Mandate(), lambda x: (x.amount_in, x.quoted_out), lambda _: True
    )
    value = mine.value(1, got) * 10_000
    wrong = {"leg value"} if value < mine.value(0, sold) * 9_900 else set()
    wrong |= {"leg gain"} if value > mine.value(0, sold) * 10_100 else set()
    assert {v.check for v in failed} == wrong
    assert turnover == mine.value(0, sold)
    assert after.holdings == (mine.holdings[0] - sold, mine.holdings[1] + got, mine.holdings[2])


SWAPS = {
    "pair": (leg(0, 0, 1, 1), (1, 1)),
    "spent": (leg(0, 1, 10**6, 10**15), (10**6 + 1, 10**15)),
    "min out": (leg(0, 1, 10**6, 5 * 10**14), (10**6, 5 * 10**14 - 1)),
}


@pytest.mark.parametrize("rule", SWAPS)
def test_a_swap_that_does_other_than_it_said_is_named(rule):
    one, done = SWAPS[rule]
    mine = book((2_000 * 10**6, 25 * 10**17, 5 * 10**6))
    after, _, failed = trade(plan(one), mine, Mandate(), lambda _: done, lambda _: True)
    assert [v.check for v in failed] == [rule]
    if rule != "min out":
        assert after.holdings == mine.holdings


def test_a_router_that_is_not_listed_moves_nothing():
    mine = book((2_000 * 10**6, 0, 0))
    after, turnover, failed = trade(
        plan(leg(0, 1, 10**6, 10**15)), mine, Mandate(), lambda _: pytest.fail("it was called"), lambda _: False
    )
    assert ([v.check for v in failed], turnover, after) == (["target"], 0, mine)


@given(lost_usd=st.integers(0, 10**6), budget=st.integers(1, 10**7))
def test_a_loss_is_rounded_up_and_stopped_by_the_budget(lost_usd, budget):
    before = book((2_000 * 10**6, 25 * 10**17, 5 * 10**6))
    after = replace(before, holdings=(before.holdings[0] - lost_usd, *before.holdings[1:]))
    mandate = Mandate(loss_budget_ppb=budget, long_budget_ppb=PPB, life_budget_ppb=PPB)
    loss, failed = after_trading(plan(), before, after, 0, Clock(), mandate, START)
    exact = before.value(0, lost_usd) * PPB / before.total()
    assert exact <= loss < exact + 1
    assert ("loss budget" in {v.check for v in failed}) == (loss > budget)


def test_a_flow_between_plan_and_block_excuses_what_held_before_it_and_only_for_so_long():
    before = book((2_000 * 10**6, 25 * 10**17, 5 * 10**6))
    held = (1_000 * 10**6, *before.holdings[1:])  # before a deposit of 1,000 dollars
    now_held = replace(before, holdings=before.holdings)
    after = replace(before, holdings=(before.holdings[0] + 10**9, before.holdings[1] - 5 * 10**17, before.holdings[2]))
    clock = Clock(nonce=3, last_time=START - DAY_S)
    turnover = before.value(1, 5 * 10**17)

    def checks(flows: tuple[Flow, ...]) -> set[str]:
        found = after_trading(plan(), now_held, after, turnover, clock, Mandate(), START, flows)[1]
        return {v.check for v in found}

    assert checks(()) == {"progress"}
    assert checks((Flow(START - 10, held),)) == set()
    assert checks((Flow(START - FLOW_AGE_S - 1, held),)) == {"progress"}
    assert checks((Flow(clock.last_time, held),)) == {"progress"}


@pytest.mark.parametrize(("sender", "count"), [("0xAB", 0), ("0xab", 0), ("0xac", 1)])
def test_only_the_keeper_sends_whatever_the_case_of_his_address(sender, count):
    assert len(wrong_keeper(sender, "0xaB")) == count
