"""A permissioned vault from end to end: listed by the owner through the timelock, held by listed accounts alone."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from lake.errors import ConfigError
from lake.evm import Call, calldata, read
from pipelines.cli import app
from pipelines.demo.demo_chain import local_settings
from pipelines.deployments import deployment
from pipelines.servers.phrase import using
from pipelines.settings import Settings
from pipelines.stages.holders import STEPS, STRANGER, holders_of, list_holder, set_permissioned
from pipelines.stages.mandate import evidence_of
from policy.execution.submission.signer import create_keystore
from policy.execution.vaults.reference.timelock import GRACE_S, LAPSED, NEW, READY, WAITING, state_at
from policy.localnet.portfolio import DELAY_S
from tests.execution.chain_kit import USD, landed

SOON = DELAY_S + 60
PART = 10**15
"""Raw shares: a thousandth of what the investor holds."""


@pytest.fixture
def own(vaultnet, tmp_path, monkeypatch):
    """The deployment of the local market's vault, the keystore of its owner, and one of somebody else."""
    monkeypatch.chdir(tmp_path)
    settings = local_settings(Settings(root=tmp_path), vaultnet)
    for role in ("owner", "trader"):
        create_keystore(tmp_path / f"{role}.json", "local", vaultnet.accounts[role].key, iterations=2)
    with using("local"):
        yield deployment(settings), tmp_path / "owner.json", tmp_path / "trader.json"


def who(net, role):
    return net.accounts[role].address


def moved(net, sender, receiver, amount):
    """Whether a transfer of shares succeeds."""
    return landed(
        net, sender, net.world.extras["vault"], calldata("transfer(address,uint256)", receiver, amount)
    ).status


def entered(net, role, amount=1_000 * USD):
    """Whether a deposit of cash succeeds."""
    cash, vault = net.world.token("USDC").address, net.world.extras["vault"]
    landed(net, role, cash, calldata("approve(address,uint256)", vault, amount))
    return landed(net, role, vault, calldata("deposit(uint256,address)", amount, who(net, role))).status


def through(net, change):
    """Announce, wait, make: the same call three times, and a fourth that finds it done."""
    first = change()
    assert first["step"] == STEPS[WAITING]
    assert first["transaction"]
    again = change()
    assert (again["step"], again["transaction"]) == (STEPS[WAITING], None)  # repeated too early it sends nothing
    net.mine(seconds=SOON)
    done = change()
    assert (done["step"], bool(done["transaction"])) == ("done", True)
    assert change()["transaction"] is None
    return first, done


@pytest.mark.chain
def test_only_listed_accounts_enter_receive_and_hold(vaultnet, own):
    net, (mine, owner, _) = vaultnet, own
    investor, trader = who(net, "investor"), who(net, "trader")
    assert holders_of(mine)["strangers"]
    started = net.node.head()
    through(net, lambda: list_holder(mine, investor, allowed=True, owner=owner))
    _, on = through(net, lambda: set_permissioned(mine, on=True, owner=owner))
    assert on["permissioned"]
    net.advance_prices({"ETH": 1_500.0, "BTC": 20_000.0})  # posted anew: what is refused is not for a stale price
    assert not holders_of(mine)["strangers"]
    assert entered(net, "investor")
    assert not moved(net, "investor", trader, PART)  # not to a stranger
    assert not moved(net, "investor", STRANGER, PART)
    assert not entered(net, "trader")
    net.mine(seconds=100_000)  # past the hold of what was just bought
    through(net, lambda: list_holder(mine, trader, allowed=True, owner=owner))
    assert moved(net, "investor", trader, PART)
    before = net.node.head().number
    _, struck = through(net, lambda: list_holder(mine, trader, allowed=False, owner=owner))
    assert not moved(net, "investor", trader, PART)
    assert moved(net, "trader", investor, 4 * PART // 10)  # who was struck off still leaves
    told = holders_of(mine)
    shares = {h["account"]: (int(h["shares"]), h["listed"]) for h in told["holders"]}
    assert shares[trader] == (6 * PART // 10, False)
    assert shares[investor][1]
    ((supply,),) = read(net.rpc, [Call(mine.vault.address, "totalSupply()", "uint256")])
    assert int(told["shares"]) == supply
    past = {h["account"]: h for h in holders_of(mine, before)["holders"]}
    assert (int(past[trader]["shares"]), past[trader]["listed"]) == (PART, True)
    assert [(c["account"], c["allowed"]) for c in told["list"]] == [
        (investor, True), ("everybody", False), (trader, True), (trader, False),
    ]  # fmt: skip
    assert {c["by"].lower() for c in told["list"]} == {who(net, "owner").lower()}
    assert told["list"][-1]["tx_hash"] == struck["transaction"]
    net.mine(seconds=60)
    reported(mine, started, net, trader)


def reported(mine, started, net, trader):
    """The same in the report of the mandate."""
    from datetime import UTC, datetime

    begin, end = (datetime.fromtimestamp(t, UTC) for t in (started.time, net.node.head().time))
    evidence = evidence_of(mine, begin, end)
    roles = {r["role"]: r for r in evidence.tables["roles"].iter_rows(named=True) if r["changed"]}
    assert (roles["holders"]["at_start"], roles["holders"]["at_end"]) == ("anyone", "listed ones")
    events = evidence.tables["actions"]["event"].to_list()
    assert events.count("HolderSet") == 3
    assert events.count("PermissionedSet") == 1
    held = {h["account"]: h for h in evidence.tables["holders"].iter_rows(named=True)}
    assert held[trader]["listed"] is False
    assert evidence.faults == 0


@pytest.mark.chain
def test_the_list_is_its_owner_s_alone_and_shown_before_it_is_changed(vaultnet, own):
    net, (mine, owner, other) = vaultnet, own
    seen = []
    shown = list_holder(mine, who(net, "trader"), allowed=True, on_plan=seen.append)
    assert (shown["step"], shown["transaction"]) == ("announce", None)
    assert seen == [shown]
    with pytest.raises(ConfigError, match="the owner of"):
        list_holder(mine, who(net, "trader"), allowed=True, owner=other)
    assert list_holder(mine, who(net, "trader"), allowed=False, owner=owner)["step"] == "done"
    wrong = {"0x12": "no address", "nobody": "no address", "0x" + "0" * 40: "it is nobody",
             mine.vault.address: "the vault itself"}  # fmt: skip
    for account, words in wrong.items():
        with pytest.raises(ConfigError, match=words):
            list_holder(mine, account, allowed=True)
    with pytest.raises(ConfigError, match="is not there"):
        holders_of(mine, 10**9)


def test_a_change_is_announced_waits_is_made_and_lapses_at_the_contract_s_seconds():
    assert state_at(0, 10**9) == NEW
    at = 1_700_000_000
    assert [state_at(at, at + d) for d in (-1, 0, GRACE_S, GRACE_S + 1)] == [WAITING, READY, READY, LAPSED]


def test_the_verbs_say_what_they_need(tmp_path):
    file = tmp_path / "foredrift.toml"
    file.write_text('[portfolio]\nassets = ["USDC", "ETH"]\n')
    run = CliRunner()
    for words in (["allow", "0x" + "1" * 40], ["deny", "0x" + "1" * 40], ["holders"], ["permissioned", "on"]):
        done = run.invoke(app, ["vault", *words, "--config", str(file)])
        assert isinstance(done.exception, ConfigError)
        assert "only the reference vault has holders" in str(done.exception)
    half = run.invoke(app, ["vault", "allow", "0x" + "1" * 40, "--live", "--config", str(file)])
    assert "belong together" in str(half.exception)
    assert "on or off" in str(run.invoke(app, ["vault", "permissioned", "yes", "--config", str(file)]).exception)


@pytest.mark.chain
def test_the_printed_tables_name_holders_and_list(vaultnet, own, monkeypatch):
    mine, owner, _ = own
    from pipelines.reports import holder_tables

    said = []
    monkeypatch.setattr(holder_tables.terminal, "say", lambda *parts: said.append("".join(map(str, parts))))
    result = list_holder(mine, who(vaultnet, "investor"), allowed=True, owner=owner, on_plan=holder_tables.change)
    holder_tables.changed(result)
    holder_tables.holders(holders_of(mine))
    text = "\n".join(said)
    assert result["transaction"] in text
    assert "the list is not in force" in text
    assert "a deposit of a stranger is taken" in text
    assert json.loads(json.dumps(result)) == result
