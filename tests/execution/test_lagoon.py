"""A Lagoon v0.5 vault on the published bytecode: requests netted and never starved, what is refused, how it settles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from eth_utils.address import to_checksum_address

from lake.errors import ConfigError, RpcError
from lake.evm import Call, calldata, read
from lake.rpc import Rpc
from lake.units import bps
from policy.execution.base import Flows, Plan
from policy.execution.checks.guards import FeedRule
from policy.execution.checks.rules import Mandate
from policy.execution.context import EngineContext, Limits
from policy.execution.engine import step
from policy.execution.planner import PlanRules
from policy.execution.routing.pool_reader import read_pools
from policy.execution.routing.yields import YieldVault, read_yields
from policy.execution.vaults.lagoon.adapter import LagoonVault
from policy.execution.vaults.lagoon.nav import PUSH, SETTLE_REDEEM, NavLimits, Valuation, proposed
from policy.execution.vaults.lagoon.proof import lagoon_thefts
from policy.execution.vaults.lagoon.requests import read_requests
from policy.execution.vaults.safe.adapter import APPROVE, DELEGATECALL, EXEC, ZERO, packed
from policy.execution.vaults.safe.install import MULTISEND
from policy.execution.vaults.safe.proof import thefts_that_work
from policy.execution.vaults.safe.roles import EXEC_ROLE
from policy.execution.vaults.safe.scoping import ROLE
from policy.localnet.lagoon import VALUER, lagoon_adapter, lagoon_vault
from policy.localnet.market import Localnet, start
from policy.localnet.portfolio import vouched
from tests.chain_fixtures import CLOCK, fresh, into_the_hour
from tests.execution.chain_kit import USD, landed, sealed, v3_leg
from tests.execution.chainlab import chain_context, known_pools
from tests.execution.role_fuzz import run, swap_data
from tests.execution.vault_kit import need_lagoon

pytestmark = pytest.mark.chain
SHARE = 10**18
ALLOWANCE_USD = 900_000
MANDATE = Mandate(leg_loss_bps=150, turnover_bps=10_000, cooldown_s=0, loss_budget_ppb=20_000_000)


@pytest.fixture(scope="module")
def market() -> Iterator[Localnet]:
    need_lagoon()
    with start(extras=[lagoon_vault(allowance_usd=ALLOWANCE_USD)], at=CLOCK) as net:
        yield net


@pytest.fixture
def net(market: Localnet) -> Iterator[Localnet]:
    with fresh(market, 1) as made:
        yield made


@pytest.fixture
def vault(net: Localnet) -> LagoonVault:
    return lagoon_adapter(Rpc(net.node_url), net.world, mandate=MANDATE, allowance_usd=ALLOWANCE_USD)


@pytest.fixture
def keeper(net: Localnet) -> str:
    return net.accounts["keeper"].address


def asks(net: Localnet, *, coming: int = 0, leaving: int = 0) -> None:
    """Let one holder ask to bring ``coming`` USD and the investor ask to redeem ``leaving`` shares."""
    where, cash = net.world.extras["lagoon"], net.world.token("USDC").address
    if coming:
        other = net.accounts["trader"].address
        assert landed(net, "trader", cash, calldata(APPROVE, where, coming * USD)).status == 1
        data = calldata("requestDeposit(uint256,address,address)", coming * USD, other, other)
        assert landed(net, "trader", where, data).status == 1
    if leaving:
        mine = net.accounts["investor"].address
        data = calldata("requestRedeem(uint256,address,address)", leaving * SHARE, mine, mine)
        assert landed(net, "investor", where, data).status == 1


def by_owner(net: Localnet, to: str, data: bytes) -> None:
    """Let the Safe make a call, sent by its owner."""
    args = (to, 0, data, 0, 0, 0, 0, ZERO, ZERO, vouched("owner"))
    assert landed(net, "owner", net.world.extras["lagoon_safe"], calldata(EXEC, *args)).status == 1


def values(net: Localnet, nav: int) -> None:
    assert landed(net, VALUER, net.world.extras["lagoon"], calldata(PUSH, nav)).status == 1


def settles(net: Localnet, made: Valuation) -> None:
    assert made.good, [v for v in made.verdicts if not v.ok]
    for call in made.calls:
        by_owner(net, call.to, call.data)


def plan_of(net: Localnet, vault: LagoonVault, usd: int) -> Plan:
    return sealed(vault, vault.spec.address, [v3_leg(net, vault.spec.address, "v3:ETH/USDC:500", "USDC", usd * USD)])


def through(vault: LagoonVault, calls: list[tuple[str, bytes]]) -> bytes:
    inner = calldata(MULTISEND, packed(calls))
    return calldata(EXEC_ROLE, vault.spec.multisend, 0, inner, DELEGATECALL, ROLE, True)


def refused_on_chain(net: Localnet, vault: LagoonVault, calls: list[tuple[str, bytes]]) -> bool:
    call = {"from": net.accounts["keeper"].address, "to": vault.modifier, "data": "0x" + through(vault, calls).hex()}
    try:
        net.rpc.call("eth_call", [call, "latest"])
    except RpcError:
        return True
    return False


def swap(vault: LagoonVault, amount: int, *, to: str = "", buy: str = "", spender: str = "") -> list[tuple[str, bytes]]:
    """Approval and swap of USDC into ETH as the keeper may make them, but for what is said."""
    (router, venue), lanes = next(((k, v) for k, v in vault.scope.lanes.items() if k[1] == "uniswap_v3"))
    usdc, weth = vault.spec.tokens[0].address, vault.spec.tokens[1].address
    lane = next(x for x in lanes if len(x) == 1 and x[0][:2] == (usdc, weth))
    lane = ((usdc, buy or weth, lane[0][2]),)
    return [
        (usdc, calldata(APPROVE, spender or router, amount)),
        (router, swap_data(venue, lane, amount, to or vault.spec.address)),
    ]


def test_the_keeper_may_swap_and_nothing_a_thief_tries_with_the_vault_works(net, vault, keeper):
    assert not refused_on_chain(net, vault, swap(vault, 1_000 * USD))
    tried = lagoon_thefts(vault, vault.investors, keeper)
    assert len(tried) > 20
    assert thefts_that_work(vault, keeper, tried) == []
    worked = thefts_that_work(vault, net.accounts[VALUER].address, lagoon_thefts(vault, vault.investors, keeper))
    assert "nothing is proven" in worked[0]  # it has no role; that it may push a valuation is by intention


def test_a_wrong_recipient_is_refused_on_chain(net, vault, keeper):
    assert refused_on_chain(net, vault, swap(vault, 1_000 * USD, to=keeper))


def test_a_wrong_token_is_refused_on_chain(net, vault):
    assert refused_on_chain(net, vault, swap(vault, 1_000 * USD, buy=net.world.token("LINK").address))


def test_a_wrong_spender_is_refused_on_chain_the_vault_itself_too(net, vault, keeper):
    for spender in (keeper, vault.investors):
        assert refused_on_chain(net, vault, swap(vault, 1_000 * USD, spender=spender))


def test_more_than_the_allowance_is_refused_by_both_sides(net, vault, keeper):
    assert refused_on_chain(net, vault, swap(vault, (ALLOWANCE_USD + 1) * USD))
    plan = plan_of(net, vault, ALLOWANCE_USD + 1)
    assert [v.check for v in vault.check(plan)] == ["allowance"]
    assert not vault.simulate(vault.build(plan), keeper).ok


def test_a_role_revoked_while_a_plan_is_under_way_is_said_in_words(net, vault, keeper):
    plan = plan_of(net, vault, 1_000)
    assert list(vault.check(plan)) == []
    by_owner(net, vault.modifier, calldata("assignRoles(address,bytes32[],bool[])", keeper, [ROLE], [False]))
    assert landed(net, "keeper", vault.build(plan).to, vault.build(plan).data).status == 0
    dry = vault.simulate(vault.build(plan), keeper)
    assert not dry.ok
    assert "it was revoked" in str(dry.revert)


def test_requests_are_read_at_one_block_and_stop_nothing(net, vault):
    before = vault.snapshot()
    assert before.flows == Flows()
    asks(net, coming=5_000, leaving=100_000)
    now = vault.snapshot()
    assert now.flows == Flows(5_000 * USD, 100_000 * USD)
    assert now.supply == 1_000_000 * SHARE
    told = [v for v in now.verdicts if v.check == "requests_pending"]
    assert [v.ok for v in told] == [True]
    assert vault.snapshot(before.block_number).flows == before.flows
    assert now.nav == before.nav  # what waits in the silo is not the portfolio's yet


def test_a_plan_that_spends_cash_which_redemptions_wait_for_is_refused(net, vault):
    asks(net, leaving=700_000)
    fits, starves = plan_of(net, vault, 299_000), plan_of(net, vault, 301_000)
    assert "cash_owed" not in {v.check for v in vault.check(fits)}
    broken = [v for v in vault.check(starves) if v.check == "cash_owed"]
    assert "vault settle" in broken[0].reason
    assert broken[0].figures == {"left": str(699_000 * USD), "owed": str(700_000 * USD)}


def test_a_paused_vault_is_a_verdict_of_plan_snapshot_and_settlement(net, vault, tmp_path):
    asks(net, leaving=1_000)
    values(net, 1_000_000 * USD)
    assert landed(net, "owner", vault.investors, calldata("pause()")).status == 1
    assert vault.snapshot().paused
    assert "paused" in {v.check for v in vault.check(plan_of(net, vault, 1_000))}
    failed = [v.check for v in proposed(vault).verdicts if not v.ok]
    assert failed == ["paused", "settlement"]  # the chain says the same
    report = step(context(net, tmp_path, vault))
    assert report.outcome == "refused"
    assert "vault_paused" in {v.check for v in report.verdicts if not v.ok}


def test_previews_revert_by_the_standard_and_nothing_here_asks_for_them(net, vault):
    for name in ("previewRedeem", "previewDeposit", "previewMint", "previewWithdraw"):
        with pytest.raises(RpcError):
            read(vault.rpc, [Call(vault.investors, f"{name}(uint256)", "uint256", (SHARE,))])
    asks(net, leaving=100_000)
    assert vault.snapshot().flows == Flows(0, 100_000 * USD)
    # as an asset of another portfolio its rate is told, and that it takes nothing at once: it is left alone
    share = YieldVault(vault.investors, net.world.token("USDC").address, 18, 6)
    (told,) = read_yields(vault.rpc, [share], vault.snapshot().block_hash, vault.spec.address)
    assert told.assets > 0
    assert not told.max_in


def test_a_pushed_valuation_that_is_not_ours_is_not_settled(net, vault):
    asks(net, leaving=100_000)
    values(net, 5_000_000 * USD)
    made = proposed(vault)
    assert [v.check for v in made.verdicts if not v.ok] == ["nav_pushed"]
    assert (made.step, made.good) == ("value", False)  # a right one must be pushed first
    assert calldata(PUSH, made.nav) == made.calls[0].data
    values(net, made.nav)
    assert proposed(vault).step == "settle"
    assert proposed(vault, NavLimits(pushed_bps=1)).good


def test_a_valuation_beyond_its_rate_of_change_is_not_proposed_for_signing(net, vault):
    asks(net, leaving=100_000)
    values(net, 1_000_000 * USD)
    settles(net, proposed(vault))
    cash = net.world.token("USDC").address
    assert landed(net, "investor", cash, calldata("transfer(address,uint256)", vault.spec.address, 99_000 * USD)).status
    asks(net, leaving=100)
    failed = [v for v in proposed(vault).verdicts if not v.ok]
    assert [v.check for v in failed] == ["nav_change"]
    assert failed[0].figures["change_bps"] == 1_100
    net.mine(seconds=4 * 86_400)
    assert failed[0].figures["allowed_bps"] == 1_000
    assert [v.check for v in proposed(vault).verdicts if v.check == "nav_change" and v.ok] == ["nav_change"]


def test_a_doubtful_price_is_no_valuation(net, vault):
    asks(net, leaving=100)
    assert proposed(vault).good
    net.deployer.call("deployer", str(net.world.token("USDC").feed), "post(int256)", 0)
    failed = {v.check for v in proposed(vault).verdicts if not v.ok}
    assert any(check.startswith("oracle") for check in failed), failed


def test_deposits_and_redemptions_settle_at_the_proposed_valuation(net, vault):
    asks(net, coming=50_000, leaving=100_000)
    made = proposed(vault)
    assert (made.step, made.good, made.nav) == ("value", True, 1_000_000 * USD)
    values(net, made.nav)
    settle = proposed(vault)
    assert settle.step == "settle"
    settles(net, settle)
    after = vault.snapshot()
    assert after.holdings[0] == 950_000 * USD
    assert after.flows == Flows()
    assert vault.requests().total_assets == after.nav
    left = [Call(net.world.token("USDC").address, "allowance(address,address)", "uint256",
                 (vault.spec.address, vault.investors))]  # fmt: skip
    assert read(vault.rpc, left) == [(0,)]
    assert proposed(vault).step == "nothing"


def test_redemptions_the_cash_does_not_reach_for_would_be_left_in_silence_and_that_is_said(net, vault):
    asks(net, leaving=900_000)
    usdc, weth = vault.spec.tokens[0].address, vault.spec.tokens[1].address
    away = calldata("transfer(address,uint256)", net.accounts["investor"].address, 200_000 * USD)
    eth = calldata("transfer(address,uint256)", vault.spec.address, 200 * 10**18)
    by_owner(net, usdc, away)
    assert landed(net, "investor", weth, eth).status == 1
    nav = vault.snapshot().nav
    values(net, nav)
    made = proposed(vault)
    assert [v.check for v in made.verdicts if not v.ok] == ["settlement"]
    assert "rebalance first" in next(v.reason for v in made.verdicts if v.check == "settlement")
    for call in (made.calls[0], replace(made.calls[1], data=calldata(SETTLE_REDEEM, nav))):
        by_owner(net, call.to, call.data)  # signed all the same: the chain lets it through and pays nothing
    assert vault.requests().leaving_shares == 900_000 * SHARE


def context(net: Localnet, folder, vault: LagoonVault) -> EngineContext:
    into_the_hour(net, 60)
    feeds = {t.address: FeedRule(heartbeat_s=90_000) for t in vault.spec.tokens}
    limits = Limits(plan=PlanRules(max_slippage_bps=bps(150)), feeds=feeds)
    base = chain_context(folder, net, vault=vault)
    pools = known_pools(net)
    return replace(
        base, vault_address=vault.spec.address, limits=limits,
        pools=lambda s: read_pools(base.node.rpc, pools, s.block_hash),
    )  # fmt: skip


def test_a_rebalance_leaves_what_is_to_be_paid_and_is_on_target_once_it_is(net, vault, tmp_path):
    asks(net, coming=20_000, leaving=250_000)
    report = step(context(net, tmp_path, vault))
    assert report.outcome == "traded", report.why
    held = vault.snapshot()
    assert held.flows is not None
    assert held.holdings[0] >= held.flows.leaving
    values(net, proposed(vault).nav)
    settles(net, proposed(vault))
    weights = [w / 10_000 for w in vault.state().book.weights_bps()]
    assert weights == pytest.approx([0.2, 0.5, 0.3], abs=0.01)  # as good as traded after the money had moved


def test_a_redemption_larger_than_the_cash_is_traded_for(net, vault, tmp_path):
    first = step(context(net, tmp_path, vault))
    assert first.outcome == "traded"
    asks(net, leaving=500_000)
    assert vault.snapshot().holdings[0] < 300_000 * USD
    for _ in range(3):
        net.mine(seconds=86_400)
        net.advance_prices({"ETH": 1_500, "BTC": 20_000})
        report = step(context(net, tmp_path, vault))
        if report.outcome != "traded":
            break
    held = vault.snapshot()
    assert held.flows is not None
    assert held.holdings[0] >= held.flows.leaving, (report.outcome, report.why)
    values(net, proposed(vault).nav)
    settles(net, proposed(vault))
    assert vault.requests().leaving_shares == 0


def test_a_vault_of_another_safe_asset_or_kind_is_refused_in_words(net, vault):
    other = replace(vault.spec, address=to_checksum_address(net.world.contracts["weth"]))
    with pytest.raises(ConfigError, match="pays into"):
        LagoonVault(vault.rpc, other, vault.modifier, vault.scope, vault.investors).requests()
    swapped = replace(vault.spec, tokens=(vault.spec.tokens[1], *vault.spec.tokens[1:]))
    with pytest.raises(ConfigError, match="put that token first"):
        LagoonVault(vault.rpc, swapped, vault.modifier, vault.scope, vault.investors).requests()
    for nothing in (net.world.contracts["weth"], net.accounts["trader"].address):
        with pytest.raises(ConfigError, match="no Lagoon v0.5 vault"):
            read_requests(vault.rpc, nothing)


def test_what_the_chain_enforces_is_told_as_it_is(net, vault):
    told = vault.describe()
    assert (told.kind, told.async_exit, told.loss_budget, told.plan_nonce) == ("lagoon", True, True, True)
    assert not told.permissioned  # its list of holders is off
    assert not told.onchain_price_bound
    assert told.stolen_key is not None


def test_a_stolen_key_loses_at_most_the_allowances_and_sends_nothing_away(net, vault):
    found = run(net, vault, sequences=30, seed=5)
    assert found.faults == []
    assert found.landed > 50
    assert found.sales > 50
    assert 0 < found.worst_share <= 1
