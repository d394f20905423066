"""Tuning sees one fold's past only, ends in time, and never replaces defaults that are better."""

from __future__ import annotations

import time

import numpy as np
import pytest

from models import tuning
from models.base import QUANTILES


def rows(n=1200, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 6))
    return x, np.sign(x[:, 0]) * np.abs(x[:, 1]) + 0.1 * rng.standard_normal(n)


def test_with_few_rows_the_defaults_stay():
    x, y = rows(n=tuning.LEAST_ROWS - 1)
    assert tuning.tune(x, y, QUANTILES, 5, 7, 5.0) == {}


@pytest.mark.slow
def test_the_search_ends_in_its_time_box_and_names_parameters_of_the_boosters():
    pytest.importorskip("optuna")
    x, y = rows()
    began = time.monotonic()
    found = tuning.tune(x, y, (0.25, 0.5, 0.75), 10, 7, 1.0)
    assert time.monotonic() - began < 20
    assert set(found) <= {"num_leaves", "min_data_in_leaf", "feature_fraction", "lambda_l2", "learning_rate"}


@pytest.mark.slow
def test_worse_parameters_never_replace_the_defaults(monkeypatch):
    pytest.importorskip("optuna")
    x, y = rows()
    fit = tuning.fit_quantiles

    def hampered(x, y, levels, rounds, seed, params=None):
        return fit(x, y, levels, 1 if params else rounds, seed)

    monkeypatch.setattr(tuning, "fit_quantiles", hampered)
    assert tuning.tune(x, y, (0.25, 0.5, 0.75), 20, 7, 1.0) == {}
