"""The journal under random lives of plans: only legal events, one plan open, and a reader that never disagrees."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import ExecutionError
from policy.execution.base import OtherVault, Plan
from policy.execution.records.hashlog import Damaged, read
from policy.execution.records.journal import _NEXT, CLOSING, FINAL, Attempt, Journal, VaultBusy

EVENTS = ["plan", "signed", "sent", "mined", "offered", "reopen", *sorted(CLOSING)]
lives = st.lists(st.sampled_from(EVENTS), min_size=1, max_size=25)


def plan(n: int, vault: str = "0xV") -> Plan:
    return Plan(f"d{n}", vault, 1, n, 2**40, 10**30 + n, (), bytes([n]) * 32, 100, "0xh")


def attempt(n: int) -> Attempt:
    return Attempt("plan", f"0x{n:064x}", b"bytes", n, 500_000, 10**11 + n, 10**9, "public", 100)


def apply(journal: Journal, event: str, n: int) -> None:
    last = journal.last()
    newest = last.attempts[-1].tx_hash if last is not None and last.attempts else "0x0"
    if event == "plan":
        journal.plan(plan(n), step=n)
    elif event == "signed":
        journal.signed(attempt(n))
    elif event == "sent":
        journal.sent(newest, "ok", taken=True)
    elif event == "mined":
        journal.mined(newest, 100 + n, "0xb", 1)
    elif event == "offered":
        journal.offered("armed")
    elif event == "reopen":
        journal.reopen("reorg")
    else:
        journal.close(event, "because")


def legal(journal: Journal, event: str) -> bool:
    last = journal.last()
    if event == "plan":
        return last is None or not last.open
    name = {"reopen": "reopened"}.get(event, event)
    return last is not None and name in _NEXT[last.state]


@settings(max_examples=60, deadline=None)
@given(life=lives)
def test_an_event_is_taken_exactly_where_it_may_follow_and_a_refused_one_leaves_no_trace(life):
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "j")
        with journal.lease():
            for n, event in enumerate(life):
                before, size = journal.flights(), journal.path.stat().st_size
                if legal(journal, event):
                    apply(journal, event, n)
                    assert journal.path.stat().st_size > size
                else:
                    with pytest.raises(ExecutionError):
                        apply(journal, event, n)
                    assert journal.flights() == before
                    assert journal.path.stat().st_size == size
                assert sum(f.open for f in journal.flights()) <= 1
                assert all(not f.open for f in journal.flights()[:-1])
            mine = journal.flights()
        assert Journal(Path(folder) / "j").flights() == mine


def live(journal: Journal, life: list[str]) -> None:
    with journal.lease():
        for n, event in enumerate(life):
            if legal(journal, event):
                apply(journal, event, n)


@settings(max_examples=30, deadline=None)
@given(life=lives, cut=st.floats(0.0, 1.0))
def test_a_journal_cut_anywhere_tells_of_a_time_that_was_and_goes_on_from_there(life, cut):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j"
        live(Journal(path), life)
        whole = path.read_bytes()
        histories = [()]
        for end in (i + 1 for i, b in enumerate(whole) if b == 10):
            path.write_bytes(whole[:end])
            histories.append(Journal(path).flights())
        path.write_bytes(whole[: int(cut * len(whole))])
        try:
            known = Journal(path).flights()
        except Damaged:
            assert int(cut * len(whole)) in {i for i, b in enumerate(whole) if b == 10}  # only its newline is missing
            return
        assert known in histories
        again = Journal(path)
        with again.lease():
            if again.in_flight() is not None:
                with pytest.raises(ExecutionError, match="in flight already"):
                    again.plan(plan(99))
                again.close("void", "it never left") if legal(again, "void") else None
            if again.in_flight() is None:
                again.plan(plan(99))
        assert read(path).fault is None


@pytest.mark.parametrize("state", sorted(FINAL - {"lost"}))
def test_what_is_final_may_be_opened_again_and_nothing_else(state):
    assert _NEXT[state] == {"reopened"}


def test_every_state_that_an_event_leads_to_is_known():
    known = set(_NEXT)
    assert {e for after in _NEXT.values() for e in after} <= known
    assert "planned" not in {e for after in _NEXT.values() for e in after}


def test_nothing_is_written_without_the_lease_and_nobody_holds_it_twice(tmp_path):
    journal = Journal(tmp_path / "j")
    with pytest.raises(ExecutionError, match="lease"):
        journal.plan(plan(1))
    with journal.lease():
        journal.plan(plan(1))
        with pytest.raises(VaultBusy), Journal(tmp_path / "j").lease():
            pytest.fail("two runs held one vault")
    with Journal(tmp_path / "j").lease():
        pass


@pytest.mark.parametrize(("chain_id", "vault", "right"), [(1, "0xv", True), (1, "0xW", False), (2, "0xV", False)])
def test_plans_of_another_vault_are_refused_with_what_to_do(tmp_path, chain_id, vault, right):
    journal = Journal(tmp_path / "j")
    with journal.lease():
        journal.plan(plan(1))
    if right:
        journal.require(chain_id, vault)
        return
    with pytest.raises(OtherVault, match="its newest plan is not finished") as caught:
        journal.require(chain_id, vault)
    assert "mv " in str(caught.value)


def test_plans_of_a_decision_are_found_and_a_corrected_one_is_the_newest_of_its_hash(tmp_path):
    journal = Journal(tmp_path / "j")
    with journal.lease():
        for n in (1, 2):
            journal.plan(replace(plan(n), decision_id="same"))
            journal.close("void", "no")
        journal.correct(plan(1), "landed", ("0xt", 5, "0xb", 1), "it landed after all")
        assert [f.state for f in journal.of_decision("same")] == ["landed", "void"]
        with pytest.raises(ExecutionError, match="no plan"):
            journal.correct(plan(7), "landed", None, "")
        journal.plan(plan(3))
        with pytest.raises(ExecutionError, match="cannot follow"):
            journal.correct(plan(3), "landed", None, "")
    assert [f.state for f in Journal(tmp_path / "j").flights()] == ["landed", "void", "planned"]
