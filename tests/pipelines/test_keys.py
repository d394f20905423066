"""``foredrift keys``: encrypted files for their owner alone, addresses without a passphrase, and no key anywhere."""

from __future__ import annotations

import json
import os
import stat

import pytest
from eth_account import Account
from typer.testing import CliRunner

from lake.errors import ConfigError
from pipelines.cli import app
from pipelines.stages.start import KEYS, settings_for
from policy.execution.submission.signer import create_keystore, keystore_address

PHRASE = "only the test knows"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("FOREDRIFT_PASSPHRASE", "FOREDRIFT_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foredrift.toml").write_text(settings_for("local", ["WETH", "USDC"]))
    return tmp_path


@pytest.fixture
def quick(monkeypatch):
    """Keys that open quickly: the encryption is the library's, its strength is not what is tested."""
    from pipelines.stages import keys

    monkeypatch.setattr(keys, "create_keystore", lambda path, phrase: create_keystore(path, phrase, iterations=2))


def run(*words, **how):
    return CliRunner().invoke(app, ["keys", *words], **how)


def key_of(path) -> str:
    return bytes(Account.decrypt(json.loads(path.read_text()), PHRASE)).hex()


def test_what_the_library_makes_by_default_is_strong_and_standard(folder, monkeypatch):
    monkeypatch.setenv("FOREDRIFT_PASSPHRASE", PHRASE)
    assert run("new", "keeper").exit_code == 0
    store = json.loads((folder / "keeper.json").read_text())
    assert store["version"] == 3
    assert store["crypto"]["kdf"] == "scrypt"
    assert store["crypto"]["kdfparams"]["n"] >= 2**17
    assert {p.name for p in folder.iterdir()} >= {"keeper.json"}
    assert not (folder / "owner.json").exists()


def test_all_three_are_made_once_for_their_owner_alone_and_nothing_secret_is_printed(folder, quick, monkeypatch):
    monkeypatch.setenv("FOREDRIFT_PASSPHRASE", PHRASE)
    mask = os.umask(0)
    done = run("new", "--json", "keys.json")
    os.umask(mask)
    assert done.exit_code == 0, done.output
    told = json.loads((folder / "keys.json").read_text())
    assert [r["made"] for r in told] == [True] * 3
    files = [folder / name for name in KEYS]
    assert [stat.S_IMODE(f.stat().st_mode) for f in files] == [0o600] * 3
    assert len({r["address"] for r in told}) == 3
    before = [f.read_bytes() for f in files]
    again = run("new")
    assert "made:" not in again.output
    assert [f.read_bytes() for f in files] == before
    shown = run("show")
    everything = done.output + again.output + shown.output + (folder / "keys.json").read_text()
    for row, file in zip(told, files, strict=True):
        assert row["address"] in done.output
        assert row["address"] in shown.output
        key = key_of(file)
        assert Account.from_key(key).address == row["address"]
        assert key not in everything
    assert PHRASE not in everything


def test_an_address_is_shown_without_any_passphrase(folder, quick, monkeypatch):
    monkeypatch.setenv("FOREDRIFT_PASSPHRASE", PHRASE)
    run("new")
    monkeypatch.delenv("FOREDRIFT_PASSPHRASE")
    done = run("show", "owner")
    assert done.exit_code == 0
    assert keystore_address(folder / "owner.json") in done.output
    assert keystore_address(folder / "keeper.json") not in done.output


def test_a_file_or_descriptor_gives_the_passphrase(folder, quick, monkeypatch):
    secret = folder / "phrase"
    secret.write_text(PHRASE + "\n")
    secret.chmod(0o600)
    with secret.open() as held:
        monkeypatch.setenv("FOREDRIFT_PASSPHRASE_FILE", f"/dev/fd/{held.fileno()}")
        assert run("new", "keeper").exit_code == 0
    monkeypatch.setenv("FOREDRIFT_PASSPHRASE_FILE", str(secret))
    assert run("new", "owner").exit_code == 0
    assert len({key_of(folder / n) for n in ("keeper.json", "owner.json")}) == 2
    secret.chmod(0o644)
    assert isinstance(run("new", "guardian").exception, ConfigError)
    assert not (folder / "guardian.json").exists()


def test_a_terminal_is_asked_twice(folder, quick, monkeypatch):
    from pipelines.commands import keys

    monkeypatch.setattr(keys, "_at_a_terminal", lambda: True)
    done = run("new", "keeper", input=f"{PHRASE}\n{PHRASE}\n")
    assert done.exit_code == 0, done.output
    assert PHRASE not in done.output
    assert key_of(folder / "keeper.json")


@pytest.mark.parametrize(
    ("words", "said"),
    [(["new"], "need a passphrase"), (["new", "miner"], "no keystore of a miner"), (["show", "x"], "no keystore")],
)
def test_what_is_missing_is_said_and_nothing_is_written(folder, words, said):
    before = sorted(p.name for p in folder.iterdir())
    done = run(*words)
    assert isinstance(done.exception, ConfigError)
    assert said in str(done.exception)
    assert sorted(p.name for p in folder.iterdir()) == before


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"address": 5}', '{"address": "0x12"}', "\x00", '{"address": null}'])
def test_a_damaged_keystore_is_named(folder, text):
    path = folder / "keeper.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"keeper\.json says no address"):
        keystore_address(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        keystore_address(path)
