import numpy as np
import polars as pl
import pytest
from scipy.stats import norm

from models.base import TargetSpec
from models.evaluation.calibrate import MIN_SCORES, Corrections, calibrate, calibrate_rows
from models.evaluation.scores import pinball
from models.forecast_rows import ForecastArrays
from models.forecast_schema import QUANTILE_COLUMNS, QUANTILES
from tests.models.test_scores import series

LEVELS = np.array(QUANTILES)


def raw(n: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return np.tile(shift + scale * norm.ppf(LEVELS), (n, 1))


def hours(n: int) -> np.ndarray:
    return 3600 * np.arange(n, dtype=np.int64)


@pytest.mark.parametrize(("scale", "shift"), [(0.5, 0.0), (2.0, 0.0), (1.0, 0.7), (0.3, -1.0)])
def test_wrong_widths_and_biases_are_repaired(scale, shift):
    n = 4000
    y = np.random.default_rng(3).standard_normal(n)
    fixed = calibrate(hours(n), 3600, raw(n, scale, shift), y)[500:]
    observed = (y[500:, None] <= fixed).mean(axis=0)
    np.testing.assert_allclose(observed, LEVELS, atol=0.025)
    assert pinball(y[500:], fixed).mean() < pinball(y[500:], raw(n - 500)).mean() * 1.03


def test_right_quantiles_are_left_nearly_alone():
    n = 4000
    y = np.random.default_rng(4).standard_normal(n)
    fixed = calibrate(hours(n), 3600, raw(n), y)
    assert pinball(y, fixed).mean() < pinball(y, raw(n)).mean() * 1.015


def test_coverage_holds_when_the_spread_jumps():
    n = 6000
    scale = np.where(np.arange(n) < 3000, 1.0, 3.0)
    y = scale * np.random.default_rng(5).standard_normal(n)
    fixed = calibrate(hours(n), 3600, raw(n), y)
    late = slice(3400, n)
    inside = ((y >= fixed[:, 0]) & (y <= fixed[:, -1]))[late].mean()
    plain = ((y >= raw(n)[:, 0]) & (y <= raw(n)[:, -1]))[late].mean()
    assert plain < 0.5
    assert 0.86 < inside < 0.94


@pytest.mark.parametrize("horizon_h", [1, 5, 24])
def test_nothing_at_or_before_a_moment_depends_on_outcomes_known_later(horizon_h):
    n, cut = 600, 400
    rng = np.random.default_rng(6)
    y = rng.standard_normal(n)
    other = y.copy()
    other[cut - horizon_h + 1 :] = 100.0  # outcome of row j is known at j + horizon
    a = calibrate(hours(n), 3600 * horizon_h, raw(n), y)
    b = calibrate(hours(n), 3600 * horizon_h, raw(n), other)
    np.testing.assert_array_equal(a[: cut + 1], b[: cut + 1])
    assert not np.array_equal(a[cut + 1], b[cut + 1])


def test_before_enough_outcomes_the_raw_quantiles_stand():
    y = np.full(MIN_SCORES + 10, 5.0)
    fixed = calibrate(hours(len(y)), 3600, raw(len(y)), y)
    np.testing.assert_allclose(fixed[:MIN_SCORES], raw(MIN_SCORES))
    assert fixed[-1, -1] > raw(1)[0, -1]


def test_missing_outcomes_are_skipped_and_quantiles_never_cross():
    n = 2000
    rng = np.random.default_rng(7)
    y = rng.standard_t(2, n)
    y[rng.random(n) < 0.3] = np.nan
    fixed = calibrate(hours(n), 3600, raw(n)[:, ::-1].copy(), y)
    assert np.isfinite(fixed).all()
    assert (np.diff(fixed, axis=1) >= 0).all()


def test_rows_are_calibrated_in_their_space_and_the_last_corrections_reproduce_the_last_row():
    spec = (TargetSpec("gas", (3600,), space="log"),)
    rows, outcomes = series(1500, scale=0.5)
    fixed, corrections = calibrate_rows(rows, outcomes, spec)
    fixed = fixed.sort("issued_at")
    again = corrections.apply(ForecastArrays.of(rows.sort("issued_at").tail(1)), spec).frame()
    np.testing.assert_allclose(again.select(QUANTILE_COLUMNS), fixed.tail(1).select(QUANTILE_COLUMNS), rtol=1e-9)
    joined = fixed.join(outcomes, on=["target", "key", "issued_at", "horizon_s"]).tail(1000)
    inside = joined.select(pl.col("y").is_between("q05", "q95").mean()).item()
    assert 0.87 < inside < 0.93


def test_mean_only_targets_and_abstentions_pass_unchanged():
    rows, outcomes = series(300, scale=0.5)
    silent = rows.with_columns(abstain=pl.lit(True), reason=pl.lit("stale"))
    spec = (TargetSpec("gas", (3600,), space="log"),)
    fixed, corrections = calibrate_rows(silent, outcomes, spec)
    assert fixed.equals(silent)
    assert not corrections.offsets
    brier = (TargetSpec("gas", (3600,), score="brier"),)
    assert calibrate_rows(rows, outcomes, brier)[0].equals(rows)


def test_without_corrections_live_rows_stay_as_they_are():
    rows, _ = series(5)
    spec = (TargetSpec("gas", (3600,), space="log"),)
    assert Corrections({}).apply(ForecastArrays.of(rows), spec).frame().equals(rows)
