"""docs/ten-minutes.md, command by command, up to a scheduled decision that trades on paper and no run that failed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import polars as pl
import pytest

from pipelines.servers.subprocesses import stop
from pipelines.settings import load
from pipelines.wiring import lake_of
from tests.pipelines.test_docs import ROOT, blocks, run_here

SMALL = {  # the same project, smaller, and looked at every minute
    "FOREDRIFT_SOURCES__SAMPLE__HOURS": "1200",
    "FOREDRIFT_MODELS__ROUNDS": "8",
    "FOREDRIFT_MODELS__THREADS": "1",
    "FOREDRIFT_MODELS__REFIT_EVERY": "60d",
    "FOREDRIFT_COMPARE__NAV_USD": "100000",
    "FOREDRIFT_COMPARE__SCENARIOS": "hard",
    "FOREDRIFT_COMPARE__BOOTSTRAP": "100",
    "FOREDRIFT_SCHEDULE__INGEST": "* * * * *",
    "FOREDRIFT_SCHEDULE__FORECAST": "* * * * *",
    "FOREDRIFT_SCHEDULE__REBALANCE": "* * * * *",
    "OMP_NUM_THREADS": "1",
}
PATIENCE_S = 400
pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(900)]


def test_the_page_ends_in_a_scheduled_trade_on_paper(tmp_path, monkeypatch):
    for name in [n for n in os.environ if n.startswith(("PREFECT_API", "FOREDRIFT_"))]:
        monkeypatch.delenv(name)
    text = (ROOT / "docs/ten-minutes.md").read_text()
    commands = [c for block in blocks("docs/ten-minutes.md") for c in block if c in text.split("## Your own")[0]]
    assert commands[0] == "mkdir fund && cd fund"
    assert "foredrift serve" in commands
    root, decision, runs = tmp_path / "fund", "", []
    root.mkdir()
    monkeypatch.chdir(root)
    for command in commands[1:]:
        if command == "foredrift ui":  # a server and a browser: tests of their own
            continue
        if command == "foredrift serve":
            runs = scheduled(root)
            continue
        said = run_here(command.replace("DECISION_ID", decision), SMALL)
        found = re.search(r"decision ([0-9a-f]{24})", said)
        decision = found.group(1) if found else decision
        if command == "foredrift portfolio":
            assert "Traded " in said, said  # the row of the scheduled trade
    assert decision
    assert {r["state_type"] for r in runs} <= {"COMPLETED", "RUNNING", "PENDING", "SCHEDULED", "CANCELLED"}, runs
    lake = lake_of(load(root / "foredrift.toml"))
    landed = lake.scan("executions").filter(pl.col("status") == "landed").collect()
    assert landed.height == 1
    assert (root / ".foredrift" / "vault.json").exists()


def scheduled(root: Path) -> list[dict]:
    """Serve until a scheduled rebalance has executed a plan and every kind of run was carried out; return the runs."""
    log = root / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", "serve"], env=os.environ | SMALL, stdout=out, stderr=out
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            time.sleep(1)
            assert process.poll() is None, log.read_text()[-3_000:]
            assert time.monotonic() < deadline, log.read_text()[-6_000:]
            runs = asked(root)
            done = {r["name"].split("-")[0] for r in runs if r["state_type"] == "COMPLETED" and r["auto_scheduled"]}
            traded = not lake_of(load(root / "foredrift.toml")).scan("executions").collect().is_empty()
            if traded and done >= {"ingest", "forecast", "rebalance"}:
                break
        assert "Traceback" not in log.read_text(), log.read_text()[-6_000:]
        return runs
    finally:
        stop(process, 30)


def asked(root: Path) -> list[dict]:
    home = root / ".foredrift" / "prefect"
    try:
        port, (user, password) = (home / "port").read_text().strip(), (home / "password").read_text().split(":")
        body = {"flow_runs": {"state": {"type": {"not_any_": ["SCHEDULED"]}}}}
        answer = httpx.post(
            f"http://127.0.0.1:{port}/api/flow_runs/filter", json=body, auth=(user, password), timeout=30
        )
        answer.raise_for_status()
    except (httpx.HTTPError, FileNotFoundError):
        return []
    return answer.json()
