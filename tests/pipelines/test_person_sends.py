"""Verbs that act with a person's key write ahead what they send: killed anywhere, each step lands once."""

from __future__ import annotations

import random

import pytest
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.errors import ExecutionError
from lake.evm import Call, read
from pipelines.deployments import deployments
from pipelines.stages import vault_changes
from pipelines.stages.halting import Project, stop
from pipelines.stages.holders import list_holder, set_permissioned
from pipelines.stages.keys import show
from pipelines.vault_setup.sending import GUARDIAN, OWNER, ahead_of
from pipelines.wiring import rpc_of
from policy.execution.submission.channels import PublicChannel, Reply
from tests.pipelines.golive_kit import Killed, killed_at, nonce, opened, with_vault
from tests.pipelines.test_vault_changes import later

pytestmark = pytest.mark.chain


@pytest.fixture(scope="module")
def made(localnet_session, tmp_path_factory):
    """A project with a vault of two tokens."""
    with with_vault(localnet_session, tmp_path_factory.mktemp("person")) as file:
        yield localnet_session, file


@pytest.fixture
def fresh(made):
    """The same, put back after the test."""
    net, file = made
    saved = net.snapshot()
    for log in (file.parent / ".foredrift").glob("*-31337.log"):
        log.unlink()
    yield net, file
    net.revert(saved)


def count(net, file, role):
    settings, one = opened(file)
    return nonce(net.rpc, show(one, settings.deploy, role)[0]["address"])


@pytest.mark.parametrize("seed", [1, 2])
def test_the_list_of_holders_changes_once_however_often_the_process_dies(fresh, monkeypatch, seed):
    net, file = fresh
    holder = to_checksum_address(keccak(text=f"holder {seed}")[:20])
    rng, before, deaths = random.Random(seed), count(net, file, OWNER), 0
    owner = file.parent / "owner.json"
    todo = [
        lambda: list_holder(opened(file)[1], holder, allowed=True, owner=owner),
        lambda: set_permissioned(opened(file)[1], on=True, owner=owner),
    ]
    for change in todo:
        for _ in range(30):
            with killed_at(monkeypatch, rng.randint(1, 5)):
                try:
                    told = change()
                except Killed:
                    deaths += 1
                    continue
            if told["step"] == "done":
                break
            if told["step"] == "wait":
                later(net)
        assert told["step"] == "done"
    assert deaths >= 2
    assert count(net, file, OWNER) == before + 4
    vault = opened(file)[1].vault.address
    asks = [Call(vault, "holder_allowed(address)", "bool", (holder,)), Call(vault, "permissioned()", "bool")]
    assert [row[0] for row in read(net.rpc, asks)] == [True, True]


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6])
def test_a_stop_that_dies_at_any_crossing_pauses_the_vault_once(fresh, monkeypatch, at):
    net, file = fresh
    settings, _ = opened(file)
    whole = Project(settings.root, deployments(settings), file.parent / "guardian.json")
    before = count(net, file, GUARDIAN)
    with killed_at(monkeypatch, at), pytest.raises(Killed):
        stop(whole, "a test")
    told = stop(whole, "a test")
    assert [p["paused"] for p in told["pauses"]] == [True]
    assert count(net, file, GUARDIAN) == before + 1


def test_a_guardian_pauses_while_the_owner_has_a_transaction_that_does_not_land(fresh, monkeypatch):
    net, file = fresh
    settings, one = opened(file)
    real = PublicChannel.send
    owner = show(one, settings.deploy, OWNER)[0]["address"].lower()

    def held_back(self, raw, *given):
        from eth_account import Account

        if Account.recover_transaction(raw).lower() == owner:
            return Reply(None, "held back")
        return real(self, raw, *given)

    monkeypatch.setattr(PublicChannel, "send", held_back)
    monkeypatch.setattr("policy.execution.submission.written_ahead.WrittenAhead.settle", _impatient())
    with pytest.raises(ExecutionError, match="sends nothing anew"):
        vault_changes.pause(one, settings.deploy, live=True)
    [row] = vault_changes.pause(one, settings.deploy, guardian=True, live=True)["changes"]
    assert row["did"] == "made"
    assert read(net.rpc, [Call(one.vault.address, "pause_reason()", "uint256")])[0] == (1,)


def _impatient():
    """Settling that looks three times only."""
    from policy.execution.submission.written_ahead import WrittenAhead

    real = WrittenAhead.settle

    def settle(self, signer_of=None):
        self.patience = 3
        return real(self, signer_of)

    return settle


def test_another_process_is_refused_in_one_line_by_every_verb_of_the_owner(fresh):
    _, file = fresh
    settings, one = opened(file)
    owner = file.parent / "owner.json"
    with ahead_of(one, rpc_of(one.chain)).held():
        for act in (
            lambda: vault_changes.pause(one, settings.deploy, live=True),
            lambda: set_permissioned(one, on=True, owner=owner),
            lambda: vault_changes.resume(one, settings.deploy, live=True),
        ):
            with pytest.raises(ExecutionError, match="another process sends for this owner"):
                act()
