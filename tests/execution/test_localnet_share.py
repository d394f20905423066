"""Hints and refunds on the local chain: what searchers see, that they only come after, and what is paid back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eth_account import Account

from lake.errors import RpcError
from lake.evm import calldata
from lake.rpc import quantity
from policy.execution.engine import step
from policy.execution.submission.channels import ShareChannel
from policy.localnet.accounts import builder
from policy.localnet.searcher import SandwichSearcher
from tests.execution.chainlab import chain_context
from tests.execution.reference_backrunner import ReferenceBackrunner

pytestmark = pytest.mark.chain
FUND = "0x00000000000000000000000000000000000fEE1D"
SWAPS = {
    "v2": "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)",
    "v3": "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))",
}


def victim(net, name="v2:ETH/USDC:3000", usd=400_000):
    """A signed swap of the trader's that moves the pool by more than its fee: (bytes, hash)."""
    ref, me = net.world.pools[name], net.accounts["trader"]
    usdc, eth = net.world.token("USDC").address, net.world.token("ETH").address
    kind, amount = name[:2], usd * 10**6
    args = (
        (amount, 0, [usdc, eth], me.address, 2**40)
        if kind == "v2"
        else ((usdc, eth, ref.fee_pips, me.address, 2**40, amount, 0, 0),)
    )
    fields = {
        "type": 2,
        "chainId": net.chain_id,
        "to": ref.router,
        "value": 0,
        "data": calldata(SWAPS[kind], *args),
        "nonce": quantity(net.rpc.call("eth_getTransactionCount", [me.address, "latest"])),
        "gas": 400_000,
        "maxFeePerGas": 4 * 10**9,
        "maxPriorityFeePerGas": 10**8,
    }
    raw = Account.sign_transaction(fields, me.key)
    return bytes(raw.raw_transaction), "0x" + bytes(raw.hash).hex()


def share(net, signed, **terms):
    """Send it with hints; the refund goes to FUND."""
    head = net.node.head().number
    return ShareChannel(net.rpc, **{"refund_to": FUND, **terms}).send(*signed, head + 1, head + 10)


def wei(net, address):
    return quantity(net.rpc.call("eth_getBalance", [address, "latest"]))


def block(net):
    return net.rpc.call("eth_getBlockByNumber", ["latest", True])


@pytest.mark.parametrize(
    ("name", "usd"), [("v2:ETH/USDC:3000", 400_000), ("v3:ETH/USDC:3000", 5_000_000), ("v3:ETH/USDC:500", 2_000_000)]
)
def test_a_hinted_swap_is_backrun_and_its_share_of_the_payment_arrives(localnet, name, usd):
    net = localnet
    searcher = ReferenceBackrunner(net.node, net.world)
    net.node.backrunners.append(searcher)
    before, builders = wei(net, FUND), wei(net, builder().address)
    signed = victim(net, name, usd)
    assert share(net, signed, refund_percent=80).taken
    assert net.node.pool.find(signed[1]) is None
    net.mine()
    mined = block(net)
    first, second, third = mined["transactions"]
    assert first["hash"] == signed[1]
    assert second["from"] == net.accounts["searcher"].address.lower()
    assert (third["from"], third["to"]) == (builder().address.lower(), FUND.lower())
    receipts = [net.receipt(t["hash"]) for t in mined["transactions"]]
    assert [r["status"] for r in receipts] == ["0x1"] * 3
    base = quantity(mined["baseFeePerGas"])
    paid, tip = (quantity(r["gasUsed"]) * (quantity(r["effectiveGasPrice"]) - base) for r in (receipts[1], receipts[0]))
    refund = wei(net, FUND) - before
    assert refund == quantity(third["value"]) == paid * 80 // 100 - 21_000 * base > 0
    assert wei(net, builder().address) - builders == paid + tip - refund - 21_000 * base
    ((_, correction),) = searcher.done
    assert paid < correction.profit_wei  # the back-run pays its searcher too


def test_without_anyone_who_backruns_it_lands_alone_and_nothing_is_paid(localnet):
    net = localnet
    signed = victim(net)
    share(net, signed)
    net.mine()
    assert [t["hash"] for t in block(net)["transactions"]] == [signed[1]]
    assert wei(net, FUND) == 0
    assert not net.node.shared


def test_searchers_see_the_hints_alone(localnet):
    net = localnet
    seen = []

    class Reader:
        def backruns(self, hints, base_fee_wei, block):
            seen.extend(hints)
            return []

    net.node.backrunners.append(Reader())
    signed = victim(net)
    for hints in (("hash",), ("hash", "logs"), ("hash", "contract_address", "function_selector")):
        saved = net.snapshot()
        share(net, signed, hints=hints)
        net.mine()
        net.revert(saved)
    bare, logs, call = seen
    assert (bare.to, bare.selector, bare.calldata, bare.tx_hash, bare.logs) == (None, None, None, None, ())
    assert {log["address"] for log in logs.logs} >= {net.world.pools["v2:ETH/USDC:3000"].address.lower()}
    assert logs.to is None
    assert (call.to, call.selector) == (net.world.contracts["v2_router"], calldata(SWAPS["v2"], 0, 0, [], FUND, 0)[:4])
    assert call.calldata is None
    assert signed[1] not in repr(seen)


def test_a_hash_alone_is_nothing_to_backrun(localnet):
    net = localnet
    searcher = ReferenceBackrunner(net.node, net.world)
    net.node.backrunners.append(searcher)
    share(net, victim(net), hints=("hash",))
    net.mine()
    assert not searcher.done
    assert len(block(net)["transactions"]) == 1


def test_a_sandwich_searcher_never_sees_what_is_shared(localnet):
    net = localnet
    attacker = SandwichSearcher(net.node, net.world)
    net.node.searchers.append(attacker)
    share(net, victim(net))
    net.mine()
    assert not attacker.done


def test_a_searcher_elsewhere_backruns_by_hash_over_rpc_and_only_from_behind(localnet):
    net = localnet
    signed = victim(net)
    share(net, signed)
    (name,) = net.node.shared
    raw, me = net.accounts["searcher"], net.accounts["keeper"].address
    fields = {
        "type": 2,
        "chainId": net.chain_id,
        "to": me,
        "value": 1,
        "data": b"",
        "gas": 21_000,
        "nonce": quantity(net.rpc.call("eth_getTransactionCount", [raw.address, "latest"])),
        "maxFeePerGas": 10**13,
        "maxPriorityFeePerGas": 10**12,
    }
    tx = "0x" + bytes(Account.sign_transaction(fields, raw.key).raw_transaction).hex()
    head = net.node.head().number

    def bundle(*body):
        inclusion = {"block": hex(head + 1), "maxBlock": hex(head + 5)}
        return net.rpc.call("mev_sendBundle", [{"version": "v0.1", "inclusion": inclusion, "body": list(body)}])

    for wrong in ([{"tx": tx}, {"hash": name}], [{"hash": "0x" + "77" * 32}, {"tx": tx}]):
        with pytest.raises(RpcError):
            bundle(*wrong)
    bundle({"hash": name}, {"tx": tx})
    net.mine()
    landed = [t["hash"] for t in block(net)["transactions"]]
    assert landed[0] == signed[1]
    assert len(landed) == 3
    assert wei(net, FUND) == 21_000 * 10**12 * 90 // 100 - 21_000 * net.node.head().base_fee_wei


@pytest.mark.parametrize("wrong", [{"hints": ("everything",)}, {"refund_percent": 101}])
def test_terms_that_make_no_sense_are_refused(localnet, wrong):
    assert share(localnet, victim(localnet), **wrong).taken is not True
    assert not localnet.node.shared


def test_a_rebalance_sent_with_hints_lands_unattacked_and_its_keeper_is_refunded(vaultnet, tmp_path):
    """The vault's plan through shallow pools: what it moves is back-run, and the refund pays part of its gas."""
    net = vaultnet
    net.node.searchers.append(SandwichSearcher(net.node, net.world))
    net.node.backrunners.append(ReferenceBackrunner(net.node, net.world))
    ctx = chain_context(tmp_path, net, channel="share")
    shallow = [net.world.pools[n].address for n in ("v2:ETH/USDC:3000", "v3:BTC/USDC:3000")]
    ctx = replace(
        ctx,
        channels={"share": ShareChannel(ctx.node.rpc, refund_percent=90)},
        pools=lambda snapshot, read=ctx.pools: [p for p in read(snapshot) if p.address in shallow],
    )
    before = wei(net, ctx.sender)
    report = step(ctx)
    assert report.outcome == "traded", report.verdicts
    got = dict.fromkeys(report.settlement.deltas, 0)
    for leg in report.plan.legs:
        got[leg.token_in] -= leg.amount_in
        got[leg.token_out] += leg.quoted_out
    assert got == dict(report.settlement.deltas)  # to the unit what was quoted: nobody came before it
    refund = wei(net, ctx.sender) - before + report.settlement.gas_cost_wei
    assert refund > 0
    receipt = ctx.node.receipt(report.attempts[-1]["tx_hash"])
    mined = net.rpc.call("eth_getBlockByNumber", [hex(receipt.block_number), True])
    paid = [t for t in mined["transactions"] if t["from"] == builder().address.lower()]
    assert [(t["to"], quantity(t["value"])) for t in paid] == [(ctx.sender.lower(), refund)]


@pytest.mark.parametrize("channel", ["bundle", "private", "share"])
def test_a_private_channel_lands_in_the_next_blocks(vaultnet, tmp_path, channel):
    from policy.execution.submission.channels import BundleChannel

    ctx = chain_context(tmp_path, vaultnet, channel=channel)
    more = {"bundle": BundleChannel(ctx.node.rpc), "share": ShareChannel(ctx.node.rpc)}
    head = vaultnet.node.head().number
    report = step(replace(ctx, channels={**ctx.channels, **more}))
    assert report.outcome == "traded"
    assert len(report.attempts) == 1
    assert ctx.node.receipt(report.attempts[0]["tx_hash"]).block_number == head + 1
