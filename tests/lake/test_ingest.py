"""Collecting: resumes, heals holes, retries what may pass, reports what is missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lake.errors import ConfigError, SourceError, SourceUnavailable
from lake.ingest import MAX_TRIES, run, status
from lake.sources.base import Gap, RecordedSource
from lake.store import Lake
from lake.tables import TABLES

T0 = datetime(2022, 1, 1, tzinfo=UTC)
H = timedelta(hours=1)


def rows(hours: list[int], chain_id: int = 1) -> pl.DataFrame:
    ts = [T0 + h * H for h in hours]
    return pl.DataFrame(
        {
            "chain_id": chain_id,
            "ts": ts,
            "base_fee_gwei": [float(h) for h in hours],
            "available_at": [t + H for t in ts],
        },
        schema_overrides={n: TABLES["gas"].columns[n] for n in ("chain_id", "ts", "available_at")},
    )


def source(hours: list[int], page: int = 3, step_s: int | None = 3600, **faults: Exception) -> RecordedSource:
    return RecordedSource(
        "recorded:gas", "gas", {"chain_id": 1}, rows(hours), step_s, page, {int(k[1:]): v for k, v in faults.items()}
    )


def collect(lake: Lake, src: RecordedSource, first: int, last: int, waits: list[float] | None = None):
    return run(
        lake, src, T0 + first * H, T0 + last * H, now=T0 + 1000 * H, pause=(waits if waits is not None else []).append
    )


def hours_in(lake: Lake) -> list[int]:
    return [int((t - T0) / H) for t in lake.scan("gas").sort("ts").collect()["ts"]]


def test_collects_everything_then_only_what_is_new(lake: Lake) -> None:
    src = source(list(range(20)))
    first = collect(lake, src, 0, 10)
    assert (first.added, first.gaps, first.freshness) == (10, (), T0 + 10 * H)
    again = collect(lake, src, 0, 20)
    assert (again.added, again.updated, again.unchanged) == (10, 0, 0)
    assert src.asked[-1] == (T0 + 10 * H, T0 + 20 * H)
    assert hours_in(lake) == list(range(20))


def test_a_repeated_run_asks_nothing_and_changes_nothing(lake: Lake) -> None:
    src = source(list(range(10)))
    collect(lake, src, 0, 10)
    version, asked = lake.version("gas"), len(src.asked)
    report = collect(lake, src, 0, 10)
    assert (report.added, report.updated, lake.version("gas"), len(src.asked)) == (0, 0, version, asked)


def test_holes_are_reported_and_healed_when_the_source_has_them_later(lake: Lake) -> None:
    report = collect(lake, source([0, 1, 2, 5, 6, 9]), 0, 12)
    key = "1"
    assert report.gaps == (
        Gap(key, T0 + 3 * H, T0 + 5 * H), Gap(key, T0 + 7 * H, T0 + 9 * H), Gap(key, T0 + 10 * H, T0 + 12 * H),
    )  # fmt: skip
    healed = collect(lake, source(list(range(12))), 0, 12)
    assert healed.gaps == ()
    assert healed.added == 6
    assert hours_in(lake) == list(range(12))


def test_an_earlier_start_fills_the_head(lake: Lake) -> None:
    src = source(list(range(12)))
    collect(lake, src, 6, 12)
    assert collect(lake, src, 0, 12).added == 6
    assert hours_in(lake) == list(range(12))


def test_one_series_does_not_hide_another(lake: Lake) -> None:
    collect(lake, source(list(range(10))), 0, 10)
    other = RecordedSource("recorded:10", "gas", {"chain_id": 10}, rows(list(range(10)), 10), 3600)
    assert run(lake, other, T0, T0 + 10 * H, now=T0 + 10 * H).added == 10


def test_passing_failures_are_retried_from_where_the_lake_stands(lake: Lake) -> None:
    waits: list[float] = []
    src = source(list(range(9)), f1=SourceUnavailable("429", retry_after_s=7.0), f2=SourceUnavailable("time-out"))
    report = collect(lake, src, 0, 9, waits)
    assert hours_in(lake) == list(range(9))
    assert report.retries == 2
    assert waits[0] == 7.0
    assert 0 < waits[1] < 30
    assert [a for a, _ in src.asked] == [T0, T0 + 3 * H, T0 + 3 * H]


def test_a_lasting_failure_ends_with_what_was_kept_and_the_next_run_goes_on(lake: Lake) -> None:
    waits: list[float] = []
    down = {f"f{i}": SourceUnavailable("503") for i in range(1, 50)}
    with pytest.raises(SourceUnavailable) as caught:
        collect(lake, source(list(range(9)), **down), 0, 9, waits)
    assert len(waits) == MAX_TRIES - 1
    assert "3 rows were kept" in "".join(caught.value.__notes__)
    assert collect(lake, source(list(range(9))), 0, 9).added == 6


def test_a_wait_that_is_too_long_ends_the_run(lake: Lake) -> None:
    with pytest.raises(SourceUnavailable):
        collect(lake, source([0], f0=SourceUnavailable("banned", retry_after_s=3600)), 0, 1)


def test_other_failures_are_not_retried(lake: Lake) -> None:
    src = source(list(range(9)), f1=SourceError("no such market"))
    with pytest.raises(SourceError, match="no such market"):
        collect(lake, src, 0, 9)
    assert len(src.asked) == 1


def test_rows_outside_the_range_or_series_are_refused(lake: Lake) -> None:
    class Lying(RecordedSource):
        def collect(self, start, end):
            yield self.frame

    for frame in (rows([0, 50]), rows([0], chain_id=10)):
        liar = Lying("liar", "gas", {"chain_id": 1}, frame, 3600)
        with pytest.raises(SourceError, match="lie outside"):
            collect(lake, liar, 0, 10)
    assert lake.version("gas") == -1


def test_an_empty_range_is_a_usage_error(lake: Lake) -> None:
    with pytest.raises(ConfigError, match="not before"):
        collect(lake, source([0]), 5, 5)


@settings(max_examples=15, deadline=None)
@given(
    have=st.sets(st.integers(0, 20)),
    windows=st.lists(st.tuples(st.integers(0, 19), st.integers(1, 20)), min_size=1, max_size=3),
    grid=st.booleans(),
    page=st.integers(1, 7),
)
@example(have={0, 1, 2}, windows=[(2, 1), (0, 1), (0, 2)], grid=False, page=1)  # a window before, apart from the rest
def test_any_windows_end_with_every_row_of_their_span(
    tmp_path_factory: pytest.TempPathFactory, have: set[int], windows: list[tuple[int, int]], grid: bool, page: int
) -> None:
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    src = source(sorted(have), page, 3600 if grid else None)
    wanted: set[int] = set()
    for first, length in windows:
        report = collect(lake, src, first, first + length)
        wanted |= {h for h in have if first <= h < first + length}
        missing = set(range(first, first + length)) - have
        told = {int((g.start - T0) / H) + i for g in report.gaps for i in range(int((g.end - g.start) / H))}
        assert told == (missing if grid else set())
        stored = set(hours_in(lake))
        assert wanted <= stored <= have


def test_status_lists_every_series_with_age_and_gaps(lake: Lake) -> None:
    assert status(lake, T0).is_empty()
    collect(lake, source([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12]), 0, 13)
    lake.write("gas", rows(list(range(5)), chain_id=10))
    got = status(lake, T0 + 15 * H).to_dicts()
    assert [(r["table"], r["key"], r["rows"], r["gaps"]) for r in got] == [("gas", "1", 11, 2), ("gas", "10", 5, 0)]
    assert got[0]["age"] == 2 * H
    assert (got[0]["first"], got[0]["last"]) == (T0, T0 + 12 * H)
