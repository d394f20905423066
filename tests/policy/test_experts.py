"""Learning how far to follow the programme: who counts, what is known when, and what a difference is worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policy.simulation.planner import prepare
from policy.simulation.simulator import simulate
from policy.strategies import experts
from policy.strategies.reactive import GAS_BAND, GAS_BAND_EXIT, GAS_TILT, Hold, centred, gas_of_week
from tests.policy.conftest import basket

NONE = np.array([1.0, 0.0, 0.0, 0.0])  # the stronger rule, and nothing else until it is proven
ALL = np.array([1.0, 0.0, 0.0, 1.0])


def test_no_member_counts_before_it_has_been_cheaper_by_more_than_its_noise():
    rng = np.random.default_rng(0)
    base = np.full(40, 1.0)
    noisy = base + 0.3 * rng.standard_normal(40)
    noisy += 1.0 - noisy.mean()
    weights = experts.chosen(np.stack([base, base, base - 0.05, noisy, base + 0.05]), NONE, "soft")
    assert (weights[:, 0] == 1.0).all()
    assert weights[0, 1:].sum() == 0.0
    share = weights[:, 1:].sum(axis=1)
    assert (share < 1.0).all()
    assert share[-1] > 0.9  # forty savings in a row
    assert (weights[-1, 1] > 20 * weights[-1, 2:]).all()


def test_one_lucky_block_convinces_nobody():
    costs = np.ones((5, 20))
    costs[2, 2] = 0.2
    assert experts.chosen(costs, NONE, "soft")[:, 1:].sum(axis=1).max() < 0.2


@pytest.mark.parametrize(("scenario", "left"), [("soft", 3), ("hard", 16)])
def test_what_is_followed_first_is_left_where_it_costs_more_than_its_noise_and_comes_back(scenario, left):
    """A hard mandate's programme, 5 % dearer a block, takes longer to leave: a bet on it must grow twentyfold."""
    rng = np.random.default_rng(1)
    base = np.ones(60)
    dear = base + np.r_[np.full(20, 0.05), np.full(40, -0.06)] + 0.02 * rng.standard_normal(60)
    weights = experts.chosen(np.stack([base, base, base, base, dear]), ALL, scenario)
    assert (weights[:3, 3] == 1.0).all() == (scenario == "hard")
    assert weights[0, 3] == 1.0
    assert (weights[left:20, 1:] == 0.0).all()
    assert weights[-1, 3] == 1.0
    swapped = experts.chosen(np.stack([base, dear, base, base, base]), NONE, scenario)
    assert swapped[0, 0] == 1.0
    assert (swapped[3:20, 0] == 0.0).all()
    assert swapped[-1, 0] == 1.0


def test_a_programme_that_costs_the_same_is_hardly_ever_left_however_often_one_looks():
    """The standard error that a soft mandate's tilt is judged by leaves it in half of such histories."""
    rng = np.random.default_rng(3)
    left = {"soft": 0, "hard": 0}
    for _ in range(40):
        base, start = np.ones(30), np.array([0.0, 0.0, 0.0, 1.0])
        costs = np.stack([base, base + 1.0, base, base, base + 0.1 * rng.standard_normal(30)])
        for scenario in left:
            left[scenario] += bool((experts.chosen(costs, start, scenario)[:, 3] < 1.0).any())
    assert left["hard"] <= 2
    assert left["soft"] >= 10


def test_a_bet_on_nothing_rarely_grows_whenever_one_looks():
    """Ville: a fair bet exceeds 1 / p at any time with a chance of p at most; looked at again and again."""
    rng = np.random.default_rng(2)
    highest = []
    for _ in range(400):
        noise = rng.standard_normal(100) * rng.choice([0.3, 1.0, 3.0], 100)
        highest.append(max(experts.evidence(noise[:b], 1.0) for b in range(1, 101, 3)))
    for p in (0.5, 0.2, 0.05):
        assert np.mean(np.array(highest) >= 1 / p) <= p + 3 * np.sqrt(p * (1 - p) / 400)
    assert experts.evidence(np.full(30, -0.5), 1.0) > 100.0
    assert experts.evidence(np.zeros(0), 1.0) == pytest.approx(1.0)


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


def test_what_a_plan_cost_before_the_stretch_knows_nothing_of_it(history):
    case = prepare(history, basket(4))
    plan, later = GAS_BAND.levels_over(case), case.returns.copy()
    later[case.first :] *= 3.0
    cost = experts.before(case, plan, 0)
    assert experts.before(replace(case, returns=later), plan, 0) == cost != 0.0


def test_a_longer_history_mirrors_the_same_days_alike(history):
    case = prepare(history, basket(4))
    cut, start = 600, 30
    shorter = replace(history, ts=history.ts[start:cut], returns=history.returns[start:cut])
    part = replace(case, history=shorter, returns=np.ascontiguousarray(case.returns[start:cut]))
    for draw in range(3):
        assert np.array_equal(experts.mirrored(part, draw).returns, experts.mirrored(case, draw).returns[start:cut])


@pytest.mark.parametrize("seed", [1, 7])
def test_weights_know_only_earlier_blocks(seed):
    """In the second draw a block's own costs would turn the choice between the two bands."""
    rng = np.random.default_rng(seed)
    costs = 1.0 + 0.1 * rng.standard_normal((5, 30))
    later = costs.copy()
    later[:, 20:] += rng.standard_normal((5, 10))
    for start, scenario in ((NONE, "soft"), (ALL, "soft"), (ALL, "hard")):
        assert np.array_equal(experts.chosen(costs, start, scenario)[:21], experts.chosen(later, start, scenario)[:21])


@pytest.mark.parametrize("scenario", ["soft", "hard"])
def test_no_weight_leaves_the_band_and_full_weight_stays_within_the_member(history, scenario):
    case = prepare(history, basket(4, scenario))
    base = GAS_BAND.levels_over(case)
    band = (base.outer, base.inner)
    rng = np.random.default_rng(2)
    levels = tuple(level * np.exp(rng.standard_normal(level.size)) for level in band)
    relative, dear = rng.standard_normal((2, base.outer.size))
    sight = experts.Sight(relative, dear, *levels) if scenario == "hard" else experts.Sight(relative, dear)
    none = np.zeros((base.outer.size, experts.width(scenario)))
    outer, inner, part = experts.moved(scenario, band, sight, none)
    assert np.array_equal(inner, base.inner)
    assert outer == pytest.approx(base.outer)
    assert not part.any()
    for i, member in enumerate(experts.MEMBERS[scenario]):
        weights = none.copy()
        weights[:, 1 + i] = 1.0
        outer, inner, part = experts.moved(scenario, band, sight, weights)
        assert (inner <= outer).all()
        assert not part.any()
        if scenario == "soft":
            assert outer == pytest.approx(base.outer * np.exp(member.rate * dear))
        else:
            assert (outer >= base.outer * member.low**member.share * (1 - 1e-9)).all() or member.low == 0.0


@pytest.mark.parametrize("scenario", ["soft", "hard"])
def test_without_a_member_it_is_the_stronger_reactive_rule_to_the_bit(history, scenario):
    case = prepare(history, basket(4, scenario))
    base, rule = GAS_BAND.levels_over(case), {"soft": GAS_TILT, "hard": GAS_BAND_EXIT}[scenario].levels_over(case)
    weights = np.zeros((base.outer.size, experts.width(scenario)))
    weights[:, 0] = 1.0
    sight = experts.Sight(centred(gas_of_week(history), history.gas_known), np.zeros(base.outer.size))
    outer, inner, part = experts.moved(scenario, (base.outer, base.inner), sight, weights)
    assert np.array_equal(outer, rule.outer)
    assert np.array_equal(inner, rule.inner)
    assert np.array_equal(part, rule.exit_parts)


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
    nav = np.array([b.nav_usd for b in drawn])
    tolerance = np.array([b.tolerance[0] for b in drawn])
    assert np.abs(np.log(nav / 1e5)).max() <= np.log(experts.NEAR)
    assert np.abs(np.log(tolerance / 0.04)).max() <= np.log(experts.NEAR_TOLERANCE)
    assert abs(np.log(nav / 1e5).mean()) < 0.05  # neighbours lie about the kind, not to one side of it
    assert abs(np.corrcoef(np.log(nav), np.log(tolerance))[0, 1]) < 0.2
    assert all(b.target.sum() == pytest.approx(1.0) for b in drawn)
    assert {len(b.assets) for b in drawn} == set(range(2, len(history.assets) + 1))
    assert kind == experts.kind_of(replace(p, gamma=9.0), np.full(4, 5e-4))  # a hard mandate has no gamma
