"""Pools as records and their exact integer quotes, equal to the Uniswap v2 and v3 contracts to the last unit.

Sources: UniswapV2Library.getAmountOut; Uniswap v3-core SwapMath, SqrtPriceMath, TickMath and UniswapV3Pool.swap
(the loop stops at every word boundary of the tick bitmap, which matters for rounding and is reproduced here).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace

from lake.errors import ExecutionError
from lake.units import Q96

PIPS = 1_000_000
MIN_TICK = -887_272
MAX_TICK = 887_272
MIN_SQRT_RATIO = 4_295_128_739
MAX_SQRT_RATIO = 1_461_446_703_485_210_103_287_273_052_203_988_822_378_723_970_342
_WORD = 256
_LOG_Q96 = 96 * math.log(2)
_LOG_TICK = math.log(1.0001)

# 2**128 / 1.0001**(2**(i-1)), i = 1..19: the constants of TickMath.getSqrtRatioAtTick
_RATIOS = (
    0xFFF97272373D413259A46990580E213A,
    0xFFF2E50F5F656932EF12357CF3C7FDCC,
    0xFFE5CACA7E10E4E61C3624EAA0941CD0,
    0xFFCB9843D60F6159C9DB58835C926644,
    0xFF973B41FA98C081472E6896DFB254C0,
    0xFF2EA16466C96A3843EC78B326B52861,
    0xFE5DEE046A99A2A811C461F1969C3053,
    0xFCBE86C7900A88AEDCFFC83B479AA3A4,
    0xF987A7253AC413176F2B074CF7815E54,
    0xF3392B0822B70005940C7A398E4B70F3,
    0xE7159475A2C29B7443B29C7FA6E889D9,
    0xD097F3BDFD2022B8845AD8F792AA5825,
    0xA9F746462D870FDF8A65DC1F90E061E5,
    0x70D869A156D2A1B890BB3DF62BAF32F7,
    0x31BE135F97D08FD981231505542FCFA6,
    0x9AA508B5B7A84E1C677DE54F3E99BC9,
    0x5D6AF8DEDB81196699C329225EE604,
    0x2216E584F5FA1EA926041BEDFE98,
    0x48A170391F7DC42444E8FA2,
)


@dataclass(frozen=True, slots=True)
class V2Pool:
    """A constant-product pair; reserves are raw units. ``router`` is the contract a swap is sent to."""

    address: str
    token0: str
    token1: str
    reserve0: int
    reserve1: int
    fee_pips: int = 3_000
    router: str = ""
    venue: str = "uniswap_v2"


@dataclass(frozen=True, slots=True)
class V3Pool:
    """A concentrated-liquidity pool.

    ``ticks`` lists the initialised ticks with their net liquidity, ascending, complete within ``known`` (lowest and
    highest tick read); a swap that would leave that range is not quoted.
    """

    address: str
    token0: str
    token1: str
    fee_pips: int
    tick_spacing: int
    sqrt_price_x96: int
    tick: int
    liquidity: int
    ticks: tuple[tuple[int, int], ...]
    known: tuple[int, int] = (MIN_TICK, MAX_TICK)
    router: str = ""
    venue: str = "uniswap_v3"


Pool = V2Pool | V3Pool


@dataclass(frozen=True, slots=True)
class Fill:
    """An exact quote: what the pool takes, what it gives and the pool afterwards. ``spent`` < asked at a limit."""

    spent: int
    out: int
    after: Pool


def other(pool: Pool, token_in: str) -> str:
    """Return the token the pool pays for ``token_in``; ExecutionError if it does not trade it."""
    if token_in == pool.token0:
        return pool.token1
    if token_in == pool.token1:
        return pool.token0
    raise ExecutionError(f"pool {pool.address} trades {pool.token0} and {pool.token1}, not {token_in}")


def quote(pool: Pool, token_in: str, amount_in: int, sqrt_limit_x96: int | None = None) -> Fill | None:
    """Return the exact fill of selling ``amount_in`` raw units, or None where the known liquidity does not suffice."""
    other(pool, token_in)
    if amount_in <= 0:
        return None
    if isinstance(pool, V2Pool):
        return _quote_v2(pool, token_in == pool.token0, amount_in)
    return _quote_v3(pool, token_in == pool.token0, amount_in, sqrt_limit_x96)


def _quote_v2(pool: V2Pool, zero_for_one: bool, amount_in: int) -> Fill | None:
    """UniswapV2Library.getAmountOut, with the 0.3 % written as pips (same floor: both sides scale by 1000)."""
    r_in, r_out = (pool.reserve0, pool.reserve1) if zero_for_one else (pool.reserve1, pool.reserve0)
    if r_in <= 0 or r_out <= 0:
        return None
    with_fee = amount_in * (PIPS - pool.fee_pips)
    out = with_fee * r_out // (r_in * PIPS + with_fee)
    if out <= 0:
        return None
    new_in, new_out = r_in + amount_in, r_out - out
    r0, r1 = (new_in, new_out) if zero_for_one else (new_out, new_in)
    return Fill(amount_in, out, replace(pool, reserve0=r0, reserve1=r1))


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def sqrt_ratio_at_tick(tick: int) -> int:
    """Return the Q64.96 square root price of ``tick`` (TickMath.getSqrtRatioAtTick, exact)."""
    magnitude = abs(tick)
    if magnitude > MAX_TICK:
        raise ExecutionError(f"tick {tick} is outside {MIN_TICK} .. {MAX_TICK}")
    ratio = 0xFFFCB933BD6FAD37AA2D162D1A594001 if magnitude & 1 else 1 << 128
    for i, factor in enumerate(_RATIOS, start=1):
        if magnitude & (1 << i):
            ratio = (ratio * factor) >> 128
    if tick > 0:
        ratio = (2**256 - 1) // ratio
    return (ratio >> 32) + (1 if ratio & 0xFFFFFFFF else 0)


def tick_at_sqrt_ratio(sqrt_x96: int) -> int:
    """Return the greatest tick whose ratio is at most ``sqrt_x96`` (TickMath.getTickAtSqrtRatio)."""
    if not MIN_SQRT_RATIO <= sqrt_x96 < MAX_SQRT_RATIO:
        raise ExecutionError(f"square root price {sqrt_x96} is outside the pool's range")
    tick = math.floor(2 * (math.log(sqrt_x96) - _LOG_Q96) / _LOG_TICK)
    tick = max(MIN_TICK, min(MAX_TICK - 1, tick))
    while sqrt_ratio_at_tick(tick) > sqrt_x96:
        tick -= 1
    while sqrt_ratio_at_tick(tick + 1) <= sqrt_x96:
        tick += 1
    return tick


def amount0_delta(sqrt_a: int, sqrt_b: int, liquidity: int, *, up: bool) -> int:
    """Return token0 between two prices (SqrtPriceMath.getAmount0Delta)."""
    low, high = min(sqrt_a, sqrt_b), max(sqrt_a, sqrt_b)
    numerator = (liquidity << 96) * (high - low)
    return _ceil_div(_ceil_div(numerator, high), low) if up else numerator // high // low


def amount1_delta(sqrt_a: int, sqrt_b: int, liquidity: int, *, up: bool) -> int:
    """Return token1 between two prices (SqrtPriceMath.getAmount1Delta)."""
    product = liquidity * abs(sqrt_a - sqrt_b)
    return _ceil_div(product, Q96) if up else product // Q96


def _next_sqrt_from_input(sqrt_p: int, liquidity: int, amount_in: int, zero_for_one: bool) -> int:
    """SqrtPriceMath.getNextSqrtPriceFromInput: rounds against the trader."""
    if not zero_for_one:
        return sqrt_p + (amount_in << 96) // liquidity
    numerator = liquidity << 96
    product = amount_in * sqrt_p
    if product < 2**256 and numerator + product < 2**256:
        return _ceil_div(numerator * sqrt_p, numerator + product)
    return _ceil_div(numerator, numerator // sqrt_p + amount_in)


def swap_step(sqrt_p: int, target: int, liquidity: int, remaining: int, fee_pips: int) -> tuple[int, int, int, int]:
    """Return (next sqrt price, amount in, amount out, fee) of one exact-input step (SwapMath.computeSwapStep)."""
    zero_for_one = sqrt_p >= target
    less_fee = remaining * (PIPS - fee_pips) // PIPS
    if zero_for_one:
        to_target = amount0_delta(target, sqrt_p, liquidity, up=True)
    else:
        to_target = amount1_delta(sqrt_p, target, liquidity, up=True)
    reached = less_fee >= to_target
    after = target if reached else _next_sqrt_from_input(sqrt_p, liquidity, less_fee, zero_for_one)
    full = after == target
    if zero_for_one:
        amount_in = to_target if full else amount0_delta(after, sqrt_p, liquidity, up=True)
        amount_out = amount1_delta(after, sqrt_p, liquidity, up=False)
    else:
        amount_in = to_target if full else amount1_delta(sqrt_p, after, liquidity, up=True)
        amount_out = amount0_delta(sqrt_p, after, liquidity, up=False)
    fee = _ceil_div(amount_in * fee_pips, PIPS - fee_pips) if full else remaining - amount_in
    return after, amount_in, amount_out, fee


def next_tick(ticks: list[int], tick: int, spacing: int, zero_for_one: bool) -> tuple[int, bool]:
    """Return (next tick, initialised) within one bitmap word (TickBitmap.nextInitializedTickWithinOneWord)."""
    compressed = tick // spacing
    if zero_for_one:
        edge = (compressed // _WORD) * _WORD * spacing
        at = bisect_right(ticks, compressed * spacing) - 1
        found = at >= 0 and ticks[at] >= edge
    else:
        start = compressed + 1
        edge = ((start // _WORD) * _WORD + _WORD - 1) * spacing
        at = bisect_left(ticks, start * spacing)
        found = at < len(ticks) and ticks[at] <= edge
    return (ticks[at], True) if found else (edge, False)


def _quote_v3(pool: V3Pool, zero_for_one: bool, amount_in: int, limit: int | None) -> Fill | None:
    """Exact input through UniswapV3Pool.swap; None when the swap would leave the ticks that were read."""
    limit = limit or (MIN_SQRT_RATIO + 1 if zero_for_one else MAX_SQRT_RATIO - 1)
    if (limit >= pool.sqrt_price_x96) if zero_for_one else (limit <= pool.sqrt_price_x96):
        return None
    positions = [t for t, _ in pool.ticks]
    net = dict(pool.ticks)
    sqrt_p, tick, liquidity, remaining, out = pool.sqrt_price_x96, pool.tick, pool.liquidity, amount_in, 0
    while remaining > 0 and sqrt_p != limit:
        boundary, initialised = next_tick(positions, tick, pool.tick_spacing, zero_for_one)
        boundary = max(MIN_TICK, min(MAX_TICK, boundary))
        at_boundary = sqrt_ratio_at_tick(boundary)
        target = max(at_boundary, limit) if zero_for_one else min(at_boundary, limit)
        if liquidity == 0 and not any((t <= tick if zero_for_one else t > tick) for t in positions):
            break
        sqrt_p, spent, got, fee = swap_step(sqrt_p, target, liquidity, remaining, pool.fee_pips)
        remaining -= spent + fee
        out += got
        if sqrt_p == at_boundary:
            if initialised:
                liquidity += -net[boundary] if zero_for_one else net[boundary]
            tick = boundary - 1 if zero_for_one else boundary
        else:
            tick = tick_at_sqrt_ratio(sqrt_p)
        if not pool.known[0] <= tick <= pool.known[1]:
            return None
    if out <= 0:
        return None
    return Fill(amount_in - remaining, out, replace(pool, sqrt_price_x96=sqrt_p, tick=tick, liquidity=liquidity))
