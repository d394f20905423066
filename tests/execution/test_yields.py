"""Yield-bearing tokens (ERC-4626) held by a Safe: priced by their rate, made and turned back as a venue, guarded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from typer.testing import CliRunner

from lake.errors import ConfigError
from lake.rpc import Rpc
from lake.units import bps
from policy.base import ChainFees
from policy.execution.checks import rates
from policy.execution.checks.guards import FeedRule
from policy.execution.checks.rates import Rate, SeenRate
from policy.execution.checks.rules import Mandate
from policy.execution.context import EngineContext, Limits
from policy.execution.engine import step
from policy.execution.planner import PlanRules, book_of, pairs
from policy.execution.routing.amm import quote
from policy.execution.routing.pool_reader import describe_pools, read_pools
from policy.execution.routing.yields import VENUE, describe, pair_of, read_yields
from policy.execution.state_builder import RiskTerms, depth_usd, fees
from policy.execution.vaults.safe.proof import state_faults, thefts, thefts_that_work
from policy.localnet.market import Localnet, start
from policy.localnet.portfolio import YIELD, roles_safe, roles_vault, yield_token
from tests.chain_fixtures import CLOCK, fresh, into_the_hour
from tests.execution.chainlab import chain_context
from tests.execution.simlab import ToTarget
from tests.needs import need_node

pytestmark = pytest.mark.chain
USD = 10**6
YEAR_S = rates.YEAR_S
TARGETS = {"USDC": 1_000, YIELD: 4_000, "ETH": 3_000, "BTC": 2_000}
MANDATE = Mandate(leg_loss_bps=150, turnover_bps=10_000, max_legs=8, cooldown_s=0, loss_budget_ppb=50_000_000)


@pytest.fixture(scope="module")
def market() -> Iterator[Localnet]:
    need_node()
    with start(extras=[yield_token(), roles_safe(TARGETS, allowance_usd=5_000_000)], at=CLOCK) as net:
        yield net


@pytest.fixture
def net(market: Localnet) -> Iterator[Localnet]:
    with fresh(market, 1) as made:
        into_the_hour(made, 60)
        yield made


def vault_of(net: Localnet, targets=None, **more):
    made = roles_vault(Rpc(net.node_url), net.world, targets or TARGETS, mandate=MANDATE, allowance_usd=5_000_000)
    made.spec = replace(made.spec, **more)
    return made


def known(net: Localnet):
    refs = [p for p in net.world.pools.values() if {p.asset, p.quote} <= set(TARGETS)]
    share = net.world.extras["yield_token"]
    rows = [(p.address, p.venue, p.router) for p in refs] + [(share, VENUE, share)]
    return describe_pools(net.node.admin, rows)


def context(net: Localnet, folder, vault) -> EngineContext:
    """A live context on the Safe with four tokens, one of them yield-bearing."""
    base = chain_context(folder, net, vault=vault)
    infos, rpc = known(net), base.node.rpc
    feeds = {t.address: FeedRule(heartbeat_s=90_000) for t in vault.spec.tokens}
    covariance = np.diag([1e-8, 1e-8, 4e-5, 3e-5])
    limits = Limits(plan=PlanRules(max_slippage_bps=bps(150), max_legs=8), feeds=feeds)
    return replace(
        base, vault_address=vault.spec.address, limits=limits, policy=ToTarget(benefit_usd=50_000.0),
        portfolio=RiskTerms(tuple(TARGETS), np.full(4, 0.05), 3.0, "soft", ChainFees(net.chain_id)),
        view=lambda s: replace(base.view(s), covariance=covariance),
        pools=lambda s: read_pools(rpc, infos, s.block_hash),
    )  # fmt: skip


def test_a_portfolio_rebalances_into_and_out_of_its_yield(net, tmp_path):
    vault = vault_of(net)
    before = vault.snapshot()
    assert before.quotes[1].price_e8 == pytest.approx(1.05e8, rel=1e-6)
    into = step(context(net, tmp_path / "a", vault))
    assert into.outcome == "traded", [v for v in into.verdicts if not v.ok]
    assert [round(w, 2) for w in into.weights_after] == [0.1, 0.4, 0.3, 0.2]
    assert VENUE in {h.venue for leg in into.legs for h in leg.path}
    into_the_hour(net, 60)
    out = step(context(net, tmp_path / "a", vault_of(net, {**TARGETS, YIELD: 500, "ETH": 6_500})))
    assert out.outcome == "traded", [v for v in out.verdicts if not v.ok]
    assert out.weights_after[1] == pytest.approx(0.05, abs=0.005)
    assert out.legs[0].path[0].venue == VENUE  # turned back first: the others are bought with it
    # what was made and turned back moved no price: only the pools cost something
    lost = sum(float(r.expected["slippage_usd"]) for r in (into, out))
    assert lost < 0.01 * before.nav / USD


def test_quotes_are_the_vaults_own_to_a_basis_point_of_a_basis_point(net):
    rpc, share = net.node.admin, net.world.extras["yield_token"]
    net.deployer.call("deployer", share, "earn(uint256)", 123_456_789)
    [vault] = describe(rpc, [share])
    pool = pair_of(vault, read_yields(rpc, [vault], net.node.head().hash)[0])
    for amount in (1_000, 10**6, 987_654_321, 10**12):
        for signature, token in (("previewDeposit(uint256)", vault.asset), ("previewRedeem(uint256)", vault.address)):
            ((told,),) = [net.deployer.view(share, signature, "uint256", amount)]
            assert abs(quote(pool, token, amount).out - told) <= 1 + told // 10**8


def test_a_fall_of_two_percent_is_a_verdict_and_no_trade(net, tmp_path):
    share = net.world.extras["yield_token"]
    vault = vault_of(net)
    seen = {r.token: rates.after(r, None) for r in vault.state().rates}
    ((held,),) = [net.deployer.view(share, "totalAssets()", "uint256")]
    net.deployer.call("deployer", share, "lose(uint256)", held // 50)
    fallen = vault_of(net, seen=seen)
    report = step(context(net, tmp_path, fallen))
    words = [v.reason for v in report.verdicts if "rate fell by 2.00 %" in v.reason]
    assert words
    assert "vault rates --accept SUSDC" in words[0]
    assert report.outcome == "traded"  # the others do
    assert all(leg.path[0].venue != VENUE for leg in report.legs)
    assert report.settlement.deltas[fallen.spec.yields[0].address] == 0
    assert vault_of(net, seen=seen).snapshot().quotes[1].price_e8 == pytest.approx(
        1.029e8, rel=1e-4
    )  # counted as it is
    accepted = {r.token: rates.after(r, seen[r.token], accepted=True) for r in fallen.state().rates}
    assert [v.ok for v in vault_of(net, seen=accepted).rate_verdicts(fallen.state())] == [True]


def test_a_halted_vault_is_named_and_the_rest_trades(net, tmp_path):
    net.deployer.call("deployer", net.world.extras["yield_token"], "halt(bool)", True)
    report = step(context(net, tmp_path, vault_of(net)))
    assert report.outcome == "traded"
    assert any(v.figures.get("cause") == rates.HALTED for v in report.verdicts)


def test_the_role_makes_and_turns_back_shares_for_the_safe_alone(net):
    vault, keeper = vault_of(net), net.accounts["keeper"].address
    assert state_faults(vault, keeper, net.world.extras["unwrapper"]) == []
    assert any("made for the keeper" in t.words for t in thefts(vault, keeper))
    assert thefts_that_work(vault, keeper) == []


def test_a_token_that_is_no_vault_is_named(net):
    with pytest.raises(ConfigError, match=r"no ERC-4626 vault.*sources\.pools"):
        describe(net.node.admin, [net.world.contracts["weth"]])


def test_the_vault_of_shares_says_nothing_of_its_assets_own_market(net):
    snapshot, infos = vault_of(net).snapshot(), known(net)
    pools = read_pools(net.node.admin, infos, snapshot.block_hash)
    bare = [p for p in pools if p.venue != VENUE]
    assert fees(snapshot, pools)[0] == fees(snapshot, bare)[0] > 0
    assert depth_usd(snapshot, pools)[0] == depth_usd(snapshot, bare)[0]
    assert np.isnan(fees(snapshot, bare)[1])
    assert depth_usd(snapshot, pools)[1] > 1e9


def test_shares_are_turned_back_first_and_made_last(net):
    book = replace(book_of(vault_of(net).snapshot()), holdings=(0, 500_000 * USD, 0, 10**8))
    found = pairs(book, np.array([0.1, 0.1, 0.8, 0.0]), 10_000, shares={1: 0})
    assert [(i, j) for i, j, _ in found] == [(1, 0), (0, 2), (3, 2)]
    found = pairs(book, np.array([0.0, 1.0, 0.0, 0.0]), 10_000, shares={1: 0})
    assert [(i, j) for i, j, _ in found] == [(3, 0), (0, 1)]


NOW = int(datetime(2024, 5, 1, tzinfo=UTC).timestamp())
SEEN = SeenRate(10**18, NOW - 86_400, 10**18, NOW - 90 * 86_400)


@pytest.mark.parametrize(
    ("rate", "ago_s", "check"),
    [
        (1.0, 86_400, "rate"), (1.0001, 86_400, "rate"), (0.9995, 86_400, "rate"), (0.9989, 86_400, rates.FELL),
        (0.5, 86_400, rates.FELL), (1.0049, 12, "rate"), (1.006, 12, rates.JUMPED), (1.5, 86_400, rates.JUMPED),
        (1.9, YEAR_S, "rate"), (2.1, YEAR_S, rates.JUMPED),
    ],
)  # fmt: skip
def test_rates_rise_slowly_and_never_fall(rate, ago_s, check):
    seen = replace(SEEN, time=NOW - ago_s)
    found = rates.judged(Rate("S", "0x1", int(rate * 10**18), NOW), seen)
    assert found.check == check
    assert found.ok == (check == "rate")
    kept = rates.after(Rate("S", "0x1", int(rate * 10**18), NOW), seen)
    assert kept.rate == (int(rate * 10**18) if check == "rate" and rate >= 1 else 10**18)


def test_the_yield_is_told_by_the_year_after_a_day():
    now = Rate("S", "0x1", int(1.01 * 10**18), NOW)
    assert rates.yearly_yield(now, SEEN) == pytest.approx(1.01 ** (365 / 90) - 1)
    assert rates.yearly_yield(now, replace(SEEN, first_time=NOW - 3_600)) is None


def test_a_paper_vault_has_no_rates_and_says_so(tmp_path):
    from pipelines.cli import app

    (tmp_path / "foredrift.toml").write_text("")
    done = CliRunner().invoke(app, ["vault", "rates", "--config", str(tmp_path / "foredrift.toml")])
    assert isinstance(done.exception, ConfigError)
    assert "erc4626" in str(done.exception)


def test_the_remembered_rates_are_private_whole_and_named_when_they_are_none(net, tmp_path):
    from pipelines.deployments import deployments
    from pipelines.settings import load
    from pipelines.vault_setup import rates as kept

    (tmp_path / "foredrift.toml").write_text("")
    [deployment] = deployments(load(tmp_path / "foredrift.toml"))
    vault = vault_of(net)
    kept.remember(deployment, vault)
    path = kept.rates_file(deployment)
    assert path.stat().st_mode & 0o077 == 0
    [row] = kept.shown(deployment, vault)
    assert row["ok"]
    assert row["rate"] == pytest.approx(1.05, rel=1e-6)
    share = net.world.extras["yield_token"]
    net.deployer.call("deployer", share, "lose(uint256)", 10**12)
    kept.remember(deployment, vault)
    assert not kept.shown(deployment, vault)[0]["ok"]
    assert kept.shown(deployment, vault, YIELD)[0]["ok"]
    with pytest.raises(ConfigError, match="there are: SUSDC"):
        kept.shown(deployment, vault, "SDAI")
    path.write_text(path.read_text()[:10])
    with pytest.raises(ConfigError, match="holds no rates"):
        kept.seen_rates(deployment)
