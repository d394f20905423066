"""Pool state and depth, against real Uniswap bytecode: spending the depth moves the price by 1 %."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lake.errors import ConfigError
from lake.evm import Call, read
from lake.sources.pools import PoolInfo, PoolReading, PoolSource, depth_1pct, describe_pool, read_pool
from lake.store import Lake
from lake.units import from_word
from lake.universe import CHAINS
from tests.chain_fixtures import hour_ahead, into_the_hour

USD = {"BTC": 20_000.0, "ETH": 1_500.0, "LINK": 7.0, "UNI": 6.0, "AAVE": 80.0, "USDC": 1.0}


def depth_of(net, ref):
    quote = net.world.tokens[ref.quote]
    info = describe_pool(net.rpc, ref.address, ref.venue, quote.address)
    head = net.node.head().hash
    reading = read_pool(net.rpc, info, head, None if ref.quote == "USDC" else quote.feed)
    return info, reading, depth_1pct(info, reading)


def narrow_position(net, ref, ticks, share):
    """Add ``share`` of the pool's liquidity within ``ticks`` tick spacings around the price."""
    from policy.execution.routing.amm import sqrt_ratio_at_tick

    root, tick = read(net.rpc, [Call(ref.address, "slot0()", "uint160,int24")])[0]
    (held,) = read(net.rpc, [Call(ref.address, "liquidity()", "uint128")])[0]
    spacing = {500: 10, 3_000: 60}[ref.fee_pips]
    low, high = (tick // spacing - ticks) * spacing, (tick // spacing + ticks) * spacing
    a, b, part = sqrt_ratio_at_tick(low), sqrt_ratio_at_tick(high), int(held * share)
    amount0, amount1 = part * 2**96 * (b - root) // b // root, part * (root - a) // 2**96
    provider = net.accounts["provider"].address
    mint = "mint((address,address,uint24,int24,int24,uint256,uint256,uint256,uint256,address,uint256))"
    ask = (ref.token0, ref.token1, ref.fee_pips, low, high, amount0, amount1, 0, 0, provider, 2**40)
    net.deployer.call("provider", net.world.contracts["v3_positions"], mint, ask)


def moved(net, info, ref, token_in, amount):
    """Relative price change a swap of ``amount`` net of fee makes, by the contract's own quote (v3)."""
    token_out = ref.token1 if token_in == ref.token0 else ref.token0
    gross = int(amount / (1 - ref.fee_pips / 1e6))
    ask = "quoteExactInputSingle((address,address,uint256,uint24,uint160))"
    view = Call(net.world.contracts["quoter"], ask, "uint256,uint160", ((token_in, token_out, gross, ref.fee_pips, 0),))
    out, after = read(net.rpc, [view])[0]
    (before,) = read(net.rpc, [Call(ref.address, "slot0()", "uint160")])[0]
    return info.price(after) / info.price(before) - 1, out


@pytest.mark.chain
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("name", ["v3:ETH/USDC:500", "v3:BTC/USDC:3000", "v3:LINK/ETH:3000"])
def test_spending_the_depth_of_a_v3_pool_moves_it_by_one_percent(localnet, name, narrow):
    ref = localnet.world.pools[name]
    *_, before = depth_of(localnet, ref)
    if narrow:  # liquidity that ends half way to 1 %: only a walk over ticks gets this right
        narrow_position(localnet, ref, 1 if ref.fee_pips == 3_000 else 5, 2.0)
    info, reading, depth = depth_of(localnet, ref)
    if narrow:
        assert reading.ticks
        assert 1.05 * before < depth < 3 * before
    quote = localnet.world.tokens[ref.quote]
    raw = int(depth / USD[ref.quote] * 10**quote.decimals)
    up, _ = moved(localnet, info, ref, quote.address, raw)
    assert 0 < up <= 0.01 + 1e-5
    base = localnet.world.tokens[ref.asset]
    lot = int(depth / USD[ref.asset] * 10**base.decimals)
    down, _ = moved(localnet, info, ref, base.address, lot)
    assert -0.0102 < down < 0
    assert max(up, -down) == pytest.approx(0.01, rel=0.012)  # the side that binds moves 1 %


@pytest.mark.chain
def test_the_depth_is_what_the_world_was_built_with(localnet):
    from policy.localnet.world import DEFAULT_POOLS, pool_name

    wanted = {pool_name(p): p.depth_usd for p in DEFAULT_POOLS}
    for name, ref in localnet.world.pools.items():
        assert depth_of(localnet, ref)[2] == pytest.approx(wanted[name], rel=0.01), name


@pytest.mark.chain
def test_spending_the_depth_of_a_v2_pair_moves_it_by_one_percent(localnet):
    ref = localnet.world.pools["v2:ETH/USDC:3000"]
    info, reading, depth = depth_of(localnet, ref)
    x, y = read(localnet.rpc, [Call(ref.address, "getReserves()", "uint112,uint112")])[0]
    usdc, eth = (x, y) if info.quote == 0 else (y, x)
    paid = depth * 1e6
    after = (usdc + paid) ** 2 / (usdc * eth)  # without fee x*y stays
    assert after / (usdc / eth) - 1 == pytest.approx(0.01, rel=1e-6)
    assert reading.liquidity**2 <= x * y < (reading.liquidity + 1) ** 2


@pytest.mark.chain
@pytest.mark.parametrize("into_hour_s", [0, 1_800, 3_530, 3_540, 3_599])
def test_source_rows_follow_the_clock_and_fit_the_table(localnet, tmp_path, into_hour_s):
    ref = localnet.world.pools["v3:ETH/USDC:3000"]
    into_the_hour(localnet, into_hour_s)
    first = hour_ahead(localnet, room_s=61)
    prices = [1_500.0, 1_530.0, 1_470.0, 1_480.0]
    for hour, price in enumerate(prices):
        localnet.advance_prices({"ETH": price}, at=datetime.fromtimestamp(first + 3600 * hour - 60, UTC))
    localnet.mine(6, seconds=600)
    source = PoolSource(localnet.rpc, CHAINS[31337], ref.address, page=3)
    start, hour = datetime.fromtimestamp(first - 3600, UTC), timedelta(hours=1)
    frames = list(source.collect(start, start + 4 * hour))
    rows = [r for f in frames for r in f.iter_rows(named=True)]
    assert [f.height for f in frames] == [3, 1]
    assert [r["ts"] for r in rows] == [start + h * hour for h in range(4)]
    assert [r["available_at"] for r in rows] == [start + h * hour for h in range(1, 5)]
    assert [r["price"] for r in rows] == pytest.approx(prices, rel=1e-6)
    assert (
        from_word(rows[0]["liquidity_raw"]) == read(localnet.rpc, [Call(ref.address, "liquidity()", "uint128")])[0][0]
    )
    lake = Lake(str(tmp_path))
    assert sum(lake.write("pool_state", f).added for f in frames) == 4
    again = list(source.collect(start + 2 * hour, start + 3 * hour))
    assert [f.height for f in again] == [1]


@pytest.mark.chain
def test_a_pool_without_a_stable_token_asks_for_the_quote(localnet):
    ref = localnet.world.pools["v3:LINK/ETH:3000"]
    with pytest.raises(ConfigError, match="LINK"):
        describe_pool(localnet.rpc, ref.address, ref.venue)
    with pytest.raises(ConfigError, match="uniswap_v2 or uniswap_v3"):
        describe_pool(localnet.rpc, ref.address, "curve")


@pytest.mark.real
def test_depth_is_measured_as_in_recorded_history(real_data):
    """Recorded pools give in-range L, price and depth; the same L and price give the same depth here."""
    rows = pl.read_parquet(real_data / "pool_1h.parquet").drop_nulls("depth_1pct_usd").sample(300, seed=3)
    info = PoolInfo("0x", "uniswap_v3", 6, 18, 3_000, 60, 0)
    for row in rows.iter_rows(named=True):
        root = int(math.sqrt(1e12 / row["price_usdc_per_weth"]) * 2**96)
        reading = PoolReading(root, 0, int(row["liquidity_raw"]), (), 1.0)
        assert depth_1pct(info, reading) == pytest.approx(row["depth_1pct_usd"], rel=1e-9)
        assert info.price(root) == pytest.approx(row["price_usdc_per_weth"], rel=1e-9)
