from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from models.base import TargetSpec
from models.evaluation.point_baselines import forecast_rows
from models.evaluation.scores import as_json, losses, pinball, reliability, score_table, weekly_bootstrap
from models.forecast_schema import QUANTILE_COLUMNS, QUANTILES

T0 = datetime(2022, 1, 3, tzinfo=UTC)
SPEC = (TargetSpec("gas", (3600,), space="log"),)


def series(n: int, scale: float = 1.0, seed: int = 0):
    """Forecasts N(0, scale) in log of outcomes N(0, 1)."""
    ts = pl.datetime_range(T0, T0 + timedelta(hours=n - 1), "1h", time_unit="us", time_zone="UTC", eager=True)
    panel = pl.DataFrame({"key": ["1"] * n, "ts": ts})
    q = np.exp(np.tile(scale * norm.ppf(QUANTILES), (n, 1)))
    rows = forecast_rows(panel, "gas", 3600, q, np.ones(n), "v")
    y = np.exp(np.random.default_rng(seed).standard_normal(n))
    outcomes = rows.select("target", "key", "issued_at", "horizon_s", pl.Series("y", y))
    return rows, outcomes


def test_pinball_of_the_true_normal_is_its_closed_form():
    # E pinball at the true quantile of N(0,1) is the density there (Gneiting 2011); the mean over levels follows.
    y = np.random.default_rng(1).standard_normal(400_000)
    q = np.tile(norm.ppf(QUANTILES), (len(y), 1))
    assert pinball(y, q).mean() == pytest.approx(np.mean(norm.pdf(norm.ppf(QUANTILES))), rel=5e-3)


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_pinball_is_zero_only_at_the_outcome(y, q):
    loss = pinball(np.array([y]), np.full((1, 5), q))[0]
    assert loss >= 0
    assert (loss == 0) == (y == q)


def test_losses_in_log_space_do_not_depend_on_the_unit():
    rows, outcomes = series(200)
    scaled = rows.with_columns(pl.col(*QUANTILE_COLUMNS, "mean") * 1e9)
    a = losses(rows, outcomes, SPEC)["loss"].to_numpy()
    b = losses(scaled, outcomes.with_columns(pl.col("y") * 1e9), SPEC)["loss"].to_numpy()
    np.testing.assert_allclose(a, b, rtol=1e-9)


def test_the_true_distribution_beats_wrong_widths_and_covers_ninety_percent():
    rows, outcomes = series(24 * 7 * 20)
    wide, _ = series(24 * 7 * 20, scale=2.0)
    table = score_table(rows, outcomes, SPEC, {"wide": wide})
    own = table.filter(pl.col("model") == "lightgbm").row(0, named=True)
    other = table.filter(pl.col("model") == "wide").row(0, named=True)
    assert own["skill_wide"] == pytest.approx(1 - own["pinball"] / other["pinball"])
    assert 0 < own["ci_low_wide"] < own["skill_wide"] < own["ci_high_wide"]
    assert own["coverage90"] == pytest.approx(0.9, abs=0.015)
    assert own["coverage90_low"] <= own["coverage90"] <= own["coverage90_high"]
    assert other["coverage90"] > 0.98


def test_skill_is_paired_on_common_rows():
    rows, outcomes = series(600)
    worse = rows.head(300).with_columns(pl.col(*QUANTILE_COLUMNS) * 10)
    table = score_table(rows, outcomes, SPEC, {"b": worse})
    a = losses(rows.head(300), outcomes, SPEC)["loss"].sum()
    b = losses(worse, outcomes, SPEC)["loss"].sum()
    assert table.filter(pl.col("model") == "lightgbm")["skill_b"][0] == pytest.approx(1 - a / b)


def test_bootstrap_of_equal_losses_is_exactly_zero_and_of_one_week_a_point():
    x = np.random.default_rng(0).random(500)
    assert weekly_bootstrap(x, x, np.arange(500) // 50) == (0.0, 0.0)
    low, high = weekly_bootstrap(x, 2 * x, np.zeros(500, dtype=np.int64))
    assert low == pytest.approx(0.5) == high


def test_abstaining_rows_and_unknown_outcomes_are_not_scored():
    rows, outcomes = series(100)
    silent = rows.with_columns(abstain=pl.col("issued_at") < T0 + timedelta(hours=40))
    unknown = outcomes.with_columns(y=pl.when(pl.col("issued_at") < T0 + timedelta(hours=90)).then(pl.col("y")))
    assert losses(silent, unknown, SPEC).height == 50


def test_mean_only_targets_are_scored_by_squared_error():
    rows, outcomes = series(50)
    spec = (TargetSpec("gas", (3600,), score="brier"),)
    found = losses(rows, outcomes, spec)
    np.testing.assert_allclose(found["loss"], (found["y"] - 1.0) ** 2)
    assert found["inside"].null_count() == 50


def test_reliability_of_the_true_distribution_is_the_diagonal():
    rows, outcomes = series(20_000)
    table = reliability(rows, outcomes, SPEC)
    np.testing.assert_allclose(table["observed"], table["level"], atol=0.01)


def test_json_is_nested_and_has_no_nan():
    import json

    rows, outcomes = series(400)
    records = as_json(score_table(rows, outcomes, SPEC, {"last": rows}))
    text = json.loads(json.dumps(records, allow_nan=False))
    own = next(r for r in text if r["model"] == "lightgbm")
    assert own["skill_vs"] == {"last": 0.0}
    assert own["ci"] == {"last": [0.0, 0.0]}
    assert {"target", "key", "horizon_s", "model", "pinball", "skill_vs", "coverage90"} <= set(own)
