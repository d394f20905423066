from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from features.volatility import (
    CARRY_H,
    LOOKBACK_H,
    add_moves,
    assets_with_prices,
    feature_names,
    hourly_bars,
    volatility_features,
)
from lake.store import Lake
from tests.models.drift_market import ASSETS, START, bars, garch, noise

W = {"AAA": 0.5, "BBB": 0.3, "CCC": 0.2}


def features_of(lake: Lake, days: int, assets=ASSETS, weights=None) -> pl.DataFrame:
    moves = add_moves(hourly_bars(lake, assets, START, START + timedelta(days=days)), weights or W)
    return volatility_features(moves)


def test_the_deviation_is_the_log_change_of_the_weight(lake: Lake) -> None:
    r, _ = garch(3, 1)
    lake.write("prices", bars(r))
    moves = add_moves(hourly_bars(lake, ASSETS, START, START + timedelta(days=3)), W)
    at = moves.filter(pl.col("ts") == START + timedelta(hours=40)).sort("asset")
    growth = np.exp([r[a][39] for a in ASSETS])
    w = np.array([W[a] for a in ASSETS])
    after = w * growth / (w * growth).sum()
    assert np.allclose(at["dev"].to_numpy(), np.log(after / w), atol=1e-12)


def test_levels_equal_a_plain_recursion(lake: Lake) -> None:
    r, _ = garch(20, 2)
    lake.write("prices", bars(r))
    got = features_of(lake, 20).filter(pl.col("key") == "BBB")
    weights = 0.5 ** (np.arange(300)[::-1] / 24.0)
    squares = r["BBB"][1:301] ** 2  # the first bar has no return
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


def test_a_short_history_gives_nearly_the_same_features(lake: Lake) -> None:
    days = 75
    lake.write("prices", bars(garch(days, 4)[0]))
    end = START + timedelta(days=days)
    full = features_of(lake, days).filter(pl.col("ts") == end - timedelta(hours=1)).sort("key")
    tail = add_moves(hourly_bars(lake, ASSETS, end - timedelta(hours=LOOKBACK_H), end), W)
    short = volatility_features(tail).filter(pl.col("ts") == end - timedelta(hours=1)).sort("key")
    for name in feature_names():
        gap = np.abs(full[name].to_numpy() - short[name].to_numpy()).max()
        assert gap < 0.02, name


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
    grid = hourly_bars(lake, ASSETS, START, START + timedelta(days=20)).filter(pl.col("asset") == "AAA")
    inside = grid.filter(pl.col("ts").is_between(hole + timedelta(hours=1), hole + timedelta(hours=10)))
    assert inside.height == 10
    assert not inside["fresh"].any()
    assert inside["close"].is_not_null().sum() == CARRY_H
    assert inside["close"][:CARRY_H].n_unique() == 1
    f = features_of(lake, 20).filter((pl.col("key") == "AAA") & (pl.col("ts") == hole + timedelta(hours=3)))
    assert f["ret_base"].is_not_null().all()


def test_closes_alone_are_enough(lake: Lake) -> None:
    lake.write("prices", bars(noise(20, 7), ranges=False))
    last = features_of(lake, 20).filter(pl.col("ts") == START + timedelta(days=20, hours=-1))
    assert last["pk24"].null_count() == last.height
    assert last["volume_24"].null_count() == last.height
    assert last["dev_base"].null_count() == 0


def test_two_sources_count_once(lake: Lake) -> None:
    rows = bars(noise(5, 8, assets=("AAA",)))
    lake.write("prices", pl.concat([rows, rows.with_columns(pl.lit("another").alias("source"), pl.col("close") * 1.0)]))
    grid = hourly_bars(lake, ["AAA"], START, START + timedelta(days=5))
    assert grid.height == 5 * 24
    assert assets_with_prices(lake) == ["AAA"]
