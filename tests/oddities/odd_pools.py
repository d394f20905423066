"""Pools without a market: none, empty, begun away from the price, on one side only; beside good ones and alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from policy.execution.context import EngineContext
from policy.execution.routing.pool_reader import describe_pools, read_pools
from policy.localnet.market import Localnet
from policy.localnet.world import sqrt_price_x96
from tests.oddities import kit
from tests.oddities.odd import APART, TRADED, Odd, Set, market

SPACING, FEE_PIPS = 10, 500
ONE_SIDE_USD = 10_000_000
Made = Callable[[Localnet], tuple[str, str, str]]
"""Makes a pool; returns its address, venue and router."""


def v3(low: int | None = None, high: int | None = None) -> Made:
    """A v3 pool of the sick token and USDC with liquidity from ``low`` to ``high`` ticks off the price, or none."""

    def make(net: Localnet) -> tuple[str, str, str]:
        on, where = net.deployer, net.world.contracts
        usd = {kit.SICK: Fraction(kit.PRICES[kit.SICK]), "USDC": Fraction(1)}
        sides = sorted(usd, key=lambda a: int(net.world.token(a).address, 16))
        token0, token1 = (net.world.token(a) for a in sides)
        price0, price1 = (usd[a] for a in sides)
        root = sqrt_price_x96(price0, token0.decimals, price1, token1.decimals)
        manager, create = where["v3_positions"], "createAndInitializePoolIfNecessary(address,address,uint24,uint160)"
        on.call("provider", manager, create, token0.address, token1.address, FEE_PIPS, root)
        get = "getPool(address,address,uint24)"
        pool = str(on.view(where["v3_factory"], get, "address", token0.address, token1.address, FEE_PIPS)[0])
        if low is not None and high is not None:
            tick = on.view(pool, "slot0()", "uint160,int24")[1]
            assert isinstance(tick, int)
            ends = [(tick + shift) // SPACING * SPACING for shift in (low, high)]
            amounts = [int(ONE_SIDE_USD / p * 10**t.decimals) for t, p in ((token0, price0), (token1, price1))]
            mint = "mint((address,address,uint24,int24,int24,uint256,uint256,uint256,uint256,address,uint256))"
            me = net.accounts["provider"].address
            ask = (token0.address, token1.address, FEE_PIPS, *ends, *amounts, 0, 0, me, 2**40)
            on.call("provider", manager, mint, ask)
        return pool, "uniswap_v3", where["v3_router"]

    return make


def v2(net: Localnet) -> tuple[str, str, str]:
    """A v2 pair of the sick token against USDC, created and never filled."""
    ends = [net.world.token(a).address for a in (kit.SICK, "USDC")]
    factory = net.world.contracts["v2_factory"]
    net.deployer.call("provider", factory, "createPair(address,address)", *ends)
    pair = net.deployer.view(factory, "getPair(address,address)", "address", *ends)[0]
    return str(pair), "uniswap_v2", net.world.contracts["v2_router"]


def beside(made: Made) -> Set:
    """Configure the pool beside those that are configured already."""

    def act(net: Localnet, ctx: EngineContext) -> EngineContext:
        extra = describe_pools(net.node.admin, [made(net)])
        known, rpc = ctx.pools, ctx.vault.rpc  # type: ignore[attr-defined]
        return replace(ctx, pools=lambda s: [*known(s), *read_pools(rpc, extra, s.block_hash)])

    return act


def alone(name: str, made: Made) -> Odd:
    """The only pool of the sick token."""
    return Odd("pool", name, APART, beside(made), kit.SICK, (kit.SICK,))


GAP = 500  # ticks: 5 %
POOLS: tuple[Odd, ...] = (
    Odd("pool", "none configured for a token", APART, market(lambda net: None), "no configured pool", (kit.SICK,)),
    Odd("pool", "v3 without liquidity, beside good ones", TRADED, beside(v3())),
    Odd("pool", "v2 without reserves, beside good ones", TRADED, beside(v2)),
    Odd("pool", "liquidity begins 5 % away, beside good ones", TRADED, beside(v3(GAP, 2 * GAP))),
    alone("v3 without liquidity, the only one", v3()),
    alone("v2 without reserves, the only one", v2),
    alone("liquidity begins 5 % above, the only one", v3(GAP, 2 * GAP)),
    alone("liquidity ends 5 % below, the only one", v3(-2 * GAP, -GAP)),
    alone("liquidity on one side only, the only one", v3(SPACING, 20 * GAP)),
)
