"""Laws of times in files: a notation gives the moment it was written from, or nothing; zones are never guessed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.sources.marks import misread
from lake.sources.stamps import AHEAD, EARLIEST, times

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY_ZERO = datetime(1899, 12, 30, tzinfo=UTC)
AWARE = {
    "z": lambda t: f"{t:%Y-%m-%dT%H:%M:%SZ}",
    "fraction": lambda t: f"{t:%Y-%m-%dT%H:%M:%S.%fZ}",
    "blank": lambda t: f"{t:%Y-%m-%d %H:%M:%S+00:00}",
    "offset": lambda t: t.astimezone(ZoneInfo("Asia/Kathmandu")).isoformat(),
    "word": lambda t: f"{t:%Y-%m-%d %H:%M:%S} UTC",
    "s": lambda t: int(t.timestamp()),
    "ms": lambda t: int(t.timestamp()) * 1_000,
    "us": lambda t: int(t.timestamp()) * 10**6,
    "ns": lambda t: int(t.timestamp()) * 10**9,
    "s float": lambda t: float(int(t.timestamp())),
    "ms text": lambda t: str(int(t.timestamp()) * 1_000),
}
NAIVE = {
    "iso": lambda t: f"{t:%Y-%m-%d %H:%M:%S}",
    "t": lambda t: f"{t:%Y-%m-%dT%H:%M:%S}",
    "compact": lambda t: f"{t:%Y%m%d%H%M%S}",
    "number": lambda t: int(f"{t:%Y%m%d%H%M%S}"),
    "excel": lambda t: (t - DAY_ZERO) / timedelta(days=1),
    "excel text": lambda t: f"{(t - DAY_ZERO) / timedelta(days=1):.8f}",
}
moments = st.datetimes(EARLIEST.replace(tzinfo=None), NOW.replace(tzinfo=None)).map(
    lambda t: t.replace(microsecond=0, tzinfo=UTC)
)


def read(values: list, zone: str | None = None) -> tuple[list, list]:
    found, naive = times(pl.Series(values), zone, NOW)
    return found.to_list(), naive.to_list()


@given(at=st.lists(moments, min_size=1, max_size=4), how=st.sampled_from(sorted(AWARE)))
def test_a_moment_is_read_back_whatever_zone_is_said(at, how):
    written = [AWARE[how](t) for t in at]
    for zone in (None, "UTC", "America/New_York"):
        assert read(written, zone) == (at, [False] * len(at))


@given(at=st.lists(moments, min_size=1, max_size=4), how=st.sampled_from(sorted(NAIVE)))
def test_a_clock_time_without_a_zone_is_refused_and_read_in_the_zone_that_is_said(at, how):
    written = [NAIVE[how](t) for t in at]
    assert read(written) == ([None] * len(at), [True] * len(at))
    assert read(written, "UTC") == (at, [False] * len(at))


@given(at=moments, zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Tokyo"]))
def test_a_clock_reading_is_a_moment_only_where_the_zone_has_it_once(at, zone):
    there = at.astimezone(ZoneInfo(zone))
    [found], _ = read([f"{there:%Y-%m-%d %H:%M:%S}"], zone)
    twice = there.replace(fold=0).utcoffset() != there.replace(fold=1).utcoffset()
    assert found == (None if twice else at)


def test_the_hour_that_spring_skips_and_the_one_that_autumn_repeats_are_no_times():
    assert read(["2024-03-31 02:30:00", "2024-10-27 02:30:00"], "Europe/Berlin")[0] == [None, None]
    assert read(["2024-03-31 01:59:59"], "Europe/Berlin")[0] == [datetime(2024, 3, 31, 0, 59, 59, tzinfo=UTC)]


@given(number=st.integers(0, 10**20 - 1))
def test_a_number_has_one_reading_at_most_and_never_an_impossible_date(number):
    aware, naive = times(pl.Series([number], dtype=pl.Int128).cast(pl.Int64, strict=False), None, NOW)
    assert not (aware[0] is not None and naive[0])
    if aware[0] is not None:
        assert EARLIEST <= aware[0] <= NOW + AHEAD
        seconds = aware[0].timestamp()
        assert any(abs(number / unit - seconds) < 1e-5 * unit + 1e-3 for unit in (1, 10**3, 10**6, 10**9))


@given(at=st.datetimes(datetime(1970, 1, 1), datetime(2008, 12, 31)) | st.datetimes(datetime(2026, 1, 3)))
def test_a_date_before_any_chain_or_beyond_tomorrow_is_no_time(at):
    assert read([at.replace(tzinfo=UTC).isoformat()]) == ([None], [False])
    assert read([f"{at:%Y-%m-%d %H:%M:%S}".rjust(19, "0")], "UTC")[0] == [None]


def test_one_file_may_mix_notations_and_each_row_stands_for_itself():
    at = datetime(2024, 2, 29, 12, tzinfo=UTC)
    rows = ["2024-02-29T12:00:00Z", "1709208000", "2024-02-29 12:00:00 UTC", "2024-02-29 12:00", "nonsense", None, ""]
    found, naive = read(rows)
    assert found == [at, at, at, None, None, None, None]
    assert naive == [False, False, False, True, False, False, False]
    assert read(rows, "UTC")[0] == [at] * 4 + [None] * 3


def test_columns_that_are_times_already_keep_them():
    at = datetime(2024, 2, 29, 12, tzinfo=UTC)
    aware = pl.Series([at]).dt.convert_time_zone("Asia/Tokyo").dt.cast_time_unit("ns")
    assert times(aware, None, NOW)[0].to_list() == [at]
    naive = pl.Series([at.replace(tzinfo=None)])
    assert times(naive, None, NOW)[1].to_list() == [True]
    assert times(naive.dt.date(), "UTC", NOW)[0].to_list() == [datetime(2024, 2, 29, tzinfo=UTC)]


plain = st.floats(0, 1e9).map(lambda x: f"{x:.2f}")


@given(values=st.lists(plain, min_size=1, max_size=6), separator=st.sampled_from([",", ";"]))
def test_plain_decimal_numbers_are_never_called_misread(values, separator):
    assert misread("close", pl.Series(values), separator, 0) is None


@given(values=st.lists(st.floats(1_000, 1e9), min_size=1, max_size=6), before=st.integers(0, 10**6), data=st.data())
def test_marks_are_told_with_the_row_the_value_and_the_option(values, before, data):
    texts = [f"{v:.2f}" for v in values]
    at = data.draw(st.integers(0, len(texts) - 1))
    english = f"{values[at]:,.2f}"
    german = english.translate(str.maketrans({",": ".", ".": ","}))
    for text, option in ((english, "--thousands MARK"), (german, "--decimal ,")):
        shown = [*texts[:at], text, *texts[at + 1 :]]
        said = misread("close", pl.Series(shown), ";", before)
        assert said is not None
        assert said.startswith(f"row {before + at + 1}: close {text!r} looks like ")
        assert option in said


@pytest.mark.parametrize(("separator", "told"), [(";", True), ("\t", True), (",", False)])
def test_three_digits_behind_a_point_are_asked_about_only_where_a_comma_could_be_the_decimal_mark(separator, told):
    said = misread("close", pl.Series(["42.000", "7", "42.013"]), separator, 10)
    assert (said is not None) == told
    if said is not None:
        assert "row 11: close '42.000' may be a decimal fraction or thousands" in said
        assert "say --decimal . or --thousands . --decimal ," in said
    assert misread("close", pl.Series(["42.000", "7.5"]), separator, 10) is None
