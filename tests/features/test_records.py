"""Rows as arrays: the same rows as a query of the lake, whether they are read from it or held in memory."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from features.bars import assets_with_prices, read_bars, summed
from features.liquidity import pool_states
from features.records import Records, microseconds, moment, records
from lake.sources.sample import simulate
from lake.store import Lake
from models.serving.live import recent
from tests.models.market import START

UNTIL = START + timedelta(days=6)


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Lake:
    lake = Lake(str(tmp_path_factory.mktemp("records")))
    for name, frame in simulate(start=START, hours=24 * 6, seed=3).items():
        if name in ("prices", "pool_state"):
            lake.write(name, frame)
    return lake


def test_times_numbers_and_texts_come_back_as_they_were():
    frame = pl.DataFrame(
        {
            "ts": pl.Series([START, UNTIL]).cast(pl.Datetime("us", "UTC")),
            "step": [3600, None],
            "asset": ["b", None],
            "raw": [b"1", b"2"],
        }
    )
    found = Records.of(frame)
    assert [moment(m) for m in found["ts"].tolist()] == [START, UNTIL]
    np.testing.assert_array_equal(found["step"], [3600.0, np.nan])
    assert found.among("asset", ["a", "b"]).tolist() == [1, -1]
    assert found.present("asset") == ["b"]
    assert found.where(np.array([False, True])).present("asset") == []
    assert "raw" not in found.columns


def test_microseconds_are_exact():
    late = datetime.fromisoformat("2024-02-29T23:59:59.999999+00:00")
    assert moment(microseconds(late)) == late
    assert microseconds(late) % 1_000_000 == 999_999


@pytest.mark.parametrize("since", [None, START + timedelta(days=2)])
def test_memory_and_lake_give_the_same_rows(market, since):
    until = START + timedelta(days=4)
    names = ("asset", "close")
    a, b = (records(view, "prices", names, since, until) for view in (market, recent(market, UNTIL)))
    assert set(a.columns) == set(b.columns) == {"ts", *names}
    assert a.present("asset") == b.present("asset")
    orders = [np.lexsort((r["ts"], r["asset"])) for r in (a, b)]
    np.testing.assert_array_equal(a["close"][orders[0]], b["close"][orders[1]])
    assert max(a["ts"]) < microseconds(until)
    assert since is None or min(a["ts"]) == microseconds(since)


def test_memory_and_lake_give_the_same_grids(market):
    span = START + timedelta(days=1), START + timedelta(days=5)
    view = recent(market, UNTIL)
    assert assets_with_prices(view) == assets_with_prices(market)
    assert assets_with_prices(view, source="nobody") == []
    bars = [read_bars(x, ["ETH", "BTC"], *span) for x in (market, view)]
    for name in ("close", "high", "low", "volume", "fresh"):
        np.testing.assert_array_equal(*(getattr(b, name) for b in bars))
    states = [pool_states(x, (), *span) for x in (market, view)]
    assert states[0].pools == states[1].pools
    for name in ("depth", "price", "volume", "fee_pips", "fresh"):
        np.testing.assert_array_equal(*(getattr(s, name) for s in states))


def test_a_cut_holds_nothing_that_came_later(market):
    view = recent(market, UNTIL)
    early = view.cut(START + timedelta(days=3))
    for name in ("prices", "pool_state"):
        assert early.frames[name]["available_at"].max() == START + timedelta(days=3)
        assert early.held(name)["available_at"].max() == microseconds(START + timedelta(days=3))
        assert early.frames[name].height == len(early.held(name)["available_at"]) < view.frames[name].height
    assert view.cut(UNTIL).cut(UNTIL).frames["prices"] is view.frames["prices"]


def test_values_of_one_place_add_up_and_unknown_ones_count_as_nothing():
    row, column = np.array([0, 0, 1, -1]), np.array([1, 1, 0, 0])
    found = summed(row, column, (2, 2), np.array([1.0, 2.5, np.nan, 9.0]))
    np.testing.assert_array_equal(found, [[np.nan, 3.5], [0.0, np.nan]])
