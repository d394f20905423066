"""A market with five-minute bars and hourly gas, and two days of five-minute gas before it: small and seeded."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from lake.store import Lake
from policy.simulation.history import History, load
from tests.policy.conftest import START, end, fill, frames, history, market_lake

__all__ = ["end", "history", "market_lake"]  # fixtures of the market that the hourly tests use

DAYS = 12
END = START + timedelta(days=DAYS)


def fine_bars(assets: tuple[str, ...], hours: pl.DataFrame, seed: int = 5) -> pl.DataFrame:
    """Return five-minute bars whose last close of each hour is the hourly bar's."""
    rng = np.random.default_rng(seed)
    span = hours.filter(pl.col("ts").is_between(START - timedelta(hours=1), END))
    out = []
    for asset in assets:
        close = span.filter(pl.col("asset") == asset).sort("ts")["close"].to_numpy()
        line = np.interp(np.arange(12 * (close.size - 1) + 1) / 12.0, np.arange(close.size), np.log(close))
        noise = 0.002 * rng.standard_normal(line.size)
        noise[::12] = 0.0
        path = np.exp(line + noise)
        ts = pl.datetime_range(
            START, START + timedelta(minutes=5 * (path.size - 2)), "5m", time_unit="us", time_zone="UTC", eager=True
        )
        out.append(pl.DataFrame({"source": "s", "asset": asset, "step": 300, "ts": ts, "close": path[1:]}))
    bars = pl.concat(out)
    return bars.with_columns(
        open=pl.col("close"), high=pl.col("close") * 1.001, low=pl.col("close") * 0.999,
        available_at=pl.col("ts") + timedelta(minutes=5),
    )  # fmt: skip


def gas_rows(start, values, step: timedelta) -> pl.DataFrame:
    """Return rows of table gas, one a ``step`` from ``start``."""
    ts = pl.datetime_range(
        start, start + step * (len(values) - 1), step, time_unit="us", time_zone="UTC", eager=True
    )  # fmt: skip
    return pl.DataFrame({"chain_id": 1, "ts": ts, "base_fee_gwei": values, "available_at": ts + step})


@pytest.fixture(scope="session")
def fine_lake(tmp_path_factory) -> Lake:
    made = frames()
    fine = fine_bars(("AAA", "BBB", "ETH"), made["prices"])
    lake = fill(tmp_path_factory.mktemp("fine"), {**made, "prices": pl.concat([made["prices"], fine], how="diagonal")})
    rng = np.random.default_rng(9)
    shape = 20.0 * np.exp(0.2 * rng.standard_normal(2 * 288)) * np.tile(np.r_[1.3, np.full(11, 0.97)], 48)
    lake.write("gas", _whole(gas_rows(START - timedelta(days=60), shape, timedelta(minutes=5))))
    return lake


def _whole(rows: pl.DataFrame) -> pl.DataFrame:
    from lake.tables import table

    return rows.select(
        pl.col(n).cast(t) if n in rows.columns else pl.lit(None, dtype=t).alias(n)
        for n, t in table("gas").columns.items()
    )


@pytest.fixture(scope="session")
def fine_history(fine_lake) -> History:
    return load(fine_lake, START, END, ("AAA", "BBB", "ETH"))
