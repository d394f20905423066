"""A kept vault's reading as that of its portfolio: one chain's own where all lies on it, else the sum over chains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policy.chains.global_state import USD, GlobalState, Place
from policy.execution.planner import book_of
from policy.keeping.whole_reading import last_known, whole_reading
from policy.simulation.planner import gas_of
from tests.chains.test_global_state import same
from tests.execution.simlab import chain, context, world
from tests.keeping.kit import SimMarket, header


@pytest.fixture
def read(tmp_path):
    """The reading of a vault on a simulated chain, its snapshot, and its place in a portfolio of asset 0 as cash."""
    sim = chain(world(weights=(0.5, 0.3, 0.2)))
    ctx = context(tmp_path, sim, sim)
    own = SimMarket([ctx]).read(0, header(sim))
    snapshot = ctx.vault.snapshot()
    book = book_of(snapshot)
    values = tuple(book.value(i, h) for i, h in enumerate(book.holdings))
    return own, snapshot, Place(1, values, values[0], own.state.market)


def whole(own, *places: Place, in_transit: int = 0) -> GlobalState:
    s = own.state
    return GlobalState(
        s.ts, s.assets, s.assets[0], places, in_transit, s.target, s.tolerance, s.gamma, s.scenario, s.covariance
    )


def test_on_one_chain_it_is_the_vaults_own_to_the_last_bit(read):
    own, snapshot, here = read
    found = whole_reading(own, snapshot, last_known(whole(own, here), 1, {1: snapshot}))
    same(found.state, own.state)
    assert found.holdings.tobytes() == own.holdings.tobytes()
    assert replace(found, state=own.state, holdings=own.holdings) == replace(own, holdings=own.holdings)


def test_what_lies_elsewhere_and_between_counts_once_at_the_kept_chains_prices(read):
    own, snapshot, here = read
    there = replace(here, chain_id=2, holdings=(0, here.holdings[1], 0), cash=0)
    far = replace(snapshot, holdings=(0, snapshot.holdings[1], 0))
    known = last_known(whole(own, here, there, in_transit=1_000 * USD), 1, {1: snapshot, 2: far})
    found = whole_reading(own, snapshot, known)
    prices = np.array([own.prices[f] for f in own.feeds])
    usd = found.holdings * prices
    assert usd - own.holdings * prices == pytest.approx([1_000.0, float(here.usd[1]), 0.0])
    assert usd / usd.sum() == pytest.approx(found.state.weights, rel=1e-9)
    less = replace(snapshot, holdings=(0, *snapshot.holdings[1:]))
    gone = whole_reading(replace(own, holdings=own.holdings * [0, 1, 1]), less, known)
    assert gone.state.nav_usd == pytest.approx(found.state.nav_usd - float(here.usd[0]))


def test_the_gas_that_counts_is_of_the_chain_where_a_swap_costs_least(read):
    own, snapshot, here = read
    cheap = replace(here.market, gas_gwei=here.market.gas_gwei / 100)
    there = replace(here, chain_id=2, market=cheap)
    given = whole(own, here, there), 1, {1: snapshot, 2: snapshot}
    found = whole_reading(own, snapshot, last_known(*given))
    assert found.gas_wei == round(cheap.gas_gwei * 1e9)
    assert gas_of(found.state, found.state.market.gas_gwei, 1) < gas_of(own.state, own.state.market.gas_gwei, 1) / 2
    follows = whole_reading(own, snapshot, last_known(*given, frozenset({1, 2})))
    assert follows.gas_wei is None, "both are paid at the blocks that are looked at"
    dear = replace(here, chain_id=2, market=replace(here.market, gas_gwei=here.market.gas_gwei * 100))
    assert whole_reading(own, snapshot, last_known(whole(own, here, dear), *given[1:])).gas_wei is None
