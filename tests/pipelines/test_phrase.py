"""The passphrase reaches the process that signs and no environment that another program can read."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lake.errors import ConfigError
from pipelines.servers import phrase
from pipelines.settings import load
from pipelines.vault_setup.onchain import signer_of

PHRASE = "correct-horse-battery-PASSPHRASE"
SIGNER = "from pipelines.servers import phrase; print(phrase.passphrase(), open('/proc/self/environ').read())"
SERVER = f"""
import os, subprocess, sys
from pipelines.servers import phrase
from pipelines.vault_setup.onchain import signer_of
from pipelines.settings import load
phrase.hand_over()
phrase.keep_to_this_process()
open_files = os.listdir("/proc/self/fd")
child = subprocess.run([sys.executable, "-c", {SIGNER!r}], capture_output=True, text=True, close_fds=False)
print(os.getpid(), phrase.passphrase())
print(open("/proc/self/environ").read())
print("---")
print(child.stdout, child.stderr)
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    monkeypatch.setattr(phrase, "_held", [])
    monkeypatch.delenv(phrase.VARIABLE, raising=False)
    monkeypatch.delenv(phrase.FILE_VARIABLE, raising=False)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no anonymous memory on this system")
def test_a_process_that_starts_signers_shows_the_passphrase_in_no_environment(tmp_path):
    file = tmp_path / "server.py"
    file.write_text(SERVER)
    with subprocess.Popen(
        [sys.executable, str(file)], env=os.environ | {phrase.VARIABLE: PHRASE}, stdout=subprocess.PIPE, text=True
    ) as process:
        out = process.communicate(timeout=60)[0]
    mine, _, child = out.partition("---")
    first, _, environment = mine.partition("\n")
    assert first == f"{process.pid} {PHRASE}"  # the same process, run again
    assert PHRASE not in environment
    assert child.count(PHRASE) == 1, child  # said by the one that signs, not in its environment
    assert child.strip().startswith(PHRASE)


def test_it_leaves_the_environment_at_start(monkeypatch):
    monkeypatch.setenv(phrase.VARIABLE, PHRASE)
    phrase.take()
    assert phrase.VARIABLE not in os.environ
    assert phrase.passphrase() == PHRASE
    with phrase.using("another"):
        assert phrase.passphrase() == "another"
    assert phrase.passphrase() == PHRASE


def test_it_is_read_from_a_file_of_its_owner(tmp_path, monkeypatch):
    file = tmp_path / "phrase"
    file.write_text(PHRASE + "\n")
    file.chmod(0o600)
    monkeypatch.setenv(phrase.FILE_VARIABLE, str(file))
    assert phrase.passphrase() == PHRASE


@pytest.mark.parametrize(("mode", "text", "said"), [(0o640, PHRASE, "chmod 600"), (0o600, "\n", "empty")])
def test_a_file_that_is_open_to_others_or_empty_is_refused(tmp_path, monkeypatch, mode, text, said):
    file = tmp_path / "phrase"
    file.write_text(text)
    file.chmod(mode)
    monkeypatch.setenv(phrase.FILE_VARIABLE, str(file))
    with pytest.raises(ConfigError, match=said) as caught:
        phrase.passphrase()
    assert PHRASE not in str(caught.value)


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(phrase.FILE_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="FOREDRIFT_PASSPHRASE_FILE"):
        phrase.passphrase()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_keystore_that_is_open_to_others_signs_nothing(tmp_path, mode):
    keystore = tmp_path / "keeper.json"
    keystore.write_text("{}")
    keystore.chmod(mode)
    (tmp_path / "foredrift.toml").write_text('[vault]\nkind = "reference"\nkeystore = "keeper.json"\n')
    with phrase.using(PHRASE), pytest.raises(ConfigError, match="chmod 600"):
        signer_of(load(tmp_path / "foredrift.toml"))
