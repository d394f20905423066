"""Average prices of the traded pools at the decision's block, and the refusals they cause, on real pools."""

from __future__ import annotations

import pytest

from lake.evm import Call, calldata, read
from policy.execution.engine import step
from policy.execution.probes.twap import WINDOW_S, averages
from tests.execution.chainlab import TARGETS, chain_context, known_pools, watched

pytestmark = pytest.mark.chain
V2 = "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)"
V3 = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))"
POOLS = {"v2:ETH/USDC:3000": 3_000_000, "v3:ETH/USDC:500": 60_000_000, "v3:ETH/USDC:3000": 40_000_000}
"""What buys about 7.5 % of price in each."""


def pump(net, name, usd, *, back=False):
    """Swap dollars into the pool (``back``: the ether out of the trader's pocket into it)."""
    ref, me = net.world.pools[name], net.accounts["trader"].address
    ends = [net.world.token(a).address for a in (("ETH", "USDC") if back else ("USDC", "ETH"))]
    amount = int(usd / 1_500 * 10**18) if back else usd * 10**6
    if name.startswith("v2"):
        data = calldata(V2, amount, 0, ends, me, 2**40)
    else:
        data = calldata(V3, (*ends, ref.fee_pips, me, 2**40, amount, 0, 0))
    sent = net.send("trader", ref.router, data)
    net.mine()
    assert net.receipt(sent)["status"] == "0x1"


def found(net, ctx, window_s=WINDOW_S):
    """USD price by pool name."""
    names = {p.address: n for n, p in net.world.pools.items()}
    rows = averages(net.rpc, known_pools(net), ctx.vault.snapshot(), window_s)
    return {names[r.pool]: None if r.price_e8 is None else r.price_e8 / 1e8 for r in rows}


@pytest.fixture
def calm(vaultnet):
    """A market that has stood still for more than the window."""
    vaultnet.mine(seconds=WINDOW_S)
    vaultnet.mine(12)
    return vaultnet


def test_a_calm_market_averages_to_its_price_in_every_pool(calm, tmp_path):
    prices = found(calm, chain_context(tmp_path, calm))
    assert set(prices) == {n for n, p in calm.world.pools.items() if {p.asset, p.quote} <= set(TARGETS)}
    for name, price in prices.items():
        assert price == pytest.approx({"ETH": 1_500, "BTC": 20_000}[calm.world.pools[name].asset], rel=2e-4), name


@pytest.mark.parametrize("name", POOLS)
def test_the_average_weighs_a_price_by_the_time_it_stood(calm, tmp_path, name):
    ctx = chain_context(tmp_path, calm)
    before = found(calm, ctx)[name]
    pump(calm, name, POOLS[name])
    calm.mine()
    ref = calm.world.pools[name]
    state = read(calm.rpc, [Call(ref.address, *(("getReserves()", "uint112,uint112") if name.startswith("v2") else
                                                ("slot0()", "uint160")))])[0]  # fmt: skip
    ratio = state[1] / state[0] if name.startswith("v2") else (state[0] / 2**96) ** 2
    after = (ratio if ref.token0 != calm.world.token("USDC").address else 1 / ratio) * 10**12
    assert after > 1.05 * before
    assert found(calm, ctx)[name] < 1.002 * before  # one block of a hundred and fifty
    calm.mine(seconds=74 * 12)
    half = found(calm, ctx)[name]
    mean = (before + after) / 2 if name.startswith("v2") else (before * after) ** 0.5  # v3 averages the logarithm
    assert half == pytest.approx(mean, rel=2e-3)
    calm.mine(seconds=80 * 12)
    assert found(calm, ctx)[name] == pytest.approx(after, rel=1e-3)


def test_v2_finds_its_window_among_blocks_that_came_late_or_fast(calm, tmp_path):
    ctx = chain_context(tmp_path, calm)
    name = "v2:ETH/USDC:3000"
    pump(calm, name, POOLS[name])
    for seconds in (1, 1, 700, 3, 40, 300):
        calm.mine(seconds=seconds)
    elapsed = 1_045  # since the pump
    before, after = 1_500.0, found(calm, ctx, 1_000)[name]
    assert after > 1.05 * before
    for window_s in (1_100, WINDOW_S):
        expected = (before * (window_s - elapsed) + after * elapsed) / window_s
        assert found(calm, ctx, window_s)[name] == pytest.approx(expected, rel=1e-3)


def test_where_blocks_come_on_time_two_requests_do(calm, tmp_path):
    ctx = chain_context(tmp_path, calm)
    calm.mine(12)
    snapshot, infos = ctx.vault.snapshot(), [p for p in known_pools(calm) if p.venue == "uniswap_v2"]
    calm.front.calls.clear()
    (found,) = averages(calm.rpc, infos, snapshot, window_s=120)
    assert found.price_e8 == pytest.approx(1_500 * 10**8, rel=1e-4)
    assert calm.front.calls["eth_getBlockByNumber"] <= 9


def test_a_pool_without_enough_history_says_nothing_and_refuses_nothing(calm, tmp_path):
    prices = found(calm, chain_context(tmp_path, calm), window_s=2**31)
    assert set(prices.values()) == {None}


def refused(net, folder):
    ctx = watched(chain_context(folder, net), net)
    nonce = ctx.node.account_nonce(ctx.sender)
    report = step(ctx)
    net.mine(2)
    if report.outcome == "refused":
        assert ctx.journal.last() is None
        assert ctx.node.account_nonce(ctx.sender) == nonce
    return report, [v for v in report.verdicts if not v.ok]


@pytest.mark.parametrize("name", POOLS)
def test_a_token_whose_pool_is_held_off_the_oracle_is_left_alone_with_the_figures(calm, tmp_path, name):
    """One token's price is in doubt: nothing of it moves; where nothing else is left to trade, nothing does."""
    pump(calm, name, POOLS[name])
    calm.mine(seconds=160 * 12)
    report, reasons = refused(calm, tmp_path)
    assert report.outcome in {"refused", "traded"}
    (verdict,) = reasons if report.outcome == "refused" else report.sick.values()
    eth = calm.world.tokens["ETH"].address
    assert all(eth not in {leg.token_in, leg.token_out} for leg in report.legs)
    assert verdict.check == "oracle_deviates"
    assert calm.world.pools[name].address in verdict.reason
    assert verdict.figures["price_e8"] == 1_500 * 10**8
    assert verdict.figures["second_e8"] > 1_575 * 10**8
    assert verdict.figures["gap_bps"] > verdict.figures["allowed_bps"] == 500


def test_a_feed_moved_off_the_pools_is_refused_although_both_feeds_agree(calm, tmp_path):
    data = calldata("post(int256)", 1_600 * 10**8)
    for feed in (calm.world.tokens["ETH"].feed, calm.world.extras["second_feed:ETH"]):
        calm.send("deployer", feed, data)
    calm.mine()
    report, reasons = refused(calm, tmp_path)
    assert report.outcome == "refused"
    assert {v.check for v in reasons} == {"oracle_deviates"}
    pools = {n for n, p in calm.world.pools.items() if any(p.address in v.reason for v in reasons)}
    assert pools == {"v2:ETH/USDC:3000", "v3:ETH/USDC:500", "v3:ETH/USDC:3000", "v3:BTC/ETH:3000"}


def test_a_spike_of_one_block_is_no_reason_to_refuse(calm, tmp_path):
    name = "v2:ETH/USDC:3000"
    pump(calm, name, POOLS[name])
    pump(calm, name, POOLS[name], back=True)
    report, reasons = refused(calm, tmp_path)
    assert report.outcome == "traded", reasons
