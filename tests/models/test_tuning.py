"""Tuning sees one fold's past only, ends in time, and never replaces defaults that are better."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from lake.store import Lake
from models import tuning
from models.base import QUANTILES
from models.config import ModelConfig
from models.gas import GasFamily
from models.labels import hide_unknown
from tests.models.market import START, fill


def rows(n=1200, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 6))
    return x, np.sign(x[:, 0]) * np.abs(x[:, 1]) + 0.1 * rng.standard_normal(n), np.arange(n)


def test_with_few_rows_the_defaults_stay():
    x, y, hour = rows(n=tuning.LEAST_ROWS - 1)
    assert tuning.tune(x, y, hour, QUANTILES, 5, 7, 5.0) == {}


@pytest.mark.slow
def test_the_search_ends_in_its_time_box_and_names_parameters_of_the_boosters():
    pytest.importorskip("optuna")
    x, y, hour = rows()
    began = time.monotonic()
    found = tuning.tune(x, y, hour, (0.25, 0.5, 0.75), 10, 7, 1.0)
    assert time.monotonic() - began < 20
    assert set(found) <= {"num_leaves", "min_data_in_leaf", "feature_fraction", "lambda_l2", "learning_rate"}


@pytest.mark.slow
def test_worse_parameters_never_replace_the_defaults(monkeypatch):
    pytest.importorskip("optuna")
    x, y, hour = rows()
    fit = tuning.fit_quantiles

    def hampered(x, y, levels, rounds, seed, params=None):
        return fit(x, y, levels, 1 if params else rounds, seed)

    monkeypatch.setattr(tuning, "fit_quantiles", hampered)
    assert tuning.tune(x, y, hour, (0.25, 0.5, 0.75), 20, 7, 1.0) == {}


@pytest.mark.slow
def test_rows_whose_outcomes_overlap_with_the_judged_ones_are_not_learnt_from(monkeypatch):
    pytest.importorskip("optuna")
    x, y, hour = rows()
    seen = []
    fit = tuning.fit_quantiles

    def spying(x, y, *args, **more):
        seen.append(len(x))
        return fit(x, y, *args, **more)

    monkeypatch.setattr(tuning, "fit_quantiles", spying)
    tuning.tune(x, y, hour, (0.5,), 3, 7, 0.2, gap_h=100)
    assert max(seen) <= len(x) * (1 - tuning.HELD_OUT) - 100 + 1


@pytest.mark.slow
def test_a_project_that_tunes_gets_other_boosters_from_the_same_fold(tmp_path):
    pytest.importorskip("optuna")
    lake = fill(Lake(str(tmp_path)), 40)
    cfg = ModelConfig(("ETH", "BTC"), rounds=10)
    end = START + timedelta(days=38)
    known = hide_unknown(GasFamily().build(lake, cfg, START, end), end)
    plain = GasFamily().fit(known, cfg).predict(known.tail(20))
    tuned = GasFamily().fit(known, replace(cfg, tune_seconds=2.0)).predict(known.tail(20))
    assert tuned.height == plain.height
    assert not tuned["q50"].equals(plain["q50"])
