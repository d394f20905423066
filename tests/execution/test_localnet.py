"""The local market: starts, moves, undoes, and orders transactions as a real node would."""

from __future__ import annotations

import pytest

from lake.evm import Call, calldata, read
from lake.rpc import quantity

pytestmark = pytest.mark.chain


def price(net, name):
    """Raw token1 per token0 of a pool."""
    pool = net.world.pools[name]
    if pool.venue == "uniswap_v3":
        (root,) = read(net.rpc, [Call(pool.address, "slot0()", "uint160")])[0]
        return (root / 2**96) ** 2
    r0, r1 = read(net.rpc, [Call(pool.address, "getReserves()", "uint112,uint112")])[0]
    return r1 / r0


def usd_ratio(net, pool, usd):
    by = {t.address: a for a, t in net.world.tokens.items()}
    a0, a1 = by[pool.token0], by[pool.token1]
    return usd[a0] / usd[a1] * 10 ** (net.world.tokens[a1].decimals - net.world.tokens[a0].decimals)


def test_every_pool_and_feed_follows_the_prices(localnet):
    usd = {"BTC": 21_500.0, "ETH": 1_320.0, "LINK": 8.25, "UNI": 4.4, "AAVE": 93.0}
    head = localnet.advance_prices(usd, gas_gwei=17)
    assert head.base_fee_wei == 17 * 10**9
    for name, pool in localnet.world.pools.items():
        assert price(localnet, name) == pytest.approx(usd_ratio(localnet, pool, {"USDC": 1.0, **usd}), rel=2e-6), name
    for asset, wanted in usd.items():
        feed = localnet.world.tokens[asset].feed
        _, answer, _, updated, _ = read(
            localnet.rpc, [Call(feed, "latestRoundData()", "uint80,int256,uint256,uint256,uint80")]
        )[0]
        assert (answer, updated) == (round(wanted * 1e8), head.time)


def test_a_test_leaves_no_trace(localnet_session, request):
    before = localnet_session.node.head()
    net = request.getfixturevalue("localnet")
    net.send("trader", net.accounts["keeper"].address, b"", value=5)
    net.mine(3)
    saved = net.snapshot()
    net.revert(saved)
    assert net.node.head().number == before.number + 4 + 3


def test_the_next_base_fee_is_exact_under_load(localnet):
    sink = localnet.accounts["investor"].address
    for step in range(12):
        wanted = localnet.node.next_base_fee()
        for _ in range(step % 4):
            localnet.send("trader", sink, b"\x01" * 200, gas=5_000_000, tip_wei=1)
        head = localnet.mine()
        assert head.base_fee_wei == wanted


def test_a_swap_through_the_front_lands(automining):
    net = automining
    eth, usdc = net.world.tokens["ETH"], net.world.tokens["USDC"]
    me = net.accounts["trader"].address
    swap = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))"
    ask = (usdc.address, eth.address, 500, me, 2**40, 15_000 * 10**6, 0, 0)
    (before,) = read(net.rpc, [Call(eth.address, "balanceOf(address)", "uint256", (me,))])[0]
    sent = net.send("trader", net.world.contracts["v3_router"], calldata(swap, ask))
    assert quantity(net.receipt(sent)["status"]) == 1
    (after,) = read(net.rpc, [Call(eth.address, "balanceOf(address)", "uint256", (me,))])[0]
    assert (after - before) / 1e18 == pytest.approx(10 * (1 - 500e-6), rel=1e-4)
