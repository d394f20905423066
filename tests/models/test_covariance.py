from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from features.bars import read_bars
from features.volatility import moves
from lake.store import Lake
from models.drift.covariance import (
    PAIR_STEP_H,
    fit_correlation,
    pair_features,
    pair_key,
)
from tests.models.drift_market import START, bars, noise

SIGMA = np.array([[4.0, 2.0, 1.5], [2.0, 6.0, 2.5], [1.5, 2.5, 9.0]]) * 1e-5


def test_pairs_are_past_products_and_future_labels(lake: Lake) -> None:
    r = noise(50, 9)
    lake.write("prices", bars(r))
    weights = {"AAA": 0.5, "BBB": 0.3, "CCC": 0.2}
    grid = read_bars(lake, list(r), START, START + timedelta(days=50))
    every = np.arange(len(grid.close))
    own, found = pair_features(moves(grid, weights)[0], list(r), grid, every, 24)
    rows = found.frame()
    assert set(rows["key"]) == {pair_key(a, b) for a in r for b in r if a != b}
    hour = 1100 // PAIR_STEP_H * PAIR_STEP_H  # the return of bar i is known at START + (i + 1) h
    row = rows.filter((pl.col("key") == "AAA|CCC") & (pl.col("ts") == START + timedelta(hours=hour)))
    product = r["AAA"] * r["CCC"]
    assert row["c24"].item() == pytest.approx(product[hour - 24 : hour].mean(), abs=1e-12)
    assert row["y"].item() == pytest.approx(product[hour : hour + 24].mean(), abs=1e-12)
    assert own["c24"][hour, 1] == pytest.approx((r["BBB"][hour - 24 : hour] ** 2).mean(), abs=1e-12)
    assert own["y"][hour, 1] == pytest.approx((r["BBB"][hour : hour + 24] ** 2).mean(), abs=1e-12)
    assert np.isnan(own["y"][-24:]).all()
    assert abs(row["rho672"].item()) < 0.15
    between = rows.filter((pl.col("key") == "AAA|CCC") & (pl.col("ts").dt.hour() % PAIR_STEP_H != 0))
    assert between.is_empty()


def test_the_correlation_mixture_finds_what_predicts_and_rests_on_the_slow_one() -> None:
    rng = np.random.default_rng(3)
    rho = np.clip(rng.normal(0.6, 0.2, (4000, 3)), -1, 1)
    fast = fit_correlation(rho, rho[:, 0] + 0.3 * rng.standard_normal(4000))
    assert fast.weights[0] > 0.7
    assert np.abs(fast.weights[1:]).max() < 0.3
    none = fit_correlation(rho[:0], rho[:0, 0])
    assert np.allclose(none.forecast(rho), np.clip(rho[:, 1], -0.999, 0.999))
    assert np.isnan(none.forecast(np.full((1, 3), np.nan))).all()
