"""Volatility forecasts: the past alone, skill where variance reverts, none where it is a random walk."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from lake.errors import ConfigError, DataError, NotEnoughData
from models.volatility.har import past_means, realised_variance, skill, target_of, walk
from pipelines.stages.volatility import implied, read_index

SPAN = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))


def reverting(days=900, pull=0.15, seed=0):
    rng = np.random.default_rng(seed)
    level = np.zeros(days)
    for t in range(1, days):
        level[t] = (1 - pull) * level[t - 1] + 0.2 * rng.standard_normal()
    return 0.4 * np.exp(level)


def test_reverting_variance_is_forecast_and_a_random_walk_is_not():
    good = skill(reverting(), "implied", 7)
    assert good.used
    assert good.skill > 0.1
    assert good.low < good.skill < good.high
    steps = np.random.default_rng(3).standard_normal(900)
    walked = skill(0.4 * np.exp(0.05 * np.cumsum(steps)), "implied", 1)
    assert not walked.used
    assert walked.baseline == "mean of 1 d"


@pytest.mark.parametrize("target", ["realised", "implied"])
def test_forecasts_know_the_past_only(target):
    variance, cut = reverting(), 500
    changed = variance.copy()
    changed[cut:] *= 7
    a, b = (walk(v, target, 7)[0] for v in (variance, changed))
    assert np.array_equal(a[:cut], b[:cut], equal_nan=True)
    assert np.isfinite(a[cut - 1])


def test_targets_and_means_are_what_they_say():
    variance = np.arange(1.0, 11.0)
    assert past_means(variance, 3)[2:].tolist() == np.arange(2.0, 10.0).tolist()
    assert np.isnan(past_means(variance, 3)[:2]).all()
    assert target_of(variance, "implied", 2)[0] == pytest.approx(0.5 * np.log(3.0))
    assert target_of(variance, "realised", 2)[0] == pytest.approx(0.5 * np.log(2.5))
    assert np.isnan(target_of(variance, "realised", 2)[-2:]).all()


def test_realised_variance_is_a_year_s():
    close = 100 * np.exp(np.cumsum(0.01 * np.random.default_rng(0).standard_normal(24 * 400 + 1)))
    assert realised_variance(close).mean() == pytest.approx(1e-4 * 8760, rel=0.05)
    assert realised_variance(close).size == 400


def hourly_walk(days, seed=0):
    """Hourly closes whose daily volatility reverts, from midnight to midnight."""
    each = np.sqrt(reverting(days, seed=seed) / 8760).repeat(24)
    moves = each * np.random.default_rng(seed + 1).standard_normal(24 * days)
    return 100 * np.exp(np.concatenate([[0.0], np.cumsum(moves)]))


def holed(close, kind):
    """``close`` with a hole: no bars, or one value for longer than a day, at its beginning, middle or end."""
    out, (what, where) = close.copy(), kind.split()
    hole = {"start": slice(0, 80), "middle": slice(24 * 300 + 5, 24 * 304), "end": slice(-60, None)}[where]
    out[hole] = {"missing": np.nan, "flat": out[hole][0], "zero": 0.0, "negative": -1.0}[what]
    return out


@pytest.mark.parametrize("kind", [f"{w} {p}" for w in ("missing", "flat", "zero", "negative")
                                  for p in ("start", "middle", "end")])  # fmt: skip
@pytest.mark.parametrize("ahead", [1, 7])
def test_a_hole_is_unknown_never_calm_and_the_rest_is_scored(kind, ahead):
    close = hourly_walk(500)
    whole, broken = realised_variance(close), realised_variance(holed(close, kind))
    lost = np.isnan(broken)
    assert 1 <= lost.sum() <= 5
    assert (broken[~lost] > 0.0).all()
    untouched = broken == whole
    assert untouched.sum() >= whole.size - 6  # at most the days at the hole's edges differ
    a, b = skill(whole, "realised", ahead), skill(broken, "realised", ahead)
    assert np.isfinite([b.skill, b.low, b.high]).all()
    assert b.skill == pytest.approx(a.skill, abs=0.1)
    assert b.days >= a.days - 8 - 2 * ahead  # the hole, and what a week's mean misses after it


def test_forecasts_around_a_hole_know_the_past_only():
    variance, cut = reverting(), 500
    variance[[40, 41, 350, 499, 620]] = np.nan
    changed = variance.copy()
    changed[cut:] *= 7
    a, b = (walk(v, "realised", 7)[0] for v in (variance, changed))
    assert np.array_equal(a[:cut], b[:cut], equal_nan=True)
    assert np.isfinite(a[cut:]).any()


def test_a_series_with_too_few_known_days_is_refused_in_words():
    thin = reverting()
    thin[np.arange(thin.size) % 3 != 0] = np.nan  # a third is left: no mean of a week has half of its days
    with pytest.raises(NotEnoughData, match="0 days to score"):
        skill(thin, "realised", 7)
    with pytest.raises(NotEnoughData, match="0 days to score"):
        skill(np.full(900, np.nan), "realised", 1)


@pytest.mark.parametrize("target", ["realised", "implied"])
def test_a_volatility_that_never_changes_leaves_nothing_to_forecast(target):
    with pytest.raises(NotEnoughData, match="nothing to forecast"):
        skill(np.full(400, 0.36), target, 1)


def test_one_change_in_a_constant_series_divides_by_no_zero():
    variance = np.full(600, 0.36)
    variance[400] = 0.5
    found = skill(variance, "implied", 1)
    assert np.isfinite([found.skill, found.low, found.high]).all()
    assert not found.used


def test_the_lake_s_hours_are_unknown_where_no_bar_came_and_the_verb_says_how_many(tmp_path):
    from pipelines.settings import load
    from pipelines.stages.volatility import hourly, volatility
    from pipelines.wiring import lake_of

    close = hourly_walk(320)[1:]
    ts = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=h) for h in range(close.size)]
    frame = pl.DataFrame({"source": "mine", "asset": "ETH", "step": 3600, "ts": ts, "close": close})
    hole = pl.col("ts").is_between(datetime(2024, 5, 1, 7, tzinfo=UTC), datetime(2024, 5, 4, 9, tzinfo=UTC))
    late = pl.duration(hours=1, minutes=5)  # a source that is five minutes late is not one with holes
    (tmp_path / "foredrift.toml").write_text("")
    settings = load(tmp_path / "foredrift.toml")
    lake = lake_of(settings)
    lake.write("prices", frame.filter(~hole).with_columns(available_at=pl.col("ts") + late))
    closes = hourly(lake, "ETH", SPAN)
    assert np.isnan(closes).sum() == 75
    found = volatility(settings, "ETH", None, None, None)
    assert any(n.startswith("realised: 4 of 319 days of ETH left out") for n in found["notes"]), found["notes"]
    assert [s["ahead_d"] for s in found["skills"]] == [1, 7]
    assert all(np.isfinite(s["skill"]) for s in found["skills"])


def test_too_short_a_history_is_no_score():
    with pytest.raises(NotEnoughData, match="days to score a 30-day forecast"):
        skill(reverting(200), "implied", 30)


def test_index_files_are_checked(tmp_path):
    path = tmp_path / "index.parquet"
    ts = [datetime(2023, 1, 1, tzinfo=UTC) + timedelta(days=d) for d in range(5)]
    good = pl.DataFrame({"ts": ts, "asset": ["BTC"] * 5, "close": [60.0, 61, 62, 61, 60]})
    good.write_parquet(path)
    assert implied(read_index(path), str(path), "BTC", SPAN)[0] == pytest.approx(0.36)
    with pytest.raises(NotEnoughData, match="no rows of ETH"):
        implied(read_index(path), str(path), "ETH", SPAN)
    for frame, said in (
        (good.with_columns(close=pl.col("close") / 100), "vol points"),
        (good.with_columns(close=pl.lit(None, pl.Float64)), "vol points"),
        (good.filter(pl.col("close") != 62), "not one day"),
        (good.drop("close"), "columns close are missing"),
        (good.with_columns(pl.col("ts").dt.replace_time_zone(None)), "aware UTC"),
    ):
        frame.write_parquet(path)
        with pytest.raises(DataError, match=said):
            implied(read_index(path), str(path), "BTC", SPAN)
    with pytest.raises(ConfigError, match="no such file"):
        read_index(tmp_path / "none")
