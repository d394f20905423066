"""The State of several chains: one chain's own where all lies on it, and blind to where the cash is."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import ConfigError
from policy.base import Market, State
from policy.chains.global_state import USD, GlobalState, Place, one_swap_usd
from policy.chains.in_transit import Crossing
from policy.costs import chain_fees
from policy.execution.planner import book_of
from policy.execution.state_builder import state_of
from policy.execution.vaults.simulated.adapter import SimulatedVault
from policy.simulation.planner import apply
from policy.strategies.reactive import GAS_BAND
from tests.execution.simlab import chain, spec, view_of, world
from tests.execution.simlab import context as engine_context

ASSETS = ("USDC", "ETH", "BTC")
TARGET = np.array([0.4, 0.3, 0.3])


def market(chain_id: int = 1, depth: float = 2e6, gwei: float = 20.0) -> Market:
    return Market(gwei, 1_500.0, chain_fees(chain_id), np.full(3, 5e-4), np.array([np.inf, depth, depth]), 22.0)


def place(chain_id: int, *usd: int, cash: int | None = None) -> Place:
    held = tuple(v * USD for v in usd)
    return Place(chain_id, held, held[0] if cash is None else cash * USD, market(chain_id))


def portfolio(*places: Place, in_transit: int = 0) -> GlobalState:
    return GlobalState(
        datetime(2022, 9, 1, tzinfo=UTC), ASSETS, "USDC", places, in_transit, TARGET, np.full(3, 0.05), 3.0, "soft",
        np.diag([1e-8, 4e-5, 3e-5]),
    )  # fmt: skip


def same(a: State, b: State) -> None:
    for field in fields(State):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, np.ndarray):
            assert x.tobytes() == y.tobytes(), field.name
        elif field.name == "market":
            for of in fields(Market):
                p, q = getattr(x, of.name), getattr(y, of.name)
                assert p.tobytes() == q.tobytes() if isinstance(p, np.ndarray) else p == q, of.name
        else:
            assert x == y, field.name


@pytest.mark.parametrize("nav", [1.0, 98_765.43, 1e6, 3.3e7])
@pytest.mark.parametrize("weights", [(0.5, 0.3, 0.2), (0.0, 0.0, 1.0), (0.2, 0.35, 0.45)])
def test_one_chain_is_the_state_of_its_vault_to_the_last_bit(tmp_path, nav, weights):
    node = chain(world(weights, nav))
    engine = engine_context(tmp_path, node)
    snapshot = SimulatedVault(spec(), node).snapshot()
    terms, view = engine.portfolio, view_of(node, usual_gwei=1.5)(snapshot)
    own = state_of(snapshot, terms, view, engine.pools(snapshot), 10**9)
    book = book_of(snapshot)
    held = tuple(book.value(i, h) for i, h in enumerate(book.holdings))
    one = Place(31_337, held, held[0], own.market)
    found = GlobalState(
        own.ts, own.assets, "USDC", (one,), 0, own.target, own.tolerance, own.gamma, own.scenario, own.covariance,
        own.last_trade, own.max_turnover,
    ).state()  # fmt: skip
    same(found, own)


amounts = st.lists(st.integers(0, 10**24), min_size=3, max_size=3)


@given(held=st.lists(amounts, min_size=2, max_size=5), data=st.data())
@settings(max_examples=80)
def test_where_the_cash_is_changes_no_bit(held, data):
    ids = (1, 10, 8453, 42161, 31337)
    places = [Place(ids[i], tuple(h), h[0], market(ids[i])) for i, h in enumerate(held)]
    before = portfolio(*places).state()
    moved, flying = list(places), 0
    for i, p in enumerate(places):
        away = data.draw(st.integers(0, p.holdings[0]))
        to = data.draw(st.integers(0, len(places)))
        moved[i] = with_cash(moved[i], -away)
        if to == len(places):
            flying += away
        else:
            moved[to] = with_cash(moved[to], away)
    same(portfolio(*moved, in_transit=flying).state(), before)


def with_cash(p: Place, change: int) -> Place:
    cash = p.holdings[0] + change
    return replace(p, holdings=(cash, *p.holdings[1:]), cash=cash)


def test_weights_are_sums_over_chains_and_transit():
    state = portfolio(place(1, 100, 300, 0), place(8453, 50, 0, 450), in_transit=100 * USD).state()
    assert np.allclose(state.weights, [0.25, 0.30, 0.45])
    assert state.nav_usd == 1_000.0


def test_a_policy_of_one_chain_decides_for_all(tmp_path):
    one = portfolio(place(1, 300_000, 100_000, 600_000))
    spread = portfolio(place(1, 300_000, 0, 300_000), place(10, 0, 100_000, 300_000))
    moves = [apply(s.state(), GAS_BAND.levels_at(s.state(), {})) for s in (one, spread)]
    assert moves[0].before.tobytes() == moves[1].before.tobytes()
    assert moves[1].reason == 1


def test_the_market_of_several_chains():
    whole = portfolio(place(1, 1, 1, 1), place(8453, 1, 1, 1)).state().market
    assert whole.fees.chain_id == 8453
    assert list(whole.depth_usd) == [np.inf, 4e6, 4e6]
    assert one_swap_usd(market(8453)) < one_swap_usd(market(1)) / 5


def test_an_asset_is_tradable_that_is_somewhere():
    shut = replace(market(), tradable=np.array([True, False, False]))
    other = replace(market(10), tradable=np.array([True, True, False]))
    places = tuple(replace(place(c, 1, 1, 1), market=m) for c, m in ((1, shut), (10, other)))
    assert list(portfolio(*places).state().market.tradable) == [True, True, False]


@given(seed=st.integers(0, 10**6), at=st.tuples(st.integers(0, 9), st.integers(0, 9)))
@settings(max_examples=60)
def test_value_counted_once_in_the_state(seed, at):
    r = np.random.default_rng(seed)
    sent, departed, arrived = int(r.integers(1, 500)), int(r.integers(1, 9)), int(r.integers(1, 9))
    home = place(1, 1_000 - (sent if departed <= at[0] else 0), 0, 0)
    there = place(10, 1_000 + (sent if arrived <= at[1] else 0), 0, 0)
    one = Crossing(1, 10, sent * USD, sent * USD, departed, arrived)
    assert portfolio(home, there).recounted([one], {1: at[0], 10: at[1]}).nav_usd == 2_000.0


def test_what_arrived_elsewhere_may_not_be_spent_at_home():
    one = Crossing(1, 10, 400 * USD, 400 * USD, departed=9, arrived=2)
    seen = portfolio(place(1, 1_000, 0, 0, cash=300), place(10, 400, 0, 0)).recounted([one], {1: 5, 10: 5})
    assert [p.cash for p in seen.places] == [0, 400 * USD]
    assert [p.holdings[0] for p in seen.places] == [600 * USD, 400 * USD]


def test_a_balance_of_another_block_is_refused():
    one = Crossing(1, 10, 400 * USD, 400 * USD, departed=9, arrived=2)
    with pytest.raises(ConfigError, match="chain 1 shows .* read it again"):
        portfolio(place(1, 100, 0, 0), place(10, 400, 0, 0)).recounted([one], {1: 5, 10: 5})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cash_asset": "DAI"}, "'DAI' is none of USDC, ETH, BTC"),
        ({"places": ()}, "given: none"),
        ({"places": (place(1, 1, 1, 1), place(1, 1, 1, 1))}, "each named once"),
        ({"in_transit": -1}, "cannot be below 0"),
        ({"places": (Place(1, (5, 5), 0, market()),)}, "of 3 assets"),
        ({"places": (Place(1, (5, -5, 0), 0, market()),)}, "at or above 0"),
        ({"places": (Place(1, (5, 5, 0), 6, market()),)}, "may spend 6 of 5 USDC"),
    ],
)
def test_what_is_no_portfolio_is_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        replace(portfolio(place(1, 1, 1, 1)), **change)


def test_an_empty_portfolio_has_no_weights():
    assert portfolio(place(1, 0, 0, 0)).state().weights.tolist() == [0.0, 0.0, 0.0]
