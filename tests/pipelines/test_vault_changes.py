"""The owner's changes: queued, then made by the same command; killed anywhere each step is taken once."""

from __future__ import annotations

import random

import pytest

from lake.errors import ConfigError
from lake.evm import Call, read
from pipelines.stages import vault_changes
from pipelines.stages.doctor import examine
from pipelines.stages.keys import show
from pipelines.stages.vault_deploy import deploy
from pipelines.stages.vault_status import status
from policy.execution.vaults.reference.timelock import without
from tests.pipelines.golive_kit import PHRASE, Killed, killed_at, nonce, opened, project

pytestmark = pytest.mark.chain
HOUR_S = 3_600


@pytest.fixture(scope="module")
def made(localnet_session, tmp_path_factory):
    """A project with a vault of three tokens, made once; each test goes on where the last one left it."""
    from decimal import Decimal

    patch = pytest.MonkeyPatch()
    patch.setenv("FOREDRIFT_PASSPHRASE", PHRASE)
    saved = localnet_session.snapshot()
    file = project(localnet_session, tmp_path_factory.mktemp("changes"))
    settings, one = opened(file)
    deploy(one, settings.deploy, file, live=True, deposit=Decimal(50_000))
    yield localnet_session, file
    patch.undo()
    localnet_session.revert(saved)


def go(file, verb, *given, **how):
    settings, one = opened(file)
    return getattr(vault_changes, verb)(one, settings.deploy, *given, **how)


def edit(file, old, new):
    text = file.read_text()
    assert old in text, old
    file.write_text(text.replace(old, new))


def later(net, seconds=HOUR_S + 12):
    """Let time pass with feeds that post."""
    net.advance_prices({"ETH": 1_500.0, "BTC": 20_000.0}, at=None)
    net.mine(seconds=seconds)
    net.advance_prices({"ETH": 1_500.0, "BTC": 20_000.0})


def vault_says(net, file, signature, returns):
    _, one = opened(file)
    return read(net.rpc, [Call(one.vault.address, signature, returns)])[0]


def owner_nonce(net, file):
    settings, one = opened(file)
    return nonce(net.rpc, show(one, settings.deploy, "owner")[0]["address"])


def test_targets_are_announced_then_made_by_the_same_command_and_then_there_is_nothing_to_do(made):
    net, file = made
    assert go(file, "set_targets")["changes"] == []
    edit(file, "# targets = [0.34, 0.33, 0.33] ", "targets = [0.2, 0.5, 0.3] ")
    settings, one = opened(file)
    assert any("its targets are" in d for d in status(one, settings.deploy)["differs"])
    assert any("set-targets" in r["do"] for r in examine(file) if r["level"] == "warn")
    before = owner_nonce(net, file)
    [planned] = go(file, "set_targets")["changes"]
    assert (planned["state"], planned["did"]) == ("new", "nothing")
    assert owner_nonce(net, file) == before  # a plan sends nothing
    [row] = go(file, "set_targets", live=True)["changes"]
    assert (row["did"], bool(row["ready_at"])) == ("announced", True)
    for _ in range(2):
        [row] = go(file, "set_targets", live=True)["changes"]
        assert (row["state"], row["did"]) == ("waiting", "nothing")
    later(net)
    assert go(file, "set_targets")["changes"][0]["state"] == "ready"
    [row] = go(file, "set_targets", live=True)["changes"]
    assert row["did"] == "made"
    assert go(file, "set_targets", live=True)["changes"] == []
    assert vault_says(net, file, "tokens()", "address[],uint256[],uint256[]")[2] == (2_000, 5_000, 3_000)
    assert owner_nonce(net, file) == before + 2


def test_killed_at_random_crossings_limits_change_once(made, monkeypatch):
    """Two calls (limits, budgets), each announced and made: four transactions, however often the process dies."""
    net, file = made
    rng, before, deaths = random.Random(7), owner_nonce(net, file), 0
    edit(file, "# loss_budget_bps = 10 ", "loss_budget_bps = 20 ")
    edit(file, "# max_slippage_bps = 100", "max_slippage_bps = 90")
    for _ in range(60):
        with killed_at(monkeypatch, rng.randint(1, 8)):
            try:
                rows = go(file, "set_mandate", live=True)["changes"]
            except Killed:
                deaths += 1
                continue
        if not rows:
            break
        if all(r["state"] == "waiting" or r["did"] == "announced" for r in rows):
            later(net)
    assert rows == []
    assert deaths >= 2
    assert owner_nonce(net, file) == before + 4
    limits = vault_says(net, file, "mandate()", ",".join(["uint256"] * 6))
    assert (limits[0], limits[5]) == (90, 2_000_000)
    settings, one = opened(file)
    assert status(one, settings.deploy)["differs"] == []


def test_a_pause_is_at_once_by_either_key_and_a_resume_waits(made):
    net, file = made
    assert go(file, "resume", live=True)["changes"] == []
    [row] = go(file, "pause", guardian=True)["changes"]
    assert row["did"] == "nothing"
    assert not vault_says(net, file, "paused()", "bool")[0]
    [row] = go(file, "pause", guardian=True, live=True)["changes"]
    assert row["did"] == "made"
    assert vault_says(net, file, "pause_reason()", "uint256") == (1,)
    assert go(file, "pause", live=True)["changes"] == []  # it is paused
    assert any("the guardian has paused it" in r["found"] for r in examine(file))
    assert go(file, "resume", live=True)["changes"][0]["did"] == "announced"
    later(net)
    assert go(file, "resume", live=True)["changes"][0]["did"] == "made"
    assert not vault_says(net, file, "paused()", "bool")[0]
    assert go(file, "pause", live=True)["changes"][0]["did"] == "made"
    assert vault_says(net, file, "pause_reason()", "uint256") == (2,)
    assert go(file, "resume", live=True)["changes"][0]["did"] == "announced"
    later(net)
    assert go(file, "resume", live=True)["changes"][0]["did"] == "made"


def test_a_token_is_retired_step_by_step(made):
    net, file = made
    first = go(file, "retire", "WBTC", live=True)
    assert "WBTC 30 -> 0 %" in first["changes"][0]["words"]
    later(net)
    assert go(file, "retire", "btc", live=True)["changes"][0]["did"] == "made"
    assert vault_says(net, file, "tokens()", "address[],uint256[],uint256[]")[2] == (2_857, 7_143, 0)
    assert go(file, "retire", "WBTC", live=True)["changes"][0]["did"] == "announced"  # nothing of it is held
    later(net)
    assert go(file, "retire", "WBTC", live=True)["changes"][0]["did"] == "made"
    tokens, _, targets = vault_says(net, file, "tokens()", "address[],uint256[],uint256[]")
    assert (len(tokens), targets) == (2, (2_857, 7_143))


@pytest.mark.parametrize(
    ("token", "said"),
    [("USDC", "accounting asset"), ("DOGE", "'DOGE' is none of them"), ("WETH", "two tokens at least")],
)
def test_what_cannot_be_retired_is_said(made, token, said):
    _, file = made  # by now it holds two tokens
    with pytest.raises(ConfigError, match=said):
        go(file, "retire", token)


def test_another_key_than_the_owners_changes_nothing(made):
    net, file = made
    edit(file, 'owner = "owner.json"', 'owner = "guardian.json"')
    edit(file, 'guardian = "guardian.json"', 'guardian = "owner.json"')
    before = net.rpc.call("eth_blockNumber")
    with pytest.raises(ConfigError, match="the vault's owner is"):
        go(file, "set_mandate", live=True)
    assert net.rpc.call("eth_blockNumber") == before
    assert any("its owner is" in r["found"] for r in examine(file) if r["check"] == "vault on chain")
    edit(file, 'owner = "guardian.json"', 'owner = "owner.json"')
    edit(file, 'guardian = "owner.json"', 'guardian = "guardian.json"')


@pytest.mark.parametrize("seed", range(40))
def test_a_share_is_spread_in_proportion_and_nothing_is_lost(seed):
    rng = random.Random(seed)
    cuts = sorted(rng.sample(range(1, 10_000), rng.randint(1, 7)))
    targets = [b - a for a, b in zip([0, *cuts], [*cuts, 10_000], strict=True)]
    i = rng.randrange(len(targets))
    found = without(targets, i)
    assert sum(found) == 10_000
    assert found[i] == 0
    rest = 10_000 - targets[i]
    assert all(abs(f - t * 10_000 / rest) <= 1 for j, (f, t) in enumerate(zip(found, targets, strict=True)) if j != i)
