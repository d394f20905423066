"""Tuning sees one fold's past only, ends in time, and never replaces defaults that are better; in every family."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from lake.store import Lake
from models.boosting import tuning
from models.boosting.tuning import Search, tune_quantiles, tune_scale
from models.config import ModelConfig
from models.drift.family import DriftFamily
from models.evaluation.labels import label_columns
from models.evaluation.splits import folds, prediction_rows, training_rows
from models.forecast_schema import QUANTILES
from models.gas.family import GasFamily
from models.slippage.family import SlippageFamily
from tests.laws.test_forecaster import pool_rows
from tests.models.market import START, fill

FAMILIES = {"gas": GasFamily, "drift": DriftFamily, "slippage": SlippageFamily}
CFG = ModelConfig(("ETH", "BTC"), rounds=10, trade_sizes_usd=(10_000.0,))
SPAN = START + timedelta(days=40), START + timedelta(days=44)
FOLD = folds(CFG, *SPAN, START)[-1]


def rows(n=1200, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 6))
    return x, np.sign(x[:, 0]) * np.abs(x[:, 1]) + 0.1 * rng.standard_normal(n), np.arange(n)


LONG_S = 600.0  # ends by its number of trials


def search(seconds=LONG_S, gap_h=48):
    return Search("test", seconds, 7, gap_h)


def test_with_few_rows_the_defaults_stay():
    x, y, hour = rows(n=tuning.LEAST_ROWS - 1)
    assert tune_quantiles(x, y, hour, QUANTILES, 5, search()) == {}
    names = tuple("abcdef")
    assert tune_scale(names, x, np.exp(y), np.zeros(len(y)), hour, 5, search()) == {}


@pytest.mark.slow
def test_the_search_says_what_it_found_and_names_parameters_of_the_boosters(caplog, monkeypatch):
    pytest.importorskip("optuna")
    monkeypatch.setattr(tuning, "_TRIALS", 3)
    x, y, hour = rows()
    caplog.set_level(logging.INFO, "models.boosting.tuning")
    for tune in (
        lambda: tune_quantiles(x, y, hour, (0.25, 0.5, 0.75), 10, search()),
        lambda: tune_scale(tuple("abcdef"), x, np.exp(y), np.zeros(len(y)), hour, 10, search()),
    ):
        found = tune()
        assert set(found) <= {"num_leaves", "min_data_in_leaf", "feature_fraction", "lambda_l2", "learning_rate"}
        assert "tuned test: loss" in caplog.messages[-1]


@pytest.mark.slow
def test_worse_parameters_never_replace_the_defaults(monkeypatch):
    pytest.importorskip("optuna")
    monkeypatch.setattr(tuning, "_TRIALS", 5)
    assert search(LONG_S).best(lambda params: 1.0 if params else 0.5, (20, 200)) == {}
    assert search(LONG_S).best(lambda params: 0.5 if params else 1.0, (20, 200)) != {}


@pytest.mark.parametrize("gap_h", [1, 100])
def test_rows_whose_outcomes_overlap_with_the_judged_ones_are_not_learnt_from(gap_h):
    _, y, hour = rows()
    y[700:] = np.nan
    past, ahead = search(gap_h=gap_h).split(np.isfinite(y), hour)
    assert hour[past].max() + gap_h < hour[ahead].min()
    assert hour[past].max() + gap_h + 2 >= hour[ahead].min()
    assert len(ahead) == pytest.approx(700 * tuning.HELD_OUT, abs=1)
    assert np.isfinite(y[past]).all()
    assert np.isfinite(y[ahead]).all()


@pytest.fixture(scope="module")
def markets(tmp_path_factory):
    """The same market twice, but for what became known after the fold began."""
    lake = fill(Lake(str(tmp_path_factory.mktemp("one"))), 44)
    lake.write("pool_state", pool_rows(44))
    other = Lake(str(tmp_path_factory.mktemp("other")))
    late = pl.col("available_at") > FOLD.start
    for name, columns in {
        "gas": ["base_fee_gwei"],
        "prices": ["high", "low", "close", "volume"],
        "pool_state": ["depth_1pct_usd", "volume_usd"],
    }.items():
        rows = lake.scan(name).collect()
        noise = pl.Series(np.random.default_rng(5).uniform(0.5, 1.5, rows.height))
        spoilt = [pl.when(late).then(pl.col(c) * noise).otherwise(c).alias(c) for c in columns]
        other.write(name, rows.with_columns(spoilt))
    return lake, other


@pytest.fixture(params=list(FAMILIES))
def family(request):
    return FAMILIES[request.param]()


@pytest.mark.slow
def test_tuning_in_a_fold_sees_nothing_after_its_start(family, markets, monkeypatch):
    pytest.importorskip("optuna")
    monkeypatch.setattr(tuning, "_TRIALS", 3)  # the same trials each time, whatever the load
    panels = [family.build(lake, CFG, START, SPAN[1]) for lake in markets]
    later = [prediction_rows(p, FOLD).select(label_columns(p)) for p in panels]
    assert not later[0].equals(later[1]), "nothing differs after the fold's start: the test would prove nothing"
    tuned = replace(CFG, tune_seconds=600.0)
    one, other = (family.fit(training_rows(p, FOLD), tuned).predict(prediction_rows(panels[0], FOLD)) for p in panels)
    assert one.height
    assert one.equals(other)


@pytest.mark.slow
def test_a_project_that_tunes_gets_other_boosters_from_the_same_fold(family, markets, monkeypatch):
    pytest.importorskip("optuna")
    monkeypatch.setattr(tuning, "_TRIALS", 8)
    known = training_rows(family.build(markets[0], CFG, START, SPAN[1]), FOLD)
    gains = [family.fit(known, cfg).importances() for cfg in (CFG, replace(CFG, tune_seconds=600.0))]
    plain, tuned = (g.sort("target", "horizon_s", "feature") for g in gains)
    names = ["target", "horizon_s", "feature"]
    assert plain.select(names).equals(tuned.select(names))
    assert not plain["gain"].equals(tuned["gain"])


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 1e-6, 0.05])
def test_the_search_ends_with_its_time_box(seconds):
    """However short the box, the default is what stays unless a trial that ended in it was better."""
    pytest.importorskip("optuna")
    asked = []
    assert search(seconds).best(lambda params: asked.append(params) or (0.5 if not params else 1.0), (20, 200)) == {}
    assert asked[-1] == {}
    assert len(asked) <= tuning._TRIALS + 1
