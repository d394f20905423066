"""Laws of units: words, basis points, durations and times, each against plain arithmetic, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import ConfigError, DataError
from lake.units import BPS, bps, duration, from_word, gwei, to_word, utc

SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


@given(value=st.integers(0, 2**256 - 1))
def test_a_word_is_the_integer_in_32_bytes_and_keeps_its_order(value):
    word = to_word(value)
    assert (len(word), from_word(word)) == (32, value)
    assert word == bytes.fromhex(f"{value:064x}")
    if value:
        assert to_word(value - 1) < word


@pytest.mark.parametrize("value", [-1, 2**256, 2**300])
def test_an_integer_that_is_no_word_is_refused_with_its_value(value):
    with pytest.raises(DataError, match=f"{value} does not fit an unsigned 256-bit word"):
        to_word(value)


@given(raw=st.binary(max_size=64).filter(lambda b: len(b) != 32))
def test_bytes_of_another_length_are_no_word(raw):
    with pytest.raises(DataError, match=f"a chain word has 32 bytes, got {len(raw)}"):
        from_word(raw)


@given(value=st.integers(0, BPS))
def test_basis_points_are_the_integers_from_none_to_all(value):
    assert bps(value) == value


@pytest.mark.parametrize("value", [-1, BPS + 1, 0.5, 50.0, True, "50", None])
def test_what_could_be_a_percentage_or_a_fraction_is_no_basis_point(value):
    with pytest.raises(ConfigError, match="basis points must be an integer from 0 to 10000, got .*; 1 % is 100"):
        bps(value)


@given(count=st.integers(1, 10_000), unit=st.sampled_from(sorted(SECONDS)), pad=st.sampled_from(["", " ", "\t"]))
def test_a_duration_is_its_number_times_its_unit(count, unit, pad):
    whole = timedelta(seconds=count * SECONDS[unit])
    assert duration(f"{pad}{count}{unit}{pad}") == whole
    assert duration(str(int(whole.total_seconds()))) == whole == duration(whole)


@given(text=st.text(max_size=6))
def test_any_text_is_a_time_span_or_refused_in_words_and_never_a_traceback(text):
    try:
        assert duration(text) > timedelta(0)
    except ConfigError:
        with pytest.raises(ConfigError, match="is no duration; write for example 5m, 1h, 1d or 2w"):
            duration(text)


@pytest.mark.parametrize(
    "text", ["", "h", "0h", "-1h", "1.5h", "1 h", "²h", "1h30m", "soon", "1y", "999999w", "99999999999w"]
)
def test_what_is_no_duration_is_refused_with_examples(text):
    with pytest.raises(ConfigError, match="is no duration; write for example 5m"):
        duration(text)


@given(
    at=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),
    offset_h=st.integers(-12, 14),
)
def test_a_time_is_the_same_moment_whatever_offset_it_is_written_in(at, offset_h):
    here = at.replace(tzinfo=timezone(timedelta(hours=offset_h)))
    assert utc(here) == utc(here.isoformat()) == here
    assert utc(here).tzinfo is UTC
    assert utc(at.isoformat()) == at.replace(tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "2022-13-01", "2022-07-01T25:00", "1.7.2022"])
def test_what_is_no_date_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match="is no date; write for example 2022-07-01 or 2022-07-01T06:00Z"):
        utc(text)


@given(whole=st.integers(0, 10**6))
def test_whole_gwei_are_exact(whole):
    assert gwei(whole * 10**9) == whole
