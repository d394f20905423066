"""A Lagoon vault from a settings file: opened, examined, valued and settled by the verb, each by whom it must be."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from lake.errors import ConfigError
from lake.evm import calldata
from pipelines.cli import app
from pipelines.deployments import deployments
from pipelines.settings import load
from pipelines.settlements.reconcile import journal_of
from pipelines.stages.doctor import examine
from pipelines.stages.vault_roles import roles
from pipelines.stages.vault_settle import settle
from pipelines.vault_setup.onchain import dry_vault
from policy.execution.submission.signer import create_keystore
from policy.execution.vaults.lagoon.adapter import LagoonVault
from policy.localnet.lagoon import VALUER, lagoon_vault
from policy.localnet.market import Localnet, start
from policy.localnet.portfolio import TARGETS
from tests.chain_fixtures import CLOCK, fresh
from tests.execution.chain_kit import landed
from tests.execution.vault_kit import need_lagoon

pytestmark = pytest.mark.chain
USD, SHARE = 10**6, 10**18


@pytest.fixture(scope="module")
def market() -> Iterator[Localnet]:
    need_lagoon()
    with start(extras=[lagoon_vault()], at=CLOCK) as made:
        yield made


@pytest.fixture
def net(market: Localnet) -> Iterator[Localnet]:
    with fresh(market, 1) as made:
        made.node.automine = True
        yield made


def toml(net: Localnet, more: str = "") -> str:
    x = net.world.extras
    rows = ["[portfolio]", f"assets = {json.dumps(list(TARGETS))}", "[chain]", "id = 31337"]
    rows += [f'rpc_urls = ["{net.url}"]', "[vault]", 'kind = "lagoon"', f'address = "{x["lagoon_safe"]}"']
    rows += [f'investors = "{x["lagoon"]}"', f'multisend = "{x["lagoon_multisend"]}"', f'roles = "{x["lagoon_roles"]}"']
    rows += [f'unwrapper = "{x["lagoon_unwrapper"]}"', "allowance_bps = 10_000"]
    rows += [f'keeper = "{net.accounts["keeper"].address}"', 'keystore = "keeper.json"', more, "[vault.tokens]"]
    rows += [f'{a} = "{net.world.token(a).address}"' for a in TARGETS]
    for a in TARGETS:
        rows += ["[[sources.feeds]]", f'asset = "{a}"', f'address = "{net.world.token(a).feed}"', 'heartbeat = "25h"']
    for pool in net.world.pools.values():
        if {pool.asset, pool.quote} <= set(TARGETS):
            rows += ["[[sources.pools]]", f'asset = "{pool.asset}"', f'address = "{pool.address}"']
            rows += [f'venue = "{pool.venue}"', f'router = "{pool.router}"']
    return "\n".join(rows) + "\n"


@pytest.fixture
def file(net: Localnet, tmp_path, monkeypatch):
    monkeypatch.setenv("FOREDRIFT_PASSPHRASE", "local")
    for role in ("keeper", "owner", "trader"):
        create_keystore(tmp_path / f"{role}.json", "local", net.accounts[role].key, iterations=2)
    made = tmp_path / "foredrift.toml"
    made.write_text(toml(net))
    return made


def run(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def asks(net: Localnet, shares: int) -> None:
    mine, where = net.accounts["investor"].address, net.world.extras["lagoon"]
    data = calldata("requestRedeem(uint256,address,address)", shares * SHARE, mine, mine)
    assert landed(net, "investor", where, data).status == 1


def valuer_is_the_keeper(net: Localnet) -> None:
    data = calldata("updateValuationManager(address)", net.accounts["keeper"].address)
    assert landed(net, "owner", net.world.extras["lagoon"], data).status == 1


def test_it_is_opened_described_and_examined(net, file):
    [deployment] = deployments(load(file))
    vault = dry_vault(deployment)
    assert isinstance(vault, LagoonVault)
    roles(deployment, owner=file.parent / "owner.json")
    asks(net, 1_000)
    rows = [r for r in examine(file) if r["check"] in {"vault", "role", "valuation", "on chain", "feeds", "pools"}]
    assert [r for r in rows if r["level"] == "error"] == [], rows
    told = {r["check"]: r["found"] for r in rows}
    assert "next: value; 0 USDC wait to come, 1,000 to leave" in told["valuation"]
    tried = int(told["role"].split("; ", 1)[1].split()[0])
    assert tried > 90  # the Safe's and the vault's
    shown = run("vault", "describe", "--config", str(file))
    assert "lagoon" in shown
    assert "investors leave by a request that is settled later" in shown


def test_valued_by_a_setting_only_and_settled_by_the_owner(net, file):
    asks(net, 1_000)
    out = file.parent / "out.json"
    shown = run("vault", "settle", "--config", str(file), "--json", str(out))
    assert "updateNewTotalAssets" not in shown  # people read words, machines the data
    assert "1,000,000" in shown
    told = json.loads(out.read_text())
    assert (told["step"], told["good"], told["nav"], told["pushed"]) == ("value", True, str(1_000_000 * USD), None)
    with pytest.raises(ConfigError, match="sign_nav = true"):
        settle(deployments(load(file))[0], live=True)
    file.write_text(toml(net, "sign_nav = true"))
    [deployment] = deployments(load(file))
    with pytest.raises(ConfigError, match="is not the valuation manager"):
        settle(deployment, live=True)
    valuer_is_the_keeper(net)
    assert "done by 0x" in run("vault", "settle", "--live", "--config", str(file))
    batch = file.parent / "settle.json"
    said = run("vault", "settle", "--out", str(batch), "--config", str(file))
    assert "Safe{Wallet}" in said
    assert len(json.loads(batch.read_text())["transactions"]) == 3
    with pytest.raises(ConfigError, match="--owner KEYSTORE"):
        settle(deployment, live=True)
    with pytest.raises(ConfigError, match="no owner of the Safe"):
        settle(deployment, live=True, owner=file.parent / "trader.json")
    settle(deployment, live=True, owner=file.parent / "owner.json")
    after = settle(deployment)
    assert (after["step"], after["leaving"], after["nav"]) == ("nothing", "0", str(999_000 * USD))
    assert settle(deployment, live=True)["transaction"] is None  # safe to repeat


def test_a_lying_valuation_is_named_by_the_doctor_and_signed_by_nobody(net, file):
    asks(net, 1_000)
    data = calldata("updateNewTotalAssets(uint256)", 3_000_000 * USD)
    assert landed(net, VALUER, net.world.extras["lagoon"], data).status == 1
    rows = [r for r in examine(file) if r["check"] == "valuation"]
    assert [r["level"] for r in rows] == ["error"]
    assert "do not settle" in rows[0]["found"]
    [deployment] = deployments(load(file))
    out = file.parent / "settle.json"
    told = settle(deployment, out=out)
    assert (told["step"], told["good"]) == ("value", False)
    assert not out.exists()
    valuer_is_the_keeper(net)
    file.write_text(toml(net, "sign_nav = true"))
    [deployment] = deployments(load(file))
    assert settle(deployment, live=True)["transaction"]  # a right valuation replaces it
    assert settle(deployment)["step"] == "settle"


def test_no_valuation_is_signed_beyond_its_rate_of_change(net, file):
    asks(net, 1_000)
    valuer_is_the_keeper(net)
    file.write_text(toml(net, "sign_nav = true\nnav_change_bps = 1"))
    cash = calldata("transfer(address,uint256)", net.world.extras["lagoon_safe"], 10_000 * USD)
    assert landed(net, "investor", net.world.token("USDC").address, cash).status == 1
    [deployment] = deployments(load(file))
    with pytest.raises(ConfigError, match="the change of the vault's value"):
        settle(deployment, live=True)
    assert settle(deployment)["pushed"] is None


def test_a_valuation_waits_for_a_plan_of_the_same_key(net, file):
    asks(net, 1_000)
    valuer_is_the_keeper(net)
    file.write_text(toml(net, "sign_nav = true"))
    [deployment] = deployments(load(file))
    with journal_of(deployment).lease(), pytest.raises(Exception, match="another run holds"):
        settle(deployment, live=True)
    assert settle(deployment)["pushed"] is None


LACKS = {
    "investors": ('investors = "', '# investors = "', "set .vault. investors"),
    "another contract": ("lagoon", "weth", "no Lagoon v0.5 vault"),
    "roles": ('roles = "', '# roles = "', "traded through Zodiac Roles"),
}


@pytest.mark.parametrize("what", LACKS)
def test_what_it_lacks_is_said(net, file, what):
    old, new, words = LACKS[what]
    if what == "another contract":
        old, new = net.world.extras["lagoon"], net.world.contracts["weth"]
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=words):
        dry_vault(deployments(load(file))[0])


def test_another_kind_has_nothing_to_settle(net, file):
    file.write_text(file.read_text().replace('kind = "lagoon"', 'kind = "safe"'))
    with pytest.raises(ConfigError, match="has requests to settle"):
        settle(deployments(load(file))[0])
