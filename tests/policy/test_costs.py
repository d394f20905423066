import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import ConfigError
from lake.universe import chain
from policy.base import Market
from policy.costs import chain_fees, gas_lines, legs_of, trade_cost
from tests.policy.conftest import tracking_usd


def market(depth=np.inf, fees=None, gas=20.0):
    return Market(gas, 1500.0, fees or chain_fees(1), np.array([0.0005, 0.001, 0.003]), np.full(3, depth))


def test_gas_of_one_and_two_legs_is_that_of_the_reference_vault():
    base, leg = gas_lines(chain_fees(1), 1e9, 1.0)  # one gas costs one dollar
    assert base + leg == pytest.approx(275_021, rel=1e-3)
    assert base + 2 * leg == pytest.approx(419_897, rel=1e-3)


def test_rollup_pays_execution_at_its_own_price_and_data_at_the_l1_price():
    row = chain(8453)
    base, leg = gas_lines(chain_fees(8453), 30.0, 2000.0)
    coin = 2000.0 * 1e-9
    data = row.l1_scalar * 16 * 30.0
    assert base == pytest.approx((130_000 * row.l2_gas_gwei + row.l1_bytes_base * data) * coin)
    assert leg == pytest.approx((145_000 * row.l2_gas_gwei + row.l1_bytes_per_leg * data) * coin)
    with pytest.raises(ConfigError, match="8453"):
        chain_fees(4)


def test_fee_and_impact_by_hand():
    cost = trade_cost(market(depth=2e6), 1e6, np.array([0.5, 0.3, 0.2]), np.array([0.45, 0.35, 0.2]))
    assert cost.legs == 1
    assert cost.gas_usd == pytest.approx(275_000 * 20e-9 * 1500)
    assert cost.fee_usd == pytest.approx(0.5 * 50_000 * (0.0005 + 0.001))
    # 50k in a pool of depth 2m moves it 2.5 % of 1 %; half of that is paid, by each of two weights half
    assert cost.impact_usd == pytest.approx(2 * 0.5 * 0.005 * 50_000**2 / 2e6)


def test_nothing_moved_costs_nothing():
    w = np.array([0.5, 0.3, 0.2])
    assert trade_cost(market(), 1e6, w, w).total_usd == 0.0
    assert [legs_of(np.array(c)) for c in ([0, 0, 0], [1, -1, 0], [1, 1, -2])] == [0, 1, 2]


@given(st.floats(0.001, 0.2), st.floats(1.1, 5.0), st.floats(1e5, 1e9))
def test_a_larger_trade_and_a_thinner_pool_cost_more(size, factor, depth):
    w = np.array([0.5, 0.3, 0.2])
    small = trade_cost(market(depth), 1e6, w, w + np.array([-size / factor, size / factor, 0]))
    large = trade_cost(market(depth), 1e6, w, w + np.array([-size, size, 0]))
    thin = trade_cost(market(depth / factor), 1e6, w, w + np.array([-size, size, 0]))
    assert small.gas_usd == large.gas_usd
    assert small.fee_usd < large.fee_usd
    assert math.isclose(large.impact_usd, small.impact_usd * factor**2, rel_tol=1e-9)
    assert math.isclose(thin.impact_usd, large.impact_usd * factor, rel_tol=1e-9)


def test_tracking_sums_to_half_gamma_te_squared():
    rng = np.random.default_rng(0)
    x, r = np.array([0.02, -0.02]), 0.01 * rng.standard_normal((8766, 2))
    spent = sum(tracking_usd(3.0, 1.0, x, row) for row in r)
    assert spent == pytest.approx(1.5 * np.sum((r @ x) ** 2))
