"""One definition of depth for history, backtest and decision: its symmetries, its limits and what empties it."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lake.depth import MOVE, TICKS, depth_raw, depth_usd
from lake.poolstate import Constants, PoolSnapshot, pair_state, reach_ticks, ticked
from lake.units import Q96
from policy.execution.routing.amm import PIPS, V2Pool, V3Pool, quote

reserves = st.integers(10**9, 10**24)


@given(x=reserves, y=reserves)
def test_a_pairs_depth_is_that_of_its_reserves_in_either_token(x, y):
    state = pair_state(x, y)
    up, down = math.sqrt(1 + MOVE) - 1, 1 - math.sqrt(1 - MOVE)
    assert depth_raw(state, 1) == pytest.approx(y * min(up, down), rel=1e-6)
    other = [1 / math.sqrt(1 - MOVE) - 1, 1 - 1 / math.sqrt(1 + MOVE)]
    if y > 10**12 and x > 10**12:
        assert depth_raw(state, 0) == pytest.approx(x * min(other), rel=0.02)


@given(x=reserves, y=reserves, k=st.integers(2, 1_000))
def test_twice_the_reserves_are_twice_the_depth(x, y, k):
    assert depth_raw(pair_state(k * x, k * y), 1) == pytest.approx(k * depth_raw(pair_state(x, y), 1), rel=1e-5)


@given(x=st.integers(10**15, 10**24), y=st.integers(10**15, 10**24))
def test_paying_the_depth_moves_a_feeless_pair_by_one_percent_at_most(x, y):
    pool = V2Pool("p", "0xa", "0xb", x, y, 0)
    amount = int(depth_raw(pair_state(x, y), 1))
    fill = quote(pool, "0xb", amount)
    assert fill is not None
    after = fill.after
    assert isinstance(after, V2Pool)
    moved = (after.reserve1 / after.reserve0) / (y / x) - 1
    assert moved == pytest.approx(MOVE, rel=0.01)


@pytest.mark.parametrize("state", [pair_state(0, 10), pair_state(10, 0), PoolSnapshot(0, 0, 0)])
def test_a_pool_without_price_or_liquidity_has_no_depth(state):
    assert depth_raw(state, 0) == depth_raw(state, 1) == depth_usd(state, 1, 6, 1.0) == 0.0


def ranged(liquidity: int, low: int, high: int, more: tuple[tuple[int, int], ...] = ()) -> PoolSnapshot:
    """A pool at price 1 with liquidity between two ticks, and further ticks."""
    ticks = sorted([(low, liquidity), (high, -liquidity), *more])
    return PoolSnapshot(Q96, 0, liquidity, tuple(ticks))


@given(liquidity=st.integers(10**12, 10**24), half=st.integers(TICKS, 5_000))
def test_liquidity_beyond_the_move_changes_nothing(liquidity, half):
    wide, narrow = ranged(liquidity, -5_000, 5_000), ranged(liquidity, -half, half)
    assert depth_raw(narrow, 1) == pytest.approx(depth_raw(wide, 1), rel=1e-9)


@given(liquidity=st.integers(10**12, 10**24), half=st.integers(1, 98))
def test_a_gap_within_the_move_leaves_only_what_is_before_it(liquidity, half):
    whole, gapped = ranged(liquidity, -5_000, 5_000), ranged(liquidity, -half, half)
    assert 0 < depth_raw(gapped, 1) < depth_raw(whole, 1)


def test_liquidity_on_one_side_only_is_no_depth():
    above = PoolSnapshot(Q96, 0, 0, ((10, 10**20), (200, -(10**20))))
    assert depth_raw(above, 1) == 0.0


@given(liquidity=st.integers(10**15, 10**22), extra=st.integers(1, 10**22), at=st.integers(1, 90))
def test_more_liquidity_is_never_less_depth(liquidity, extra, at):
    plain = ranged(liquidity, -5_000, 5_000)
    more = ranged(liquidity, -5_000, 5_000, ((-at - 1, extra), (-at, -extra), (at, extra), (at + 1, -extra)))
    assert depth_raw(more, 1) >= depth_raw(plain, 1) * (1 - 1e-12)


@given(usd=st.floats(1e-6, 1e6), decimals=st.integers(0, 18))
def test_depth_in_dollars_counts_whole_tokens(usd, decimals):
    state = pair_state(10**22, 10**22)
    assert depth_usd(state, 1, decimals, usd) == pytest.approx(depth_raw(state, 1) / 10**decimals * usd)


@given(change=st.floats(0.001, 5.0))
def test_enough_ticks_are_read_for_a_move(change):
    n = reach_ticks(change)
    assert 1.0001**n >= (1 + change) * (1 - 1e-9)
    assert 1.0001 ** (n - 1) < (1 + change) * (1 + 1e-9)


@given(x=reserves, y=reserves)
def test_a_pairs_root_and_liquidity_are_its_reserves(x, y):
    state = pair_state(x, y)
    assert state.liquidity == math.isqrt(x * y)
    assert state.reserves == (x, y)
    assert (state.sqrt_price_x96 / Q96) ** 2 == pytest.approx(y / x, rel=1e-3)


@pytest.mark.parametrize(("name", "has_ticks"), [("uniswap_v2", False), ("uniswap_v3", True)])
def test_ticks_are_known_by_the_venue(name, has_ticks):
    assert ticked(Constants("p", name, "a", "b", 3_000, 60 if has_ticks else 0)) == has_ticks


@given(
    liquidity=st.integers(10**18, 10**24),
    amount=st.integers(10**6, 10**22),
    fee=st.sampled_from([100, 500, 3_000, 10_000]),
)
def test_a_fee_is_taken_off_what_is_paid_in(liquidity, amount, fee):
    ticks = ((-60_000, liquidity), (60_000, -liquidity))

    def paid(pips: int, given: int):
        return quote(V3Pool("p", "0xa", "0xb", pips, 60, Q96, 0, liquidity, ticks, (-60_000, 60_000)), "0xa", given)

    charged, free = paid(fee, amount), paid(0, amount * (PIPS - fee) // PIPS)
    assume(charged is not None and free is not None)
    assert abs(charged.out - free.out) <= 2 + free.out // 10**15
