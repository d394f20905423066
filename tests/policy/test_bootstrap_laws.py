"""Every claim is a paired ratio with an interval: what the intervals promise, and what they cannot be talked into."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.comparison.bootstrap import Interval, captured, counts, ratio

weekly = st.lists(st.floats(0.01, 100.0), min_size=2, max_size=40).map(np.array)


@given(weeks=st.integers(1, 60), draws=st.integers(1, 200), seed=st.integers(0, 99))
def test_every_draw_has_as_many_weeks_as_there_are_and_the_same_seed_the_same_ones(weeks, draws, seed):
    drawn = counts(weeks, draws, seed)
    assert drawn.shape == (draws, weeks)
    assert (drawn.sum(axis=1) == weeks).all()
    assert (drawn == counts(weeks, draws, seed)).all()


def test_every_week_is_drawn_once_on_average():
    drawn = counts(20, 20_000, 1)
    assert drawn.mean(axis=0) == pytest.approx(np.ones(20), abs=0.03)
    assert drawn.var(axis=0) == pytest.approx(np.full(20, 1 - 1 / 20), abs=0.05)


@given(a=weekly, factor=st.floats(0.01, 100.0))
def test_a_cost_against_its_own_multiple_is_known_without_doubt(a, factor):
    found = ratio(a, factor * a, counts(a.size, 200, 1))
    assert (found.value, found.low, found.high) == pytest.approx((1 / factor,) * 3, rel=1e-9)


@given(a=weekly, seed=st.integers(0, 99))
def test_the_unit_of_cost_changes_no_ratio(a, seed):
    b = np.random.default_rng(seed).uniform(0.5, 2.0, a.size) * a
    drawn = counts(a.size, 100, seed)
    one, other = ratio(a, b, drawn), ratio(1e6 * a, 1e6 * b, drawn)
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), rel=1e-9)


@given(a=weekly, seed=st.integers(0, 99))
def test_an_interval_is_in_order_and_holds_every_value_between_the_worst_weeks(a, seed):
    b = np.random.default_rng(seed).uniform(0.5, 2.0, a.size)
    found = ratio(a, b, counts(a.size, 300, seed))
    assert found.low <= found.high
    assert (a / b).min() - 1e-9 <= found.low
    assert found.high <= (a / b).max() + 1e-9
    assert (a / b).min() - 1e-9 <= found.value <= (a / b).max() + 1e-9


def test_a_ratio_over_no_cost_is_undefined_and_says_so():
    nothing = np.zeros(5)
    found = ratio(np.ones(5), nothing, counts(5, 50, 1))
    assert all(math.isnan(x) for x in (found.value, found.low, found.high))
    assert ratio(nothing, np.ones(5), counts(5, 50, 1)) == Interval(0.0, 0.0, 0.0)


@pytest.mark.parametrize(("share", "value"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (-0.2, -0.2)])
def test_the_captured_share_of_the_headroom_is_what_was_captured(share, value):
    base, best = np.linspace(2.0, 3.0, 12), np.linspace(1.0, 1.5, 12)
    mine = base - share * (base - best)
    found = captured(base, mine, best, counts(12, 400, 1))
    assert (found.value, found.low, found.high) == pytest.approx((value,) * 3, abs=1e-9)


def test_without_headroom_nothing_can_be_captured():
    same = np.ones(6)
    assert math.isnan(captured(same, same, same, counts(6, 50, 1)).value)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_intervals_hold_the_truth_about_as_often_as_they_say(seed):
    rng, held, tries = np.random.default_rng(seed), 0, 60
    for _ in range(tries):
        a, b = rng.gamma(4.0, 1.0, 40), rng.gamma(4.0, 1.0, 40)
        found = ratio(a, b, counts(40, 400, 1))
        held += found.low <= 1.0 <= found.high
    assert held >= 0.78 * tries  # 0.95 less what forty weeks and four standard errors leave
