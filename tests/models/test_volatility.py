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
