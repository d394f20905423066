"""The pools a plan may trade in, at one block: decoded by ``lake.poolstate``, as records the router quotes exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eth_utils.address import to_checksum_address

from lake.poolstate import PoolSnapshot, reach_ticks, read_constants, read_states, ticked
from lake.rpc import Rpc
from policy.execution.routing.amm import Pool, V2Pool, V3Pool
from policy.execution.routing.yields import VENUE, describe, pair_of, read_yields

__all__ = ["REACH", "TradedPool", "describe_pools", "read_pools"]
REACH = 0.25
"""How far around the price ticks are read, as a price change. A leg that would move a pool further is not quoted; it
would break every sensible slippage limit long before."""


@dataclass(frozen=True, slots=True)
class TradedPool:
    """What never changes about a pool, and the router a swap in it is sent to. Addresses are checksummed."""

    address: str
    venue: str  # a name of lake.venues
    token0: str
    token1: str
    fee_pips: int
    tick_spacing: int  # 0 of a pair
    router: str


def describe_pools(rpc: Rpc, pools: Sequence[tuple[str, str, str]]) -> list[TradedPool]:
    """Read the constants of pools given as (address, venue, router); ConfigError on an unknown venue."""
    listed = [row for row in pools if row[1] != VENUE]
    found = read_constants(rpc, [(address, venue) for address, venue, _ in listed])
    made = [
        TradedPool(c.address, c.venue, c.token0, c.token1, c.fee_pips, c.tick_spacing, to_checksum_address(router))
        for c, (_, _, router) in zip(found, listed, strict=True)
    ]
    vaults = describe(rpc, [address for address, venue, _ in pools if venue == VENUE])
    return made + [TradedPool(v.address, VENUE, v.address, v.asset, 0, 0, v.address) for v in vaults]


def read_pools(rpc: Rpc, pools: Sequence[TradedPool], block_hash: str, reach: float = REACH) -> list[Pool]:
    """Return every pool at ``block_hash``; pools without any liquidity within ``reach`` are left out."""
    listed = [p for p in pools if p.venue != VENUE]
    states = read_states(rpc, listed, block_hash, reach_ticks(reach))
    made = [_record(p, s) for p, s in zip(listed, states, strict=True) if s.sqrt_price_x96 and (s.liquidity or s.ticks)]
    vaults = describe(rpc, [p.address for p in pools if p.venue == VENUE])
    pairs = [pair_of(v, s) for v, s in zip(vaults, read_yields(rpc, vaults, block_hash), strict=True)]
    return made + [pair for pair in pairs if pair is not None]


def _record(pool: TradedPool, s: PoolSnapshot) -> Pool:
    ends = (pool.address, pool.token0, pool.token1)
    if not ticked(pool):
        return V2Pool(*ends, *s.reserves, pool.fee_pips, pool.router, pool.venue)
    price = (s.sqrt_price_x96, s.tick, s.liquidity)
    return V3Pool(*ends, pool.fee_pips, pool.tick_spacing, *price, s.ticks, s.known, pool.router, pool.venue)
