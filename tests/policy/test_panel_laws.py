"""The panel: the same baskets in every cell, nothing chosen with hindsight, the same from the same seed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import ConfigError, NotEnoughData
from policy.simulation.history import expanding_median, trailing_mean
from policy.simulation.panel import (
    DEFAULT_CELLS,
    LARGEST,
    SMALLEST_SHARE,
    WEEK_H,
    draw_target,
    holdable,
    portfolios,
    years,
)


@pytest.fixture
def span(history):
    return history.when(history.first), history.when(len(history.ts) - 1)


def test_every_cell_has_the_same_baskets_targets_and_starts(history, span):
    made = portfolios(history, 6, 1, *span)
    by_cell = {}
    for p in made:
        by_cell.setdefault((p.label, p.nav_usd), []).append(p)
    assert len(by_cell) == len(DEFAULT_CELLS)
    first, *others = by_cell.values()
    for cell in others:
        for one, other in zip(first, cell, strict=True):
            assert (one.assets, one.start, one.end) == (other.assets, other.start, other.end)
            assert np.array_equal(one.target, other.target)


def test_sizes_run_from_two_to_the_largest_and_every_size_meets_every_tightness(history, span):
    made = [p for p in portfolios(history, 24, 1, *span, largest=4) if p.label == "hard" and p.nav_usd == 1e5]
    assert {len(p.assets) for p in made} == {2, 3, 4}
    met = {(len(p.assets), float(p.tolerance[0])) for p in made}
    assert {t for size, t in met if size == 2} == {t for size, t in met if size == 3} == {0.03, 0.04, 0.05}


def test_a_seed_gives_the_same_panel_and_another_seed_another(history, span):
    def text(seed: int) -> list[str]:
        return [f"{p.assets} {p.start} {p.target.tolist()}" for p in portfolios(history, 5, seed, *span)]

    assert text(1) == text(1)
    assert text(1) != text(2)


def test_more_portfolios_leave_the_first_ones_as_they_are(history, span):
    few, many = (portfolios(history, n, 1, *span, cells=DEFAULT_CELLS[:1]) for n in (3, 9))
    assert [p.assets for p in few] == [p.assets for p in many[:3]]
    assert all(np.array_equal(a.target, b.target) for a, b in zip(few, many, strict=False))


@given(size=st.integers(2, LARGEST), seed=st.integers(0, 9_999))
def test_targets_sum_to_one_and_none_is_too_small_to_matter(size, seed):
    target = draw_target(np.random.default_rng(seed), size)
    assert target.sum() == pytest.approx(1.0)
    assert target.min() >= SMALLEST_SHARE - 1e-12


def test_an_asset_listed_too_late_is_left_out_and_named_and_one_that_ends_later_stays(history, span):
    n, last = len(history.assets), len(history.ts) - 1
    listed, ended = np.zeros(n, dtype=np.int64), np.full(n, last)
    listed[0] = last - WEEK_H + 1
    ended[1] = last - 1
    free, notes = holdable(replace(history, listed=listed, ended=ended), *span, 2)
    assert free.tolist() == list(range(1, n))
    assert len(notes) == 1
    assert notes[0].startswith(f"{history.assets[0]}: in no basket, its bars start")
    ended[2] = history.first + 3
    free, notes = holdable(replace(history, listed=listed, ended=ended), *span, 2)
    assert 2 not in free
    assert "end" in notes[1]


def test_a_basket_begins_when_all_its_assets_are_listed(history, span):
    n = len(history.assets)
    listed, ended = np.zeros(n, dtype=np.int64), np.full(n, len(history.ts) - 1)
    listed[3] = history.first + 3 * WEEK_H
    late = history.when(int(listed[3]))
    for p in portfolios(replace(history, listed=listed, ended=ended), 12, 3, *span, cells=DEFAULT_CELLS[:1]):
        assert p.start >= (late if history.assets[3] in p.assets else span[0])


@pytest.mark.parametrize(("count", "cells"), [(0, DEFAULT_CELLS), (3, ())])
def test_an_empty_panel_is_an_error(history, span, count, cells):
    with pytest.raises(ConfigError, match="at least 1 portfolio and 1 cell"):
        portfolios(history, count, 1, *span, cells=cells)


def test_one_asset_is_no_portfolio(history, span):
    n, last = len(history.assets), len(history.ts) - 1
    listed = np.full(n, last)
    listed[0] = 0
    alone = replace(history, listed=listed, ended=np.full(n, last))
    with pytest.raises(NotEnoughData, match=f"a portfolio needs 2 assets .* there is {history.assets[0]}"):
        portfolios(alone, 3, 1, *span)


def test_a_short_span_has_one_start(history):
    begin = history.when(history.first)
    made = portfolios(history, 8, 1, begin, begin + timedelta(weeks=3), cells=DEFAULT_CELLS[:1])
    assert {p.start for p in made} == {begin}


def test_hours_are_julian_years():
    assert years(8_766) == pytest.approx(1.0)


gas = st.lists(st.floats(0.1, 500.0), min_size=2, max_size=60).map(np.array)


@given(values=gas, known=st.integers(0, 59))
def test_usual_gas_is_the_mean_of_the_last_week_and_of_nothing_later(values, known):
    known = min(known, values.size - 1)
    found = trailing_mean(values, known)
    for t in range(values.size):
        seen = values[max(known, t - 167) : t + 1] if t >= known else values[t : t + 1]
        assert found[t] == pytest.approx(seen.mean())
    later = values.copy()
    later[-1] += 100.0
    assert trailing_mean(later, known)[:-1] == pytest.approx(found[:-1])


@given(values=gas, known=st.integers(0, 59))
def test_the_median_known_at_the_start_of_a_day_holds_all_that_day(values, known):
    known = min(known, values.size - 1)
    starts = np.arange(0, values.size, 24)
    found = expanding_median(values, known, starts)
    for begin in starts:
        day = found[begin : begin + 24]
        assert (day == day[0]).all()
        assert day[0] == np.median(values[min(known, begin) : begin + 1])
