"""A small synthetic market: correlated prices, gas with memory, one pool."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lake.store import Lake
from lake.units import utc
from policy.costs import chain_fees
from policy.simulation.history import History, load
from policy.simulation.planner import Portfolio

START, HOURS, WARMUP = utc("2023-03-01"), 24 * 70, 24 * 40
ASSETS = ("AAA", "BBB", "CCC", "DDD", "ETH")


def frames(seed: int = 3, hours: int = HOURS, sigma: float = 0.012) -> dict[str, pl.DataFrame]:
    """Return prices, gas and pool_state of a seeded market over ``hours`` hours before and after START."""
    rng = np.random.default_rng(seed)
    begin = START - timedelta(hours=WARMUP)
    ts = pl.datetime_range(begin, begin + timedelta(hours=hours - 1), "1h", time_unit="us", time_zone="UTC", eager=True)
    market = rng.standard_normal(hours)[:, None]
    moves = (
        sigma * (0.7 * market + 0.7 * rng.standard_normal((hours, len(ASSETS)))) * np.linspace(0.7, 1.3, len(ASSETS))
    )
    close = 100.0 * np.exp(np.cumsum(moves, axis=0))
    prices = pl.concat(
        [
            pl.DataFrame({"source": "s", "asset": a, "step": 3600, "ts": ts, "close": close[:, i]})
            for i, a in enumerate(ASSETS)
        ]
    ).with_columns(
        open=pl.col("close"), high=pl.col("close"), low=pl.col("close"), available_at=pl.col("ts") + timedelta(hours=1)
    )
    level, gas = 0.0, np.empty(hours)
    for t in range(hours):
        level = 0.9 * level + 0.25 * rng.standard_normal()
        gas[t] = 25.0 * np.exp(level + 0.3 * np.sin(2 * np.pi * t / 24))
    known = ts + timedelta(hours=1)
    gas_rows = pl.DataFrame({"chain_id": 1, "ts": ts, "base_fee_gwei": gas, "available_at": known})
    pool = pl.DataFrame(
        {
            "chain_id": 1,
            "pool": "0xpool",
            "ts": ts,
            "price": close[:, -1],
            "available_at": known,
            "depth_1pct_usd": 4e6 * np.exp(0.2 * rng.standard_normal(hours)),
        }
    )
    return {"prices": prices, "gas": gas_rows, "pool_state": pool}


def fill(folder: Path, tables: dict[str, pl.DataFrame]) -> Lake:
    """Write ``tables`` to a new lake in ``folder``."""
    lake = Lake(str(folder))
    for name, rows in tables.items():
        lake.write(name, rows)
    return lake


@pytest.fixture(scope="session")
def market_lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return fill(tmp_path_factory.mktemp("market"), frames())


@pytest.fixture(scope="session")
def end():
    return START + timedelta(hours=HOURS - WARMUP)


@pytest.fixture(scope="session")
def history(market_lake: Lake, end) -> History:
    return load(market_lake, START, end)


def basket(
    n: int = 4, scenario: str = "soft", nav: float = 1e6, tolerance: float = 0.03, end=None, **changes
) -> Portfolio:
    """Return a portfolio of the first n synthetic assets with unequal targets."""
    target = np.arange(2.0, 2.0 + n)
    values = {
        "portfolio_id": "p",
        "scenario": scenario,
        "assets": ASSETS[:n],
        "target": target / target.sum(),
        "tolerance": np.full(n, tolerance),
        "nav_usd": nav,
        "gamma": 3.0,
        "fees": chain_fees(1),
        "start": START,
        "end": end or START + timedelta(hours=HOURS - WARMUP),
    }
    return Portfolio(**{**values, **changes})


def tracking_usd(gamma, nav_usd, deviation, returns):
    """The soft mandate's penalty of one step, ``gamma/2 (x . r)^2 W``; its yearly sum is gamma/2 te^2."""
    return 0.5 * gamma * float(deviation @ returns) ** 2 * nav_usd
