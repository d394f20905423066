"""One definition of depth and fee: the table, the backtest that reads it and the live decision agree, for any pool."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from random import Random
from types import SimpleNamespace

import numpy as np
import polars as pl
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lake import depth
from lake.poolstate import pair_state
from lake.sources.pools import PoolInfo, PoolReading, depth_1pct, pool_row
from lake.store import Lake
from lake.tables import TABLES
from lake.units import utc
from policy.execution.base import Quote, Token
from policy.execution.routing.amm import (
    MAX_SQRT_RATIO,
    MAX_TICK,
    MIN_SQRT_RATIO,
    MIN_TICK,
    V2Pool,
    V3Pool,
    quote,
    sqrt_ratio_at_tick,
)
from policy.execution.state_builder import depth_usd, fees, pool_depth_usd
from policy.simulation.history import load

QUOTE, BASE = "0x" + "01" * 20, "0x" + "02" * 20
SPACING = {100: 1, 500: 10, 3_000: 60, 10_000: 200}
USABLE = 1e-3  # USD: pools below it hold dust and their integers say nothing
FAR = MAX_TICK // 200 * 200 - 400


def v3_pool(rng: Random) -> V3Pool:
    """An empty, gapped, one-sided, thin or deep pool, at an ordinary or at a most extreme price."""
    fee = rng.choice(sorted(SPACING))
    spacing = SPACING[fee]
    tick = rng.choice([rng.randint(-200_000, 200_000), rng.randint(-FAR, FAR), FAR, -FAR])
    net: dict[int, int] = {}
    liquidity = 0
    for _ in range(rng.randint(0, 4)):
        shift = rng.choice((0, 0, 30, 60, 600, -40, -600))  # 600 ticks: a gap of 6 %
        low = max((tick + shift - rng.randint(0, 400)) // spacing * spacing, -FAR)
        high = min(max(low + spacing, (tick + shift + rng.randint(0, 400)) // spacing * spacing), FAR + 200)
        amount = int(10 ** rng.uniform(6, 24))
        net[low] = net.get(low, 0) + amount
        net[high] = net.get(high, 0) - amount
        liquidity += amount if low <= tick < high else 0
    ticks = tuple(sorted((t, n) for t, n in net.items() if n))
    span = depth.reach_ticks(0.25)
    seen = tuple((t, n) for t, n in ticks if tick - span <= t <= tick + span)
    lower, upper = sqrt_ratio_at_tick(tick), sqrt_ratio_at_tick(tick + 1)
    root = lower + (upper - lower) * rng.randint(0, 99) // 100
    at = sorted([QUOTE, BASE], reverse=rng.random() < 0.5)
    return V3Pool("p", *at, fee, spacing, root, tick, liquidity, seen, (tick - span, tick + span), "r")


def v2_pool(rng: Random) -> V2Pool:
    """A pair, empty now and then."""
    reserves = [0 if rng.random() < 0.1 else int(10 ** rng.uniform(0, 28)) for _ in range(2)]
    return V2Pool("p", *sorted([QUOTE, BASE], reverse=rng.random() < 0.5), *reserves, 3_000, "r")


def any_pool(rng: Random) -> V2Pool | V3Pool:
    """Two v3 pools for each v2 pair."""
    return v2_pool(rng) if rng.random() < 1 / 3 else v3_pool(rng)


SEEDS = st.integers(0, 2**32)


def snapshot(decimals: int = 6, price_e8: int = 10**8):
    """The accounting asset first, as a vault lists its tokens."""
    tokens = (Token("USDC", QUOTE, decimals), Token("X", BASE, 18))
    return SimpleNamespace(tokens=tokens, quotes=(Quote(QUOTE, price_e8, 1, 1), Quote(BASE, 5 * 10**8, 1, 1)))


def recorded(pool, decimals: int = 6, usd: float = 1.0):
    """What the table holds of the pool: its constants and what a reading at one block finds near the price."""
    side = 0 if pool.token0 == QUOTE else 1
    places = (decimals, 18) if side == 0 else (18, decimals)
    if isinstance(pool, V2Pool):
        s = pair_state(pool.reserve0, pool.reserve1)
        info = PoolInfo(pool.address, "uniswap_v2", *places, pool.fee_pips, 0, side)
        return info, PoolReading(s.sqrt_price_x96, s.tick, s.liquidity, (), usd)
    near = tuple((t, n) for t, n in pool.ticks if abs(t - pool.tick) <= depth.TICKS)
    info = PoolInfo(pool.address, "uniswap_v3", *places, pool.fee_pips, pool.tick_spacing, side)
    return info, PoolReading(pool.sqrt_price_x96, pool.tick, pool.liquidity, near, usd)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(SEEDS.map(lambda s: any_pool(Random(s))), st.sampled_from([6, 8, 18, 0]), st.floats(0.5, 5_000))
def test_the_table_and_the_live_decision_agree_on_200_pools(pool, decimals, usd):
    info, reading = recorded(pool, decimals, usd)
    table = depth_1pct(info, reading)
    world = snapshot(decimals, round(usd * 1e8))
    live = pool_depth_usd(world, pool)
    assert math.isfinite(live)
    assert live == np.float64(live)
    assert abs(live - table) <= 1e-7 * table
    assert list(depth_usd(world, [pool])) == [live, live]
    if live > 0:
        assert list(fees(world, [pool])) == [info.fee_pips / 1e6] * 2
    else:
        assert np.isnan(fees(world, [pool])).all()


def _exactly(pool: V3Pool, side: int) -> float:
    """The same depth from the contract's integers: what a swap without fee exchanges up to a price 1 % away."""
    found = []
    base = 1 - side
    ends = (pool.token0, pool.token1)
    for factor, pays in ((1.01, side), (0.99, base)):
        raw = factor if side == 1 else 1 / factor
        limit = int(pool.sqrt_price_x96 * math.sqrt(raw))
        limit = min(max(limit, MIN_SQRT_RATIO + 1), MAX_SQRT_RATIO - 1)
        wide = replace(pool, fee_pips=0, known=(MIN_TICK, MAX_TICK))
        fill = quote(wide, ends[pays], 2**200, limit)
        found.append(0.0 if fill is None else float(fill.spent if pays == side else fill.out))
    return min(found)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(SEEDS.map(lambda s: v3_pool(Random(s))))
def test_the_depth_is_what_the_pools_own_integers_exchange(pool):
    side = 0 if pool.token0 == QUOTE else 1
    raw = [depth.depth_raw(pool, s) for s in (0, 1)]
    assume(max(raw) == 0 or min(raw) > 1_000)  # where one token's whole depth is below a unit, integers say nothing
    found, exact = raw[side], _exactly(pool, side)
    assert abs(found - exact) <= 1e-5 * max(found, exact) + 4  # raw units: a rounding per tick crossed


def test_a_gap_or_nothing_is_no_depth_and_its_fee_does_not_count():
    root = sqrt_ratio_at_tick(0)
    at = (QUOTE, BASE)
    full = V3Pool("deep", *at, 3_000, 60, root, 0, 10**18, ((-6_000, 10**18), (6_000, -(10**18))), router="r")
    empty = V3Pool("empty", *at, 500, 10, root, 0, 0, (), router="r")
    gap = V3Pool("gap", *at, 100, 1, root, 0, 0, ((500, 10**22), (900, -(10**22))), router="r")
    one_sided = V3Pool("one", *at, 100, 1, root, 0, 10**18, ((-900, 10**18), (0, -(10**18))), router="r")
    one_sided = replace(one_sided, liquidity=0, tick=0)
    world = snapshot(18)
    alone = depth_usd(world, [full])
    assert (alone > 0).all()
    assert (depth_usd(world, [full, empty, gap, one_sided]) == alone).all()
    assert list(fees(world, [full, empty, gap, one_sided])) == [3e-3, 3e-3]
    assert list(depth_usd(world, [empty, gap, one_sided])) == [0, 0]


def test_the_backtest_reads_the_depth_the_live_decision_measures(tmp_path):
    pools = [any_pool(Random(seed)) for seed in range(200)]
    start = utc("2024-01-01")
    rows, deep = [], {}
    for i, pool in enumerate(pools):
        named = replace(pool, address=f"0xpool{i}")
        info, reading = recorded(named)
        if not reading.sqrt_price_x96:
            continue  # the source writes no row without a price
        rows.append(pool_row(info, reading, 1, start, start + timedelta(hours=1)))
        deep[f"A{i}"] = pool_depth_usd(snapshot(), named)
    lake = Lake(str(tmp_path))
    frame = pl.DataFrame(rows, schema=TABLES["pool_state"].columns)
    lake.write("pool_state", frame.filter(pl.col("price").is_between(1e-300, 1e300)))
    hours = [start + timedelta(hours=h) for h in range(6)]
    grid = pl.DataFrame({"ts": hours}, schema={"ts": pl.Datetime("us", "UTC")})
    known = grid.with_columns(available_at=pl.col("ts") + timedelta(hours=1))
    lake.write("gas", known.with_columns(chain_id=pl.lit(1), base_fee_gwei=pl.lit(20.0)))
    bars = [
        known.with_columns(source=pl.lit("s"), asset=pl.lit(a), step=pl.lit(3600))
        .with_columns(pl.lit(1_000.0 + i).alias(c) for c in ("open", "high", "low", "close"))
        for i, a in enumerate([*deep, "ETH"])
    ]  # fmt: skip
    lake.write("prices", pl.concat(bars))
    usable = {a: f"0xpool{a[1:]}" for a, usd in deep.items() if usd > 0}
    kept = set(lake.scan("pool_state").filter(pl.col("depth_1pct_usd") > 0).collect()["pool"])
    history = load(lake, start + timedelta(hours=3), hours[-1], list(usable), pools=usable)
    assert len(deep) > len(usable) > 60
    seen = dict(zip(history.assets, history.depth_usd[-1], strict=True))
    for asset, usd in deep.items():
        if asset in usable and usable[asset] in kept:
            assert abs(seen[asset] - usd) <= 1e-7 * usd
    assert not any(usable.get(a) is None and f"0xpool{a[1:]}" in kept for a in deep)
