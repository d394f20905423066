"""From a snapshot to the State a policy decides on: the same record the backtest hands it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import sqrt

import numpy as np

from lake.errors import ConfigError
from lake.units import WEI_PER_GWEI
from policy.base import ChainFees, ForecastView, Market, Matrix, Scenario, State, Vector
from policy.execution.amm import PIPS, Pool
from policy.execution.base import Snapshot
from policy.execution.guards import Evidence
from policy.execution.planner import book_of
from policy.execution.segments import curve

ONE_PERCENT = sqrt(1.01) - 1


@dataclass(frozen=True, slots=True)
class Portfolio:
    """What is configured about the portfolio and not on the chain; vectors in the order of the vault's tokens."""

    assets: tuple[str, ...]
    tolerance: Vector
    gamma: float
    scenario: Scenario
    fees: ChainFees


@dataclass(frozen=True, slots=True)
class View:
    """What is known off the chain at the decision. ``covariance`` per hour, (n, n); ``native_usd`` per native coin.

    ``data_at``: time of the newest market data behind it; ``slippage_spread``: forecast q95 - median by pair of token
    positions, a fraction.
    """

    forecasts: ForecastView
    covariance: Matrix
    native_usd: float
    data_at: datetime | None
    last_trade: datetime | None = None
    evidence: Evidence = field(default_factory=Evidence)
    slippage_spread: Mapping[tuple[int, int], float] = field(default_factory=dict)
    usual_gwei: float | None = None  # mean gas price of the last week, what a rule without forecasts calls usual


def depth_usd(snapshot: Snapshot, pools: Sequence[Pool]) -> Vector:
    """Return per token the one-sided USD moving its pools by 1 %, x = R (sqrt(1.01) - 1); inf without pools."""
    book = book_of(snapshot)
    found = np.zeros(len(book.tokens))
    for i, token in enumerate(book.tokens):
        usd = book.prices_e8[i] / 1e8 / 10**token.decimals
        for pool in pools:
            if token.address in {pool.token0, pool.token1}:
                segments = curve(pool, token.address, 1.0)
                found[i] += segments[0].R * ONE_PERCENT * usd if segments else 0.0
    return np.where(found > 0, found, np.inf)


def fees(snapshot: Snapshot, pools: Sequence[Pool]) -> Vector:
    """Return per token the lowest fee among its pools, a fraction; 0 where it has none."""
    return np.array(
        [
            min((p.fee_pips for p in pools if t.address in {p.token0, p.token1}), default=0) / PIPS
            for t in snapshot.tokens
        ]
    )


def weights(snapshot: Snapshot) -> Vector:
    """Return the weights at oracle prices, (n,), summing to 1; zeros for an empty vault."""
    book = book_of(snapshot)
    values = np.array([float(book.value(i, h)) for i, h in enumerate(book.holdings)])
    total = values.sum()
    return values / total if total > 0 else values


def state_of(snapshot: Snapshot, portfolio: Portfolio, view: View, pools: Sequence[Pool], gas_price_wei: int) -> State:
    """Return the policy's State at the snapshot; ``gas_price_wei`` is what a transaction would pay now."""
    n = len(snapshot.tokens)
    if len(portfolio.assets) != n or portfolio.tolerance.shape != (n,) or view.covariance.shape != (n, n):
        raise ConfigError(
            f"the vault holds {n} tokens, the portfolio names {len(portfolio.assets)} and the covariance is "
            f"{view.covariance.shape}; list one asset per token, in the vault's order"
        )
    return State(
        ts=datetime.fromtimestamp(snapshot.block_time, UTC),
        assets=portfolio.assets,
        weights=weights(snapshot),
        target=np.array(snapshot.targets_bps, dtype=float) / 10_000,
        tolerance=portfolio.tolerance,
        nav_usd=book_of(snapshot).total() / 1e18,
        gamma=portfolio.gamma,
        scenario=portfolio.scenario,
        covariance=view.covariance,
        market=Market(
            gas_gwei=gas_price_wei / WEI_PER_GWEI,
            native_usd=view.native_usd,
            fees=portfolio.fees,
            fee=fees(snapshot, pools),
            depth_usd=depth_usd(snapshot, pools),
            usual_gwei=view.usual_gwei,
        ),
        last_trade=view.last_trade,
    )


def slippage_spread(forecasts: ForecastView, snapshot: Snapshot, pools: Sequence[Pool]) -> dict[tuple[int, int], float]:
    """Return, by pair of token positions, how far the forecast slippage may exceed its median: q95 - q50, a fraction.

    Forecast keys are ``<pool>|<size_usd>`` (models.base); the shortest horizon counts, and the widest of a pair's
    pools and sizes. Pairs without a forecast are absent; an abstaining forecast is none.
    """
    rows = [f for f in forecasts.values() if f.target == "slippage" and not f.abstain and f.quantiles is not None]
    shortest = min((f.horizon_s for f in rows), default=0)
    by_pool: dict[str, float] = {}
    for row in rows:
        if row.horizon_s == shortest and row.quantiles is not None:
            name = row.key.rsplit("|", 1)[0].lower()
            by_pool[name] = max(by_pool.get(name, 0.0), row.quantiles[4] - row.quantiles[2])
    place = {t.address: i for i, t in enumerate(snapshot.tokens)}
    found: dict[tuple[int, int], float] = {}
    for pool in pools:
        spread = by_pool.get(pool.address.lower())
        if spread is not None and pool.token0 in place and pool.token1 in place:
            i, j = place[pool.token0], place[pool.token1]
            for pair in ((i, j), (j, i)):
                found[pair] = max(found.get(pair, 0.0), spread)
    return found
