"""Drift and slippage on recorded history: one fold of three quarters' training, two months ahead."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from lake.store import Lake
from lake.units import utc
from models.base import Family
from models.config import ModelConfig
from models.drift.family import DriftFamily
from models.evaluation.labels import hide_unknown
from models.evaluation.scores import losses
from models.slippage.family import SlippageFamily

pytestmark = [pytest.mark.real, pytest.mark.slow]

ASSETS = ("BTC", "ETH", "LINK", "UNI", "AAVE")
CFG = ModelConfig(ASSETS, tolerance=dict.fromkeys(ASSETS, 0.005), rounds=60)
TRAINED, END = utc("2022-10-01"), utc("2022-12-01")


def judged(family: Family, lake: Lake, start: str) -> dict[tuple[str, str, int], float]:
    """Skill of the raw model by (baseline, target, hours), summed over keys."""
    panel = family.build(lake, CFG, utc(start), END)
    past = hide_unknown(panel.filter(pl.col("ts") < TRAINED), TRAINED)
    ahead = panel.filter(pl.col("ts") >= TRAINED)
    outcomes = family.outcomes(ahead, CFG)
    groups = ["target", "horizon_s"]

    def total(rows: pl.DataFrame) -> pl.DataFrame:
        return losses(rows, outcomes, family.targets).group_by(groups).agg(pl.col("loss").sum()).sort(groups)

    own, found = total(family.fit(past, CFG).predict(ahead)), {}
    for name, baseline in family.baselines(CFG).items():
        joined = own.join(total(baseline.fit(past).predict(ahead)), on=groups, suffix="_base")
        for target, horizon_s, loss, base in joined.iter_rows():
            found[name, target, horizon_s // 3600] = 1.0 - loss / base
    return found


def test_moves_are_forecast_better_than_by_decaying_volatility(lake: Lake, real_data: Path) -> None:
    prices = pl.read_parquet(real_data / "prices_1h.parquet").filter(
        pl.col("asset").is_in(ASSETS) & pl.col("ts").is_between(utc("2021-10-01"), END + timedelta(days=2))
    )
    step = timedelta(hours=1)
    lake.write(
        "prices",
        prices.with_columns(
            pl.lit("recorded").alias("source"),
            pl.lit(3600, pl.Int64).alias("step"),
            (pl.col("ts") + step).alias("available_at"),
        ),
    )
    found = judged(DriftFamily(), lake, "2021-10-01")
    for base in ("ar", "ewma94", "ewma_empirical"):
        assert found[base, "return", 1] > 0.005, base
        assert found[base, "drift", 1] > 0.005, base
        assert found[base, "drift", 4] > 0.0, base
    assert found["last", "drift", 24] > 0.0
    assert found["ar", "band_exit", 4] > 0.0
    assert found["ar", "covariance", 24] > 0.0


def test_slippage_is_forecast_better_than_by_the_quote(lake: Lake, real_data: Path) -> None:
    step = timedelta(hours=1)
    pool = pl.read_parquet(real_data / "pool_1h.parquet").filter(pl.col("ts") < END + timedelta(days=2))
    lake.write(
        "pool_state",
        pool.select(
            pl.lit(1, pl.Int64).alias("chain_id"),
            "pool",
            "ts",
            pl.col("price_usdc_per_weth").alias("price"),
            pl.lit(3000, pl.Int64).alias("fee_pips"),
            "depth_1pct_usd",
            "volume_usd",
            (pl.col("ts") + step).alias("available_at"),
        ),
    )
    found = judged(SlippageFamily(), lake, "2021-07-01")
    assert found["last", "slippage", 1] > 0.0
    for hours in (4, 12, 24):
        assert found["last", "slippage", hours] > 0.05
        assert found["ar", "slippage", hours] > 0.0
