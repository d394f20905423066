"""Laws of spacing: what a row's step is derived from, whatever the order, the holes and the parts it is counted in."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from lake.sources.spacing import DAILY_SHARE, OFTEN, RUN, spacing

STEPS = [60, 300, 3_600, 86_400]
counts = st.dictionaries(st.sampled_from(STEPS), st.integers(1, 50), min_size=1)
series = st.dictionaries(st.sampled_from(["a", "b", "c"]), counts, min_size=1)


def frame(rows: list[tuple[str, int, int]]) -> pl.DataFrame:
    made = pl.DataFrame(rows, schema={"series": pl.String, "gap": pl.Int64, "len": pl.Int64}, orient="row")
    return made.with_columns(run=pl.lit(1, pl.UInt32))


def rows_of(found: dict[str, dict[int, int]]) -> list[tuple[str, int, int]]:
    return [(s, gap, n) for s, gaps in found.items() for gap, n in gaps.items()]


@given(found=series)
def test_the_modal_gap_is_each_series_step_and_the_nearer_one_where_two_are_as_common(found):
    got = spacing([frame(rows_of(found))])
    for name, gaps in found.items():
        most = max(gaps.values())
        assert got.by_series[name] == min(g for g, n in gaps.items() if n == most)
        assert (name in got.regular) == (most / sum(gaps.values()) >= DAILY_SHARE)
    total = {g: sum(gaps.get(g, 0) for gaps in found.values()) for g in STEPS}
    assert got.overall == min(g for g in STEPS if total[g] == max(total.values()))


@given(found=series, data=st.data())
def test_it_matters_not_in_which_order_or_parts_gaps_are_counted(found, data):
    rows = data.draw(st.permutations(rows_of(found)))
    cut = data.draw(st.integers(0, len(rows)))
    assert spacing([frame(rows[:cut]), frame(rows[cut:])]) == spacing([frame(rows_of(found))])


@given(step=st.sampled_from([300, 3_600]), n=st.integers(10, 500), times=st.integers(4, 1_000), holes=st.integers(1, 2))
def test_rare_holes_are_no_second_spacing_and_an_outage_s_length_does_not_matter(step, n, times, holes):
    got = spacing([frame([("a", step, n), ("a", step * times, holes)])])
    assert got.by_series == {"a": step}
    assert got.mixed == ()


@given(step=st.sampled_from([300, 3_600]), n=st.integers(10, 500), times=st.integers(4, 1_000), more=st.integers(0, 6))
def test_a_longer_bar_that_comes_again_and_again_is_told(step, n, times, more):
    [told] = spacing([frame([("a", step, n), ("a", step * times, OFTEN + more)])]).mixed
    assert told == f"a: {step} s, but also {step * times} s ({OFTEN + more} times)"


@given(step=st.sampled_from([300, 3_600]), n=st.integers(10, 500), nearer=st.integers(1, 299))
def test_even_one_row_nearer_than_the_step_overlaps_and_is_told(step, n, nearer):
    [told] = spacing([frame([("a", step, n), ("a", nearer, 1)])]).mixed
    assert told == f"a: {step} s, but also {nearer} s (1 times)"


@given(step=st.sampled_from([300, 1_800]), times=st.integers(2, 3), run=st.integers(1, 40))
def test_a_longer_bar_is_told_by_many_in_a_row_and_single_holes_are_not(step, times, run):
    gaps = [("a", step, 1_000, 500), ("a", step * times, max(40, run), run)]
    got = spacing([pl.DataFrame(gaps, schema=["series", "gap", "len", "run"], orient="row")])
    assert bool(got.mixed) == (run >= RUN)


def test_a_source_without_gaps_has_no_spacing():
    got = spacing([frame([])])
    assert (got.by_series, got.overall, got.regular, got.mixed) == ({}, None, frozenset(), ())
