"""Integer pool quotes against independent exact formulas in fractions."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import ExecutionError
from policy.execution.routing.amm import (
    MAX_SQRT_RATIO,
    MAX_TICK,
    MIN_SQRT_RATIO,
    MIN_TICK,
    V2Pool,
    V3Pool,
    next_tick,
    quote,
    sqrt_ratio_at_tick,
    tick_at_sqrt_ratio,
)

AMOUNT = st.integers(1, 10**30)


@given(st.integers(10**3, 10**30), st.integers(10**3, 10**30), AMOUNT, st.sampled_from([0, 100, 3_000, 10_000]))
def test_v2_is_the_floor_of_the_exact_formula(r_in, r_out, amount, fee):
    got = quote(V2Pool("p", "a", "b", r_in, r_out, fee), "a", amount)
    keep = Fraction(1_000_000 - fee, 1_000_000)
    exact = r_out * keep * amount / (r_in + keep * amount)
    assert (0 if got is None else got.out) == exact.numerator // exact.denominator
    if got is not None:
        after = got.after
        assert after.reserve0 * after.reserve1 >= r_in * r_out  # k never falls
        assert (after.reserve0, after.reserve1) == (r_in + amount, r_out - got.out)


@given(st.integers(10**6, 10**24), st.integers(10**6, 10**24), st.integers(1, 10**20))
def test_v2_with_thousandths_is_the_library_formula(r_in, r_out, amount):
    got = quote(V2Pool("p", "a", "b", r_in, r_out, 3_000), "a", amount)
    library = amount * 997 * r_out // (r_in * 1_000 + amount * 997)
    assert (0 if got is None else got.out) == library


@given(st.integers(MIN_TICK, MAX_TICK))
def test_tick_ratio_is_close_to_the_power_and_inverts(tick):
    ratio = sqrt_ratio_at_tick(tick)
    # squared ratio against 1.0001**tick in exact integers: (ratio / 2**96)**2 * 10000**tick = 10001**tick
    exact = Fraction(10_001, 10_000) ** tick if abs(tick) < 3_000 else None
    if exact is not None:
        assert abs(Fraction(ratio * ratio, 2**192) / exact - 1) < Fraction(1, 10**24) + Fraction(2, ratio)
    if MIN_SQRT_RATIO <= ratio < MAX_SQRT_RATIO:
        assert tick_at_sqrt_ratio(ratio) == tick
        if ratio > MIN_SQRT_RATIO:
            assert tick_at_sqrt_ratio(ratio - 1) == tick - 1


def test_tick_bounds_are_the_contracts_constants():
    assert sqrt_ratio_at_tick(MIN_TICK) == MIN_SQRT_RATIO
    assert sqrt_ratio_at_tick(MAX_TICK) == MAX_SQRT_RATIO
    with pytest.raises(ExecutionError, match="outside"):
        sqrt_ratio_at_tick(MAX_TICK + 1)


def v3(sqrt_x96, liquidity, ticks, fee=3_000, spacing=60, known=(MIN_TICK, MAX_TICK)):
    return V3Pool("p", "a", "b", fee, spacing, sqrt_x96, tick_at_sqrt_ratio(sqrt_x96), liquidity, ticks, known)


def exact_swap(pool: V3Pool, zero_for_one: bool, amount: int) -> tuple[Fraction, Fraction]:
    """Output and input of the swap in exact fractions, range by range (Uniswap v3 whitepaper, 6.2.3)."""
    keep = Fraction(1_000_000 - pool.fee_pips, 1_000_000)
    sqrt_p, liquidity = Fraction(pool.sqrt_price_x96, 2**96), pool.liquidity
    left, out, spent = Fraction(amount), Fraction(0), Fraction(0)
    ticks = sorted(pool.ticks, reverse=zero_for_one)
    ticks = [t for t in ticks if (t[0] <= pool.tick if zero_for_one else t[0] > pool.tick)]
    for tick, net in ticks:
        bound = Fraction(sqrt_ratio_at_tick(tick), 2**96)
        if liquidity:
            if zero_for_one:
                need = (1 / bound - 1 / sqrt_p) * liquidity / keep
                reached = need <= left
                end = bound if reached else 1 / (1 / sqrt_p + left * keep / liquidity)
                out += (sqrt_p - end) * liquidity
            else:
                need = (bound - sqrt_p) * liquidity / keep
                reached = need <= left
                end = bound if reached else sqrt_p + left * keep / liquidity
                out += (1 / sqrt_p - 1 / end) * liquidity
            used = need if reached else left
            left, spent = left - used, spent + used
            if not reached:
                return out, spent
        sqrt_p = bound
        liquidity += -net if zero_for_one else net
    return out, spent


@st.composite
def ranges(draw):
    centre = draw(st.integers(-2_000, 2_000))
    spacing = draw(st.sampled_from([1, 10, 60, 200]))
    fee = draw(st.sampled_from([100, 500, 3_000, 10_000]))
    base = centre // spacing * spacing
    net: dict[int, int] = {}
    active = 0
    for _ in range(draw(st.integers(1, 4))):
        low = base - spacing * draw(st.integers(0, 400))
        high = base + spacing * draw(st.integers(1, 400))
        liquidity = draw(st.integers(10**15, 10**24))
        net[low] = net.get(low, 0) + liquidity
        net[high] = net.get(high, 0) - liquidity
        active += liquidity
    offset = draw(st.integers(0, spacing - 1))
    sqrt_x96 = sqrt_ratio_at_tick(base + offset)
    return v3(sqrt_x96, active, tuple(sorted(net.items())), fee, spacing)


@settings(max_examples=300, deadline=None)
@given(ranges(), st.booleans(), st.integers(10**6, 10**22))
def test_v3_is_the_exact_formula_rounded_against_the_trader(pool, zero_for_one, amount):
    got = quote(pool, "a" if zero_for_one else "b", amount)
    out, spent = exact_swap(pool, zero_for_one, amount)
    # the contract stops at every bitmap word, ceils the input and floors the output there
    words = 2 * 800 * pool.tick_spacing // (256 * pool.tick_spacing) + 2 * len(pool.ticks) + 4
    if got is None:
        assert out < words
        return
    assert got.spent <= amount
    assert out - got.out >= -Fraction(out, 10**20) - 1
    marginal = max(Fraction(1), out / spent if spent else 0, Fraction(got.after.sqrt_price_x96, 2**96) ** 2)
    assert out - got.out <= words * (2 + marginal) * 2


@given(ranges(), st.integers(10**6, 10**20))
def test_v3_there_and_back_never_earns(pool, amount):
    there = quote(pool, "a", amount)
    if there is not None:
        back = quote(there.after, "b", there.out)
        assert back is None or back.out <= there.spent


@given(ranges(), st.integers(10**8, 10**20))
def test_v3_crossing_keeps_the_books(pool, amount):
    fill = quote(pool, "a", amount)
    if fill is None:
        return
    crossed = sum(net for tick, net in pool.ticks if fill.after.tick < tick <= pool.tick)
    assert fill.after.liquidity == pool.liquidity - crossed
    assert fill.after.tick == tick_at_sqrt_ratio(fill.after.sqrt_price_x96) or any(
        sqrt_ratio_at_tick(t) == fill.after.sqrt_price_x96 for t, _ in pool.ticks
    )


@given(st.lists(st.integers(-5_000, 5_000), max_size=20, unique=True), st.integers(-5_000, 5_000), st.booleans())
def test_next_tick_is_the_nearest_initialised_one_within_its_word(ticks, tick, zero_for_one):
    spacing = 10
    placed = sorted({t // spacing * spacing for t in ticks})
    found, initialised = next_tick(placed, tick, spacing, zero_for_one)
    compressed = tick // spacing
    word = (compressed if zero_for_one else compressed + 1) // 256
    inside = [t for t in placed if (t // spacing) // 256 == word]
    ahead = [t for t in inside if (t <= tick if zero_for_one else t > tick)]
    if ahead:
        assert (found, initialised) == ((max(ahead) if zero_for_one else min(ahead)), True)
    else:
        assert (found, initialised) == ((word * 256 if zero_for_one else word * 256 + 255) * spacing, False)


def test_a_swap_beyond_the_ticks_that_were_read_is_not_quoted():
    sqrt_x96 = isqrt(2**192)
    pool = v3(sqrt_x96, 10**18, ((-600, 10**18), (600, -(10**18))), known=(-120, 120))
    assert quote(pool, "a", 10**12) is not None
    assert quote(pool, "a", 10**17) is None


def test_a_price_limit_stops_the_swap_and_says_what_was_spent():
    pool = v3(2**96, 10**18, ((-6_000, 10**18), (6_000, -(10**18))))
    limit = sqrt_ratio_at_tick(-100)
    fill = quote(pool, "a", 10**18, limit)
    assert fill.after.sqrt_price_x96 == limit
    assert 0 < fill.spent < 10**18
    assert quote(pool, "b", 1_000, limit) is None  # a limit on the wrong side
    with pytest.raises(ExecutionError, match="not c"):
        quote(pool, "c", 1)
