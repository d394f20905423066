"""A vault against the searcher: a loose minimum is taken whole, a private or careful plan loses nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lake.evm import Call, read
from lake.rpc import quantity
from policy.execution.base import Hop, Leg, Plan
from policy.execution.routing.calldata import swap
from policy.localnet.searcher import SandwichSearcher, shortfall

if TYPE_CHECKING:
    from pathlib import Path

    from policy.localnet.market import Localnet

pytestmark = pytest.mark.chain
USD = 10**6


def loose_plan(net: Localnet, vault, usd: int, tolerance_bps: int) -> Plan:
    """One leg, USDC for ETH in one pool, with ``tolerance_bps`` of room under its quote."""
    pool = net.world.pools["v3:ETH/USDC:500"]
    usdc, eth = net.world.token("USDC").address, net.world.token("ETH").address
    ask = "quoteExactInputSingle((address,address,uint256,uint24,uint160))"
    view = Call(net.world.contracts["quoter"], ask, "uint256", ((usdc, eth, usd * USD, pool.fee_pips, 0),))
    out = int(str(read(net.rpc, [view])[0][0]))
    least = out * (10_000 - tolerance_bps) // 10_000
    hop = Hop("uniswap_v3", pool.address, usdc, eth, pool.fee_pips)
    data = swap([hop], usd * USD, least, vault.address, 2**40)
    leg = Leg(usdc, eth, usd * USD, least, out, (hop,), pool.router, data)
    s = vault.snapshot()
    plan = Plan("d", vault.address, s.chain_id, s.plan_nonce, s.block_time + 600, 0, (leg,), b"", s.block_number, "0x")
    return vault.seal(replace(plan, block_hash=s.block_hash))


@pytest.mark.parametrize("private", [False, True])
def test_a_loose_plan_loses_its_tolerance_in_public_and_nothing_in_private(vaultnet: Localnet, private: bool):
    from policy.execution.vaults.reference.adapter import ReferenceVault

    net = vaultnet
    address = net.world.extras["vault"]
    investor, cash = net.accounts["investor"].address, 9_000_000 * USD
    net.deployer.call("investor", net.world.token("USDC").address, "approve(address,uint256)", address, cash)
    net.deployer.call("investor", address, "deposit(uint256,address)", cash, investor)
    net.mine()
    vault = ReferenceVault(net.rpc, address)
    plan = loose_plan(net, vault, 3_000_000, 50)
    assert not vault.check(plan)
    searcher = SandwichSearcher(net.node, net.world)
    net.node.searchers.append(searcher)
    held = Call(plan.legs[0].token_out, "balanceOf(address)", "uint256", (address,))
    (before,) = read(net.rpc, [held])[0]
    sent = net.send("keeper", address, vault.build(plan).data, private=int(private), gas=1_500_000)
    net.mine()
    assert quantity(net.receipt(sent)["status"]) == 1
    (after,) = read(net.rpc, [held])[0]
    leg = plan.legs[0]
    assert bool(searcher.done) != private
    if private:
        assert after - before == leg.quoted_out
    else:
        assert after - before >= leg.min_out
        assert shortfall(leg.quoted_out, after - before) == pytest.approx(0.005, rel=1e-3)


def test_the_engine_leaves_nothing_to_the_searcher(vaultnet: Localnet, tmp_path: Path):
    """The engine's own tolerances are within the attacker's break-even, so even its public plans are left alone."""
    from policy.execution.engine import step
    from tests.execution.chainlab import chain_context

    net = vaultnet
    searcher = SandwichSearcher(net.node, net.world)
    net.node.searchers.append(searcher)
    report = step(chain_context(tmp_path, net, channel="public"))
    assert report.settlement is not None
    assert report.settlement.landed
    assert not searcher.done
    outs: dict[str, int] = {}
    for leg in report.plan.legs:
        outs[leg.token_out] = outs.get(leg.token_out, 0) + leg.quoted_out
    for token, quoted in outs.items():
        if token != net.world.token("USDC").address:
            assert report.settlement.deltas[token] == quoted
