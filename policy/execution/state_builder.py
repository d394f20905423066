"""From a snapshot to the State a policy decides on: the same record the backtest hands it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from lake import depth
from lake.errors import ConfigError
from lake.poolstate import pair_state
from lake.units import WEI_PER_GWEI
from policy.base import Bools, CashFlows, ChainFees, ForecastView, Market, Matrix, Scenario, State, Vector
from policy.costs import gas_share
from policy.execution.base import Snapshot, Verdict
from policy.execution.checks.guards import OracleEvidence
from policy.execution.checks.inputs import Input
from policy.execution.planner import book_of
from policy.execution.routing.amm import PIPS, Pool, V2Pool
from policy.execution.routing.yields import VENUE


@dataclass(frozen=True, slots=True)
class RiskTerms:
    """What is configured about the portfolio and not on the chain; vectors in the order of the vault's tokens.

    ``net_requests``: gas of a trade, fraction of NAV, from which it waits for holders' money that is on its way and
    will do it; 0 always, None never.
    """

    assets: tuple[str, ...]
    tolerance: Vector
    gamma: float
    scenario: Scenario
    fees: ChainFees
    net_requests: float | None = 0.0


@dataclass(frozen=True, slots=True)
class OffchainView:
    """What is known off the chain at the decision. ``covariance`` per hour, (n, n); ``native_usd`` per native coin.

    ``data_at``: time of the oldest market data behind it; ``inputs``: every series behind it with its own time;
    ``slippage_spread``: forecast q95 - median by pair of token positions, a fraction. ``shut``: assets without a market
    now, with the reason; ``doubts``: what is wrong with the data, each stops the decision.
    """

    forecasts: ForecastView
    covariance: Matrix
    native_usd: float
    data_at: datetime | None
    last_trade: datetime | None = None
    evidence: OracleEvidence = field(default_factory=OracleEvidence)
    slippage_spread: Mapping[tuple[int, int], float] = field(default_factory=dict)
    usual_gwei: float | None = None  # mean gas price of the last week, what a rule without forecasts calls usual
    inputs: tuple[Input, ...] = ()
    shut: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[Verdict, ...] = ()
    highest_gwei: float | None = None  # highest gas price recorded; None: no record
    settlement_gwei: float | None = None  # gas price of the chain that a roll-up's data are settled on


def pool_depth_usd(snapshot: Snapshot, pool: Pool) -> float:
    """Return the USD before fee that move ``pool`` by 1 % (``lake.depth``); 0 where it cannot be moved both ways.

    The pool is quoted in the one of its tokens the vault lists first, at that token's oracle price: its accounting
    asset where the pool has it.
    """
    prices = {q.token: q.price_e8 for q in snapshot.quotes}
    ends = (pool.token0, pool.token1)
    priced = [t for t in snapshot.tokens if t.address in ends and prices.get(t.address, 0) > 0]
    if not priced:
        return 0.0
    state = pair_state(pool.reserve0, pool.reserve1) if isinstance(pool, V2Pool) else pool
    usd = prices[priced[0].address] / 1e8
    return depth.depth_usd(state, ends.index(priced[0].address), priced[0].decimals, usd)


def usable(snapshot: Snapshot, pools: Sequence[Pool]) -> dict[str, float]:
    """Return the depth, USD, of every pool that has one, by address; empty and gapped pools are left out."""
    depths = {pool.address: pool_depth_usd(snapshot, pool) for pool in pools}
    return {address: usd for address, usd in depths.items() if usd > 0}


def _own(token: str, pools: Sequence[Pool]) -> list[Pool]:
    """Return the pools of a token; the vault that makes shares of it counts only where it has no other."""
    found = [p for p in pools if token in {p.token0, p.token1}]
    return [p for p in found if p.venue != VENUE] or found


def depth_usd(snapshot: Snapshot, pools: Sequence[Pool]) -> Vector:
    """Return per token the USD before fee that move all its usable pools by 1 %; 0 where it has none."""
    deep = usable(snapshot, pools)
    held = (_own(t.address, pools) for t in snapshot.tokens)
    return np.array([sum(deep.get(p.address, 0.0) for p in own) for own in held], dtype=np.float64)


def fees(snapshot: Snapshot, pools: Sequence[Pool]) -> Vector:
    """Return per token the lowest fee among its usable pools, a fraction; nan where it has none."""
    deep = usable(snapshot, pools)
    held = (_own(t.address, [p for p in pools if p.address in deep]) for t in snapshot.tokens)
    return np.array([min((p.fee_pips / PIPS for p in own), default=np.nan) for own in held])


def _market_of(snapshot: Snapshot, pools: Sequence[Pool]) -> tuple[Vector, Vector]:
    """Return fee and depth by token for a policy; a token that cannot be traded gets the most expensive of the others'.

    It is never traded (see ``policy.execution.probes.sick``): the figures only keep the policy's arithmetic finite.
    """
    fee, deep = fees(snapshot, pools), depth_usd(snapshot, pools)
    good = deep > 0
    if not good.any():
        return np.zeros_like(deep), np.full_like(deep, np.inf)  # nothing can be traded, and nothing will be
    return np.where(good, fee, fee[good].max()), np.where(good, deep, deep[good].min())


def weights(snapshot: Snapshot) -> Vector:
    """Return the weights at oracle prices, (n,), summing to 1; zeros for an empty vault."""
    book = book_of(snapshot)
    values = np.array([float(book.value(i, h)) for i, h in enumerate(book.holdings)])
    total = values.sum()
    return values / total if total > 0 else values


def state_of(
    snapshot: Snapshot, portfolio: RiskTerms, view: OffchainView, pools: Sequence[Pool], gas_price_wei: int
) -> State:
    """Return the policy's State at the snapshot; ``gas_price_wei`` is what a transaction would pay now."""
    n = len(snapshot.tokens)
    if len(portfolio.assets) != n or portfolio.tolerance.shape != (n,) or view.covariance.shape != (n, n):
        raise ConfigError(
            f"the vault holds {n} tokens, the portfolio names {len(portfolio.assets)} and the covariance is "
            f"{view.covariance.shape}; list one asset per token, in the vault's order"
        )
    fee, deep = _market_of(snapshot, pools)
    chain_fees, gas_gwei = _gas_of(portfolio.fees, view, gas_price_wei / WEI_PER_GWEI)
    nav_usd = book_of(snapshot).total() / 1e18
    market = Market(
        gas_gwei=gas_gwei,
        native_usd=view.native_usd,
        fees=chain_fees,
        fee=fee,
        depth_usd=deep,
        usual_gwei=view.usual_gwei,
        tradable=_tradable(snapshot, portfolio, view, pools),
    )
    least = portfolio.net_requests
    net = least is not None and gas_share(market, nav_usd) >= least
    return State(
        ts=datetime.fromtimestamp(snapshot.block_time, UTC),
        assets=portfolio.assets,
        weights=weights(snapshot),
        target=np.array(snapshot.targets_bps, dtype=float) / 10_000,
        tolerance=portfolio.tolerance,
        nav_usd=nav_usd,
        gamma=portfolio.gamma,
        scenario=portfolio.scenario,
        covariance=view.covariance,
        market=market,
        last_trade=view.last_trade,
        max_turnover=snapshot.max_turnover_bps / 10_000,
        flows=_flows(snapshot, net=net),
    )


def _gas_of(fees: ChainFees, view: OffchainView, own_gwei: float) -> tuple[ChainFees, float]:
    """Return the fee schedule and the settlement chain's gas price: on a roll-up its own price is that of execution."""
    if fees.l2_gas_gwei is None:
        return fees, own_gwei
    if view.settlement_gwei is None:
        raise ConfigError(
            f"chain {fees.chain_id} is a roll-up: what it pays for its data follows the gas price of the chain it "
            "settles on, and none is known; set [chain] history_id to that chain and collect its gas"
        )
    return replace(fees, l2_gas_gwei=own_gwei), view.settlement_gwei


def _flows(snapshot: Snapshot, *, net: bool) -> CashFlows | None:
    """Return the holders' money on its way as fractions of NAV; None where none is."""
    given = snapshot.flows
    if given is None or not snapshot.nav or not (given.coming or given.leaving or given.reserve):
        return None
    nav = snapshot.nav
    return CashFlows(given.coming / nav, given.leaving / nav, given.reserve / nav, net)


def _tradable(snapshot: Snapshot, portfolio: RiskTerms, view: OffchainView, pools: Sequence[Pool]) -> Bools:
    """Return (n,) which assets have a market: a recent bar, and a usable pool where any asset has one.

    Without any pool the plan is refused for want of a route, and says so.
    """
    known = np.array([a not in view.shut for a in portfolio.assets])
    reached = depth_usd(snapshot, pools) > 0
    return known & reached if reached.any() else known


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
