"""Every kind of vault from a settings file: opened, described, examined, and what its settings lack is said."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pytest
from typer.testing import CliRunner

from lake.errors import ConfigError
from pipelines.cli import app
from pipelines.deployments import deployments
from pipelines.settings import load
from pipelines.stages.doctor import examine
from pipelines.stages.vault_roles import roles
from pipelines.vault_setup.onchain import dry_vault
from policy.execution.vaults.enzyme.adapter import EnzymeFund
from policy.execution.vaults.safe.roles import RolesSafe
from policy.localnet.enzyme import enzyme_fund
from policy.localnet.market import Localnet, start
from policy.localnet.portfolio import TARGETS, YIELD, roles_safe, yield_token
from tests.chain_fixtures import CLOCK
from tests.needs import need_node

pytestmark = pytest.mark.chain
WITH_YIELD = {"USDC": 1_000, YIELD: 4_000, "ETH": 3_000, "BTC": 2_000}


@pytest.fixture(scope="module")
def net() -> Iterator[Localnet]:
    need_node()
    extras = [yield_token(), roles_safe(WITH_YIELD, allowance_usd=1_000_000), enzyme_fund(TARGETS)]
    with start(extras=extras, at=CLOCK) as made:
        made.node.automine = True
        yield made


def toml(net: Localnet, assets: Sequence[str], vault: str, venues: Sequence[str] = ("uniswap_v3",)) -> str:
    """Return a settings file of the market's portfolio of ``assets`` with the section ``vault``."""
    share = net.world.extras["yield_token"]
    token = {a: share if a == YIELD else net.world.token(a).address for a in assets}
    feed = {a: str(net.world.token("USDC" if a == YIELD else a).feed) for a in assets}
    rows = ["[portfolio]", f"assets = {json.dumps(list(assets))}", "[chain]", "id = 31337", f'rpc_urls = ["{net.url}"]']
    rows += ["[vault]", vault, f'keeper = "{net.accounts["keeper"].address}"', "[vault.tokens]"]
    rows += [f'{a} = "{t}"' for a, t in token.items()]
    for a in assets:
        rows += ["[[sources.feeds]]", f'asset = "{a}"', f'address = "{feed[a]}"', 'heartbeat = "25h"']
    for pool in net.world.pools.values():
        if {pool.asset, pool.quote} <= set(assets) and pool.venue in venues:
            rows += ["[[sources.pools]]", f'asset = "{pool.asset}"', f'address = "{pool.address}"']
            rows += [f'venue = "{pool.venue}"', f'router = "{pool.router}"']
    if YIELD in assets:
        rows += ["[[sources.pools]]", f'asset = "{YIELD}"', f'address = "{share}"', 'venue = "erc4626"']
    return "\n".join(rows) + "\n"


def safe_section(net: Localnet) -> str:
    x = net.world.extras
    return "\n".join([
        'kind = "safe"', f'address = "{x["roles_safe"]}"', f'multisend = "{x["roles_multisend"]}"',
        f'roles = "{x["roles"]}"', f'unwrapper = "{x["unwrapper"]}"', "allowance_bps = 10_000",
    ])  # fmt: skip


def enzyme_section(net: Localnet) -> str:
    x = net.world.extras
    return f'kind = "enzyme"\naddress = "{x["enzyme_vault"]}"\nswapper = "{x["enzyme_swapper"]}"'


def run(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def owner_key(net: Localnet, folder, monkeypatch):
    """The keystore of the Safe's owner, its passphrase in the environment."""
    from policy.execution.submission.signer import create_keystore

    monkeypatch.setenv("FOREDRIFT_PASSPHRASE", "local")
    create_keystore(folder / "owner.json", "local", net.accounts["owner"].key, iterations=2)
    return folder / "owner.json"


def test_a_safe_with_a_yield_bearing_token_is_opened_examined_and_tells_its_rates(net, tmp_path, monkeypatch):
    file = tmp_path / "foredrift.toml"
    file.write_text(toml(net, WITH_YIELD, safe_section(net), ("uniswap_v3", "uniswap_v2")))
    [deployment] = deployments(load(file))
    vault = dry_vault(deployment)
    assert isinstance(vault, RolesSafe)
    assert [y.address for y in vault.spec.yields] == [net.world.extras["yield_token"]]
    roles(deployment, owner=owner_key(net, tmp_path, monkeypatch))  # it was installed for more pools than these
    rows = [r for r in examine(file) if r["check"] in {"vault", "role", "on chain", "feeds", "pools", "round trip"}]
    assert [r for r in rows if r["level"] == "error"] == [], rows
    assert any("all refused" in r["found"] for r in rows)
    shown = run("vault", "rates", "--config", str(file), "--json", str(tmp_path / "rates.json"))
    assert YIELD in shown
    [row] = json.loads((tmp_path / "rates.json").read_text())["rates"]
    assert row["rate"] == pytest.approx(1.05, rel=1e-6)
    assert "safe with roles" in run("vault", "describe", "--config", str(file))


def test_the_roles_calls_are_written_for_safe_wallet_and_installed_with_an_owners_key(net, tmp_path, monkeypatch):
    from policy.execution.submission.signer import create_keystore

    file = tmp_path / "foredrift.toml"
    text = toml(net, WITH_YIELD, safe_section(net))  # without the v2 pool: the role must be narrowed
    file.write_text(text)
    out = tmp_path / "role.json"
    shown = run("vault", "roles", "--config", str(file), "--out", str(out))
    assert "To be signed" in shown
    assert len(json.loads(out.read_text())["transactions"]) > 1
    key = owner_key(net, tmp_path, monkeypatch)
    assert "the role is installed" in run("vault", "roles", "--config", str(file), "--live", "--owner", str(key))
    assert roles(deployments(load(file))[0])["calls"] == []  # nothing is left to sign
    stranger = tmp_path / "stranger.json"
    create_keystore(stranger, "local", net.accounts["trader"].key, iterations=2)
    file.write_text(toml(net, WITH_YIELD, safe_section(net), ("uniswap_v3", "uniswap_v2")))
    with pytest.raises(ConfigError, match="no owner of the Safe"):
        roles(deployments(load(file))[0], owner=stranger)


def test_an_enzyme_fund_is_opened_examined_and_described(net, tmp_path):
    file = tmp_path / "foredrift.toml"
    file.write_text(toml(net, TARGETS, enzyme_section(net)))
    [deployment] = deployments(load(file))
    fund = dry_vault(deployment)
    assert isinstance(fund, EnzymeFund)
    assert (fund.spec.mandate.max_legs, fund.spec.mandate.cooldown_s) == (1, 0)
    assert fund.snapshot().holdings[0] > 0
    rows = {r["check"]: r for r in examine(file) if r["check"] in {"vault", "policies", "on chain"}}
    assert rows["policies"]["level"] == "ok"
    assert rows["vault"]["level"] == "ok"
    shown = run("vault", "describe", "--config", str(file))
    assert "enzyme" in shown
    assert "a stolen keeper's key takes at most" in shown


LACKS = {
    "enzyme": (lambda n: enzyme_section(n).replace("swapper", "# swapper"), "swapper"),
    "enzyme vault": (lambda n: f'kind = "enzyme"\naddress = "{n.world.contracts["weth"]}"', "swapper"),
    "roles": (lambda n: safe_section(n).replace("roles = ", "# roles = "), 'access = "owner-key-can-take-all"'),
    "owner key": (lambda n: safe_section(n) + '\naccess = "owner-key-can-take-all"', "none of its owners"),
}


@pytest.mark.parametrize("what", LACKS)
def test_what_a_kind_lacks_is_said(net, tmp_path, what):
    section, words = LACKS[what]
    file = tmp_path / "foredrift.toml"
    file.write_text(toml(net, TARGETS, section(net)))
    with pytest.raises(ConfigError, match=words):
        dry_vault(deployments(load(file))[0])


def test_a_share_that_is_not_held_has_no_rate_to_guard(net, tmp_path):
    file = tmp_path / "foredrift.toml"
    share = net.world.extras["yield_token"]
    file.write_text(
        toml(net, TARGETS, safe_section(net))
        + f'[[sources.pools]]\nasset = "X"\naddress = "{share}"\nvenue = "erc4626"\n'
    )
    with pytest.raises(ConfigError, match=r"must be one of \[vault\.tokens\]"):
        dry_vault(deployments(load(file))[0])
