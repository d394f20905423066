"""The one decoder of pools, pairs and those with ticks: constants, and the state of many pools at one block.

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
from lake.venues import venue, venues

MIN_TICK, MAX_TICK = -887_272, 887_272
_WORD = 256
_LOG_TICK = math.log(1.0001)


@dataclass(frozen=True, slots=True)
class Constants:
    """What never changes about a pool. Addresses are checksummed; ``tick_spacing`` is 0 of a pair."""

    address: str
    venue: str  # a name of lake.venues
    token0: str
    token1: str
    fee_pips: int
    tick_spacing: int


class PoolPlace(Protocol):
    """What reading a pool's state needs to know of it."""

    @property
    def address(self) -> str:
        """Contract."""
        ...

    @property
    def venue(self) -> str:
        """A name of ``lake.venues``."""
        ...

    @property
    def tick_spacing(self) -> int:
        """Of a pool with ticks; 0 of a pair."""
        ...


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """A pool at one block, raw. A pair has ``reserves`` and no ticks; its root and liquidity follow from them.

    ``ticks`` are the initialised ticks with net liquidity, ascending, complete within ``known``. All zeros: empty.
    """

    sqrt_price_x96: int
    tick: int
    liquidity: int
    ticks: tuple[tuple[int, int], ...] = ()
    known: tuple[int, int] = (MIN_TICK, MAX_TICK)
    reserves: tuple[int, int] = (0, 0)


def pair_state(reserve0: int, reserve1: int) -> PoolSnapshot:
    """Return a pair's state: liquidity sqrt(x y) at every price, root sqrt(y / x); zeros for an empty pair."""
    if reserve0 <= 0 or reserve1 <= 0:
        return PoolSnapshot(0, 0, 0)
    root = math.isqrt((reserve1 << 192) // reserve0)
    return PoolSnapshot(root, 0, math.isqrt(reserve0 * reserve1), reserves=(reserve0, reserve1))


def read_constants(rpc: Rpc, pools: Sequence[tuple[str, str]], block: int | str = "latest") -> list[Constants]:
    """Return the constants of pools given as (address, venue); ConfigError on an unknown venue, naming the pool."""
    known = venues()
    unknown = [f"pool {a}: venue {v!r}" for a, v in pools if v not in known]
    if unknown:
        raise ConfigError(f"{'; '.join(unknown)}; a venue is {' or '.join(known)}")
    views: list[Call] = []
    for address, name in pools:
        views += [Call(address, "token0()", "address"), Call(address, "token1()", "address")]
        if known[name].curve == "ticks":
            views += [Call(address, "fee()", "uint24"), Call(address, "tickSpacing()", "int24")]
    rows = iter(read(rpc, views, block))
    found = []
    for address, name in pools:
        row = known[name]
        ends = [to_checksum_address(str(next(rows)[0])) for _ in range(2)]
        fee, spacing = [cast("int", next(rows)[0]) for _ in range(2)] if row.fee_pips is None else (row.fee_pips, 0)
        if row.curve == "ticks" and spacing <= 0:
            raise ConfigError(f"pool {address}: tickSpacing() is {spacing}, that of a pool with ticks is positive")
        found.append(Constants(to_checksum_address(address), name, ends[0], ends[1], fee, spacing))
    return found


def ticked(pool: PoolPlace) -> bool:
    """Return whether the pool's liquidity lies in ticks, by its venue."""
    return venue(pool.venue).curve == "ticks"


def reach_ticks(price_change: float) -> int:
    """Return how many ticks a relative price change is, rounded up."""
    return math.ceil(math.log(1 + price_change) / _LOG_TICK)


def read_states(rpc: Rpc, pools: Sequence[PoolPlace], block: int | str, span: int) -> list[PoolSnapshot]:
    """Return every pool at ``block`` (give a hash: the reads are several), ticks within ``span`` of the price."""
    heads = iter(read(rpc, [v for p in pools for v in _head(p)], block) if pools else [])
    rows: list[tuple[int, ...]] = []
    for pool in pools:
        first = cast("tuple[int, ...]", next(heads))
        rows.append((*first, *cast("tuple[int, ...]", next(heads))) if ticked(pool) else first)
    wanted = [(p, s[1] - span, s[1] + span) for p, s in zip(pools, rows, strict=True) if ticked(p) and s[0]]
    ticks = _ticks(rpc, wanted, block)
    found = []
    for pool, row in zip(pools, rows, strict=True):
        if not ticked(pool):
            found.append(pair_state(*row))
        else:
            root, tick, liquidity = row
            known = (tick - span, tick + span)
            found.append(PoolSnapshot(root, tick, liquidity, ticks.get(pool.address, ()), known))
    return found


def read_ticks(rpc: Rpc, pool: PoolPlace, low: int, high: int, block: int | str) -> tuple[tuple[int, int], ...]:
    """Return the initialised ticks of a pool in ``low`` .. ``high`` with their net liquidity, ascending."""
    return _ticks(rpc, [(pool, low, high)], block)[pool.address]


def _head(pool: PoolPlace) -> list[Call]:
    if not ticked(pool):
        return [Call(pool.address, "getReserves()", "uint112,uint112")]
    return [Call(pool.address, "slot0()", "uint160,int24"), Call(pool.address, "liquidity()", "uint128")]


def _ticks(
    rpc: Rpc, wanted: Sequence[tuple[PoolPlace, int, int]], block: int | str
) -> dict[str, tuple[tuple[int, int], ...]]:
    """Return the initialised ticks of each pool between its bounds, by address."""
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
