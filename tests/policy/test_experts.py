"""Learning how far to follow the programme: who counts, what is known when, and what a difference is worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policy.simulation.planner import prepare
from policy.simulation.simulator import simulate
from policy.strategies import experts
from policy.strategies.reactive import GAS_BAND, Hold
from tests.policy.conftest import basket

SURE = experts.SURE["soft"]


def test_no_member_counts_before_it_has_been_cheaper_by_more_than_its_noise():
    rng = np.random.default_rng(0)
    base = np.full(40, 1.0)
    noisy = base + 0.3 * rng.standard_normal(40)
    noisy += 1.0 - noisy.mean()
    costs = np.stack([base, base - 0.05, noisy, base + 0.05])
    weights = experts.chosen(costs, SURE)
    few = int(SURE**2)  # n equal gains d: n d against SURE sqrt(n) d
    assert (weights[: few + 1] == 0.0).all()
    assert (weights[few + 1 :, 0] > 0.0).all()
    assert (weights[:, 2] == 0.0).all()
    assert weights.sum(axis=1) == pytest.approx((np.arange(40) > few).astype(float))


def test_one_lucky_block_convinces_nobody():
    costs = np.ones((2, 20))
    costs[1, 2] = 0.2
    assert (experts.chosen(costs, SURE) == 0.0).all()


def test_a_mirrored_past_keeps_every_move_but_its_sign(history):
    case = prepare(history, basket(4))
    moves = np.log1p(case.returns)
    day = history.ts // 86_400_000_000
    signs = []
    for draw in range(20):
        mirror = np.log1p(experts.mirrored(case, draw).returns)
        assert np.abs(mirror) == pytest.approx(np.abs(moves), abs=1e-12)
        seen = np.abs(moves).sum(axis=1) > 0.0
        sign = np.sum(mirror * moves, axis=1)[seen] / np.sum(moves**2, axis=1)[seen]
        assert np.abs(sign) == pytest.approx(1.0)
        for d in np.unique(day[seen]):
            assert np.ptp(sign[day[seen] == d]) < 1e-6
        signs.append(np.sign(sign))
    assert abs(np.mean(signs)) < 0.1
    assert abs(np.mean(signs[0] * signs[1])) < 0.5


def test_a_longer_history_mirrors_the_same_days_alike(history):
    case = prepare(history, basket(4))
    cut, start = 600, 30
    shorter = replace(history, ts=history.ts[start:cut], returns=history.returns[start:cut])
    part = replace(case, history=shorter, returns=np.ascontiguousarray(case.returns[start:cut]))
    for draw in range(3):
        assert np.array_equal(experts.mirrored(part, draw).returns, experts.mirrored(case, draw).returns[start:cut])


def test_weights_know_only_earlier_blocks():
    rng = np.random.default_rng(1)
    costs = 1.0 + 0.1 * rng.standard_normal((4, 30))
    later = costs.copy()
    later[:, 20:] += rng.standard_normal((4, 10))
    assert np.array_equal(experts.chosen(costs, SURE)[:21], experts.chosen(later, SURE)[:21])


@pytest.mark.parametrize("scenario", ["soft", "hard"])
def test_no_weight_leaves_the_band_and_full_weight_stays_within_the_member(history, scenario):
    base = GAS_BAND.levels_over(prepare(history, basket(4, scenario)))
    band = (base.outer, base.inner)
    rng = np.random.default_rng(2)
    programme = tuple(level * np.exp(rng.standard_normal(level.size)) for level in band)
    none = np.zeros((base.outer.size, len(experts.MEMBERS)))
    outer, inner = experts.moved(scenario, band, programme, none)
    assert np.array_equal(inner, base.inner)
    assert outer == pytest.approx(base.outer)
    for i, member in enumerate(experts.MEMBERS):
        weights = none.copy()
        weights[:, i] = 1.0
        outer, inner = experts.moved(scenario, band, programme, weights)
        assert (outer >= base.outer * member.low**member.share * (1 - 1e-9)).all() or member.low == 0.0
        assert (inner <= outer).all()


@pytest.mark.parametrize("scenario", ["soft", "hard"])
def test_a_block_costs_what_was_paid_and_the_rise_of_what_is_left_to_pay(history, scenario):
    case = prepare(history, basket(4, scenario, 1e6))
    case = replace(case, first=history.gas_known, last=len(history.ts) - 1)
    edges = np.linspace(history.gas_known + 500, len(history.ts) - 1, 6).astype(np.int64)
    number = np.searchsorted(edges, np.arange(len(history.ts)), side="right")
    plan = GAS_BAND.levels_over(case)
    blocks = experts.block_costs(case, plan, edges, number)
    run = simulate(case, plan, number, log=False, path=True)
    paid = run.weekly[1:6, : 3 + (scenario == "soft")].sum()
    left = [experts.cost_to_go(case, run.path[t], int(t)) for t in (edges[0], edges[-1] - 1)]
    assert blocks.sum() == pytest.approx(paid + left[1] - left[0])
    assert experts.cost_to_go(case, case.portfolio.target, 700) == 0.0


def test_waiting_for_ever_is_charged_for_the_deviation_it_leaves(history):
    case = prepare(history, basket(4, "soft", 1e6))
    edges = np.array([case.first, case.first + 24 * 7], dtype=np.int64)
    number = np.searchsorted(edges, np.arange(len(history.ts)), side="right")
    run = simulate(case, Hold().levels_over(case), number, log=False, span=(history.gas_known, int(edges[-1])))
    cost = experts.block_costs(case, Hold().levels_over(case), edges, number)[0]
    assert cost != pytest.approx(run.weekly[1, :4].sum(), rel=1e-6)


def test_the_past_of_a_kind_is_a_panel_of_that_kind(history):
    p = basket(4, "hard", 1e5, 0.04)
    kind = experts.kind_of(p, np.full(4, 5e-4))
    drawn = experts.baskets(history, kind)
    assert len(drawn) == experts.BASKETS
    assert {b.nav_usd for b in drawn} == {1e5}
    assert all((b.tolerance == 0.04).all() and b.target.sum() == pytest.approx(1.0) for b in drawn)
    assert {len(b.assets) for b in drawn} == set(range(2, len(history.assets) + 1))
    assert kind == experts.kind_of(replace(p, gamma=9.0), np.full(4, 5e-4))  # a hard mandate has no gamma
