"""`stop` from the terminal and the chat, on a real chain: the guardian's key pauses the vault, or nothing does."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from lake.evm import Call, read
from pipelines.deployments import deployments
from pipelines.scheduled.portfolio_serving import chat_of
from pipelines.sections import ChatSection
from pipelines.settlements.halting import halt_of
from pipelines.stages.halting import Project
from pipelines.stages.keys import show
from pipelines.vault_setup.sending import GUARDIAN, KEEPER, OWNER
from policy.execution.records.audit import Audit
from tests.pipelines.golive_kit import PHRASE, nonce, opened, with_vault
from tests.pipelines.test_chat import MINE, OTHER, TOKEN, api, message

pytestmark = [pytest.mark.chain, pytest.mark.slow]
__all__ = ["api"]  # the double of the chat's service is a fixture here, too
BY_GUARDIAN = 1  # pause_reason of the contract: a person paused it


@pytest.fixture(scope="module")
def made(localnet_session, tmp_path_factory):
    """A project with a vault of two tokens, its passphrase in a file."""
    folder = tmp_path_factory.mktemp("guardian")
    phrase = folder / "phrase"
    phrase.write_text(PHRASE)
    phrase.chmod(0o600)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FOREDRIFT_PASSPHRASE", raising=False)
        patch.setenv("FOREDRIFT_PASSPHRASE_FILE", str(phrase))
        with with_vault(localnet_session, folder) as file:
            yield localnet_session, file


@pytest.fixture
def desk(made):
    """The vault as it was made, what it says, and how many transactions each key has sent; put back after the test."""
    net, file = made
    saved = net.snapshot()
    settings, one = opened(file)
    addresses = {role: show(one, settings.deploy, role)[0]["address"] for role in (OWNER, KEEPER, GUARDIAN)}
    before = {role: nonce(net.rpc, address) for role, address in addresses.items()}

    def sent() -> dict[str, int]:
        return {role: nonce(net.rpc, address) - before[role] for role, address in addresses.items()}

    def says(what: str, returns: str):
        return read(net.rpc, [Call(one.vault.address, what, returns)])[0][0]

    yield SimpleNamespace(
        file=file, settings=settings, one=one, sent=sent, paused=lambda: says("paused()", "bool"),
        reason=lambda: says("pause_reason()", "uint256"), key=file.parent / "guardian.json",
    )  # fmt: skip
    halt_of(settings).resume()
    for log in (file.parent / ".foredrift").glob("*-31337.log"):
        log.unlink()
    net.revert(saved)


def verb(desk, *words: str, guardian: str = "guardian.json") -> tuple[int, str]:
    """Run ``foredrift`` as a person does, with the guardian's keystore named by a variable of the settings."""
    environment = os.environ | ({"FOREDRIFT_STOP__GUARDIAN": guardian} if guardian else {})
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *words, "--config", str(desk.file)], env=environment,
        capture_output=True, text=True, timeout=280, cwd=desk.file.parent,
    )  # fmt: skip
    assert PHRASE not in done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


def test_the_terminals_stop_pauses_the_vault_by_the_guardians_key_once(desk):
    assert not desk.paused()
    code, said = verb(desk, "stop", "--reason", "stolen key")
    assert code == 0, said
    assert "the guardian paused it in 0x" in said
    assert (desk.paused(), desk.reason()) == (True, BY_GUARDIAN)
    assert desk.sent() == {OWNER: 0, KEEPER: 0, GUARDIAN: 1}
    assert "stolen key" in str(halt_of(desk.settings).told())
    code, said = verb(desk, "stop", "--reason", "again")
    assert code == 0
    assert "paused already" in said
    assert desk.sent()[GUARDIAN] == 1
    code, said = verb(desk, "resume")
    assert code == 0
    assert desk.paused(), "whom the guardian paused, the owner alone resumes"


def test_without_a_guardian_in_the_settings_stop_halts_and_sends_nothing(desk):
    code, said = verb(desk, "stop", "--reason", "a look", guardian="")
    assert code == 0, said
    assert "paused" not in said
    assert halt_of(desk.settings).read() is not None
    assert (desk.paused(), desk.sent()) == (False, {OWNER: 0, KEEPER: 0, GUARDIAN: 0})


def test_a_key_that_is_not_the_guardians_pauses_nothing_and_the_halt_holds(desk):
    code, said = verb(desk, "stop", "--reason", "the wrong file", guardian="keeper.json")
    assert code == 1
    assert "could not pause the vault" in said
    assert halt_of(desk.settings).read() is not None
    assert not desk.paused()


@pytest.mark.parametrize("who", [MINE, OTHER])
def test_the_chats_stop_pauses_it_for_people_on_the_list_alone(desk, api, monkeypatch, who):
    monkeypatch.setenv("FOREDRIFT_TELEGRAM_TOKEN", TOKEN)
    vaults = deployments(desk.settings)
    given = ChatSection(allowed=(MINE,), url=f"http://127.0.0.1:{api.server_port}")
    chat = chat_of(vaults, given, "3h", Project(desk.settings.root, vaults, desk.key))
    assert chat is not None
    api.updates = [message(1, "/stop the pools look odd", who)]
    known = len(Audit(desk.one.audit).records()) if desk.one.audit.exists() else 0
    answered = chat.poll(0)
    if who == OTHER:
        assert (answered, api.sent) == (0, [])
        assert (desk.paused(), desk.sent()[GUARDIAN], halt_of(desk.settings).read()) == (False, 0, None)
        return
    [reply] = api.sent
    assert "the guardian paused it in 0x" in reply["text"]
    assert (desk.paused(), desk.reason(), desk.sent()[GUARDIAN]) == (True, BY_GUARDIAN, 1)
    [line] = Audit(desk.one.audit).records()[known:]
    assert (line.body["event"], line.body["by"], line.body["reason"]) == ("halt", "chat", "the pools look odd")
