"""``foredrift keys rotate``: the old key is void when the chain says so, no earlier, wherever the process dies."""

from __future__ import annotations

import json
import random
import stat

import pytest
from typer.testing import CliRunner

from lake.errors import ConfigError
from lake.evm import Call, read
from pipelines.cli import app
from pipelines.deployments import deployments
from pipelines.settlements.reconcile import journal_of
from pipelines.stages import key_rotation
from pipelines.stages.key_rotation import NOBODY, rotate
from pipelines.stages.keys import show
from pipelines.stages.vault_changes import pause
from pipelines.stages.vault_status import status
from policy.execution.submission.signer import create_keystore, keystore_address
from tests.pipelines.golive_kit import GAS_MONEY, PHRASE, Killed, killed_at, nonce, opened, with_vault
from tests.pipelines.test_vault_changes import later

pytestmark = pytest.mark.chain


@pytest.fixture(scope="module")
def deployed(localnet_session, tmp_path_factory):
    """A project with a vault of two tokens, made once."""
    with with_vault(localnet_session, tmp_path_factory.mktemp("rotation")) as file:
        yield localnet_session, file


@pytest.fixture
def made(deployed, monkeypatch):
    """The same, with chain, keys and logs put back after the test, and new keys that open quickly."""
    net, file = deployed
    monkeypatch.setattr(key_rotation, "create_keystore", lambda p, phrase: create_keystore(p, phrase, iterations=2))
    saved, kept = net.snapshot(), {p: p.read_bytes() for p in file.parent.glob("*.json")}
    logs = {p: p.read_bytes() for p in (file.parent / ".foredrift").glob("*.log")}
    yield net, file
    net.revert(saved)
    for path in (*file.parent.glob("*.json"), *(file.parent / ".foredrift").glob("*.log")):
        path.unlink()
    for path, data in (kept | logs).items():
        path.write_bytes(data)
        path.chmod(0o600)


def go(file, role="keeper", **how):
    settings, _ = opened(file)
    return rotate(deployments(settings), settings.deploy, role, lambda: PHRASE, **how)


def on_chain(net, file, role="keeper"):
    _, one = opened(file)
    return read(net.rpc, [Call(one.vault.address, f"{role}()", "address")])[0][0].lower()


def of(file, role):
    return keystore_address(file.parent / f"{role}.json")


def test_a_plan_writes_nothing_then_it_is_announced_then_made_and_only_then_is_the_old_key_void(made):
    net, file = made
    old, names = of(file, "keeper"), sorted(p.name for p in file.parent.glob("*.json"))
    plan = go(file)
    assert (plan["old"], plan["new"], plan["void"]) == (old, None, None)
    assert sorted(p.name for p in file.parent.glob("*.json")) == names
    first = go(file, live=True)
    new = first["new"]
    assert first["vaults"][0]["changes"][0]["did"] == "announced"
    assert stat.S_IMODE((file.parent / "keeper.next.json").stat().st_mode) == 0o600
    assert any("gas money" in words for words in first["do"])
    for _ in range(2):
        waiting = go(file, live=True)
        assert (waiting["new"], waiting["void"]) == (new, None)
        assert (of(file, "keeper"), on_chain(net, file)) == (old, old.lower())
    later(net)
    done = go(file, live=True)
    assert done["vaults"][0]["changes"][0]["did"] == "made"
    assert on_chain(net, file) == new.lower()
    assert of(file, "keeper") == new
    assert done["void"] == str(file.parent / f"keeper.void-{old}.json")
    assert keystore_address(file.parent / f"keeper.void-{old}.json") == old
    assert not (file.parent / "keeper.next.json").exists()
    settings, one = opened(file)
    assert not any("its keeper is" in words for words in status(one, settings.deploy)["differs"])
    assert show(one, settings.deploy, "keeper")[0]["address"] == new
    over = go(file, live=True)
    assert "--again" in over["do"][0]
    assert (of(file, "keeper"), over["void"]) == (new, None)
    assert go(file, live=True, again=True)["new"] not in {old, new}


@pytest.mark.parametrize(("role", "stolen", "seed"), [("keeper", False, 3), ("keeper", True, 4), ("guardian", True, 5)])
def test_killed_at_random_crossings_each_transaction_lands_once(made, monkeypatch, role, stolen, seed):
    net, file = made
    settings, one = opened(file)
    owner = show(one, settings.deploy, "owner")[0]["address"]
    rng, before, deaths, old = random.Random(seed), nonce(net.rpc, owner), 0, of(file, role)
    for _ in range(60):
        with killed_at(monkeypatch, rng.randint(1, 7)):
            try:
                told = go(file, role, live=True, stolen=stolen)
            except Killed:
                deaths += 1
                assert (of(file, role) == old) or on_chain(net, file, role) == of(file, role).lower()
                continue
        if told["void"]:
            break
        if stolen:
            assert on_chain(net, file, role) == NOBODY
        later(net)
    assert deaths >= 2
    assert told["void"]
    assert on_chain(net, file, role) == told["new"].lower() == of(file, role).lower()
    assert nonce(net.rpc, owner) == before + 2 + stolen


@pytest.mark.parametrize("where", ["link", "replace"])
def test_killed_between_the_two_names_the_same_command_ends_it(made, monkeypatch, where):
    net, file = made
    new = go(file, live=True)["new"]
    later(net)

    def dies(*_):
        raise Killed(where)

    with monkeypatch.context() as patch:
        target = key_rotation.os if where == "link" else key_rotation.Path
        patch.setattr(target, where, dies)
        with pytest.raises(Killed):
            go(file, live=True)
    assert on_chain(net, file) == new.lower()
    assert (file.parent / "keeper.json").exists()
    done = go(file, live=True)
    assert done["void"]
    assert of(file, "keeper") == new


def test_a_plan_on_its_way_with_the_old_key_is_waited_for(made, monkeypatch):
    net, file = made
    _, one = opened(file)
    old = of(file, "keeper")
    go(file, live=True)
    later(net)

    class Flight:
        plan = type("Plan", (), {"decision_id": "d7"})

    monkeypatch.setattr(type(journal_of(one)), "in_flight", lambda _: Flight())
    with pytest.raises(ConfigError, match="plan d7 .* is on its way with the old key"):
        go(file, live=True)
    assert (of(file, "keeper"), on_chain(net, file)) == (old, old.lower())
    with pytest.raises(ConfigError, match="is on its way"):  # a stolen key loses its role all the same
        go(file, live=True, stolen=True)
    assert on_chain(net, file) != old.lower()


def test_a_reorganisation_after_the_end_is_made_good_by_the_same_command(made):
    net, file = made
    new = go(file, live=True)["new"]
    later(net)
    saved = net.snapshot()
    go(file, live=True)
    net.revert(saved)  # the change that was made is not on the chain any more
    assert of(file, "keeper") == new
    assert on_chain(net, file) != new.lower()
    again = go(file, live=True)
    assert again["void"] is None
    assert on_chain(net, file) == new.lower()


def test_what_does_not_fit_is_said_and_nothing_is_written(made):
    net, file = made
    before = {p: p.read_bytes() for p in file.parent.glob("*.json")}
    height = net.rpc.call("eth_blockNumber")
    with pytest.raises(ConfigError, match="keeper or guardian, got 'miner'"):
        go(file, "miner", live=True)
    with pytest.raises(ConfigError, match="the new owner has to accept"):
        go(file, "owner", live=True)
    create_keystore(file.parent / "stranger.json", PHRASE, iterations=2)
    text = file.read_text()
    file.write_text(text.replace('keystore = "keeper.json"', 'keystore = "stranger.json"'))
    with pytest.raises(ConfigError, match="is it this vault"):
        go(file, live=True)
    file.write_text(text.replace('owner = "owner.json"', 'owner = "stranger.json"'))
    with pytest.raises(ConfigError, match="the vault's owner is"):
        go(file, live=True)
    file.write_text(text)
    assert {p: p.read_bytes() for p in before} == before
    assert not (file.parent / "keeper.next.json").exists()
    (file.parent / "keeper.next.json").write_text('{"addr')
    (file.parent / "keeper.next.json").chmod(0o600)
    with pytest.raises(ConfigError, match="not written to its end"):
        go(file, live=True)
    (file.parent / "keeper.next.json").unlink()
    create_keystore(file.parent / "keeper.next.json", "another phrase", iterations=2)
    with pytest.raises(ConfigError, match="does not open"):
        go(file, live=True)
    assert net.rpc.call("eth_blockNumber") == height


def test_the_verb_prints_addresses_and_what_is_left_and_no_key(made, monkeypatch):
    net, file = made
    monkeypatch.chdir(file.parent)

    def verb(*words):
        done = CliRunner().invoke(app, ["keys", "rotate", "guardian", *words])
        assert done.exit_code == 0, done.output
        return done.output

    assert "--live announces it" in verb()
    said = verb("--live", "--json", "told.out")
    told = json.loads((file.parent / "told.out").read_text())
    (file.parent / "told.out").unlink()
    assert told["new"] in said
    assert "run the same command again at" in said
    later(net)
    said += verb("--live")
    assert f"guardian.void-{told['old']}.json" in said.replace("\n", "")
    net.anvil.rpc.call("anvil_setBalance", [told["new"], hex(GAS_MONEY)])
    settings, one = opened(file)
    assert pause(one, settings.deploy, guardian=True, live=True)["changes"][0]["did"] == "made"  # by the new key
    for secret in (PHRASE, "ciphertext"):
        assert secret not in said
