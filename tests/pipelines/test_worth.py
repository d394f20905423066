"""What forecasts are worth to the policy: paired, nothing against itself, None where the policy does not read them."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from lake.sources.sample import simulate
from lake.store import Lake
from models.base import GAS_HORIZONS_H
from models.forecast_schema import QUANTILE_COLUMNS
from pipelines.deployments import deployment
from pipelines.monitor.forecast_value import Overlay, cost_ratio
from pipelines.settings import load
from tests.models.market import START

SPAN = (START + timedelta(days=30), START + timedelta(days=65))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    mandate = 'assets = ["ETH", "BTC"]\nnav_usd = 100_000\nscenario = "hard"\ntolerance = 0.02\n'
    (root / "foredrift.toml").write_text(f"[portfolio]\n{mandate}[compare]\nbootstrap = 200\n")
    lake = Lake(str(root / "lake.data"))
    for name, frame in simulate(start=START, hours=24 * 70, seed=3).items():
        if name in ("prices", "gas"):
            lake.write(name, frame)
    return load(root / "foredrift.toml"), lake


def forecasts(lake, noise=0.0):
    """Gas forecasts that know the future up to ``noise`` (log gwei)."""
    gas = (
        lake.scan("gas")
        .filter(pl.col("chain_id") == 1)
        .select("available_at", "base_fee_gwei")
        .sort("available_at")
        .collect()
    )
    value = np.log(gas["base_fee_gwei"].to_numpy())
    rng = np.random.default_rng(0)
    parts = []
    for h in GAS_HORIZONS_H:
        ahead = np.roll(value, -h) + noise * rng.standard_normal(len(value))
        parts.append(
            pl.DataFrame({"issued_at": gas["available_at"], "mean": np.exp(ahead)})
            .with_columns(pl.col("mean").alias(c) for c in QUANTILE_COLUMNS)
            .with_columns(target=pl.lit("gas"), key=pl.lit("1"), horizon_s=pl.lit(h * 3600, pl.Int64))
        )
    rows = pl.concat(parts).with_columns(abstain=pl.lit(value=False), model_version=pl.lit("x"))
    return rows.filter(pl.col("issued_at").is_between(*SPAN, closed="left"))


@pytest.mark.slow
def test_the_same_forecasts_cost_the_same_and_swapping_inverts_the_ratio(project):
    settings, lake = project
    truth, noise = forecasts(lake), forecasts(lake, noise=3.0)
    same = cost_ratio(deployment(settings), lake, SPAN, truth, truth)
    assert (same.value, same.low, same.high) == (1.0, 1.0, 1.0)
    forth, back = (
        cost_ratio(deployment(settings), lake, SPAN, truth, noise),
        cost_ratio(deployment(settings), lake, SPAN, noise, truth),
    )
    assert forth.value * back.value == pytest.approx(1.0)
    assert forth.low <= forth.value <= forth.high
    assert forth.weeks >= 5


def test_a_policy_that_reads_no_gas_pays_the_same_whatever_is_forecast(project):
    settings, lake = project
    truth = forecasts(lake)
    other = truth.with_columns(target=pl.lit("drift"))
    assert cost_ratio(deployment(settings), lake, SPAN, other, other) is None
    reactive = settings.model_copy(update={"policy": settings.policy.model_copy(update={"kind": "gas_band"})})
    assert cost_ratio(reactive, lake, SPAN, truth, truth) is None


def test_an_overlay_shows_its_forecasts_as_of_their_issue_and_everything_else_as_it_is(project):
    _, lake = project
    rows = forecasts(lake)
    over = Overlay(lake.root, lake.options, rows)
    at = SPAN[0] + timedelta(days=3)
    assert over.scan("forecasts", as_of=at).collect()["issued_at"].max() <= at
    assert over.scan("forecasts").collect().height == rows.height
    assert over.scan("gas").collect().equals(lake.scan("gas").collect())
