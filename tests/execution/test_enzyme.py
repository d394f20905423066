"""An Enzyme v4 fund on the published bytecode: one leg a call, what its policies refuse, rebalances half done."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from eth_abi.abi import encode

from lake.errors import ConfigError
from lake.evm import Call, calldata, head_of, read
from lake.rpc import Rpc
from lake.units import bps
from policy.execution.base import Plan
from policy.execution.checks.guards import FeedRule
from policy.execution.checks.rules import PPB, Mandate
from policy.execution.context import EngineContext, Limits
from policy.execution.engine import step
from policy.execution.planner import PlanRules
from policy.execution.records.audit import Audit
from policy.execution.routing.pool_reader import read_pools
from policy.execution.vaults.anchored import faults, known
from policy.execution.vaults.enzyme.adapter import CALL, NEEDED, EnzymeFund, fund_of
from policy.execution.vaults.enzyme.events import enzyme_find
from policy.execution.vaults.trades import disagreements, fund_trades
from policy.localnet.enzyme import _artefact, enzyme_fund, enzyme_vault
from policy.localnet.market import Localnet, start
from policy.localnet.packages import modules
from tests.chain_fixtures import CLOCK, fresh, into_the_hour
from tests.execution.chain_kit import USD, landed, sealed, v3_leg
from tests.execution.chainlab import chain_context, known_pools
from tests.execution.enzyme_fuzz import fuzz, order, thiefs
from tests.execution.sequences import MARK, encoded, simulated
from tests.needs import need_node

pytestmark = pytest.mark.chain
TARGETS = {"USDC": 4_000, "ETH": 3_500, "BTC": 2_500}
MANDATE = Mandate(leg_loss_bps=150, turnover_bps=8_000, cooldown_s=0, loss_budget_ppb=20_000_000)
TOLERANCE = 0.03


@pytest.fixture(scope="module")
def market() -> Iterator[Localnet]:
    need_node()
    with start(extras=[enzyme_fund(TARGETS, tolerance=TOLERANCE)], at=CLOCK) as net:
        yield net


@pytest.fixture
def net(market: Localnet) -> Iterator[Localnet]:
    with fresh(market, 4) as made:
        into_the_hour(made, 60)
        yield made


@pytest.fixture
def fund(net: Localnet) -> EnzymeFund:
    return enzyme_vault(Rpc(net.node_url), net.world, TARGETS, mandate=MANDATE)


def context(net: Localnet, folder, fund: EnzymeFund, **more) -> EngineContext:
    feeds = {t.address: FeedRule(heartbeat_s=90_000) for t in fund.spec.tokens}
    limits = Limits(plan=PlanRules(max_slippage_bps=bps(150)), feeds=feeds)
    base = chain_context(folder, net, vault=fund)
    pools = [p for p in known_pools(net) if p.venue == "uniswap_v3"]
    ctx = replace(
        base, vault_address=fund.spec.address, limits=limits,
        pools=lambda s: read_pools(base.node.rpc, pools, s.block_hash),
    )  # fmt: skip
    return replace(ctx, **more)


def a_plan(net: Localnet, fund: EnzymeFund, pool: str = "v3:ETH/USDC:500", usd: int = 100_000) -> Plan:
    return sealed(fund, fund.spec.address, [v3_leg(net, fund.spec.address, pool, "USDC", usd * USD)])


def test_the_policies_that_bound_a_manager_are_found_and_missed(net, fund):
    assert set(NEEDED) <= set(fund.policies())
    assert fund.policy_faults() == []
    bound = fund.describe().stolen_key
    assert bound.day_ppb == pytest.approx(TOLERANCE * (1 + 1 / 7) * PPB, rel=1e-6)
    bare = replace(fund.fund, comptroller=net.accounts["trader"].address)
    lost = EnzymeFund(fund.rpc, fund.spec, bare)
    assert len(lost.policy_faults()) == len(NEEDED)
    assert lost.describe().stolen_key is None


def test_a_thief_with_a_managers_key_is_refused_by_the_fund(net, fund):
    usdc, weth = fund.spec.tokens[0].address, fund.spec.tokens[1].address
    link = net.world.token("LINK").address
    foreign = net.deployer.deploy(
        _artefact("UniswapV3Adapter", str(modules())), ["address", "address"],
        [fund.fund.manager, net.world.contracts["v3_router"]],
    )  # fmt: skip
    tries = {
        "an adapter that is not listed": order(fund, [usdc, weth], [500], 10 * USD, swapper=foreign),
        "an asset that is not listed": order(fund, [usdc, link], [3_000], 10 * USD),
        "more than it holds": order(fund, [usdc, weth], [500], 2_000_000 * USD),
        "worse than its minimum": order(fund, [usdc, weth], [500], 10 * USD, 10**30),
        "withdraw": calldata("withdrawAssetTo(address,address,uint256)", usdc, net.accounts["keeper"].address, 1),
        "call a contract": calldata("vaultCallOnContract(address,bytes4,bytes)", usdc, b"\xa9\x05\x9c\xbb", b""),
        "untrack what is worth something": calldata(
            CALL, fund.fund.manager, 2, encode(["address[]"], [[usdc]])
        ),
    }  # fmt: skip
    keeper = net.accounts["keeper"].address
    good = order(fund, [usdc, weth], [500], 10 * USD)
    net.rpc.call("eth_call", [{"from": keeper, "to": fund.fund.comptroller, "data": "0x" + good.hex()}, "latest"])
    for words, data in tries.items():
        assert landed(net, "keeper", fund.fund.comptroller, data).status == 0, words
    assert landed(net, "trader", fund.fund.comptroller, good).status == 0


def test_a_stolen_managers_key_loses_at_most_the_tolerance(net, fund):
    """Random trades at any price, in pools the thief moves before, at once and over days: by simulated blocks."""
    found = fuzz(net, fund, 25, TOLERANCE)
    assert found.over == []
    assert found.landed > found.calls // 10
    assert found.worst > TOLERANCE / 3  # the thief does take something


def test_a_sequence_told_in_a_part_is_what_it_is_alone(net, fund):
    """However many simulations travel in one request, none sees another, and the encoded calls are what they say."""

    def told(part):
        made = (thiefs(net, fund, s) for s in range(5))
        return [(one.seed, r) for one, r in simulated(net.node_url, head_of(fund.rpc), made, part)]

    alone, together = told(1), told(4)
    assert [s for s, _ in alone] == list(range(5))
    assert [[(r["status"], r["gasUsed"], r["returnData"]) for r in rs] for _, rs in alone] == [
        [(r["status"], r["gasUsed"], r["returnData"]) for r in rs] for _, rs in together
    ]
    usdc, weth = (t.address for t in fund.spec.tokens[:2])
    for amount in (1, 7 * USD, 2**255):
        args = ((usdc, weth), (500,), MARK, 1), ((usdc, weth), (500,), amount, 1)
        kind = "f((address[],uint24[],uint256,uint256))"
        assert encoded(kind, args[0], amount=amount) == calldata(kind, args[1])


def test_a_rebalance_is_made_leg_by_leg_each_a_decision_of_its_own(net, fund, tmp_path):
    ctx = context(net, tmp_path, fund)
    first, second, third = step(ctx), step(ctx), step(ctx)
    assert [first.outcome, second.outcome] == ["traded", "traded"], (first.why, second.why)
    assert third.outcome in {"waited", "done"}
    assert second.decision_id == f"{first.decision_id}-2"
    assert [round(w, 2) for w in second.weights_after] == [0.4, 0.35, 0.25]
    plans = known(Audit(tmp_path / "audit.jsonl").records(), 31_337, fund.spec.address)
    assert faults(plans, None, enzyme_find(fund.rpc, fund.spec.address)) == []
    hidden = [replace(p, plan_hash="0x" + "1" * 64) for p in plans]
    assert len(faults(hidden, None, enzyme_find(fund.rpc, fund.spec.address))) == len(plans)
    head = net.node.head().number
    trades = fund_trades(fund.rpc, fund.spec.address)(0, head)
    assert disagreements(plans, trades, 0, head) == []
    told = disagreements(plans[1:], trades, 0, head)
    assert [(d.kind, d.plan_hash) for d in told] == [("no_record", plans[0].plan_hash)]


def test_a_half_done_rebalance_goes_on_from_what_it_holds_when_the_second_leg_heals(net, fund, tmp_path):
    ctx = context(net, tmp_path, fund)
    first = step(ctx)
    assert first.outcome == "traded"
    other = "BTC" if first.legs[0].token_out == fund.spec.tokens[1].address else "ETH"
    feed = str(net.world.token(other).feed)
    ((_, answer),) = [net.deployer.view(feed, "latestRoundData()", "uint80,int256")]
    net.deployer.call("deployer", feed, "post(int256)", 0)
    sick = fund.spec.tokens[{"ETH": 1, "BTC": 2}[other]].address
    refused = step(ctx)  # the leg into the sick token is not made; what is healthy may trade among itself
    assert (
        sick in {v.figures.get("token") for v in refused.verdicts if v.check == "token_untradable"} or not refused.plan
    )
    assert fund.snapshot().holdings[{"ETH": 1, "BTC": 2}[other]] == 0
    net.deployer.call("deployer", feed, "post(int256)", answer)
    into_the_hour(net, 60)
    for _ in range(3):
        last = step(ctx)
        if last.outcome != "traded":
            break
    weights = [w / 10_000 for w in fund.state().book.weights_bps()]
    assert weights == pytest.approx([0.4, 0.35, 0.25], abs=0.01)


STAGES = ("journal", "sign", "journal_signed", "send", "journal_sent", "watch", "journal_mined", "audit_settled")
CASES = [(stage, depth) for stage in STAGES for depth in (0, 1, 2, 3)]
SAMPLE = random.Random(5).sample(CASES, 6)


class Killed(BaseException):
    pass


@pytest.mark.parametrize(("stage", "depth"), CASES if os.environ.get("FOREDRIFT_ALL_CASES") else SAMPLE)
def test_a_kill_and_a_reorganisation_leave_one_execution_a_leg(net, fund, tmp_path, stage, depth):
    def die(name: str) -> None:
        if name == stage:
            raise Killed

    ctx = context(net, tmp_path, fund)
    with pytest.raises(Killed):
        step(replace(ctx, checkpoint=die))
    if depth:
        net.mine(max(0, depth - 1))
        net.reorg(depth)
    net.mine(1)
    for _ in range(5):
        if step(ctx).outcome in {"waited", "done"}:
            break
    weights = [w / 10_000 for w in fund.state().book.weights_bps()]
    assert weights == pytest.approx([0.4, 0.35, 0.25], abs=0.01)
    flights = [f for f in ctx.journal.flights() if f.state == "landed"]
    made = [h for _, _, h in fund._done(0, "latest")]
    assert len(made) == len(set(made)) == len(flights) == 2
    assert set(made) == {"0x" + f.plan.plan_hash.hex() for f in flights}


def test_what_does_not_fit_together_is_said(net, fund):
    with pytest.raises(ConfigError, match="max_legs 1"):
        EnzymeFund(fund.rpc, replace(fund.spec, mandate=Mandate()), fund.fund)
    two = replace(a_plan(net, fund), legs=a_plan(net, fund).legs * 2)
    with pytest.raises(ConfigError, match="one leg a call"):
        fund.build(two)
    other = net.deployer.deploy(
        _artefact("UniswapV3Adapter", str(modules())), ["address", "address"],
        [net.world.contracts["weth"], net.world.contracts["v3_router"]],
    )  # fmt: skip
    with pytest.raises(ConfigError, match="integration manager"):
        fund_of(fund.rpc, fund.fund.comptroller, other)


def test_a_keeper_who_is_no_manager_any_more_is_a_verdict(net, fund):
    plan = a_plan(net, fund)
    keeper = net.accounts["keeper"].address
    assert landed(net, "owner", fund.spec.address, calldata("removeAssetManagers(address[])", [keeper])).status == 1
    assert "keeper" in {v.check for v in fund.check(plan)}
    assert not fund.simulate(fund.build(plan), keeper).ok
    assert read(fund.rpc, [Call(fund.spec.address, "canManageAssets(address)", "bool", (keeper,))]) == [(False,)]
