"""State and depth of Uniswap v2 and v3 pools at one block, and its history on a time grid (from an archive node).

Depth is the quote-token value, before fee, that moves the price by 1 %: up (paid) or down (received), whichever is
less. In v3 the walk goes over every initialised tick within that move (whitepaper eq. 6.14 and 6.16); in v2
liquidity is sqrt(x*y) at every price.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

import polars as pl

from lake.errors import ConfigError, SourceError
from lake.evm import View, read
from lake.rpc import Rpc
from lake.sources.blocks import block_at, first_block_at_or_after
from lake.sources.oracles import ROUND
from lake.tables import TABLES
from lake.units import Q96, to_word
from lake.universe import STABLE, Chain

V2_FEE_PIPS = 3_000  # fixed in UniswapV2Library.getAmountOut
MOVE = 0.01
_WORD = 256
_TICK = 1.0001


@dataclass(frozen=True, slots=True)
class PoolInfo:
    """What never changes about a pool. ``quote`` says which token (0 or 1) prices are quoted in."""

    address: str
    venue: str  # uniswap_v2 | uniswap_v3
    decimals0: int
    decimals1: int
    fee_pips: int
    tick_spacing: int  # 0 in v2
    quote: int

    def price(self, sqrt_x96: int) -> float:
        """Return quote units per unit of the other token at a raw Q64.96 root."""
        one_for_zero = (sqrt_x96 / Q96) ** 2 * 10.0 ** (self.decimals0 - self.decimals1)
        return one_for_zero if self.quote == 1 else 1 / one_for_zero


@dataclass(frozen=True, slots=True)
class PoolReading:
    """A pool at one block; ``ticks`` are the initialised ticks with net liquidity near the price (none in v2)."""

    sqrt_price_x96: int
    tick: int
    liquidity: int
    ticks: tuple[tuple[int, int], ...]
    quote_usd: float


def describe_pool(
    rpc: Rpc, address: str, venue: str, quote: str | None = None, block: int | str = "latest"
) -> PoolInfo:
    """Read the constants of the pool at ``address``.

    ``quote`` is the address of the token to quote in; where not given the token whose symbol is a stable coin's is.
    Raises ConfigError when that leaves none or both.
    """
    if venue not in {"uniswap_v2", "uniswap_v3"}:
        raise ConfigError(f"pool {address}: venue {venue!r} is not uniswap_v2 or uniswap_v3")
    heads = [View(address, "token0()", "address"), View(address, "token1()", "address")]
    v3 = [View(address, "fee()", "uint24"), View(address, "tickSpacing()", "int24")]
    found = read(rpc, heads + (v3 if venue == "uniswap_v3" else []), block)
    tokens = [str(found[0][0]), str(found[1][0])]
    decimals = [cast("int", d[0]) for d in read(rpc, [View(t, "decimals()", "uint8") for t in tokens], block)]
    if quote is None:
        symbols = [str(s[0]) for s in read(rpc, [View(t, "symbol()", "string") for t in tokens], block)]
        fits = [i for i, s in enumerate(symbols) if s.upper() in STABLE]
        hint = f"its tokens are {symbols[0]} and {symbols[1]}"
    else:
        fits = [i for i, t in enumerate(tokens) if t.lower() == quote.lower()]
        hint = f"its tokens are {tokens[0]} and {tokens[1]}"
    if len(fits) != 1:
        raise ConfigError(f"pool {address}: name the quote token by its address; {hint}")
    fee, spacing = (cast("int", f[0]) for f in found[2:]) if venue == "uniswap_v3" else (V2_FEE_PIPS, 0)
    return PoolInfo(address, venue, decimals[0], decimals[1], fee, spacing, fits[0])


def read_pool(rpc: Rpc, pool: PoolInfo, block: int | str, quote_feed: str | None = None) -> PoolReading:
    """Return the pool's state at ``block`` (give a hash: the reads are several).

    ``quote_feed`` is the USD feed of the quote token, read at the same block; without it the token counts as 1 USD.
    """
    quote_usd = _quote_usd(rpc, quote_feed, block)
    if pool.venue == "uniswap_v2":
        x, y = (cast("int", v) for v in read(rpc, [View(pool.address, "getReserves()", "uint112,uint112")], block)[0])
        if not x or not y:
            return PoolReading(0, 0, 0, (), quote_usd)
        return PoolReading(math.isqrt((y << 192) // x), 0, math.isqrt(x * y), (), quote_usd)
    slot0, liquidity = read(
        rpc, [View(pool.address, "slot0()", "uint160,int24"), View(pool.address, "liquidity()", "uint128")], block
    )
    root, tick = cast("tuple[int, int]", slot0)
    reach = math.ceil(math.log(1 + MOVE) / math.log(_TICK)) + 2
    ticks = read_ticks(rpc, pool, tick - reach, tick + reach, block)
    return PoolReading(root, tick, cast("int", liquidity[0]), ticks, quote_usd)


def read_ticks(rpc: Rpc, pool: PoolInfo, low: int, high: int, block: int | str) -> tuple[tuple[int, int], ...]:
    """Return the initialised ticks of a v3 pool in ``low`` .. ``high`` with their net liquidity, ascending."""
    words = range(low // pool.tick_spacing // _WORD, high // pool.tick_spacing // _WORD + 1)
    maps = read(rpc, [View(pool.address, "tickBitmap(int16)", "uint256", (w,)) for w in words], block)
    ticks = [
        (word * _WORD + bit) * pool.tick_spacing
        for word, (bits,) in zip(words, maps, strict=True)
        for bit in range(_WORD)
        if cast("int", bits) >> bit & 1
    ]
    ticks = [t for t in ticks if low <= t <= high]
    nets = read(rpc, [View(pool.address, "ticks(int24)", "uint128,int128", (t,)) for t in ticks], block)
    return tuple((t, cast("int", net[1])) for t, net in zip(ticks, nets, strict=True))


def depth_1pct(pool: PoolInfo, reading: PoolReading) -> float:
    """Return the one-sided USD, before fee, that moves the price by 1 %: the lesser of up and down."""
    if not reading.sqrt_price_x96:
        return 0.0
    root = reading.sqrt_price_x96 / Q96
    amounts = []
    for factor in (1 + MOVE, 1 - MOVE):
        raw_factor = factor if pool.quote == 1 else 1 / factor
        amounts.append(_amount(reading, root, root * math.sqrt(raw_factor), pool.quote))
    decimals = pool.decimals1 if pool.quote == 1 else pool.decimals0
    return min(amounts) / 10.0**decimals * reading.quote_usd


@dataclass(frozen=True, slots=True)
class PoolSource:
    """A pool's state at the END of every interval of the clock, that of its last block; volume is not read.

    An interval in which the chain made no block has no row. Past blocks need an archive node.
    """

    rpc: Rpc
    chain: Chain
    pool: str
    venue: str = "uniswap_v3"
    quote: str | None = None
    quote_feed: str | None = None
    every: timedelta = timedelta(hours=1)
    confirmations: int = 5
    page: int = 24

    table: str = "pool_state"

    @property
    def name(self) -> str:
        """``pools:<chain>:<address>``."""
        return f"pools:{self.chain.name}:{self.pool}"

    @property
    def series(self) -> Mapping[str, str | int]:
        """Chain id and pool."""
        return {"chain_id": self.chain.chain_id, "pool": self.pool}

    @property
    def step_s(self) -> int:
        """Spacing of the rows, seconds."""
        return int(self.every.total_seconds())

    def collect(self, start: datetime, end: datetime) -> Iterator[pl.DataFrame]:
        """Yield pool_state rows of ``[start, end)``, oldest first; none before the pool existed."""
        self.rpc.expect_chain(self.chain.chain_id)
        newest = block_at(self.rpc, "latest").number - self.confirmations
        if newest < 0:
            return
        horizon = block_at(self.rpc, newest).time
        step = self.step_s
        info: PoolInfo | None = None
        block = 0
        rows: list[dict[str, object]] = []
        for ts in range(math.ceil(start.timestamp() / step) * step, math.ceil(end.timestamp()), step):
            if ts + step > horizon:
                break
            block = max(0, self._block_before(ts + step, block, newest))
            header = block_at(self.rpc, block)
            where = header.hash
            if header.time <= ts:
                continue
            if info is None and self._exists(where):
                info = describe_pool(self.rpc, self.pool, self.venue, self.quote, where)
            if info is not None:
                rows += self._row(info, where, ts)
            if len(rows) >= self.page:
                yield pl.DataFrame(rows, schema=TABLES["pool_state"].columns)
                rows = []
        if rows:
            yield pl.DataFrame(rows, schema=TABLES["pool_state"].columns)

    def _block_before(self, at: int, oldest: int, newest: int) -> int:
        """Return the last block with time <= ``at``, -1 if none, guessing near first."""
        guess = min(newest, oldest + int(2 * self.step_s / self.chain.block_time_s) + 2)
        near = guess == newest or block_at(self.rpc, guess).time > at
        after = datetime.fromtimestamp(at + 1, UTC)
        return first_block_at_or_after(self.rpc, after, guess if near else newest, oldest) - 1

    def _exists(self, where: str) -> bool:
        code = self.rpc.call("eth_getCode", [self.pool, {"blockHash": where, "requireCanonical": True}])
        return isinstance(code, str) and len(code) > 2

    def _row(self, info: PoolInfo, where: str, ts: int) -> list[dict[str, object]]:
        reading = read_pool(self.rpc, info, where, self.quote_feed)
        if not reading.sqrt_price_x96:
            return []  # deployed, but without a price yet
        start = datetime.fromtimestamp(ts, UTC)
        return [pool_row(info, reading, self.chain.chain_id, start, start + self.every)]


def pool_row(info: PoolInfo, reading: PoolReading, chain_id: int, ts: datetime, known: datetime) -> dict[str, object]:
    """Return the pool_state row of the interval that starts at ``ts``, for a reading ``known`` at its end."""
    return {
        "chain_id": chain_id,
        "pool": info.address,
        "ts": ts,
        "liquidity_raw": to_word(reading.liquidity),
        "sqrt_price_x96": to_word(reading.sqrt_price_x96),
        "price": info.price(reading.sqrt_price_x96),
        "fee_pips": info.fee_pips,
        "depth_1pct_usd": depth_1pct(info, reading),
        "volume_usd": None,
        "available_at": known,
    }


def _quote_usd(rpc: Rpc, feed: str | None, block: int | str) -> float:
    if feed is None:
        return 1.0
    answers = read(rpc, [View(feed, "latestRoundData()", ROUND), View(feed, "decimals()", "uint8")], block)
    answer, decimals = cast("int", answers[0][1]), cast("int", answers[1][0])
    if answer <= 0:
        raise SourceError(f"feed {feed} answers {answer}; a price must be positive")
    return answer / 10.0**decimals


def _amount(reading: PoolReading, start: float, goal: float, token: int) -> float:
    """Return the raw amount of ``token`` (0 or 1) that changes hands between two root prices, tick by tick."""
    up = goal > start
    edges: Sequence[tuple[int, int]] = reading.ticks if up else reading.ticks[::-1]
    ahead = [(t, net) for t, net in edges if (t > reading.tick if up else t <= reading.tick)]
    total, here, liquidity = 0.0, start, float(reading.liquidity)
    for tick, net in [*ahead, (None, 0)]:
        edge = goal if tick is None else _TICK ** (tick / 2)
        stop = min(edge, goal) if up else max(edge, goal)
        span = abs(stop - here) if token == 1 else abs(1 / here - 1 / stop)
        total += liquidity * span
        here = stop
        if stop == goal:
            break
        liquidity += net if up else -net
    return total
