"""Holders' flows on the panel: nothing without them, money conserved, requests known in time, and a measured saving."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.base import CashFlows
from policy.netting import within
from policy.simulation import simulator
from policy.simulation.panel import Cell
from policy.simulation.planner import prepare
from policy.strategies.reactive import GAS_BAND, GAS_BAND_EXIT
from tests.flows import flow_kernel
from tests.flows.investors import (
    FORGET_H,
    FlowProcess,
    HolderFlows,
    drawn,
    forecast,
    holding_cash,
    settled_after,
    with_cash,
)
from tests.flows.saving import arms, savings, simulate
from tests.policy.conftest import basket


def none(steps: int) -> HolderFlows:
    return HolderFlows(*(np.zeros(steps) for _ in range(5)))


@pytest.mark.parametrize("scenario", ["soft", "hard"])
@pytest.mark.parametrize("rule", [GAS_BAND, GAS_BAND_EXIT], ids=lambda r: r.name)
def test_without_flows_every_run_is_the_simulators_to_the_bit(history, scenario, rule):
    case, week = prepare(history, basket(4, scenario, 1e5)), history.week()
    plain = simulator.simulate(case, rule.levels_over(case), week)
    for netting in (False, True):
        mine = simulate(case, rule, week, none(history.ts.size), netting=netting)
        assert np.array_equal(mine.weekly, plain.weekly)
        assert (mine.trades, mine.turnover, mine.sales, mine.size) == (plain.trades, plain.turnover, 0, 1.0)


def test_a_market_with_cash_says_of_the_others_what_it_said(history):
    market = with_cash(history)
    assert market.assets[1:] == history.assets
    assert np.array_equal(market.returns[:, 1:], history.returns)
    assert not market.returns[:, 0].any()
    assert np.array_equal(market.covariance[:, 1:, 1:], history.covariance)
    p = holding_cash(basket(3), 0.1)
    assert p.target.sum() == pytest.approx(1)
    assert p.target[0] == 0.1
    assert prepare(market, p).returns.shape == (history.ts.size, 4)


@given(st.integers(0, 10_000), st.integers(0, 72))
def test_requests_settle_after_their_notice_and_wait_in_between(seed, notice):
    made = drawn(replace(FlowProcess(), notice_h=notice), 1_000, seed)
    at_once = drawn(replace(FlowProcess(), notice_h=0), 1_000, seed)
    for late, now, waiting in ((made.come, at_once.come, made.coming), (made.go, at_once.go, made.leaving)):
        assert np.array_equal(late[notice:], now[: 1_000 - notice])
        assert np.allclose(np.cumsum(now) - np.cumsum(late), waiting, atol=1e-9)
        if notice == 0:
            assert not waiting.any()


@given(st.integers(0, 1_000))
def test_a_forecast_reads_nothing_after_its_step(seed):
    made = drawn(replace(FlowProcess(), notice_h=0), 1_500, seed)
    reserve = forecast(made).reserve
    later = replace(made, go=np.where(np.arange(1_500) >= 1_000, 0.5, made.go))
    assert np.array_equal(forecast(later).reserve[:1_001], reserve[:1_001])
    assert not reserve[: int(FORGET_H)].any()
    assert reserve.min() >= 0


WEIGHTS = st.lists(st.floats(0.02, 1.0), min_size=4, max_size=4).map(lambda x: np.array(x) / sum(x))


@given(WEIGHTS, WEIGHTS, st.floats(0, 0.5))
def test_cash_is_raised_from_what_is_held_and_exactly(weights, target, part):
    x, out = weights - target, np.zeros(4)
    short = part * (1 - weights[0])
    flow_kernel.raise_cash(x, target, short, out)
    assert out[0] == pytest.approx(x[0] + short)
    assert out.sum() == pytest.approx(x.sum())
    assert (target + out).min() >= -1e-12
    assert (out[1:] <= x[1:] + 1e-15).all()


@given(WEIGHTS, WEIGHTS, st.floats(0, 0.4), st.floats(0, 0.3))
def test_money_moves_in_the_accounting_asset_alone(weights, target, come, go):
    x = weights - target
    growth = flow_kernel.settle(x, target, come, go)
    held = (target + x) * growth
    assert growth == pytest.approx(1 + come - go)
    assert held[1:] == pytest.approx(weights[1:])
    assert held[0] == pytest.approx(weights[0] + come - go)


@given(WEIGHTS, WEIGHTS, WEIGHTS, st.floats(0, 0.5), st.floats(0, 0.2))
def test_the_simulated_cut_is_the_live_one(weights, target, wanted, leaving, reserve):
    change = wanted - weights
    live = within(weights, change.copy(), CashFlows(0.0, leaving, reserve))
    flow_kernel.cut(weights - target, target, change, leaving, reserve)
    assert change == pytest.approx(live, abs=1e-12)


def test_netting_forces_fewer_sales_and_turns_over_less(history):
    market, week = with_cash(history), history.week()
    blind, netted = 0.0, 0.0
    forced = [0, 0]
    for seed in range(6):
        case = prepare(market, holding_cash(basket(3, "soft", 1e6), 0.05))
        flows = drawn(FlowProcess(rate=12.0, median=0.03), history.ts.size, seed)
        runs = arms(case, GAS_BAND, week, flows)
        assert runs["blind"].size == pytest.approx(runs["netted"].size)  # the same money came and went
        blind, netted = blind + runs["blind"].turnover, netted + runs["netted"].turnover
        forced[0] += runs["blind"].sales
        forced[1] += runs["netted"].sales
    assert netted < blind
    assert forced[1] < forced[0]


def test_a_deposit_that_is_on_its_way_is_not_bought_for_beforehand(history):
    """Cash runs short by a sale that a deposit of the next day makes good: netted, nothing is traded."""
    market, week = with_cash(history), history.week()
    case = prepare(market, holding_cash(basket(3, "soft", 1e6), 0.2))
    steps = history.ts.size
    asked_in, asked_out = np.zeros(steps), np.zeros(steps)
    at = case.first + 10
    asked_out[at - 24], asked_in[at] = 0.15, 0.15 * 0.85
    flows = settled_after(24, asked_in, asked_out)
    short = (at - 24, at + 72)
    quiet = replace(case, last=short[1])
    runs = arms(quiet, GAS_BAND, week, flows)
    assert runs["blind"].trades >= runs["netted"].trades


def test_savings_are_the_same_again_and_have_an_interval_round_them(history):
    cells = (Cell("soft", "soft", 1e5, 1), Cell("hard", "hard", 1e6, 1))
    once, again = (savings(history, cells, 3, 5, draws=100) for _ in range(2))
    assert once == again
    assert {(r.cell, r.notice_h, r.arm) for r in once} == {
        (c, h, a) for c in ("soft", "hard") for h in (24, 0) for a in ("netted", "by gas", "reserve")
    }
    for row in once:
        assert row.saved_bp.low <= row.saved_bp.value <= row.saved_bp.high
        assert row.blind_bp > 0
        if (row.notice_h, row.arm) == (0, "netted"):
            assert row.saved_bp.value == 0  # nothing is known before it settles: netting is nothing
            assert row.null
