from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm

from models.base import GAS_HORIZONS_H
from models.evaluation.point_baselines import forecast_rows
from models.forecast_schema import QUANTILE_COLUMNS, QUANTILES
from models.gas.paths import PATH_HOURS, hourly_margins, join_by_ranks, scenario_paths
from tests.models.market import START, gas_rows

K = 32


@pytest.fixture(scope="module")
def world():
    """AR(1) log gas and its exact predictive quantiles."""
    gas = gas_rows(90, season=0.0)
    panel = gas.select(
        pl.lit("1").alias("key"),
        pl.col("available_at").alias("ts"),
        pl.col("base_fee_gwei").alias("b|now_gwei"),
        pl.lit(0.0).alias("b|season_now"),
    )
    x = np.log(panel["b|now_gwei"].to_numpy() / 20)
    parts = []
    for h in GAS_HORIZONS_H:
        sd = 0.1 * np.sqrt((1 - 0.85 ** (2 * h)) / (1 - 0.85**2))
        q = 20 * np.exp(0.85**h * x[:, None] + sd * norm.ppf(QUANTILES)[None])
        parts.append(forecast_rows(panel, "gas", h * 3600, q, q[:, 2], "v"))
    return panel, pl.concat(parts)


def test_margins_are_exactly_the_quantiles(world):
    panel, rows = world
    at = START + timedelta(days=80)
    near = pl.col("issued_at").is_between(at - timedelta(days=14), at)
    paths = scenario_paths(rows.filter(near), panel, 399)  # quantiles at (r + 1/2)/399
    values = np.array(paths.filter(pl.col("issued_at") == at)["values"].to_list())
    here = rows.filter(pl.col("issued_at") == at)
    for h in GAS_HORIZONS_H:
        q = here.filter(pl.col("horizon_s") == h * 3600).select(QUANTILE_COLUMNS).to_numpy()[0]
        np.testing.assert_allclose(np.quantile(values[:, h - 1], QUANTILES), q, rtol=0.01)


def test_paths_keep_the_persistence_of_real_errors(world):
    panel, rows = world
    late = rows.filter(pl.col("issued_at") > START + timedelta(days=60))
    paths = scenario_paths(rows, panel, K).filter(pl.col("issued_at").is_in(late["issued_at"].implode()))
    values = np.log(np.array(paths["values"].to_list())).reshape(-1, K, PATH_HOURS)
    gap = values - values.mean(axis=1, keepdims=True)

    def corr(a: int, b: int) -> float:
        return float(np.mean([np.corrcoef(g[:, a], g[:, b])[0, 1] for g in gap]))

    assert corr(10, 11) == pytest.approx(0.85, abs=0.12)  # AR(1): correlation 0.85 at lag 1 hour
    assert corr(10, 20) == pytest.approx(0.85**10, abs=0.2)


def test_a_path_uses_no_error_that_was_not_complete(world):
    panel, rows = world
    at = START + timedelta(days=80)
    future = panel.with_columns(
        pl.when(pl.col("ts") > at).then(pl.col("b|now_gwei") * 9).otherwise(pl.col("b|now_gwei")).alias("b|now_gwei")
    )
    a = scenario_paths(rows, panel, K).filter(pl.col("issued_at") <= at)
    b = scenario_paths(rows, future, K).filter(pl.col("issued_at") <= at)
    assert a.equals(b)


def test_before_any_errors_are_known_paths_are_comonotone(world):
    panel, rows = world
    first = scenario_paths(rows, panel, K).filter(pl.col("issued_at") == panel["ts"][0])
    values = np.array(first["values"].to_list())
    assert (np.diff(values, axis=0) > 0).all()


def test_one_row_a_path_of_48_positive_hours(world):
    panel, rows = world
    paths = scenario_paths(rows.filter(pl.col("issued_at") < START + timedelta(days=5)), panel, K)
    assert paths.group_by("issued_at").len()["len"].unique().to_list() == [K]
    assert paths["values"].list.len().unique().to_list() == [PATH_HOURS]
    assert paths["values"].list.min().min() > 0


def test_hourly_margins_pass_through_the_horizons_and_follow_the_season():
    horizons = [1, 4, 12, 24, 48]
    rng = np.random.default_rng(0)
    q = np.sort(rng.normal(size=(3, 5, 5)), axis=2)
    now = rng.normal(size=3)
    season = rng.normal(size=(3, 48))
    hourly = hourly_margins(q, horizons, now, season)
    for i, h in enumerate(horizons):
        np.testing.assert_allclose(hourly[:, h - 1], q[:, i])
    flat = np.repeat((now[:, None] + season[:, [h - 1 for h in horizons]])[:, :, None], 5, axis=2)
    np.testing.assert_allclose(hourly_margins(flat, horizons, now, season)[:, :, 2], now[:, None] + season)


def test_ranks_only_permute_the_margin():
    margins = np.sort(np.random.default_rng(1).normal(size=(2, 48, 5)), axis=2)
    rng = np.random.default_rng(2)
    ranks = np.stack([np.stack([rng.permutation(8) for _ in range(48)], axis=1) for _ in range(2)])
    same = np.broadcast_to(np.arange(8)[None, :, None], (2, 8, 48))
    np.testing.assert_allclose(np.sort(join_by_ranks(margins, ranks), axis=1), join_by_ranks(margins, same))
