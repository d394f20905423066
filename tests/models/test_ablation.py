from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from lake.errors import NotEnoughData
from lake.store import Lake
from models.config import ModelConfig
from models.training.ablation import ablation, compare, signal_kinds
from tests.models.drift_market import ASSETS, START, bars, noise

CFG = ModelConfig(ASSETS, rounds=25, refit_every_days=60)


def daily(values: np.ndarray, name: str) -> pl.DataFrame:
    ts = pl.Series([START + timedelta(days=i) for i in range(len(values))]).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame({"name": name, "key": "market", "ts": ts, "value": values}).with_columns(
        pl.col("ts").alias("available_at")
    )


@pytest.mark.slow
def test_a_signal_that_tells_tomorrows_volatility_helps_and_noise_does_not(lake: Lake) -> None:
    """Volatility is drawn anew every day and announced by one signal; the other is noise."""
    days, rng = 150, np.random.default_rng(8)
    level = np.exp(0.8 * rng.standard_normal(days))
    returns = {a: r * np.repeat(level, 24) for a, r in noise(days, 41).items()}
    lake.write("prices", bars(returns))
    lake.write("signals", pl.concat([daily(level, "told"), daily(rng.standard_normal(days), "made_up")]))
    found = ablation(lake, CFG, START + timedelta(days=100), START + timedelta(days=145))
    table = found.signals
    assert set(table["signals"]) == {"told", "made_up", "all"}
    here = table.filter(pl.col("target") == "return")
    told = here.filter((pl.col("signals") == "told") & (pl.col("horizon_s") == 4 * 3600))
    assert told["verdict"].item() == "helps"
    assert told["skill"].item() > 0.005
    idle = here.filter((pl.col("signals") == "made_up") & (pl.col("horizon_s") == 4 * 3600))
    assert idle["skill"].item() < told["skill"].item() / 3
    shares = found.exits.group_by("horizon_h").agg(pl.col("y").mean()).sort("horizon_h")
    assert shares["horizon_h"].to_list() == [1, 4, 12, 24]
    assert shares["y"].is_between(0.02, 0.3).all()  # often enough to be measured
    assert found.exits["tolerance"].is_between(0.0005, 0.1).all()


def test_without_signals_or_history_nothing_is_compared(lake: Lake) -> None:
    with pytest.raises(NotEnoughData, match="no prices"):
        ablation(lake, CFG, START, START + timedelta(days=30))
    lake.write("prices", bars(noise(30, 42)))
    with pytest.raises(NotEnoughData, match="days of history"):
        ablation(lake, CFG, START + timedelta(days=5), START + timedelta(days=9))
    found = ablation(lake, CFG, START + timedelta(days=25), START + timedelta(days=30))
    assert found.signals.is_empty()
    assert not found.exits.is_empty()


def test_columns_are_grouped_by_signal() -> None:
    columns = [
        f"sig_{n}{s}" for n in ("fear_greed_market", "funding_BTC", "funding_ETH") for s in ("", "_size", "_week")
    ]
    kinds = signal_kinds(pl.DataFrame(schema=dict.fromkeys(columns, pl.Float64)))
    assert {k: len(v) for k, v in kinds.items()} == {"fear_greed": 3, "funding": 6}


def test_the_interval_is_of_paired_weeks() -> None:
    n = 24 * 70
    ts = pl.datetime_range(START, START + timedelta(hours=n - 1), "1h", eager=True, time_unit="us")
    rng = np.random.default_rng(1)
    base = 1.0 + rng.random(n)

    def frame(loss: np.ndarray) -> pl.DataFrame:
        return pl.DataFrame({"target": "drift", "key": "A", "horizon_s": 3600, "issued_at": ts, "loss": loss})

    table = compare({"none": frame(base), "all": frame(base * 0.98)})
    assert table["skill"].item() == pytest.approx(0.02)
    assert table["ci_low"].item() == pytest.approx(0.02)
    assert table["verdict"].item() == "helps"
