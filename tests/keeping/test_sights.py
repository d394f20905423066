"""A look at many vaults at once says of each what its own band would, and nothing of one that is not known."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from policy.base import ChainFees, Market, State
from policy.keeping.orders import ARMED_FROM, ARMED_TO, LIFE_S, Moment, ordered
from policy.keeping.ring import Ring
from policy.keeping.sights import Reserves, Sights
from policy.keeping.terms import terms_of
from policy.strategies.reactive import GAS_BAND


def state_of(rng: np.random.Generator, gas_gwei: float) -> State:
    n = int(rng.integers(2, 6))
    target = rng.dirichlet(np.full(n, 5.0))
    weights = np.abs(target + rng.normal(0.0, 0.03, n))
    root = rng.normal(0.0, 0.004, (n, n))
    market = Market(
        gas_gwei, 2_000.0, ChainFees(1), np.full(n, 0.0005), np.full(n, rng.uniform(1e6, 1e8)),
        usual_gwei=rng.uniform(5.0, 40.0),
    )  # fmt: skip
    return State(
        datetime(2026, 1, 1, tzinfo=UTC), tuple(f"A{i}" for i in range(n)), weights / weights.sum(), target,
        np.full(n, rng.uniform(0.01, 0.06)), rng.uniform(2e4, 2e6), rng.uniform(1.0, 30.0),
        "hard" if rng.random() < 0.5 else "soft", root @ root.T, market,
    )  # fmt: skip


def fleet(states: list[State]) -> Sights:
    sights = Sights(len(states), 6)
    for row, s in enumerate(states):
        names = [f"{row}/{a}" for a in s.assets]
        sights.read(row, terms_of(s), names, s.weights * s.nav_usd, dict.fromkeys(names, 1.0))
    return sights


@pytest.mark.parametrize("seed", range(3))
def test_gas_within_the_reservation_price_is_where_the_band_of_each_vault_acts(seed):
    rng = np.random.default_rng(seed)
    states = [state_of(rng, 10.0) for _ in range(40)]
    glance = fleet(states).look()
    for row, s in enumerate(states):
        reserve = glance.reserve_gwei[row]
        for gas in (0.97 * reserve, 1.03 * reserve) if 0 < reserve < np.inf else (5.0,):
            here = replace(s, market=replace(s.market, gas_gwei=float(gas)))
            levels = GAS_BAND.levels_at(here, {})
            acts = glance.distance[row] >= levels.outer or (levels.must and glance.in_tolerances[row] >= 1.0)
            assert acts == (gas <= reserve), (row, s.scenario, gas, reserve, levels)


def test_one_feed_moves_every_vault_that_holds_its_token_and_no_other():
    rng = np.random.default_rng(1)
    states = [state_of(rng, 10.0) for _ in range(3)]
    sights = Sights(3, 6)
    for row, s in enumerate(states):
        names = [("shared" if i == 0 and row < 2 else f"{row}/{a}") for i, a in enumerate(s.assets)]
        sights.read(row, terms_of(s), names, s.weights * s.nav_usd, dict.fromkeys(names, 1.0))
    before = sights.weights()
    sights.reprice({"shared": 1.1, "nobody's": 5.0})
    moved = np.abs(sights.weights() - before).max(axis=1)
    assert moved[0] > 0 < moved[1]
    assert moved[2] == 0.0


def test_what_is_not_known_is_no_number_and_never_a_zero():
    rng = np.random.default_rng(2)
    states = [state_of(rng, 10.0) for _ in range(3)]
    sights = fleet(states)
    sights.forget(1)
    names = [f"2/{a}" for a in states[2].assets]
    sights.read(2, terms_of(states[2]), names, np.zeros(len(names)), {})
    glance = sights.look()
    for column in (glance.distance, glance.in_tolerances, glance.reserve_gwei):
        assert np.isfinite(column[0])
        assert np.isnan(column[1:]).all()


def test_a_surface_s_column_replaces_the_closed_form_but_not_the_tolerance():
    rng = np.random.default_rng(4)
    states = [state_of(rng, 10.0) for _ in range(30)]
    sights = fleet(states)
    hard = next(r for r, s in enumerate(states) if s.scenario == "hard")
    closed = sights.look().reserve_gwei
    table = Reserves(np.linspace(0.0, 1e-3, 48), 1.0 / 47)
    sights.table(hard, table)
    found = sights.look()
    r, terms = found.in_tolerances[hard], sights.terms[hard]
    if r < 1.0:
        expected = (np.interp(r, np.arange(48) / 47, table.table) - terms.gas_fixed) / terms.gas_slope
        assert found.reserve_gwei[hard] == pytest.approx(expected)
    else:
        assert found.reserve_gwei[hard] == np.inf
    others = np.arange(30) != hard
    assert (found.reserve_gwei[others] == closed[others]).all()
    sights.table(hard, None)
    assert sights.look().reserve_gwei[hard] == closed[hard]


AT = Moment(100, "0xa", 1_000, "t1")


def test_an_order_is_armed_within_reach_follows_its_price_and_ends_with_its_time_its_surface_or_its_reach():
    assert ordered(None, AT, 9.0, 10.0, 8.0) == (None, "")  # it pays now: no order is needed
    assert ordered(None, AT, (ARMED_FROM - 0.01) * 10.0, 10.0, 20.0) == (None, "")
    assert ordered(None, AT, np.inf, 10.0, 20.0) == (None, "")
    order, why = ordered(None, AT, 9.0, 10.0, 20.0)
    assert order is not None
    assert why
    assert order.expiry_s == 1_000 + LIFE_S
    later, why = ordered(order, replace(AT, number=101), 8.5, 10.0, 20.0)
    assert (later.cap_gwei, later.block, why) == (8.5, 100, "")
    for at, reserve, usual in [
        (replace(AT, time_s=order.expiry_s), 9.0, 10.0), (replace(AT, table="t2"), 9.0, 10.0),
        (AT, (ARMED_TO - 0.01) * 10.0, 10.0), (AT, np.nan, 10.0), (AT, 9.0, 0.0), (AT, np.inf, 10.0),
    ]:  # fmt: skip
        gone, why = ordered(order, at, reserve, usual, 20.0)
        assert gone is None
        assert why


def test_the_ring_keeps_the_last_looks_in_order():
    ring, sights = Ring(2, size=4), fleet([state_of(np.random.default_rng(6), 10.0) for _ in range(2)])
    for block in range(6):
        ring.put(block, 1.5 * block, sights.look())
    rows = ring.of(1)
    assert [r[0] for r in rows] == [2, 3, 4, 5]
    assert rows[-1][1] == 7.5
    assert rows[-1][2] == pytest.approx(float(sights.look().distance[1]), rel=1e-6)
