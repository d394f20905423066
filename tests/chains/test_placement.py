"""Where a trade is made: against a brute force over sets of chains, and what must hold for every state."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lake.errors import ConfigError
from policy.base import Market
from policy.chains.global_state import USD, Place
from policy.chains.placement import PlacementTerms, fill_up, place, route_prices
from policy.chains.placement_kernel import (
    CENT,
    LEAST,
    QUARTERS,
    SLICE,
    best_split,
    least_cost,
    lines,
    part_worth,
    shares_cost,
    split,
)  # fmt: skip
from policy.chains.transfer_costs import bridge_terms, transfer_cost
from policy.costs import chain_fees, gas_lines, impact_per_square, trade_cost
from tests.chains.test_global_state import ASSETS, TARGET, market, portfolio

IDS = (1, 42161, 8453)
NO_ROUTES = PlacementTerms(np.zeros(3), {})


def optimum(cost: np.ndarray, room: np.ndarray, total: float) -> tuple[float, float]:
    """Least cost of shares that sum to ``total``, by every set of chains that are full, partly used or idle.

    Within a set the stationary point is solved as a linear system: nothing of the kernel's way is used.
    """
    C, best = len(room), np.inf
    for kinds in itertools.product("fpi", repeat=C):
        full = [c for c in range(C) if kinds[c] == "f"]
        part = [c for c in range(C) if kinds[c] == "p"]
        rest = total - sum(room[c] for c in full)
        shares = np.zeros(C)
        shares[full] = room[full]
        if part:
            A = np.zeros((len(part) + 1, len(part) + 1))
            b = np.zeros(len(part) + 1)
            for i, c in enumerate(part):
                A[i, i], A[i, -1], b[i] = 2 * cost[c, 2], -1.0, -cost[c, 1]
                A[-1, i] = 1.0
            b[-1] = rest
            shares[part] = np.linalg.solve(A, b)[:-1]
        elif abs(rest) > 1e-12:
            continue
        if (shares < -1e-12).any() or (shares > room + 1e-12).any():
            continue
        used = shares > 1e-12
        best = min(
            best, float((cost[used, 0] + cost[used, 1] * shares[used] + cost[used, 2] * shares[used] ** 2).sum())
        )
    return best, total


def brute(cost: np.ndarray, room: np.ndarray, benefit: float, left: float) -> float:
    """Greatest gain over all sets of chains and quarters of the trade."""
    best = 0.0
    for size in range(1, len(room) + 1):
        for chosen in itertools.combinations(range(len(room)), size):
            some = np.zeros(len(room))
            some[list(chosen)] = room[list(chosen)]
            for quarter in range(1, QUARTERS + 1):
                done = min(quarter / QUARTERS, some.sum())
                if done >= LEAST:
                    spent, _ = optimum(cost, some, done)
                    after = 1 - done * (1 - left)
                    best = max(best, benefit * (1 - after**2) / (1 - left**2) - spent)
    return best


figure = st.floats(0.0, 50.0)


@given(
    gas=st.lists(figure, min_size=3, max_size=3),
    fee=st.lists(figure, min_size=3, max_size=3),
    impact=st.lists(st.floats(0.01, 80.0), min_size=3, max_size=3),
    room=st.lists(st.one_of(st.just(0.0), st.just(1.0), st.floats(SLICE, 1.0)), min_size=3, max_size=3),
    benefit=st.floats(0.0, 300.0),
    left=st.sampled_from([0.0, 0.3, 0.9]),
)
@settings(max_examples=150)
def test_equals_brute_force_on_three_chains(gas, fee, impact, room, benefit, left):
    cost, rooms_ = np.column_stack([gas, fee, impact]), np.array(room)
    shares = np.zeros(3)
    gain = best_split(cost, rooms_, benefit, left, shares)
    assert gain == pytest.approx(brute(cost, rooms_, benefit, left), rel=1e-9, abs=1e-9)
    done = shares.sum()
    if done > 0:
        assert gain == pytest.approx(benefit * part_worth(done, left) - shares_cost(cost, shares), rel=1e-9, abs=1e-9)
    assert (shares >= 0).all()
    assert (shares <= rooms_ + 1e-12).all()


@given(
    fee=st.lists(figure, min_size=3, max_size=3),
    impact=st.lists(st.one_of(st.just(0.0), st.floats(0.0, 80.0)), min_size=3, max_size=3),
    room=st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3),
    wanted=st.floats(0.01, 1.0),
    mask=st.integers(1, 7),
)
@example(fee=[0.0, 0.0, 1.0], impact=[0.0, 0.0, 1e-8], room=[0.0, 0.0, 0.5], wanted=1.0, mask=4)
@settings(max_examples=150)
def test_a_split_takes_all_it_can_and_no_single_chain_is_cheaper(fee, impact, room, wanted, mask):
    cost, shares = np.column_stack([np.zeros(3), fee, impact]), np.zeros(3)
    done = split(cost, np.array(room), mask, wanted, shares)
    can = sum(r for c, r in enumerate(room) if mask >> c & 1)
    assert done == pytest.approx(min(wanted, can), abs=1e-9)
    assert shares.sum() == pytest.approx(done, abs=1e-9)
    for c in range(3):
        assert shares[c] == 0 or mask >> c & 1
        if mask >> c & 1 and room[c] >= done:
            assert shares_cost(cost, shares) <= fee[c] * done + impact[c] * done**2 + 1e-9


def ideal(state, y) -> float:
    """USD of the trade ``y`` where everything lay in the right place."""
    gas = np.array([gas_lines(p.market.fees, p.market.gas_gwei, p.market.native_usd) for p in state.places])
    push = np.array([impact_per_square(1.0, p.market.depth_usd) for p in state.places])
    cost = np.empty((len(state.places), 3))
    lines(y, gas[:, 0].copy(), gas[:, 1].copy(), np.array([p.market.fee for p in state.places]), push, cost)
    return float(least_cost(cost))


dollars = st.integers(0, 400_000)


@st.composite
def states(draw):
    places = []
    for chain_id in IDS:
        held = tuple(draw(dollars) * USD for _ in ASSETS)
        own = market(chain_id, draw(st.floats(1e4, 1e7)), draw(st.floats(1.0, 200.0)))
        places.append(Place(chain_id, held, held[0] * draw(st.integers(0, 100)) // 100, own))
    state = portfolio(*places)
    return state if state.nav_usd > 1_000 else portfolio(*places[:2], Place(8453, (10**22,) * 3, 0, market(8453)))


@given(state=states(), benefit=st.floats(0.0, 5_000.0), floors=st.tuples(*[st.floats(0, 50_000)] * 3))
@settings(max_examples=150)
def test_no_chain_sells_what_it_lacks_or_goes_below_its_floor(state, benefit, floors):
    terms = PlacementTerms(np.array(floors), {})
    found = place(state, TARGET, benefit, terms)
    y = (TARGET - state.state().weights) * state.nav_usd
    total = sum((t.change_usd for t in found.trades), np.zeros(3))
    assert np.allclose(total, y * found.done, atol=1e-6)
    at = {p.chain_id: i for i, p in enumerate(state.places)}
    for t in found.trades:
        p = state.places[at[t.chain_id]]
        after = p.usd + t.change_usd
        assert after.min() >= -2 * CENT
        if t.change_usd[0] < -CENT:
            assert p.spendable_usd + t.change_usd[0] >= floors[at[t.chain_id]] - 1e-6
        assert abs(t.change_usd.sum()) < 1e-6
        assert t.weights.sum() == pytest.approx(1.0)
    assert found.gain_usd >= 0.0
    if found.action == "trade":
        worth = max(benefit, ideal(state, y)) * part_worth(found.done, 0.0)
        assert found.gain_usd == pytest.approx(worth - found.cost_usd, rel=1e-6, abs=1e-6)
        charged = sum(
            trade_cost(state.places[at[t.chain_id]].market, 1.0, np.zeros(3), t.change_usd).total_usd
            for t in found.trades
        )
        assert charged == pytest.approx(found.cost_usd, rel=1e-9)  # the ledger charges what was expected


@given(state=states(), scale=st.floats(1.01, 20.0))
@settings(max_examples=60)
def test_more_worth_never_gains_less(state, scale):
    few, more = (place(state, TARGET, b, NO_ROUTES) for b in (100.0, 100.0 * scale))
    assert more.gain_usd >= few.gain_usd - 1e-9


def test_one_chain_does_what_the_policy_wants():
    state = portfolio(Place(1, (500_000 * USD, 300_000 * USD, 200_000 * USD), 0, market(1)))
    found = place(state, TARGET, 0.0, PlacementTerms(np.array([1e9]), {}))
    assert (found.action, found.done, len(found.trades)) == ("trade", 1.0, 1)
    assert np.allclose(found.trades[0].change_usd, (TARGET - [0.5, 0.3, 0.2]) * 1e6)
    assert np.allclose(found.trades[0].weights, TARGET)


def three(cash: tuple[int, int, int], eth: int = 150_000, depth: float = 2e6):
    return portfolio(*(
        Place(i, (c * USD, eth * USD, 50_000 * USD), c * USD, market(i, depth)) for i, c in zip(IDS, cash, strict=True)
    ))  # fmt: skip


def test_a_small_trade_goes_to_the_cheapest_chain_that_has_the_cash():
    base = place(three((100_000, 150_000, 150_000), 90_000, 1e12), TARGET, 300.0, NO_ROUTES)
    assert [t.chain_id for t in base.trades] == [8453]  # 0.01 gwei: less than arbitrum
    empty = place(three((200_000, 200_000, 0), 90_000, 1e12), TARGET, 300.0, NO_ROUTES)
    assert [t.chain_id for t in empty.trades] == [42161]


def test_dear_gas_on_one_chain_never_brings_trades_there():
    state = three((100_000, 100_000, 100_000))
    dear = replace(state.places[2], market=replace(state.places[2].market, gas_gwei=1e6))
    found = place(replace(state, places=(*state.places[:2], dear)), TARGET, 500.0, NO_ROUTES)
    assert 8453 not in [t.chain_id for t in found.trades]


ROUTES = {(a, b): bridge_terms("cctp") for a in IDS for b in IDS if a != b}


def buying(on_l1: int):
    """Cash lies on the dear chain alone, and much is to be bought."""
    return portfolio(
        Place(1, (on_l1 * USD, 0, 0), on_l1 * USD, replace(market(1), gas_gwei=400.0)),
        Place(8453, (0, 100_000 * USD, 100_000 * USD), 0, replace(market(8453), gas_gwei=400.0)),
    )


def test_cash_is_sent_first_where_that_is_cheaper():
    terms = PlacementTerms(np.zeros(2), {k: v for k, v in ROUTES.items() if 42161 not in k})
    state = buying(200_000)
    here, first = place(state, TARGET, 2_000.0, PlacementTerms(np.zeros(2), {})), place(state, TARGET, 2_000.0, terms)
    assert here.action == "trade"
    assert [t.chain_id for t in here.trades] == [1]
    if first.action == "transfer":
        assert first.gain_usd > here.gain_usd
        assert [(m.origin, m.destination) for m in first.moves] == [(1, 8453)]
    assert first.gain_usd >= here.gain_usd


def test_nothing_is_sent_first_while_money_is_under_way():
    terms = PlacementTerms(np.zeros(2), {k: v for k, v in ROUTES.items() if 42161 not in k})
    found = place(replace(buying(200_000), in_transit=10**18), TARGET, 2_000.0, terms)
    assert found.action != "transfer"


def test_closed_assets_are_not_traded_there():
    state = three((100_000, 100_000, 100_000))
    shut = replace(state.places[2], market=replace(state.places[2].market, tradable=np.array([True, False, True])))
    found = place(replace(state, places=(*state.places[:2], shut)), TARGET, 5_000.0, NO_ROUTES)
    assert found.action == "trade"
    assert 8453 not in [t.chain_id for t in found.trades]


def test_waiting_says_why():
    held = ((1, (0, 300_000, 0)), (42161, (0, 0, 300_000)), (8453, (300_000, 0, 0)))
    scattered = portfolio(*(Place(i, tuple(v * USD for v in h), h[0] * USD, market(i, 1e5)) for i, h in held))
    poor = place(scattered, np.array([0.30, 0.35, 0.35]), 0.0, PlacementTerms(np.full(3, 299_000.0), {}))
    assert poor.action == "wait"
    locked = portfolio(*(Place(i, (500_000 * USD, 0, 0), 0, market(i)) for i in IDS))
    assert "above its cash floor" in place(locked, TARGET, 1e6, NO_ROUTES).why
    there = place(three((100_000, 100_000, 100_000)), three((100_000,) * 3).state().weights, 5.0, NO_ROUTES)
    assert there.why == "the weights are the wanted ones"


def test_a_chain_is_filled_up_over_the_cheapest_route():
    state = three((1_000, 60_000, 60_000))
    low, goal = np.full(3, 20_000.0), np.full(3, 40_000.0)
    moves = fill_up(state, np.zeros(3), low, goal, PlacementTerms(np.zeros(3), ROUTES))
    assert {m.destination for m in moves} == {1}
    assert sum(m.usd for m in moves) == pytest.approx(39_000.0)
    assert fill_up(state, np.array([39_000.0, 0, 0]), low, goal, PlacementTerms(np.zeros(3), ROUTES)) == ()
    assert fill_up(state, np.zeros(3), low, goal, NO_ROUTES) == ()
    capped = fill_up(state, np.zeros(3), low, goal, PlacementTerms(np.zeros(3), ROUTES, most_usd=5_000.0))
    assert max(m.usd for m in capped) == 5_000.0


def test_a_route_costs_what_a_transfer_is_charged():
    state = three((1_000, 60_000, 60_000))
    for kind in ("cctp", "cctp_fast", "across", "oft"):
        terms = PlacementTerms(np.zeros(3), {(42161, 1): bridge_terms(kind)}, waiting_usd_per_h=2.0)
        fixed, rate = route_prices(state.places, terms)
        whole = transfer_cost(bridge_terms(kind), state.places[1].market, state.places[0].market, 7_000.0, 2.0)
        assert fixed[1, 0] + rate[1, 0] * 7_000.0 == pytest.approx(whole.total_usd)
        assert np.isinf(fixed[0, 1])


@pytest.mark.parametrize(
    ("wanted", "floors", "words"),
    [
        (np.array([0.5, 0.5]), np.zeros(3), "for 3 assets"),
        (np.array([0.5, 0.5, 0.5]), np.zeros(3), "summing to 1"),
        (np.array([0.5, np.nan, 0.5]), np.zeros(3), "summing to 1"),
        (TARGET, np.zeros(2), "for 3 chains"),
        (TARGET, np.array([0.0, -1.0, 0.0]), "0 or more"),
        (TARGET, np.array([0.0, np.nan, 0.0]), "0 or more"),
    ],
)
def test_what_cannot_be_placed_is_refused(wanted, floors, words):
    with pytest.raises(ConfigError, match=words):
        place(three((1, 1, 1)), wanted, 1.0, PlacementTerms(floors, {}))


def test_an_unknown_bridge_is_named():
    with pytest.raises(ConfigError, match="bridge 'hop' has no prices; known are cctp"):
        bridge_terms("hop")


def test_more_gas_never_makes_a_transfer_cheaper():
    own = market(1)
    dear: Market = replace(own, gas_gwei=own.gas_gwei * 3)
    for kind in ("cctp", "oft"):
        cheap = transfer_cost(bridge_terms(kind), own, market(8453), 100.0)
        assert transfer_cost(bridge_terms(kind), dear, market(8453), 100.0).total_usd > cheap.total_usd
    assert chain_fees(8453).l2_gas_gwei == 0.01
