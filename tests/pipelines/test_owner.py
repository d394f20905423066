"""Who may decide for a vault: a living keeper, else the scheduled run, and never two at once."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from pipelines import flows
from pipelines.deployments import Deployment
from policy.execution.records import owner
from policy.execution.records.journal import Journal

KEEPER = """
import sys, time
from pathlib import Path
from policy.execution.records.owner import owning
with owning(Path(sys.argv[1])) as file:
    block = 0
    while True:
        block += 1
        file.refresh(block)
        print(block, flush=True)
        time.sleep(0.2)
"""


@pytest.fixture
def journal(tmp_path):
    return tmp_path / ".foredrift" / "journal"


@pytest.fixture
def keeper(journal):
    """A keeper of its own process that has seen a block; killed outright at the end."""
    process = subprocess.Popen([sys.executable, "-c", KEEPER, str(journal)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the body of the scheduled flow; returns its state or outcome, and how often it decided."""
    (tmp_path / "foredrift.toml").write_text("[vault]\njournal = '.foredrift/journal'\n")
    monkeypatch.setenv("FOREDRIFT_CONFIG", str(tmp_path / "foredrift.toml"))
    monkeypatch.setattr(flows, "get_run_logger", lambda: logging.getLogger("owner"))
    monkeypatch.setattr(flows, "look_for_zombies", list)
    monkeypatch.setattr(flows, "create_markdown_artifact", lambda *_, **__: None)
    monkeypatch.setattr(flows, "flow_run", SimpleNamespace(scheduled_start_time=datetime.now(UTC), id=None))
    decided: list[str] = []

    def decide(deployment, _at, *, live, **_):
        decided.append(deployment.name)
        return {"outcome": "waited", "decision_id": "d", "summary": "", "weights": [], "verdicts": []}

    monkeypatch.setattr(Deployment, "step", decide)
    return lambda: (flows.rebalance.fn(), decided)


def test_a_scheduled_run_declines_while_a_keeper_lives_and_acts_once_it_was_killed(run, keeper):
    state, decided = run()
    assert state.is_completed()
    assert state.name == "Declined"
    assert state.message.startswith("declined: keeper owns the vault")
    assert decided == []
    keeper.kill()
    keeper.wait()
    result, decided = run()
    assert result["outcome"] == "waited"
    assert len(decided) == 1


def test_a_keeper_that_hangs_is_stood_in_for(run, journal):
    with owner.owning(journal) as file:
        file.refresh(7)
        body = json.loads(owner.owner_path(journal).read_text()) | {"time": time.time() - 40.0}
        owner.owner_path(journal).write_text(json.dumps(body))
        found = owner.ownership(journal, 12.0)
        assert (found.held, found.fresh, found.told["block"]) == (True, False, 7)
        result, decided = run()
        assert result["outcome"] == "waited"
        assert len(decided) == 1


def test_one_keeper_a_vault_and_the_second_is_told_of_the_first(journal, keeper):
    with pytest.raises(owner.OwnedElsewhere, match=f"keeper {keeper.pid} at block"), owner.owning(journal):
        pass
    keeper.kill()
    keeper.wait()
    with owner.owning(journal) as file:
        file.refresh(1, {"table": "abc"})
        found = owner.ownership(journal, 12.0)
        assert found.fresh
        assert found.told["pid"] == os.getpid()
        assert found.told["table"] == "abc"
    assert not owner.ownership(journal, 12.0).held


def test_a_vault_that_was_never_kept_has_no_owner_and_gets_no_file_by_being_asked(journal):
    assert owner.ownership(journal, 12.0) == owner.Ownership()
    assert not owner.owner_path(journal).exists()


def test_what_is_written_of_an_owner_is_for_its_user_only_and_shrinks_with_what_it_says(journal):
    with owner.owning(journal) as file:
        file.refresh(1, {"order": "x" * 500})
        file.refresh(2)
        assert json.loads(owner.owner_path(journal).read_text())["block"] == 2
        assert owner.owner_path(journal).stat().st_mode & 0o077 == 0


def test_a_note_changes_no_plan_and_needs_the_lease(tmp_path):
    journal = Journal(tmp_path / "journal")
    with journal.lease():
        journal.note("armed", cap_gwei=9.5)
        assert journal.last() is None
    again = Journal(tmp_path / "journal")
    with again.lease():
        assert again.flights() == ()
        again.note("let go", reason="expired")
    with pytest.raises(Exception, match="lease"):
        again.note("armed")
