"""The ledger of costs: scale, symmetry and splitting, for every rule that charges by it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import ConfigError
from lake.universe import CHAINS
from policy.base import Market
from policy.costs import chain_fees, gas_lines, impact_per_square, legs_of, trade_cost

N = 4
simplex = st.lists(st.floats(0.01, 1.0), min_size=N, max_size=N).map(lambda x: np.array(x) / sum(x))
numbers = st.floats(0.1, 1e4)


def market(gas_gwei: float = 30.0, chain_id: int = 1, depth: float = 1e7, fee: float = 0.003) -> Market:
    return Market(
        gas_gwei=gas_gwei, native_usd=2_000.0, depth_usd=np.full(N, depth), fee=np.full(N, fee),
        fees=chain_fees(chain_id),
    )  # fmt: skip


@given(before=simplex, after=simplex, nav=st.floats(1e3, 1e8))
def test_there_and_back_cost_the_same(before, after, nav):
    there, back = trade_cost(market(), nav, before, after), trade_cost(market(), nav, after, before)
    assert there.total_usd == pytest.approx(back.total_usd, rel=1e-12)
    assert there.legs == back.legs == legs_of(after - before)


@given(before=simplex, after=simplex, nav=st.floats(1e3, 1e8), factor=st.floats(1.5, 50.0))
def test_fee_grows_with_size_impact_with_its_square_and_gas_not_at_all(before, after, nav, factor):
    one, large = trade_cost(market(), nav, before, after), trade_cost(market(), nav * factor, before, after)
    assert large.gas_usd == one.gas_usd
    assert large.fee_usd == pytest.approx(one.fee_usd * factor, rel=1e-9)
    assert large.impact_usd == pytest.approx(one.impact_usd * factor**2, rel=1e-9)


@given(before=simplex, after=simplex, nav=st.floats(1e4, 1e8), parts=st.integers(2, 8))
def test_in_parts_a_trade_has_less_impact_the_same_fee_and_more_gas(before, after, nav, parts):
    whole = trade_cost(market(), nav, before, after)
    ways = [before + (after - before) * k / parts for k in range(parts + 1)]
    split = [trade_cost(market(), nav, a, b) for a, b in zip(ways, ways[1:], strict=False)]
    assert sum(s.fee_usd for s in split) == pytest.approx(whole.fee_usd, rel=1e-6, abs=1e-9)
    assert sum(s.impact_usd for s in split) == pytest.approx(whole.impact_usd / parts, rel=1e-6, abs=1e-9)
    assert sum(s.gas_usd for s in split) >= whole.gas_usd


@given(gas=numbers, factor=st.floats(1.1, 100.0), legs=st.integers(1, 10))
def test_gas_is_proportional_to_its_price_on_the_settlement_chain(gas, factor, legs):
    fees = chain_fees(1)
    base, leg = gas_lines(fees, gas, 2_000.0)
    more_base, more_leg = gas_lines(fees, gas * factor, 2_000.0)
    assert more_base + legs * more_leg == pytest.approx(factor * (base + legs * leg), rel=1e-12)


@pytest.mark.parametrize("chain_id", sorted(CHAINS))
def test_every_known_chain_has_fees_that_arrays_and_numbers_agree_on(chain_id):
    fees = chain_fees(chain_id)
    gas = np.array([0.5, 10.0, 300.0])
    base, leg = gas_lines(fees, gas, 2_000.0)
    for i, price in enumerate(gas):
        one = gas_lines(fees, float(price), 2_000.0)
        assert (base[i], leg[i]) == pytest.approx(one, rel=1e-15)
    assert (np.diff(base) > 0).all()
    if CHAINS[chain_id].l1_chain_id is not None:
        assert base[1] < gas_lines(chain_fees(1), 10.0, 2_000.0)[0], "a roll-up is cheaper than what it settles on"


def test_an_unknown_chain_is_named():
    with pytest.raises(ConfigError, match="123456"):
        chain_fees(123_456)


@given(nav=st.floats(1e3, 1e9), depth=st.floats(1e3, 1e12))
def test_impact_per_square_is_half_a_percent_of_the_share_of_depth(nav, depth):
    found = impact_per_square(nav, np.array([depth, np.inf]))
    assert found[0] * depth == pytest.approx(0.0025 * nav)
    assert found[1] == 0.0


@pytest.mark.parametrize(("moved", "legs"), [(0, 0), (1, 1), (2, 1), (3, 2), (10, 9)])
def test_a_rebalance_needs_one_swap_less_than_assets_that_move(moved, legs):
    change = np.zeros(12)
    change[:moved] = 0.01
    assert legs_of(change) == legs
