"""The engine against real contracts: the reference vault and Uniswap on a local chain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lake.evm import Call, calldata, read
from policy.execution.engine import dry, step
from policy.execution.records.audit import verify
from policy.execution.routing.amm import other, quote
from policy.execution.routing.pool_reader import read_pools
from policy.execution.vaults.anchored import faults, known, plans_executed, reference_find
from policy.localnet.faults import Fault, FaultKind
from tests.chain_fixtures import into_the_hour
from tests.execution.chain_matrix import Case, cases, disturbed, undisturbed
from tests.execution.chainlab import chain_context, known_pools, watched

pytestmark = pytest.mark.chain


def balances(net, tokens, holder):
    views = [Call(t.address, "balanceOf(address)", "uint256", (holder,)) for t in tokens]
    return [int(row[0]) for row in read(net.rpc, views)]


def test_a_live_step_moves_the_real_vault_and_the_settlement_is_its_balances(vaultnet, tmp_path):
    into_the_hour(vaultnet, 60)
    ctx = chain_context(tmp_path, vaultnet)
    tokens = ctx.vault.snapshot().tokens
    before = balances(vaultnet, tokens, ctx.vault_address)
    report = step(ctx)
    assert report.outcome == "traded", [v for v in report.verdicts if not v.ok]
    after = balances(vaultnet, tokens, ctx.vault_address)
    assert [report.settlement.deltas[t.address] for t in tokens] == [a - b for a, b in zip(after, before, strict=True)]
    # fills are the router's integers, to the unit
    got = {t.address: 0 for t in tokens}
    for leg in report.plan.legs:
        got[leg.token_in] -= leg.amount_in
        got[leg.token_out] += leg.quoted_out
    assert got == dict(report.settlement.deltas)
    assert np.abs(np.array(report.weights_after) - report.weights_wanted).max() < 0.003
    assert verify(tmp_path / "audit.jsonl").ok
    assert step(ctx).outcome == "done"


def test_a_dry_run_prints_the_plan_and_sends_nothing(vaultnet, tmp_path):
    ctx = dry(chain_context(tmp_path, vaultnet))
    nonce = ctx.node.account_nonce(ctx.sender)
    report = step(ctx)
    assert report.outcome == "planned"
    vaultnet.mine(3)
    assert ctx.node.account_nonce(ctx.sender) == nonce


def sample():
    """Of every kind of case in the matrix the first, the middle and the last; ``make matrix`` runs them all."""
    groups: dict[str, list[Case]] = {}
    for case in cases():
        groups.setdefault(case.kind, []).append(case)
    return [case for group in groups.values() for case in (group[0], group[len(group) // 2], group[-1])]


@pytest.fixture(scope="module")
def calm(vaultnet_session, tmp_path_factory):
    return undisturbed(vaultnet_session, tmp_path_factory.mktemp("calm"))


@pytest.mark.parametrize("case", sample(), ids=lambda c: "-".join(str(v) for v in vars(c).values() if v))
def test_killed_reorganised_and_lied_to_on_a_real_chain(vaultnet_session, tmp_path, calm, case):
    row = disturbed(vaultnet_session, tmp_path, case, calm)
    assert not row.wrong, row.outcomes


def test_private_transactions_land_and_are_never_in_the_public_pool(vaultnet, tmp_path):
    report = step(chain_context(tmp_path, vaultnet, channel="private"))
    assert report.outcome == "traded"
    assert report.attempts[0]["channel"] == "private"


def feed_of(net, asset):
    return str(net.world.tokens[asset].feed)


def post(net, asset, answer, *, second=True):
    data = calldata("post(int256)", answer)
    net.send("deployer", feed_of(net, asset), data)
    if second:
        net.send("deployer", net.world.extras[f"second_feed:{asset}"], data)
    net.mine()


def uptime_feed(net, answer):
    """An L2's sequencer feed that answers 0 (up) or 1 (down) since now."""
    kinds = ["uint8", "string", "int256"]
    return net.deployer.vyper("mock_feed", kinds, [0, "sequencer", answer])


def freeze(net, ctx):
    for _ in range(6):
        post(net, "ETH", 1_500 * 10**8)
    return ctx


def hold_a_pool(net, ctx):
    """Buy until the deepest pool is 7.5 % off, and hold it there for more than the window of its average."""
    ref, me = net.world.pools["v3:ETH/USDC:500"], net.accounts["trader"].address
    ends = (net.world.token("USDC").address, net.world.token("ETH").address)
    call = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))"
    net.send("trader", ref.router, calldata(call, (*ends, ref.fee_pips, me, 2**40, 60 * 10**12, 0, 0)))
    net.mine()
    net.mine(seconds=2_000)
    return ctx


def poor(net, ctx):
    net.node.admin.call("anvil_setBalance", [ctx.sender, hex(10**12)])
    return ctx


def pause(net, ctx):
    net.send("guardian", ctx.vault_address, ctx.vault.pause().data)
    net.mine()
    return ctx


def dead(net, ctx):
    net.faults.add(Fault(FaultKind.HTTP_502, times=None))
    return ctx


def slow(net, ctx):
    """Five blocks pass between the simulation and the hand-over."""
    return replace(ctx, checkpoint=lambda stage: stage == "simulate" and net.mine(5))


def after(act):
    """Do ``act`` to the market, leave the context."""
    return lambda net, ctx: act(net) and ctx or ctx


REFUSED = {
    "stale oracle": (after(lambda net: net.mine(1, seconds=100_000)), "oracle_stale"),
    "negative oracle": (after(lambda net: post(net, "ETH", -1)), "oracle_not_positive"),
    "one of two feeds moved": (after(lambda net: post(net, "ETH", 1_700 * 10**8, second=False)), "oracle"),
    "both feeds moved": (after(lambda net: post(net, "ETH", 1_700 * 10**8)), "oracle_deviates"),
    "sequencer down": (lambda net, ctx: watched(ctx, net, uptime_feed(net, 1)), "sequencer_down"),
    "sequencer just back": (lambda net, ctx: watched(ctx, net, uptime_feed(net, 0)), "sequencer_grace"),
    "wrong chain": (lambda net, ctx: replace(ctx, chain_id=1), "chain_id"),
    "no gas money": (poor, "gas_money"),
    "paused vault": (pause, "vault_paused"),
    "expired quote": (slow, "quote_expired"),
    "dead node": (dead, "rpc"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_refusal_on_the_real_vault_sends_nothing(vaultnet, tmp_path, name):
    net = vaultnet
    act, expected = REFUSED[name]
    ctx = watched(chain_context(tmp_path, net), net)
    nonce = ctx.node.account_nonce(ctx.sender)
    ctx = act(net, ctx)
    report = step(ctx)
    net.faults.clear()
    net.mine(2)
    refusals = {v.check: v for v in report.verdicts if not v.ok}
    assert report.outcome == "refused"
    assert expected in refusals
    assert refusals[expected].reason
    assert refusals[expected].figures or expected in {"vault_paused", "rpc"}
    assert ctx.journal.last() is None
    assert ctx.node.account_nonce(ctx.sender) == nonce


@pytest.mark.parametrize(("act", "cause"), [(freeze, "oracle_frozen"), (hold_a_pool, "oracle_deviates")])
def test_a_token_with_a_doubtful_price_is_left_alone_and_the_rest_is_traded(vaultnet, tmp_path, act, cause):
    ctx = act(vaultnet, watched(chain_context(tmp_path, vaultnet), vaultnet))
    report = step(ctx)
    assert report.outcome == "traded", [v.reason for v in report.verdicts if not v.ok]
    eth = vaultnet.world.token("ETH").address
    assert [(u["token"], u["cause"]) for u in report.json()["untradable"]] == [(eth, cause)]
    assert all(eth not in {leg.token_in, leg.token_out} for leg in report.plan.legs)
    assert report.settlement.deltas[eth] == 0


def test_quotes_equal_the_quoter_contract_on_every_pool_and_path(vaultnet):
    """Exact integers of the router against QuoterV2 and Router02 at the same block."""
    net = vaultnet
    infos = known_pools(net)
    head = net.rpc.call("eth_getBlockByNumber", ["latest", False])["hash"]
    pools = read_pools(net.rpc, infos, head)
    assert len(pools) == len(infos)
    asks, mine = [], []
    for pool in pools:
        for token in (pool.token0, pool.token1):
            decimals = next(t.decimals for t in net.world.tokens.values() if t.address.lower() == token.lower())
            for size in (1, 10, 333, 5_000):
                amount = size * 10**decimals // 7 + 1
                fill = quote(pool, token, amount)
                if fill is None or fill.spent != amount:
                    continue
                mine.append(fill.out)
                to = other(pool, token)
                if pool.venue == "uniswap_v3":
                    kind = "quoteExactInputSingle((address,address,uint256,uint24,uint160))"
                    asks.append(
                        Call(net.world.contracts["quoter"], kind, "uint256", ((token, to, amount, pool.fee_pips, 0),))
                    )
                else:
                    kind = "getAmountsOut(uint256,address[])"
                    asks.append(Call(net.world.contracts["v2_router"], kind, "uint256[]", (amount, [token, to])))
    told = [row[0] if isinstance(row[0], int) else row[0][-1] for row in read(net.rpc, asks, head)]
    assert len(mine) > 20
    assert told == mine


def test_the_audit_agrees_with_the_vaults_events_and_a_changed_one_does_not(tmp_path, vaultnet):
    into_the_hour(vaultnet, 60)
    ctx = chain_context(tmp_path, vaultnet)
    assert step(ctx).outcome == "traded"
    find, executed = reference_find(vaultnet.rpc, ctx.vault_address), plans_executed(vaultnet.rpc, ctx.vault_address)
    lines = ctx.audit.records()
    mine = known(lines, ctx.chain_id, ctx.vault_address)
    since = executed - 1  # the chain is shared with other tests, whose audits are elsewhere
    assert [p.outcome for p in mine] == ["landed"]
    assert faults(mine, executed, find, since) == []
    assert faults([], executed, find, since) == [f"the vault executed plan {since}, the audit has no record of it"]
    forged = [replace(p, plan_hash="0x" + "11" * 32) for p in mine]
    assert len(faults(forged, executed, find, since)) == 2
