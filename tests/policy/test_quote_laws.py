"""Laws of prices as they were known: random holes, listings and ends, against a plain hour-by-hour reading."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from policy.simulation.quotes import CARRY_H, HOUR_US, SHOWN, ranges, read_quotes

START, HOURS = datetime(2024, 1, 1, tzinfo=UTC), 30
bars = st.sets(st.integers(0, HOURS - 1), min_size=1)


def moment(hour: int) -> datetime:
    return START + timedelta(hours=hour)


def grid_of(hours: int = HOURS) -> pl.DataFrame:
    return pl.DataFrame({"t": [moment(h) for h in range(hours)]}, schema={"t": pl.Datetime("us", "UTC")})


def prices_of(known: set[int], asset: str = "ETH") -> pl.DataFrame:
    """Bars that are done and known at the given hours, each with its hour as close."""
    at = [moment(h) for h in sorted(known)]
    rows = {"asset": [asset] * len(at), "at": at, "done": at, "close": [100.0 + h for h in sorted(known)]}
    return pl.DataFrame(rows).cast({"at": pl.Datetime("us", "UTC"), "done": pl.Datetime("us", "UTC")})


@given(known=bars)
def test_every_hour_has_the_last_close_that_was_known_and_a_market_only_with_a_bar_of_its_own(known):
    q = read_quotes(grid_of(), prices_of(known), ["ETH"])
    for t in range(HOURS):
        past = [h for h in known if h <= t]
        assert q.close[t, 0] == 100.0 + (max(past) if past else min(known))
        assert q.open[t, 0] == (t in known)
        assert q.moved[t, 0] == (t == HOURS - 1 or {t, t + 1} <= known)
    assert (q.first[0], q.last[0]) == (min(known), max(known))


@given(known=bars, cut=st.integers(1, HOURS))
def test_what_comes_later_changes_no_close_and_no_market_of_before(known, cut):
    whole = read_quotes(grid_of(), prices_of(known), ["ETH"])
    past = {h for h in known if h < cut}
    if not past:
        return
    told = read_quotes(grid_of(cut), prices_of(past), ["ETH"])
    since = slice(min(past), cut)
    assert np.array_equal(told.close[since], whole.close[since])
    assert np.array_equal(told.open, whole.open[:cut])
    assert np.array_equal(told.moved[: cut - 1], whole.moved[: cut - 1])


@given(known=bars, late=st.integers(0, CARRY_H + 3))
def test_a_bar_that_is_learnt_of_late_is_a_market_when_it_is_learnt_of_and_not_too_old(known, late):
    rows = prices_of(known).with_columns(at=pl.col("at") + timedelta(hours=late))
    q = read_quotes(grid_of(), rows, ["ETH"])
    for t in range(HOURS):
        assert q.open[t, 0] == (t - late in known and late <= CARRY_H)


@given(known=bars)
def test_an_asset_without_prices_is_stable_and_another_s_bars_are_not_its_own(known):
    q = read_quotes(grid_of(), prices_of(known), ["USDC", "ETH"])
    assert (q.close[:, 0] == 1.0).all()
    assert q.open[:, 0].all()
    assert q.moved[:, 0].all()
    alone = read_quotes(grid_of(), prices_of(known), ["ETH"])
    assert np.array_equal(q.close[:, 1:], alone.close)
    assert np.array_equal(q.open[:, 1:], alone.open)


@given(known=bars)
def test_every_listing_end_and_hole_is_told_with_its_hours(known):
    q = read_quotes(grid_of(), prices_of(known), ["ETH"])
    ts = grid_of()["t"].to_physical().to_numpy()
    notes = q.events(ts)
    first, last = min(known), max(known)
    ended = last < HOURS - 1 - CARRY_H
    inside = set(range(first, last + 1 if ended else HOURS)) - known
    assert any(": listed" in n for n in notes) == (first > 0)
    assert any("no bar after" in n for n in notes) == ended
    holes = [n for n in notes if "without a bar" in n]
    assert len(holes) == bool(inside)
    if inside:
        assert f"{len(inside)} hour" in holes[0]
    assert all(n.startswith("ETH: ") for n in notes)


@given(steps=st.sets(st.integers(0, HOURS - 1), min_size=1))
def test_ranges_count_every_hour_and_spell_out_the_first(steps):
    ts = np.arange(HOURS, dtype=np.int64) * HOUR_US
    text = ranges(ts, np.array(sorted(steps)))
    runs = sum(1 for s in steps if s - 1 not in steps)
    assert text.startswith(f"{len(steps)} hour{'s' if len(steps) > 1 else ''} (")
    assert ("more times" in text) == (runs > SHOWN)
    assert text.count("1970-01-0") == sum(
        2 - (s + 1 not in steps) for s in sorted(s for s in steps if s - 1 not in steps)[:SHOWN]
    )
