"""One decision on several chains: its parts add up to it, stay within what lies there, and can be placed again."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import DataError
from policy.base import Decision, State
from policy.chains.deciding import MOVED, cheapest, decide_whole, part_of
from policy.chains.global_state import USD, GlobalState, Place
from policy.chains.placement import PlacementTerms
from policy.chains.recorded import place_again, placement_json, whole_json
from policy.chains.transfer_costs import bridge_terms
from policy.memory import PolicyMemory
from policy.strategies.planner_policy import RulePolicy
from policy.strategies.reactive import GAS_BAND
from tests.chains.test_global_state import TARGET, market, place, portfolio

POLICY = RulePolicy(GAS_BAND, PolicyMemory(GAS_BAND.name, portfolio(place(1, 1, 1, 1)).ts, {}))
ROUTES = {(1, 8453): bridge_terms("cctp"), (8453, 1): bridge_terms("cctp")}
FLOOR = 1_000.0


def ask(state: State) -> Decision:
    return POLICY.decide(state, {})


def to_target(worth: float):
    return lambda s: Decision("trade", s.target, worth, 1.0, 0.0, "to the target")


def terms(chains: int, routes=None) -> PlacementTerms:
    return PlacementTerms(np.full(chains, FLOOR), routes or {})


def at(chain_id: int, *usd: int, depth: float = 2e6) -> Place:
    held = tuple(v * USD for v in usd)
    return Place(chain_id, held, held[0], market(chain_id, depth))


def here_of(whole: GlobalState, chain_id: int) -> State:
    """The State of one of the chains, as its own vault shows it."""
    one = next(p for p in whole.places if p.chain_id == chain_id)
    return replace(whole, places=(one,), in_transit=0).state()


HELD = st.lists(st.integers(0, 900_000), min_size=3, max_size=3)


@given(st.lists(HELD, min_size=2, max_size=3), st.integers(0, 50_000), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_parts_add_up_to_the_trade_and_never_take_what_is_not_there(held, moving, own):
    ids = (1, 42161, 8453)
    places = [at(c, *usd) for c, usd in zip(ids, held, strict=False)]
    if sum(sum(h) for h in held) < 10_000:
        return
    whole = decide_whole(portfolio(*places, in_transit=moving), ask if own else to_target(500.0), terms(len(places)))
    total = np.zeros(3)
    for n, p in enumerate(places):
        if not p.usd.sum():
            continue
        here = here_of(whole.portfolio, p.chain_id)
        mine = part_of(whole, p.chain_id, here)
        change = (mine.weights - here.weights) * here.nav_usd
        assert abs(change.sum()) < 1e-6 * here.nav_usd
        assert (p.usd + change).min() > -0.01
        if change[0] < -0.01:
            assert p.usd[0] + change[0] >= FLOOR - 0.01, f"cash of {n} went below its floor"
        assert (mine.action == "wait") == (float(np.abs(change).max()) <= 0.01)
        total += change
    if whole.placement is None or whole.placement.action != "trade":
        assert np.abs(total).max() < 0.01
    else:
        wanted = (whole.said.weights - whole.asked.weights) * whole.portfolio.nav_usd
        assert total == pytest.approx(whole.placement.done * wanted, abs=0.05)


def test_on_one_chain_the_part_is_the_policys_own_decision_and_its_state_the_vaults():
    alone = portfolio(at(1, 500_000, 100_000, 100_000))
    whole = decide_whole(alone, ask, terms(1))
    here = here_of(alone, 1)
    assert whole.asked.weights.tobytes() == here.weights.tobytes()
    assert whole.asked.nav_usd == here.nav_usd
    mine, own = part_of(whole, 1, here), ask(here)
    assert mine is whole.said
    assert (mine.action, mine.weights.tobytes(), mine.benefit_usd, mine.why) == (
        own.action, own.weights.tobytes(), own.benefit_usd, own.why,
    )  # fmt: skip


def skewed(**terms_given) -> tuple:
    """Chain 8453 holds too much of the second asset, chain 1 is on target: the trade belongs to 8453."""
    p = portfolio(at(1, 400_000, 300_000, 300_000, depth=1e9), at(8453, 200_000, 600_000, 200_000, depth=1e9))
    return p, decide_whole(p, to_target(5_000.0), terms(2, **terms_given))


def test_only_the_chains_that_are_placed_on_trade_and_the_others_say_where():
    p, whole = skewed()
    traded = {t.chain_id for t in whole.placement.trades}
    assert traded == {8453}, "the roll-up's gas is a hundredth"
    assert cheapest(p.places).chain_id == 8453
    waiting = part_of(whole, 1, here_of(p, 1))
    assert waiting.action == "wait"
    assert np.array_equal(waiting.weights, here_of(p, 1).weights)
    assert "chain 8453" in waiting.why
    mine = part_of(whole, 8453, here_of(p, 8453))
    assert mine.action == "trade"
    assert mine.benefit_usd == pytest.approx(whole.placement.gain_usd + whole.placement.cost_usd)


def test_a_chain_whose_holdings_moved_since_takes_no_part():
    p, whole = skewed()
    here = here_of(p, 8453)
    little = here.weights + np.array([1.0, -1.0, 0.0]) * MOVED / 3
    assert part_of(whole, 8453, replace(here, weights=little)).action == "trade"
    for other in (
        replace(here, weights=here.weights + np.array([1.0, -1.0, 0.0]) * 3 * MOVED),
        replace(here, nav_usd=here.nav_usd * 1.02),
    ):
        mine = part_of(whole, 8453, other)
        assert mine.action == "wait"
        assert "moved since" in mine.why
        assert np.array_equal(mine.weights, other.weights)


def test_a_sick_token_keeps_what_it_has_and_cash_stays_above_its_floor():
    p, whole = skewed()
    here = here_of(p, 8453)
    for sick in ((1,), (2,)):
        mine = part_of(whole, 8453, here, sick)
        change = (mine.weights - here.weights) * here.nav_usd
        assert np.abs(change[list(sick)]).max() < 0.01
        assert here.weights[0] * here.nav_usd + change[0] >= FLOOR - 0.01
    assert part_of(whole, 8453, here, (1, 2)).action == "wait"


def test_cash_that_must_go_first_is_sent_and_nothing_trades():
    dear = [
        replace(p, market=replace(p.market, gas_gwei=300.0))
        for p in (at(1, 800_000, 100_000, 100_000, depth=1e9), at(8453, 2_000, 400_000, 400_000, depth=1e9))
    ]
    poor = portfolio(*dear)
    whole = decide_whole(poor, to_target(900.0), terms(2, ROUTES))
    assert whole.placement.action == "transfer"
    [move] = whole.placement.moves
    assert (move.origin, move.destination) == (1, 8453)
    assert {part_of(whole, c, here_of(poor, c)).action for c in (1, 8453)} == {"wait"}


def test_a_policy_that_waits_or_answers_with_no_portfolio_moves_nothing():
    p = portfolio(at(1, 400_000, 300_000, 300_000), at(8453, 200_000, 600_000, 200_000))
    waits = decide_whole(p, lambda s: Decision("wait", s.weights, 0.0, 0.0, 0.0, "waits"), terms(2))
    assert waits.placement is None
    mine = part_of(waits, 8453, here_of(p, 8453))
    assert (mine.action, mine.why) == ("wait", "waits")
    assert np.array_equal(mine.weights, here_of(p, 8453).weights)
    for bad in (np.array([0.5, 0.5]), np.array([np.nan, 0.5, 0.5]), np.array([0.9, 0.9, 0.9])):
        broken = decide_whole(p, lambda s, bad=bad: Decision("trade", bad, 9.0, 1.0, 0.0, "bad"), terms(2))
        assert broken.placement is None
        assert part_of(broken, 8453, here_of(p, 8453)).weights is bad, "the engine refuses it by name"


@pytest.mark.parametrize("routes", [None, ROUTES])
def test_a_record_is_placed_again_to_the_bit_and_one_that_was_changed_is_not(routes):
    _, whole = skewed(routes=routes)
    data = json.loads(json.dumps(whole_json(whole)))
    assert place_again(data, whole.asked, whole.said) == data["placement"] == placement_json(whole)
    dearer = json.loads(json.dumps(data))
    dearer["places"][1]["market"]["fees"]["l2_gas_gwei"] = 500.0
    assert place_again(dearer, whole.asked, whole.said) != data["placement"]
    data["places"][0]["holdings"][1] = str(7 * USD)
    with pytest.raises(DataError, match="not the portfolio"):
        place_again(data, whole.asked, whole.said)


def test_the_target_is_reached_by_the_whole_though_no_chain_is_on_it():
    p = portfolio(at(1, 700_000, 0, 300_000), at(8453, 100_000, 600_000, 300_000))
    whole = decide_whole(p, ask, terms(2))
    assert whole.asked.weights == pytest.approx(TARGET, abs=1e-12)
    assert whole.said.action == "wait"
    assert all(ask(here_of(p, c)).action == "trade" for c in (1, 8453)), "each alone would trade for nothing"
