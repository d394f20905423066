"""Time-weighted average prices of the traded pools, as a second source beside the oracle, at the decision's block.

v3 pools average their tick themselves (``observe``); v2 pairs only accumulate prices, so the same state is read once
more ``window_s`` earlier. A price held for a block or two hardly moves either; holding it for the window costs its
manipulator a fight with every arbitrageur. Sources: Uniswap v3 Oracle.sol, v2 UniswapV2Pair.sol _update.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from lake.errors import RpcError
from lake.evm import Call, read_head, try_read
from lake.poolstate import ticked
from lake.rpc import Rpc
from lake.sources.blocks import block_at, first_block_at_or_after
from policy.execution.base import Snapshot
from policy.execution.checks.oracle_rules import MAX_TICK, power
from policy.execution.routing.pool_reader import TradedPool
from policy.execution.routing.yields import VENUE

WINDOW_S = 1_800
"""Half an hour: an attack must hold the price through 150 blocks, and an honest move of the market shows within
minutes. Longer is harder to move and lags more."""

_Q112 = 2**112
_RESERVES = ("getReserves()", "uint112,uint112,uint32")
_CUMULATIVE = (("price0CumulativeLast()", "uint256"), ("price1CumulativeLast()", "uint256"))
_NEAR = 8  # headers read at once around where the window's start is expected


@dataclass(frozen=True, slots=True)
class Average:
    """A pool's average price of ``token`` (USD x 1e8, rounded down) over ``window_s``; None when it does not tell."""

    token: str
    pool: str
    window_s: int
    price_e8: int | None


def averages(
    rpc: Rpc, pools: Sequence[TradedPool], snapshot: Snapshot, window_s: int = WINDOW_S, block_time_s: float = 12.0
) -> list[Average]:
    """Return the average of every pool between two of the snapshot's tokens, at its block.

    A pool prices the later of its two tokens (in the snapshot's order) in the feed's price of the earlier one. Pools
    that are younger than the window, keep too short a history or lie beyond what the node remembers tell nothing.
    """
    place = {t.address: i for i, t in enumerate(snapshot.tokens)}
    known = [p for p in pools if p.token0 in place and p.token1 in place and p.venue != VENUE]
    v3, v2 = ([p for p in known if ticked(p) == ticks] for ticks in (True, False))
    views = [_observe(p, window_s) for p in v3] + _sums(v2)
    rows = try_read(rpc, views, snapshot.block_hash) if views else []
    now = _accumulated(v2, rows[len(v3) :], snapshot.block_time)
    past = _past(rpc, v2, snapshot, window_s, block_time_s) if now else {}
    found: dict[str, int | None] = {}
    for pool, row in zip(v3, rows, strict=False):
        if not isinstance(row, RpcError):
            found[pool.address] = _tick_price(pool, row, snapshot, *_ends(pool, place), window_s)
    for pool in v2:
        base, quote = _ends(pool, place)
        side = 0 if pool.token0 == snapshot.tokens[base].address else 1
        if pool.address in past and pool.address in now:
            mean = (now[pool.address][side] - past[pool.address][side]) % 2**256 // window_s
            found[pool.address] = _usd(mean, 112, snapshot, base, quote)
    return [
        Average(snapshot.tokens[_ends(p, place)[0]].address, p.address, window_s, found.get(p.address)) for p in known
    ]


def _ends(pool: TradedPool, place: Mapping[str, int]) -> tuple[int, int]:
    """Return the positions of the priced token and of the one it is priced in."""
    i, j = place[pool.token0], place[pool.token1]
    return max(i, j), min(i, j)


def _observe(pool: TradedPool, window_s: int) -> Call:
    return Call(pool.address, "observe(uint32[])", "int56[]", ((window_s, 0),))


def _tick_price(
    pool: TradedPool, row: tuple[object, ...], snapshot: Snapshot, base: int, quote: int, window_s: int
) -> int | None:
    """Return the price at the mean tick, rounded as the reference oracle rounds it."""
    then, now = cast("tuple[int, int]", row[0])
    tick = (now - then) // window_s
    tick = tick if pool.token0 == snapshot.tokens[base].address else -tick
    if abs(tick) > MAX_TICK:
        return None
    return _usd(power(tick), 96, snapshot, base, quote)


def _usd(raw: int, bits: int, snapshot: Snapshot, base: int, quote: int) -> int:
    """Return USD x 1e8 of ``raw`` / 2^bits raw quote units per raw base unit, at the quote token's feed."""
    prices = {q.token: q.price_e8 for q in snapshot.quotes}
    to, of = snapshot.tokens[quote], snapshot.tokens[base]
    return int(raw * max(0, prices.get(to.address, 0)) * 10**of.decimals // 10**to.decimals >> bits)


def _sums(pools: Sequence[TradedPool]) -> list[Call]:
    """Return what tells a pair's price sums: its reserves, when they changed, and both sums up to then."""
    return [Call(p.address, *ask) for p in pools for ask in (_RESERVES, *_CUMULATIVE)]


def _past(
    rpc: Rpc, pools: Sequence[TradedPool], snapshot: Snapshot, window_s: int, block_time_s: float
) -> dict[str, tuple[int, int]]:
    """Return both price sums of each pair as they stood ``window_s`` before the snapshot."""
    since = snapshot.block_time - window_s
    try:
        then = _block_before(rpc, snapshot, since, block_time_s)
    except RpcError as error:
        if error.code is None:
            raise
        return {}  # the chain, or what the node remembers of it, does not reach that far back
    return _accumulated(pools, try_read(rpc, _sums(pools), then), since)


def _accumulated(
    pools: Sequence[TradedPool], rows: Sequence[tuple[object, ...] | RpcError], at: int
) -> dict[str, tuple[int, int]]:
    """Return both price sums of each pair as they stand at time ``at``, from its answers to :func:`_sums`."""
    found = {}
    for i, pool in enumerate(pools):
        state, *sums = rows[3 * i : 3 * i + 3]
        if isinstance(state, RpcError) or any(isinstance(s, RpcError) for s in sums):
            continue
        x, y, last = cast("tuple[int, int, int]", state)
        if not x or not y:
            continue
        since = (at - last) % 2**32  # the pair's clock wraps
        low, high = (cast("int", cast("tuple[object, ...]", s)[0]) for s in sums)
        found[pool.address] = (low + (y * _Q112 // x) * since, high + (x * _Q112 // y) * since)
    return found


def _block_before(rpc: Rpc, snapshot: Snapshot, at: int, block_time_s: float) -> str:
    """Return the hash of the last block with time <= ``at``; where blocks came on time, in one request."""
    guess = snapshot.block_number - int((snapshot.block_time - at) / block_time_s)
    low = max(0, guess - _NEAR // 2)
    numbers = range(low, min(snapshot.block_number, low + _NEAR) + 1)
    headers = rpc.batch([("eth_getBlockByNumber", [hex(n), False]) for n in numbers])
    near = [read_head(h, n) for n, h in zip(numbers, headers, strict=True) if h is not None]
    early = [h for h in near if h.time <= at]
    if early and len(early) < len(near):
        return early[-1].hash
    newest, oldest = (snapshot.block_number, numbers[-1]) if early else (low, 0)
    after = first_block_at_or_after(rpc, datetime.fromtimestamp(at + 1, UTC), newest, oldest)
    if after == 0:
        raise RpcError(f"the chain has no block at {at}", -32_000)
    return block_at(rpc, after - 1).hash
