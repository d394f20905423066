"""A feed inside its threshold pays no stranger with the default hold and fees, on all recorded prices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.execution.vault_year import THRESHOLD, Lags, Taken, lags, most_per_trip, rows, takings, terms


def bars(path: Path, asset: str) -> pl.DataFrame:
    if not path.exists():
        pytest.skip(f"no recorded prices at {path}")
    return pl.read_parquet(path).filter(pl.col("asset") == asset).sort("ts")


def test_a_trip_inside_the_threshold_costs_more_than_it_can_gain():
    hold_s, entry, leaving = terms()
    assert hold_s == 3_600
    assert entry + leaving > most_per_trip()
    swing = np.tile([THRESHOLD, -THRESHOLD], 5_000)  # the worst feed there is that keeps its word
    assert takings(Lags(swing, swing, 3_600), hold_s, entry, leaving) == Taken(0, 0, 0)
    assert takings(Lags(swing, swing, 3_600), hold_s, 0, 0).bp > 1e4


def test_a_lagging_feed_pays_nobody_over_the_longest_recorded_stretch(real_data: Path):
    """Hour by hour over 26 months, and every five minutes of five months; neither the hold nor fees would do alone."""
    hold_s, entry, leaving = terms()
    for name, step_s, least_days in (("prices_1h", 3_600, 700), ("prices_5m", 300, 150)):
        found = bars(real_data / f"{name}.parquet", "ETH")
        assert found.height * step_s / 86_400 > least_days
        seen = lags(found, step_s)
        assert takings(seen.within(), 0, 0, 0).bp > 1e4  # without either: more than all of NAV
        assert takings(seen.within(), hold_s, 0, 0).bp > 1e3  # stops loans and one-block trips, no patient ones
        assert takings(seen.within(), hold_s, entry, leaving).trips == 0
        free = lags(found, step_s, 1)
        assert takings(free, hold_s, entry, leaving).bp > 0  # a feed that breaks its word is not covered


def test_the_table_has_a_row_for_every_recorded_stretch(tmp_path: Path):
    walk = 1_500 * np.exp(np.cumsum(np.random.default_rng(5).normal(0, 0.01, 400)))
    made = pl.DataFrame({"ts": range(400), "asset": "ETH", "close": walk, "high": walk * 1.01, "low": walk * 0.99})
    made.write_parquet(tmp_path / "prices_1h.parquet")
    (row,) = rows(tmp_path)
    assert row["asset"] == "ETH"
    assert isinstance(row["default"], Taken)
    assert row["default"].trips == 0
    assert isinstance(row["bare"], Taken)
    assert row["bare"].trips > 0
