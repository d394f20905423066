"""The one decoder of Uniswap v2 and v3 pools: constants, and the state of many pools at one block, ticks included.

Both sides read through it: the tables of history and the plans that trade. Requests are batched, three for any number
of pools.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from eth_utils.address import to_checksum_address

from lake.errors import ConfigError
from lake.evm import Call, read
from lake.rpc import Rpc

V2, V3 = "uniswap_v2", "uniswap_v3"
V2_FEE_PIPS = 3_000  # fixed in UniswapV2Library.getAmountOut
MIN_TICK, MAX_TICK = -887_272, 887_272
_WORD = 256
_LOG_TICK = math.log(1.0001)


@dataclass(frozen=True, slots=True)
class Constants:
    """What never changes about a pool. Addresses are checksummed; ``tick_spacing`` is 0 in v2."""

    address: str
    venue: str  # uniswap_v2 | uniswap_v3
    token0: str
    token1: str
    fee_pips: int
    tick_spacing: int


class Place(Protocol):
    """What reading a pool's state needs to know of it."""

    @property
    def address(self) -> str:
        """Contract."""
        ...

    @property
    def venue(self) -> str:
        """uniswap_v2 or uniswap_v3."""
        ...

    @property
    def tick_spacing(self) -> int:
        """Of v3; 0 in v2."""
        ...


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """A pool at one block, raw. A v2 pair has ``reserves`` and no ticks; its root and liquidity follow from them.

    ``ticks`` are the initialised ticks with net liquidity, ascending, complete within ``known``. All zeros: empty.
    """

    sqrt_price_x96: int
    tick: int
    liquidity: int
    ticks: tuple[tuple[int, int], ...] = ()
    known: tuple[int, int] = (MIN_TICK, MAX_TICK)
    reserves: tuple[int, int] = (0, 0)


def pair_state(reserve0: int, reserve1: int) -> PoolSnapshot:
    """Return a v2 pair's state: liquidity sqrt(x y) at every price, root sqrt(y / x); zeros for an empty pair."""
    if reserve0 <= 0 or reserve1 <= 0:
        return PoolSnapshot(0, 0, 0)
    root = math.isqrt((reserve1 << 192) // reserve0)
    return PoolSnapshot(root, 0, math.isqrt(reserve0 * reserve1), reserves=(reserve0, reserve1))


def read_constants(rpc: Rpc, pools: Sequence[tuple[str, str]], block: int | str = "latest") -> list[Constants]:
    """Return the constants of pools given as (address, venue); ConfigError on an unknown venue, naming the pool."""
    unknown = [f"pool {a}: venue {v!r}" for a, v in pools if v not in {V2, V3}]
    if unknown:
        raise ConfigError(f"{'; '.join(unknown)}; a venue is uniswap_v2 or uniswap_v3")
    views: list[Call] = []
    for address, venue in pools:
        views += [Call(address, "token0()", "address"), Call(address, "token1()", "address")]
        if venue == V3:
            views += [Call(address, "fee()", "uint24"), Call(address, "tickSpacing()", "int24")]
    rows = iter(read(rpc, views, block))
    found = []
    for address, venue in pools:
        ends = [to_checksum_address(str(next(rows)[0])) for _ in range(2)]
        fee, spacing = [cast("int", next(rows)[0]) for _ in range(2)] if venue == V3 else (V2_FEE_PIPS, 0)
        if venue == V3 and spacing <= 0:
            raise ConfigError(f"pool {address}: tickSpacing() is {spacing}, a Uniswap v3 pool's is positive")
        found.append(Constants(to_checksum_address(address), venue, ends[0], ends[1], fee, spacing))
    return found


def reach_ticks(price_change: float) -> int:
    """Return how many ticks a relative price change is, rounded up."""
    return math.ceil(math.log(1 + price_change) / _LOG_TICK)


def read_states(rpc: Rpc, pools: Sequence[Place], block: int | str, span: int) -> list[PoolSnapshot]:
    """Return every pool at ``block`` (give a hash: the reads are several), v3 ticks within ``span`` of the price."""
    heads = iter(read(rpc, [v for p in pools for v in _head(p)], block) if pools else [])
    rows: list[tuple[int, ...]] = []
    for pool in pools:
        first = cast("tuple[int, ...]", next(heads))
        rows.append((*first, *cast("tuple[int, ...]", next(heads))) if pool.venue == V3 else first)
    wanted = [(p, s[1] - span, s[1] + span) for p, s in zip(pools, rows, strict=True) if p.venue == V3 and s[0]]
    ticks = _ticks(rpc, wanted, block)
    found = []
    for pool, row in zip(pools, rows, strict=True):
        if pool.venue == V2:
            found.append(pair_state(*row))
        else:
            root, tick, liquidity = row
            known = (tick - span, tick + span)
            found.append(PoolSnapshot(root, tick, liquidity, ticks.get(pool.address, ()), known))
    return found


def read_ticks(rpc: Rpc, pool: Place, low: int, high: int, block: int | str) -> tuple[tuple[int, int], ...]:
    """Return the initialised ticks of a v3 pool in ``low`` .. ``high`` with their net liquidity, ascending."""
    return _ticks(rpc, [(pool, low, high)], block)[pool.address]


def _head(pool: Place) -> list[Call]:
    if pool.venue == V2:
        return [Call(pool.address, "getReserves()", "uint112,uint112")]
    return [Call(pool.address, "slot0()", "uint160,int24"), Call(pool.address, "liquidity()", "uint128")]


def _ticks(
    rpc: Rpc, wanted: Sequence[tuple[Place, int, int]], block: int | str
) -> dict[str, tuple[tuple[int, int], ...]]:
    """Return the initialised ticks of each v3 pool between its bounds, by address."""
    words = [
        (pool, word, low, high)
        for pool, low, high in ((p, max(a, MIN_TICK), min(b, MAX_TICK)) for p, a, b in wanted)
        for word in range(low // pool.tick_spacing // _WORD, high // pool.tick_spacing // _WORD + 1)
    ]
    asks = [Call(p.address, "tickBitmap(int16)", "uint256", (w,)) for p, w, _, _ in words]
    maps = read(rpc, asks, block) if asks else []
    places = [
        (pool, tick)
        for (pool, word, low, high), (bits,) in zip(words, maps, strict=True)
        for bit in range(_WORD)
        if cast("int", bits) >> bit & 1 and low <= (tick := (word * _WORD + bit) * pool.tick_spacing) <= high
    ]
    views = [Call(p.address, "ticks(int24)", "uint128,int128", (t,)) for p, t in places]
    nets = read(rpc, views, block) if views else []
    found: dict[str, list[tuple[int, int]]] = {pool.address: [] for pool, _, _ in wanted}
    for (pool, tick), net in zip(places, nets, strict=True):
        found[pool.address].append((tick, cast("int", net[1])))
    return {address: tuple(sorted(ticks)) for address, ticks in found.items()}
