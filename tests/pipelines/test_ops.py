"""Overlapping, duplicated and killed runs: a decision is executed at most once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import polars as pl
import pytest

from pipelines.deployments import deployment
from pipelines.experiments import client
from pipelines.servers.subprocesses import free_port
from pipelines.settings import load
from pipelines.settlements import reconcile
from pipelines.stages import rebalance as stage
from pipelines.vault_setup import cycle
from pipelines.wiring import lake_of
from policy.execution.engine import step
from policy.execution.records import hashlog
from policy.execution.records.hashlog import read
from policy.execution.records.journal import Journal
from policy.execution.vaults.simulated import adapter
from tests.pipelines.market import moment, project

EXTRA = """
[mandate]
min_trade_usd = 1
"""
RUN = "import sys; from pathlib import Path; from pipelines.stages import rebalance as r;"
RUN += " from pipelines.settings import load;"
RUN += "print(r.rebalance(load(Path(sys.argv[1])), live=True, as_of=sys.argv[2])['outcome'])"


@pytest.fixture(scope="module")
def drifted(tmp_path_factory):
    """A project whose paper vault was bought thirty days before the end, with an empty tracking store."""
    root = tmp_path_factory.mktemp("drifted")
    project(root, EXTRA)
    file = root / "foredrift.toml"
    text = file.read_text().replace("nav_usd = 250_000", 'nav_usd = 250_000\nscenario = "hard"\ntolerance = 0.004')
    file.write_text(text)
    assert stage.rebalance(load(file), live=True, as_of=moment(24 * 30))["outcome"] == "waited"
    client.client(load(file))
    return root


@pytest.fixture
def settings(drifted, tmp_path):
    """A copy of that project for one test."""
    shutil.copytree(drifted, tmp_path, dirs_exist_ok=True)
    return load(tmp_path / "foredrift.toml")


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
    both = [start(settings, moment(0)) for _ in range(2)]
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


def test_a_plan_that_a_reorganisation_took_back_is_void_in_the_lake_too(settings):
    assert stage.rebalance(settings, live=True, as_of=moment(1))["outcome"] == "traded"
    first = lake_of(settings).scan("executions").collect().row(0, named=True)
    assert first["status"] == "landed"
    path = settings.path(settings.vault.state)
    chain, spec = adapter.load(path)
    where = next(i for i, b in enumerate(chain.blocks) if first["tx_hash"] in {r.tx_hash for r in b.receipts})
    chain.reorg(len(chain.blocks) - where, keep=False)
    adapter.save(path, chain, spec)
    stage.rebalance(settings, live=True, as_of=moment(0))
    rows = {r["decision_id"]: r for r in lake_of(settings).scan("executions").collect().to_dicts()}
    gone = rows.pop(first["decision_id"])
    assert (gone["status"], gone["tx_hash"], gone["realised"], gone["attempt"]) == ("void", None, None, 0)
    assert gone["available_at"] > first["available_at"]
    assert sorted(rows) == sorted(executions(settings))
    before = lake_of(settings).version("executions")
    reconcile.reconcile(deployment(settings), lake_of(settings))
    assert lake_of(settings).version("executions") == before


def test_a_run_reads_the_audit_once(settings, monkeypatch):
    stage.rebalance(settings, live=True, as_of=moment(1))
    whole = []

    def counted(path, known=None):
        if path == settings.path(settings.vault.audit) and not (known and known.sound_bytes):
            whole.append(path)
        return read(path, known)

    monkeypatch.setattr(hashlog, "read", counted)
    stage.rebalance(settings, live=True, as_of=moment(0))
    assert len(whole) == 1


class Killed(BaseException):
    """The process ends here: nothing after the raise runs, as after kill -9."""


def killed_at(name: str, monkeypatch) -> None:
    """End the next live cycle at a checkpoint of the engine, or where it would write to the lake ("rows", "judge")."""
    if name == "rows":
        monkeypatch.setattr(reconcile, "_execution_row", lambda *_: (_ for _ in ()).throw(Killed))
    elif name == "judge":
        monkeypatch.setattr(reconcile, "catch_up", lambda *_: (_ for _ in ()).throw(Killed))
    else:

        def stop(at: str) -> None:
            if at == name:
                raise Killed

        monkeypatch.setattr(cycle, "step", lambda ctx: step(replace(ctx, checkpoint=stop)))


@pytest.mark.parametrize("where", ["journal_signed", "journal_mined", "audit_settled", "rows", "judge"])
def test_wherever_a_run_is_killed_the_next_one_completes_the_lake(settings, where):
    """The next run belongs to another hour: what it finds is kept under the decision that made it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        killed_at(where, monkeypatch)
        with pytest.raises(Killed):
            stage.rebalance(settings, live=True, as_of=moment(1))
    flight = Journal(settings.path(settings.vault.journal)).last()
    assert lake_of(settings).scan("executions").collect().is_empty()
    stage.rebalance(settings, live=True, as_of=moment(0))
    assert set(executions(settings).values()) == {1}
    rows = lake_of(settings).scan("executions").collect()
    assert sorted(rows["decision_id"]) == sorted(executions(settings))
    decided = lake_of(settings).scan("decisions").filter(pl.col("plan").is_not_null()).collect()
    assert set(rows["decision_id"]) <= set(decided["decision_id"])
    if where != "journal_signed":  # not in a block by its deadline: void, and the next hour's decision executes
        assert flight.plan.decision_id in set(rows["decision_id"])
    told = client.client(settings).search_runs(live_experiment(settings))
    assert sorted(r.data.tags["decision_id"] for r in told) == sorted(rows["decision_id"])


def live_experiment(settings) -> list[str]:
    return [client.client(settings).get_experiment_by_name(client.LIVE).experiment_id]


def test_reconciling_again_changes_nothing(settings):
    stage.rebalance(settings, live=True, as_of=moment(0))
    lake = lake_of(settings)
    before = [lake.version(name) for name in ("decisions", "executions")]
    assert reconcile.reconcile(deployment(settings), lake) == []
    assert [lake.version(name) for name in ("decisions", "executions")] == before


def test_a_decision_taken_again_in_its_hour_is_kept_as_it_was_taken_last(settings):
    """The wait of a scheduled run is overtaken by a trade within the same hour: row and execution tell the same."""
    loose = settings.model_copy(update={"portfolio": settings.portfolio.model_copy(update={"tolerance": 0.2})})
    waited = stage.rebalance(loose, live=True, as_of=moment(0))
    traded = stage.rebalance(settings, live=True, as_of=moment(0))
    assert (waited["outcome"], traded["outcome"]) == ("waited", "traded")
    assert waited["decision_id"] == traded["decision_id"]
    rows = lake_of(settings).scan("decisions").filter(pl.col("decision_id") == traded["decision_id"]).collect()
    assert rows["action"].to_list() == [traded["action"]]


def test_lost_rows_come_back_as_they_were(settings):
    """The lake is made from the audit and the journal: without its tables it is made again, to the last digit."""
    stage.rebalance(settings, live=True, as_of=moment(0))
    lake = lake_of(settings)
    digests = [lake.digest(name) for name in ("decisions", "executions")]
    for name in ("decisions", "executions"):
        shutil.rmtree(lake.uri(name))
    assert len(reconcile.reconcile(deployment(settings), lake)) == 1
    assert [lake.digest(name) for name in ("decisions", "executions")] == digests


def test_executions_that_the_tracking_server_missed_are_logged_with_the_next_one(settings, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert stage.rebalance(settings, live=True, as_of=moment(24 * 15))["outcome"] == "traded"
    assert lake_of(settings).scan("executions").collect().height == 1
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert stage.rebalance(settings, live=True, as_of=moment(0))["outcome"] == "traded"
    runs = client.client(settings).search_runs(live_experiment(settings))
    assert len(runs) == 2
    for name in ("gas", "gas_usd", "slippage_usd", "drift"):
        for run in runs:
            assert {f"summary/expected_{name}", f"summary/realised_{name}"} <= set(run.data.metrics)
