"""Reading the pools of a market at one block, in three batched requests however many pools there are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from eth_utils.address import to_checksum_address

from lake.errors import ConfigError
from lake.evm import View, read
from lake.rpc import Rpc
from policy.execution.amm import Pool, V2Pool, V3Pool

_WORD = 256
_TICK = math.log(1.0001)
REACH = 0.25
"""How far around the price ticks are read, as a price change. A leg that would move a pool further is not quoted; it
would break every sensible slippage limit long before."""

V2_FEE_PIPS = 3_000


@dataclass(frozen=True, slots=True)
class PoolInfo:
    """What never changes about a pool, and the router a swap in it is sent to. Addresses are checksummed."""

    address: str
    venue: str  # uniswap_v2 | uniswap_v3
    token0: str
    token1: str
    fee_pips: int
    tick_spacing: int  # 0 in v2
    router: str


def describe_pools(rpc: Rpc, pools: Sequence[tuple[str, str, str]]) -> list[PoolInfo]:
    """Read the constants of pools given as (address, venue, router); ConfigError on an unknown venue."""
    unknown = sorted({v for _, v, _ in pools} - {"uniswap_v2", "uniswap_v3"})
    if unknown:
        raise ConfigError(f"pool venues must be uniswap_v2 or uniswap_v3, got {', '.join(unknown)}")
    views: list[View] = []
    for address, venue, _ in pools:
        views += [View(address, "token0()", "address"), View(address, "token1()", "address")]
        if venue == "uniswap_v3":
            views += [View(address, "fee()", "uint24"), View(address, "tickSpacing()", "int24")]
    rows = iter(read(rpc, views))
    found = []
    for address, venue, router in pools:
        token0, token1 = (to_checksum_address(str(next(rows)[0])) for _ in range(2))
        fee, spacing = (V2_FEE_PIPS, 0)
        if venue == "uniswap_v3":
            fee, spacing = (cast("int", next(rows)[0]) for _ in range(2))
        where = (to_checksum_address(address), venue, token0, token1)
        found.append(PoolInfo(*where, fee, spacing, to_checksum_address(router)))
    return found


def read_pools(rpc: Rpc, pools: Sequence[PoolInfo], block_hash: str, reach: float = REACH) -> list[Pool]:
    """Return every pool at ``block_hash``; pools without liquidity are left out."""
    heads = iter(read(rpc, [v for p in pools for v in _head(p)], block_hash))
    states: list[tuple[PoolInfo, tuple[int, ...]]] = []
    for pool in pools:
        first = cast("tuple[int, ...]", next(heads))
        more = cast("tuple[int, ...]", next(heads)) if pool.venue == "uniswap_v3" else ()
        states.append((pool, (*first, *more)))
    span = math.ceil(math.log(1 + reach) / _TICK)
    ticks = _ticks(rpc, [(p, s[1] - span, s[1] + span) for p, s in states if p.venue == "uniswap_v3"], block_hash)
    found: list[Pool] = []
    for pool, state in states:
        if pool.venue == "uniswap_v2":
            if state[0] and state[1]:
                tokens = (pool.address, pool.token0, pool.token1)
                found.append(V2Pool(*tokens, state[0], state[1], pool.fee_pips, pool.router))
        elif state[0]:
            found.append(_v3(pool, state, ticks[pool.address], span))
    return found


def _v3(pool: PoolInfo, state: tuple[int, ...], ticks: tuple[tuple[int, int], ...], span: int) -> V3Pool:
    root, tick, liquidity = state
    return V3Pool(
        pool.address,
        pool.token0,
        pool.token1,
        pool.fee_pips,
        pool.tick_spacing,
        root,
        tick,
        liquidity,
        ticks,
        (tick - span, tick + span),
        pool.router,
    )


def _head(pool: PoolInfo) -> list[View]:
    if pool.venue == "uniswap_v2":
        return [View(pool.address, "getReserves()", "uint112,uint112")]
    return [View(pool.address, "slot0()", "uint160,int24"), View(pool.address, "liquidity()", "uint128")]


def _ticks(
    rpc: Rpc, wanted: Sequence[tuple[PoolInfo, int, int]], block_hash: str
) -> dict[str, tuple[tuple[int, int], ...]]:
    """Return the initialised ticks of each v3 pool between its bounds, with their net liquidity."""
    words = [
        (pool, word, low, high)
        for pool, low, high in wanted
        for word in range(low // pool.tick_spacing // _WORD, high // pool.tick_spacing // _WORD + 1)
    ]
    maps = read(rpc, [View(p.address, "tickBitmap(int16)", "uint256", (w,)) for p, w, _, _ in words], block_hash)
    places = [
        (pool, tick)
        for (pool, word, low, high), (bits,) in zip(words, maps, strict=True)
        for bit in range(_WORD)
        if cast("int", bits) >> bit & 1 and low <= (tick := (word * _WORD + bit) * pool.tick_spacing) <= high
    ]
    views = [View(p.address, "ticks(int24)", "uint128,int128", (t,)) for p, t in places]
    nets = read(rpc, views, block_hash) if views else []
    found: dict[str, list[tuple[int, int]]] = {pool.address: [] for pool, _, _ in wanted}
    for (pool, tick), net in zip(places, nets, strict=True):
        found[pool.address].append((tick, cast("int", net[1])))
    return {address: tuple(sorted(ticks)) for address, ticks in found.items()}
