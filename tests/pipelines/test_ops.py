"""Overlapping, duplicated and killed runs: a decision is executed at most once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter

import polars as pl
import pytest

from pipelines import rebalance as stage
from pipelines.settings import load
from pipelines.wiring import lake_of
from policy.execution.journal import Journal
from tests.pipelines.market import moment, project

EXTRA = """
[mandate]
min_trade_usd = 1
"""
RUN = "import sys; from pathlib import Path; from pipelines import rebalance as r; from pipelines.settings import load;"
RUN += "print(r.rebalance(load(Path(sys.argv[1])), live=True, as_of=sys.argv[2])['outcome'])"


@pytest.fixture
def settings(tmp_path):
    made = project(tmp_path, EXTRA)
    file = tmp_path / "foredrift.toml"
    text = file.read_text().replace("nav_usd = 250_000", 'nav_usd = 250_000\nscenario = "hard"\ntolerance = 0.004')
    file.write_text(text)
    assert stage.rebalance(load(file), live=True, as_of=moment(24 * 30))["outcome"] == "waited"
    return load(file) if made else made


def start(settings, at: str) -> subprocess.Popen[str]:
    file = settings.root / "foredrift.toml"
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(file), at], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def executions(settings) -> Counter[str]:
    journal = Journal(settings.path(settings.vault.journal))
    return Counter(f.plan.decision_id for f in journal.flights() if f.state == "landed")


@pytest.mark.slow
def test_overlapping_runs_execute_a_decision_once(settings):
    both = [start(settings, moment(0)) for _ in range(3)]
    said = [p.communicate(timeout=180) for p in both]
    outcomes = sorted(out.strip() for out, _ in said)
    assert all(p.returncode == 0 for p in both), said
    assert outcomes.count("traded") == 1
    assert set(outcomes) <= {"traded", "done", "waited", "refused"}
    assert set(executions(settings).values()) == {1}
    rows = lake_of(settings).scan("executions").collect()
    assert rows["decision_id"].n_unique() == rows.height == 1


@pytest.mark.slow
def test_a_run_killed_in_the_middle_leaves_a_decision_that_is_executed_once(settings):
    """Killed just after the journal grew; the next run looks up what happened."""
    path = settings.path(settings.vault.journal)
    for delay in (0.0, 0.05):
        size = path.stat().st_size if path.exists() else 0
        process = start(settings, moment(1))
        while process.poll() is None and (path.stat().st_size if path.exists() else 0) == size:
            time.sleep(0.002)
        time.sleep(delay)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    outcomes = [stage.rebalance(settings, live=True, as_of=at)["outcome"] for at in (moment(1), moment(0))]
    assert set(executions(settings).values()) == {1}, outcomes
    assert stage.audit_verify(settings)["ok"]
    rows = lake_of(settings).scan("executions").group_by("decision_id").agg(pl.len()).collect()
    assert rows["len"].max() == 1
