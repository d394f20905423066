"""State and depth of Uniswap v2 and v3 pools at one block, and its history on a time grid (from an archive node).

Pools are decoded by ``lake.poolstate`` and measured by ``lake.depth``, as the live decision does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

import polars as pl

from lake import depth
from lake.errors import ConfigError, SourceError
from lake.evm import Call, read, symbols
from lake.poolstate import read_constants, read_states
from lake.rpc import Rpc
from lake.sources.blocks import block_at, first_block_at_or_after
from lake.sources.oracles import ROUND
from lake.tables import TABLES
from lake.units import Q96, to_word
from lake.universe import STABLE, Chain


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
    pool = read_constants(rpc, [(address, venue)], block)[0]
    tokens = [pool.token0, pool.token1]
    decimals = [cast("int", d[0]) for d in read(rpc, [Call(t, "decimals()", "uint8") for t in tokens], block)]
    if quote is None:
        names = symbols(rpc, tokens, block)
        fits = [i for i, s in enumerate(names) if s.upper() in STABLE]
        hint = f"its tokens are {names[0]} ({tokens[0]}) and {names[1]} ({tokens[1]})"
    else:
        fits = [i for i, t in enumerate(tokens) if t.lower() == quote.lower()]
        hint = f"its tokens are {tokens[0]} and {tokens[1]}"
    if len(fits) != 1:
        raise ConfigError(f"pool {address}: name the quote token by its address ([[sources.pools]] quote); {hint}")
    return PoolInfo(address, venue, decimals[0], decimals[1], pool.fee_pips, pool.tick_spacing, fits[0])


def read_pool(rpc: Rpc, pool: PoolInfo, block: int | str, quote_feed: str | None = None) -> PoolReading:
    """Return the pool's state at ``block`` (give a hash: the reads are several).

    ``quote_feed`` is the USD feed of the quote token, read at the same block; without it the token counts as 1 USD.
    """
    quote_usd = _quote_usd(rpc, quote_feed, block)
    state = read_states(rpc, [pool], block, depth.TICKS)[0]
    return PoolReading(state.sqrt_price_x96, state.tick, state.liquidity, state.ticks, quote_usd)


def depth_1pct(pool: PoolInfo, reading: PoolReading) -> float:
    """Return the one-sided USD, before fee, that moves the price by 1 %: the lesser of up and down."""
    decimals = pool.decimals1 if pool.quote == 1 else pool.decimals0
    return depth.depth_usd(reading, pool.quote, decimals, reading.quote_usd)


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
    answers = read(rpc, [Call(feed, "latestRoundData()", ROUND), Call(feed, "decimals()", "uint8")], block)
    answer, decimals = cast("int", answers[0][1]), cast("int", answers[1][0])
    if answer <= 0:
        raise SourceError(f"feed {feed} answers {answer}; a price must be positive")
    return answer / 10.0**decimals
