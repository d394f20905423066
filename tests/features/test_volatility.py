from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from features.bars import CARRY_H, assets_with_prices, read_bars
from features.panel import flat
from features.returns import stress
from features.volatility import LOOKBACK_H, moves, volatility_features
from lake.store import Lake
from tests.models.drift_market import ASSETS, START, bars, garch, noise

W = {"AAA": 0.5, "BBB": 0.3, "CCC": 0.2}


def features_of(lake: Lake, days: int, assets=ASSETS, weights=None) -> pl.DataFrame:
    return described(read_bars(lake, assets, START, START + timedelta(days=days)), weights or W)


def described(bars, weights=W, rows=None) -> pl.DataFrame:
    rows = np.arange(len(bars.close)) if rows is None else rows
    return flat(bars.assets, bars.times(rows), volatility_features(bars, *moves(bars, weights), rows)).frame()


def test_the_deviation_is_the_log_change_of_the_weight(lake: Lake) -> None:
    r, _ = garch(3, 1)
    lake.write("prices", bars(r))
    grid = read_bars(lake, ASSETS, START, START + timedelta(days=3))
    growth = np.exp([r[a][39] for a in ASSETS])
    w = np.array([W[a] for a in ASSETS])
    after = w * growth / (w * growth).sum()
    assert grid.assets == ASSETS
    assert np.allclose(moves(grid, W)[1][40], np.log(after / w), atol=1e-12)


def test_levels_equal_a_plain_recursion(lake: Lake) -> None:
    r, _ = garch(20, 2)
    lake.write("prices", bars(r))
    got = features_of(lake, 20).filter(pl.col("key") == "BBB")
    weights = 0.5 ** (np.arange(240)[::-1] / 24.0)  # ten half-lives
    squares = r["BBB"][61:301] ** 2
    expected = 0.5 * np.log((weights * squares).sum() / weights.sum())
    row = got.filter(pl.col("ts") == START + timedelta(hours=301))
    assert row["ret_base"].item() == pytest.approx(expected, abs=1e-6)
    assert row["ret_v240"].item() + row["ret_base"].item() == pytest.approx(
        0.5 * np.log((r["BBB"][61:301] ** 2).mean()), abs=1e-6
    )
    assert row["ret_now"].item() == pytest.approx(r["BBB"][300] / np.exp(expected), rel=1e-6)


def test_no_feature_looks_ahead(lake: Lake, tmp_path) -> None:
    days, cut = 60, START + timedelta(days=50)
    r, _ = garch(days, 3)
    rows = bars(r)
    other = rows.with_columns(
        pl.when(pl.col("available_at") > cut).then(pl.col(c) * 1.7).otherwise(pl.col(c)).alias(c)
        for c in ("open", "high", "low", "close", "volume")
    )
    lake.write("prices", rows)
    changed = Lake(str(tmp_path / "changed"))
    changed.write("prices", other)
    past = pl.col("ts") <= cut
    a, b = features_of(lake, days), features_of(changed, days)
    assert a.filter(past).equals(b.filter(past))
    assert not a.filter(~past).equals(b.filter(~past))


@pytest.mark.parametrize("hours_ago", [1, 60])
def test_a_window_of_the_longest_look_back_gives_the_same_features_to_the_bit(lake: Lake, hours_ago) -> None:
    days = 75
    lake.write("prices", bars(garch(days, 4)[0]).filter(pl.col("ts").dt.hour() != 5))  # with a hole every day
    at = START + timedelta(days=days, hours=-hours_ago)
    full = features_of(lake, days).filter(pl.col("ts") == at)
    tail = read_bars(lake, ASSETS, at - timedelta(hours=LOOKBACK_H), at + timedelta(hours=1))
    short = described(tail, rows=np.array([LOOKBACK_H]))
    assert full["dev_w24"].null_count() == 0
    assert short.equals(full)


def test_the_season_is_learnt_from_the_past(lake: Lake) -> None:
    lake.write("prices", bars(garch(60, 5, season=0.8)[0]))
    rows = features_of(lake, 60).filter((pl.col("key") == "AAA") & (pl.col("ts") > START + timedelta(days=45)))
    by_hour = rows.group_by("hour").agg(pl.col("ret_s1").mean()).sort("hour")
    wave = np.cos(2 * np.pi * np.arange(24) / 24)  # the hour after ts = h is the return stored at index h
    assert np.corrcoef(by_hour["ret_s1"].to_numpy(), wave)[0, 1] > 0.95


def test_holes_are_carried_six_hours_and_no_further(lake: Lake) -> None:
    rows = bars(noise(20, 6))
    hole = START + timedelta(days=10)
    missing = pl.col("ts").is_between(hole, hole + timedelta(hours=9)) & (pl.col("asset") == "AAA")
    lake.write("prices", rows.filter(~missing))
    grid = read_bars(lake, ASSETS, START, START + timedelta(days=20))
    first = 10 * 24 + 1
    close = grid.close[first : first + 10, 0]
    assert not grid.fresh[first : first + 10, 0].any()
    assert grid.fresh[first - 1, 0]
    assert np.isfinite(close).sum() == CARRY_H
    assert np.unique(close[:CARRY_H]).size == 1
    f = features_of(lake, 20).filter((pl.col("key") == "AAA") & (pl.col("ts") == hole + timedelta(hours=3)))
    assert f["ret_base"].is_not_null().all()


def test_a_hole_is_no_return(lake: Lake) -> None:
    """Neither hours that stand still nor one move of the whole hole: volatility over it is that of its neighbours."""
    rows = bars(noise(20, 6))
    hole = START + timedelta(days=10)
    missing = pl.col("ts").is_between(hole, hole + timedelta(hours=9)) & (pl.col("asset") == "AAA")
    jumped = pl.when((pl.col("ts") > hole) & (pl.col("asset") == "AAA")).then(3.0).otherwise(1.0)
    prices = ("open", "high", "low", "close")
    lake.write("prices", rows.filter(~missing).with_columns(pl.col(c) * jumped for c in prices))
    grid = read_bars(lake, ASSETS, START, START + timedelta(days=20))
    ret, _ = moves(grid, W)
    first = 10 * 24 + 1
    assert np.isnan(ret[first : first + 11, 0]).all()  # the tenth bar missing, and the first after them
    assert np.isfinite(ret[first + 11 :, 0]).all()
    assert np.nanmax(np.abs(ret[:, 0])) < 0.5
    before, after = (stress("x", grid, "AAA", np.array([r]))["x_rv24"][0] for r in (first - 1, first + 12))
    assert abs(after - before) < 1.0


def test_closes_alone_are_enough(lake: Lake) -> None:
    lake.write("prices", bars(noise(20, 7), ranges=False))
    last = features_of(lake, 20).filter(pl.col("ts") == START + timedelta(days=20, hours=-1))
    assert last["pk24"].null_count() == last.height
    assert last["volume_24"].null_count() == last.height
    assert last["dev_base"].null_count() == 0


def test_two_sources_count_once(lake: Lake) -> None:
    rows = bars(noise(5, 8, assets=("AAA",)))
    dearer = (pl.col(c) * 1.1 for c in ("open", "high", "low", "close"))
    lake.write("prices", pl.concat([rows, rows.with_columns(pl.lit("another").alias("source"), *dearer)]))
    grid = read_bars(lake, ["AAA"], START, START + timedelta(days=5))
    assert grid.close.shape == (5 * 24, 1)
    assert grid.close[1, 0] == pytest.approx(rows["close"][0] * 1.1)  # the first source by name
    assert assets_with_prices(lake) == ["AAA"]
