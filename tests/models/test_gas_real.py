"""The gas forecaster on recorded history: better than every baseline, calibrated, worth waiting for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lake.store import Lake
from models.config import ModelConfig
from models.gas.family import GasFamily
from models.training.walkforward import train

HOURLY = 3600


def load(lake: Lake, folder, gas: pl.DataFrame) -> Lake:
    later = (pl.col("ts") + timedelta(hours=1)).alias("available_at")
    lake.write("gas", gas.with_columns(pl.lit(1, pl.Int64).alias("chain_id"), later))
    prices = pl.read_parquet(folder / "prices_1h.parquet").filter(pl.col("asset").is_in(["ETH", "BTC"]))
    lake.write(
        "prices", prices.with_columns(pl.lit("file").alias("source"), pl.lit(HOURLY, pl.Int64).alias("step"), later)
    )
    return lake


@pytest.mark.real
@pytest.mark.slow
def test_gas_beats_last_value_season_and_autoregression_on_recorded_history(lake, real_data):
    gas = pl.read_parquet(real_data / "gas_1h.parquet").select("ts", pl.col("gas_price_gwei").alias("base_fee_gwei"))
    load(lake, real_data, gas)
    cfg = ModelConfig(("BTC", "ETH"), rounds=60, warmup_days=14)
    span = (datetime(2022, 9, 15, tzinfo=UTC), datetime(2022, 10, 20, tzinfo=UTC))
    result = train(lake, cfg, [GasFamily()], *span, live=False)
    own = result.scores.filter((pl.col("model") == "lightgbm") & (pl.col("target") == "gas"))
    for hours, floor in ((1, 0.15), (4, 0.27), (12, 0.22), (24, 0.18)):
        row = own.filter(pl.col("horizon_s") == hours * HOURLY).row(0, named=True)
        assert min(row["skill_last"], row["skill_seasonal"]) > floor, hours
        assert row["skill_ar"] > 0, hours
        assert 0.85 < row["coverage90"] < 0.95, hours
    assert result.summary["families"]["gas"]["waiting"]["1"]["share"] > 0.6


@pytest.mark.real
@pytest.mark.slow
def test_it_holds_on_another_year_with_violent_spikes_and_two_months_of_history(lake, real_data):
    gas = (
        pl.read_parquet(real_data / "gas_5m.parquet")
        .group_by_dynamic("ts", every="1h")
        .agg(pl.col("avg_gas_price_gwei").mean().alias("base_fee_gwei"))
    )
    load(lake, real_data, gas)
    span = (datetime(2021, 12, 24, tzinfo=UTC), datetime(2022, 1, 26, tzinfo=UTC))
    result = train(lake, ModelConfig(("BTC", "ETH"), rounds=40), [GasFamily()], *span, live=False)
    own = result.scores.filter((pl.col("model") == "lightgbm") & (pl.col("target") == "gas"))
    best = own.filter(pl.col("horizon_s") <= 24 * HOURLY).select(
        pl.min_horizontal("skill_last", "skill_seasonal").min()
    )
    assert best.item() > 0.03
    assert result.summary["families"]["gas"]["waiting"]["1"]["share"] > 0.55
