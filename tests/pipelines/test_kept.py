"""Which journal a vault has, and the audit held against the vault's own events."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipelines.settings import Settings
from pipelines.settlements.reconcile import journal_of
from policy.execution.records.hashlog import Line
from policy.execution.records.journal import Journal, VaultBusy
from policy.execution.vaults.anchored import faults, known
from tests.execution.test_journal import PLAN

VAULT = "0x00000000000000000000000000000000000000Aa"
OTHER = "0x00000000000000000000000000000000000000cc"


def settings(root, address=VAULT, chain=1, **vault) -> Settings:
    return Settings.model_validate(
        {"root": root, "chain": {"id": chain}, "vault": {"kind": "reference", "address": address, **vault}}
    )


def written(path, vault=VAULT) -> None:
    journal = Journal(path)
    with journal.lease():
        journal.plan(replace(PLAN, vault=vault))
        journal.close("void", "test")


def test_every_vault_on_a_chain_has_a_journal_of_its_own(tmp_path):
    pairs = [(address, chain) for address in (VAULT, VAULT.lower(), OTHER) for chain in (1, 10)]
    names = {settings(tmp_path, address, chain).vault.journal for address, chain in pairs}
    assert len(names) == 4
    assert settings(tmp_path).vault.journal.endswith("journal-1-" + VAULT.lower())
    assert settings(tmp_path, journal="mine").vault.journal == "mine"
    assert Settings(root=tmp_path).vault.journal == ".foredrift/journal"


@pytest.mark.parametrize(("holder", "ours"), [(VAULT, True), (VAULT.lower(), True), (OTHER, False)])
def test_the_shared_journal_of_before_is_taken_over_once_if_it_is_ours(tmp_path, holder, ours):
    shared = tmp_path / ".foredrift" / "journal"
    written(shared, holder)
    before = shared.read_bytes()
    journal = journal_of(settings(tmp_path))
    assert [f.state for f in journal.flights()] == (["void"] if ours else [])
    assert shared.exists() != ours
    held = journal.path if ours else shared
    assert held.read_bytes() == before
    written(shared, VAULT)  # one that appears later is left alone
    assert journal_of(settings(tmp_path)).path == journal.path


def test_the_shared_journal_is_not_taken_from_a_run(tmp_path):
    shared = tmp_path / ".foredrift" / "journal"
    written(shared)
    with Journal(shared).lease(), pytest.raises(VaultBusy):
        journal_of(settings(tmp_path))
    assert shared.exists()


def records(*plans, vault=VAULT):
    """Decisions and their settlements: (nonce, hash, outcome or None)."""
    bodies = []
    for nonce, name, outcome in plans:
        plan = {"chain_id": 1, "vault": vault, "nonce": nonce, "block_number": 100 + nonce}
        bodies.append({"event": "decision", "live": True, "plan": plan, "plan_hash": name})
        if outcome:
            note = f"0x1 in block {101 + nonce}"
            bodies.append({"event": "settlement", "plan_hash": name, "outcome": outcome, "note": note})
    return [Line(i, "", body, "") for i, body in enumerate(bodies)]


def chain_of(*events):
    """Events (nonce, hash) as a vault's lookup by nonce and blocks."""
    return lambda nonce, first, last: [h for n, h in events if n == nonce and first <= 101 + n <= last]


def test_audit_and_vault_are_compared_both_ways():
    two = known(records((0, "a", "landed"), (1, "b", "void"), (1, "c", "landed")), 1, VAULT.lower())
    assert faults(two, 2, chain_of((0, "a"), (1, "c"))) == []
    assert "plan 1 landed, the vault has no event" in faults(two, 1, chain_of((0, "a")))[0]
    assert faults(two, 2, chain_of((0, "a"), (1, "x")))  # another plan of that nonce
    assert faults(two, 3, chain_of((0, "a"), (1, "c"), (2, "d"))) == [
        "the vault executed plan 2, the audit has no record of it"
    ]
    assert len(faults([], 3, chain_of())) == 3  # record and head removed together
    assert faults([], 3, chain_of(), since=3) == []
    waiting = known(records((0, "a", "landed"), (1, "b", None)), 1, VAULT)
    assert faults(waiting, 2, chain_of((0, "a"), (1, "b"))) == []  # executed, its settlement is still to come
    taken_back = known(records((0, "a", "landed"), (0, "a", "void")), 1, VAULT)
    assert faults(taken_back, 0, chain_of()) == []
    assert known(records((0, "a", "landed"), vault=OTHER), 1, VAULT) == []
    assert faults(two, None, chain_of((0, "a"), (1, "c"))) == []
