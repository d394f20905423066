"""The simulated vault on recorded history: a paper portfolio that trades at the lake's prices, gas and depth.

Its pools hold each asset against a dollar token, deep enough that a one-sided move of 1 % takes the recorded depth; its
chain stands at the moment of the decision. State survives between runs in one file, written whole or not at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from lake.units import WEI_PER_GWEI
from lake.universe import chain as row_of
from pipelines.vault_settings import VaultSettings
from pipelines.wiring import mandate_of
from policy.base import Vector
from policy.execution.base import Capabilities, Token
from policy.execution.routing.amm import V2Pool
from policy.execution.vaults.simulated import adapter
from policy.execution.vaults.simulated.adapter import SimulatedVault
from policy.execution.vaults.simulated.chain import Genesis, SimChain
from policy.execution.vaults.simulated.port import VaultSpec
from policy.execution.vaults.simulated.world import SimWorld

DECIMALS = 8  # of the paper tokens: fine enough that rounding never shows in a weight
DOLLAR_DECIMALS = 6
ONE_PERCENT = np.sqrt(1.01) - 1  # share of a reserve that moves a constant-product price by 1 %
DEEP_USD = 1e12  # depth where no pool history says otherwise: no impact
GAS_MONEY_WEI = 10**21
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class MarketPoint:
    """Prices, depth and gas at one moment, in the order of the portfolio's assets."""

    at: datetime
    assets: tuple[str, ...]
    close: Vector
    depth_usd: Vector
    gas_gwei: float
    usual_gwei: float  # mean of the last week
    native_usd: float
    price_at: Mapping[str, datetime] = field(default_factory=dict)  # when a price was made; without: just now
    highest_gwei: float | None = None  # highest recorded


def address(name: str) -> str:
    """Return a stable made-up address for ``name``."""
    return "0x" + hashlib.sha256(f"foredrift paper {name}".encode()).hexdigest()[:40]


def open_vault(deployment: VaultSettings, market: MarketPoint) -> tuple[SimChain, SimulatedVault]:
    """Return the paper chain and vault standing at ``market``; a first call begins with the configured NAV."""
    path, fee = deployment.path(deployment.vault.state), own_wei(deployment, market)
    if path.exists():
        chain, spec = adapter.load(path)
        chain.mine()  # the market moves in a block of its own: what an earlier one held can still be looked up
    else:
        spec = _spec(deployment)
        genesis = Genesis(deployment.chain.id, int(market.at.timestamp()) - 12, base_fee_wei=fee)
        world = _world(deployment, market, spec)
        chain = SimChain(world, adapter.executor(spec), genesis, wei={spec.keeper: GAS_MONEY_WEI})
    head = chain.blocks[-1]
    time = max(int(market.at.timestamp()) - 12, head.head.time)
    moved = replace(
        head.world, prices=_prices(spec, market, head.world), pools=_pools(deployment, market),
        slack_bps=_corridor(deployment),
    )  # fmt: skip
    chain.blocks[-1] = replace(head, head=replace(head.head, time=time, base_fee_wei=fee), world=moved)
    chain.mine()
    return chain, SimulatedVault(spec, chain)


def capabilities(deployment: VaultSettings) -> Capabilities:
    """Return what the paper vault enforces: of its file where there is one, else as configured."""
    path = deployment.path(deployment.vault.state)
    return adapter.capabilities(adapter.load(path)[1] if path.exists() else _spec(deployment))


def close_vault(deployment: VaultSettings, chain: SimChain, vault: SimulatedVault) -> None:
    """Write the vault's state."""
    adapter.save(deployment.path(deployment.vault.state), chain, vault.spec)


def own_wei(deployment: VaultSettings, market: MarketPoint) -> int:
    """Return the base fee of the paper chain's blocks: a roll-up's execution has its row's, the market's is of data."""
    row = row_of(deployment.chain.id)
    gwei = market.gas_gwei if row.l2_gas_gwei is None else row.l2_gas_gwei
    return max(1, round(gwei * WEI_PER_GWEI))


def _spec(deployment: VaultSettings) -> VaultSpec:
    tokens = tuple(Token(a, address(a), DECIMALS, address(f"feed {a}")) for a in deployment.portfolio.assets)
    where = address(f"vault {deployment.portfolio.name}"), address("keeper")
    return VaultSpec(
        *where, tokens, mandate_of(deployment.mandate, len(deployment.portfolio.assets)), heartbeat_s=DAY_S
    )


def _world(deployment: VaultSettings, market: MarketPoint, spec: VaultSpec) -> SimWorld:
    targets = in_bps(list(deployment.portfolio.weights.values()))
    first = in_bps(list(deployment.start_weights.values()))
    nav = deployment.portfolio.nav_usd
    balances = {
        token.address: int(nav * bps / 10_000 / price * 10**DECIMALS)
        for token, bps, price in zip(spec.tokens, first, market.close, strict=True)
    }
    empty = SimWorld(balances, {}, {t.address: (1, 0, 0) for t in spec.tokens}, targets_bps=targets)
    return replace(empty, prices=_prices(spec, market, empty), pools=_pools(deployment, market))


def _corridor(deployment: VaultSettings) -> tuple[int, ...]:
    """Return how far each weight may lie from its target, basis points; nothing where the vault is decided on alone."""
    fleet = deployment.fleet
    if fleet is None or fleet.transfers.weights != "portfolio":
        return ()
    width = next((c.corridor for c in fleet.chains if c.id == deployment.chain.id), 1.0)
    return (round(10_000 * width),) * len(deployment.portfolio.assets)


def in_bps(weights: list[float]) -> tuple[int, ...]:
    """Return ``weights`` in basis points that sum to 10,000 exactly (the remainders go to the largest fractions)."""
    exact = np.array(weights) * 10_000
    whole = np.floor(exact).astype(int)
    short = 10_000 - int(whole.sum())
    for i in np.argsort(whole - exact, kind="stable")[:short]:
        whole[i] += 1
    return tuple(int(b) for b in whole)


def _prices(spec: VaultSpec, market: MarketPoint, world: SimWorld) -> dict[str, tuple[int, int, int]]:
    """Return the feeds' rounds: an answer is as old as the bar it comes from, and no new round without a new answer."""
    latest = int(market.at.timestamp()) - 12
    made = {a: min(int(t.timestamp()), latest) for a, t in market.price_at.items()}
    found = {}
    for token, price in zip(spec.tokens, market.close, strict=True):
        answer = round(price * 1e8), made.get(token.symbol, latest)
        before = world.prices[token.address]
        found[token.address] = (*answer, before[2] + (answer != before[:2]))
    return found


def _pools(deployment: VaultSettings, market: MarketPoint) -> dict[str, V2Pool]:
    """Return one pool an asset against the dollar token; a swap over two of them pays the configured fee once."""
    fee_pips = round(deployment.costs.fee_bps * 100 / 2)
    pools = {}
    for asset, price, depth in zip(market.assets, market.close, market.depth_usd, strict=True):
        reserve = (depth if np.isfinite(depth) else DEEP_USD) / ONE_PERCENT
        name = address(f"pool {asset}")
        pools[name] = V2Pool(
            name, address(asset), address("dollar"), int(reserve / price * 10**DECIMALS),
            int(reserve * 10**DOLLAR_DECIMALS), fee_pips, router=address("router"),
        )  # fmt: skip
    return pools
