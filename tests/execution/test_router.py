"""Best execution against brute force, the 5 % grid and closed forms."""

from __future__ import annotations

import itertools
import random
from functools import cache
from math import sqrt

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from policy.execution.routing.amm import V2Pool, V3Pool, quote, tick_at_sqrt_ratio
from policy.execution.routing.router import best_execution, routes
from policy.execution.routing.segments import Segment, best_split, compose, curve, value
from policy.execution.routing.yields import YieldState, YieldVault, pair_of

A, B, C = "token-a", "token-b", "token-c"


def make_v2(rng: random.Random, name: str, x: str, y: str, price: float) -> V2Pool:
    depth = 10 ** rng.uniform(22, 24.5)
    skew = 1 + rng.uniform(-0.004, 0.004)
    return V2Pool(name, x, y, int(depth), int(depth * price * skew), rng.choice([500, 3_000]))


def make_v3(rng: random.Random, name: str, x: str, y: str, price: float) -> V3Pool:
    skew = price * (1 + rng.uniform(-0.004, 0.004))
    sqrt_x96 = int(sqrt(skew) * 2**96)
    tick = tick_at_sqrt_ratio(sqrt_x96)
    base = tick // 60 * 60
    liquidity = int(10 ** rng.uniform(22, 25))
    net: dict[int, int] = {}
    for share in (0.5, 0.3, 0.2):
        part = int(liquidity * share)
        width = 60 * rng.choice([3, 10, 40, 100])
        net[base - width] = net.get(base - width, 0) + part
        net[base + width] = net.get(base + width, 0) - part
    active = sum(n for t, n in net.items() if t <= tick)
    return V3Pool(name, x, y, rng.choice([500, 3_000]), 60, sqrt_x96, tick, active, tuple(sorted(net.items())))


def market(seed: int, n: int, price: float = 1.7):
    rng = random.Random(seed)
    return [(make_v2 if rng.random() < 0.5 else make_v3)(rng, f"p{i}", A, B, price) for i in range(n)]


def net_of(told, shares, leg_cost):
    """Exact output less gas of giving each pool its share; None where a pool cannot take it."""
    total = 0
    for i, share in enumerate(shares):
        if share <= 0:
            continue
        out = told(i, share)
        if out is None:
            return None
        total += out - leg_cost
    return total


def compositions(parts: int, n: int):
    for bars in itertools.combinations(range(parts + n - 1), n - 1):
        edges = (-1, *bars, parts + n - 1)
        yield [edges[i + 1] - edges[i] - 1 for i in range(n)]


def grid(pools, amount, leg_cost, parts):
    best = None

    @cache  # a pool is asked for the same share in many splits
    def told(i, share):
        fill = quote(pools[i], A, share)
        return None if fill is None or fill.spent != share else fill.out

    for shares in compositions(parts, len(pools)):
        amounts = [amount * s // parts for s in shares]
        amounts[amounts.index(max(amounts))] += amount - sum(amounts)
        got = net_of(told, amounts, leg_cost)
        if got is not None and (best is None or got > best):
            best = got
    return best


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("n", [2, 3])
def test_never_worse_than_the_grid_and_within_a_basis_point_of_brute_force(seed, n):
    pools = market(seed, n)
    for size in (10**20, 10**22, 4 * 10**23):
        for cost in (0, 2 * 10**18):
            found = best_execution(pools, A, B, size, leg_cost_out=float(cost), most_legs=n)
            coarse = grid(pools, size, cost, 20)
            fine = grid(pools, size, cost, 400 if n == 2 else 60)
            if found is None:
                assert coarse is None
                continue
            net = found.out - cost * len(found.fills)
            assert sum(f.amount_in for f in found.fills) == size
            if coarse is not None:
                assert net >= coarse - 4 * n  # raw units of 1e-18: integer rounding of the split
                assert net >= fine * (1 - 1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_eight_pools_match_greedy_marginal_filling(seed):
    """Chunk by chunk to the best marginal quote is optimal for concave curves without fixed costs."""
    pools = market(100 + seed, 8)
    amount, chunks = 5 * 10**22, 400
    given_to = [0] * len(pools)
    out = [0] * len(pools)
    for _ in range(chunks):
        gains = []
        for i, pool in enumerate(pools):
            fill = quote(pool, A, given_to[i] + amount // chunks)
            gains.append(-1 if fill is None or fill.spent < given_to[i] + amount // chunks else fill.out - out[i])
        best = max(range(len(pools)), key=gains.__getitem__)
        given_to[best] += amount // chunks
        out[best] += gains[best]
    found = best_execution(pools, A, B, amount, most_legs=8)
    assert found.out >= sum(out) - 50
    assert found.out <= sum(out) * 1.0001


def test_two_equal_v2_pools_share_equally_and_gas_decides_whether_both_are_used():
    pools = [V2Pool(f"p{i}", A, B, 10**24, 10**24) for i in range(2)]
    both = best_execution(pools, A, B, 10**22, most_legs=2)
    assert [f.amount_in for f in both.fills] == [5 * 10**21] * 2
    gain = both.out - quote(pools[0], A, 10**22).out
    for cost, legs in ((gain * 0.99, 2), (gain * 1.01, 1)):
        assert len(best_execution(pools, A, B, 10**22, leg_cost_out=cost, most_legs=2).fills) == legs


@given(st.floats(1e3, 1e9), st.floats(1e3, 1e9), st.floats(1e3, 1e9), st.floats(1e3, 1e9), st.floats(1.0, 1e9))
@example(145750657.0, 1000.0, 1000.0, 145750813.0, 145750814.0)  # the first pool is worth less than rounding
def test_closed_form_of_two_pools(r1, y1, r2, y2, amount):
    """Marginals meet at mu = (X + R1 + R2) / (sqrt(R1 Y1) + sqrt(R2 Y2)) where both are used."""
    split = best_split([[Segment(r1, y1, float("inf"))], [Segment(r2, y2, float("inf"))]], amount, [0, 0], most=2)
    mu = (amount + r1 + r2) / (sqrt(r1 * y1) + sqrt(r2 * y2))
    x1 = sqrt(r1 * y1) * mu - r1
    if 0 < x1 < amount:
        first, second = Segment(r1, y1, float("inf")), Segment(r2, y2, float("inf"))
        both, one = first.out(x1) + second.out(amount - x1), max(first.out(amount), second.out(amount))
        assert split.out >= both * (1 - 1e-12)
        if both > one * (1 + 1e-9):  # else one pool alone is as good, but for rounding
            assert split.amounts[0] == pytest.approx(x1, rel=1e-6, abs=1e-6 * (r1 + amount))
    assert sum(split.amounts) == pytest.approx(amount, rel=1e-9)


@given(
    st.lists(st.tuples(st.floats(1e2, 1e6), st.floats(1e2, 1e6), st.floats(1e1, 1e5)), min_size=1, max_size=4),
    st.lists(st.tuples(st.floats(1e2, 1e6), st.floats(1e2, 1e6), st.floats(1e1, 1e5)), min_size=1, max_size=4),
    st.floats(0.01, 1.0),
)
@example([(100.0, 100.0, 10.0), (100.0, 126.0, 10.0)], [(100.0, 100.0, 10.0)], 1.0)  # all of it, but for rounding
def test_composition_is_one_curve_after_the_other(first, second, share):
    f = [Segment(*s) for s in first]
    g = [Segment(*s) for s in second]
    both = compose(f, g)
    reach = sum(s.cap for s in both)
    x = reach * share
    assert value(both, x) == pytest.approx(value(g, value(f, x * (1 - 1e-12))), rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(18, 23))
def test_the_curve_is_the_exact_quote_in_floats(seed, digits):
    rng = random.Random(seed)
    amount = int(10**digits)
    for pool in (make_v2(rng, "p", A, B, 1.7), make_v3(rng, "p", A, B, 1.7)):
        for token in (A, B):
            fill = quote(pool, token, amount)
            if fill is not None and fill.spent == amount:
                assert value(curve(pool, token, float(amount)), float(amount)) == pytest.approx(fill.out, rel=1e-9)


def test_two_hops_are_used_where_they_pay_and_never_share_a_pool_with_another_route():
    direct = V2Pool("direct", A, B, 10**22, 10**22)
    hops = [V2Pool("ac", A, C, 10**25, 10**25, 500), V2Pool("cb", C, B, 10**25, 10**25, 500)]
    found = best_execution([direct, *hops], A, B, 10**22, most_legs=3)
    assert {len(f.hops) for f in found.fills} == {1, 2}
    through = next(f for f in found.fills if len(f.hops) == 2)
    middle = quote(hops[0], A, through.amount_in).out
    assert through.out == quote(hops[1], C, middle).out
    used = [h.pool for f in found.fills for h in f.hops]
    assert len(used) == len(set(used))
    dear = best_execution([direct, *hops], A, B, 10**20, hop_cost_out=1e30, most_legs=3)
    assert all(len(f.hops) == 1 for f in dear.fills)


def test_one_leg_calls_one_router():
    mixed = [V2Pool("ac", A, C, 10**24, 10**24), make_v3(random.Random(1), "cb", C, B, 1.0)]
    assert routes(mixed, A, B, 10**18) == []


def test_no_liquidity_is_none_and_more_input_never_buys_less():
    assert best_execution([], A, B, 10**18) is None
    pools = market(5, 4)
    outs = [best_execution(pools, A, B, 10**k, most_legs=4).out for k in range(18, 24)]
    assert outs == sorted(outs)


@given(st.integers(1_000, 10**22), st.floats(0.01, 100.0), st.sampled_from([6, 8, 18]), st.booleans())
def test_every_amount_of_a_yield_bearing_token_finds_its_route(amount, rate, decimals, sell):
    """The pair that stands for one is far deeper than floats tell the amount apart from."""
    made = YieldVault("0xs", "0xa", decimals, decimals)
    state = YieldState(int(rate * 10 ** (decimals + 12)), decimals + 12, 0, 10**30, 10**30)
    pool = pair_of(made, state)
    ends = ("0xs", "0xa") if sell else ("0xa", "0xs")
    way = best_execution((pool,), *ends, amount, leg_cost_out=10.0**decimals, most_legs=7)
    assert way is not None
    assert way.fills[0].amount_in == amount
    assert way.out == quote(pool, ends[0], amount).out
