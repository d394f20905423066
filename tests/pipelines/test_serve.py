"""A cron-scheduled run really fires, end to end: real server, real schedule, real process, rows in the lake."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import httpx
import pytest

from lake.errors import ConfigError
from pipelines.process import stop
from pipelines.serve import scheduler, serve
from pipelines.settings import load
from pipelines.wiring import lake_of

TEXT = """
[portfolio]
assets = ["BTC", "ETH"]
[sources.sample]
hours = 200
start = "2026-01-01"
[schedule]
ingest = "* * * * *"
"""
PATIENCE_S = 240


@pytest.fixture
def project(tmp_path):
    (tmp_path / "foredrift.toml").write_text(TEXT)
    return tmp_path


def runs(url: str) -> list[dict]:
    found = httpx.post(f"{url}/flow_runs/filter", json={"sort": "START_TIME_ASC"}, timeout=10)
    return found.json()


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.timeout(600)
def test_a_scheduled_ingest_fires_and_fills_the_lake(project, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with scheduler(project / ".foredrift" / "prefect") as url:
        assert httpx.get(f"{url.removesuffix('/api')}/ui-settings", timeout=10).json()["api_url"] == url
        worker = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", "serve", "--only", "ingest"],
            cwd=project,
            env=os.environ | {"PREFECT_API_URL": url},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            done, deadline = [], time.monotonic() + PATIENCE_S
            while not done and time.monotonic() < deadline:
                time.sleep(2)
                done = [r for r in runs(url) if r["state_type"] == "COMPLETED"]
            assert done, [(r["name"], r["state_type"]) for r in runs(url)]
        finally:
            stop(worker)
        assert done[0]["auto_scheduled"]
        assert done[0]["name"].startswith("ingest-")
        artifacts = httpx.post(f"{url}/artifacts/filter", json={}, timeout=10).json()
        assert "ingest" in {a["key"] for a in artifacts}
    prices = lake_of(load(project / "foredrift.toml")).scan("prices").collect()
    assert prices.height == 200 * 6


def test_an_unknown_deployment_is_named(project):
    with pytest.raises(ConfigError, match="no deployment nightly"):
        serve(load(project / "foredrift.toml"), ["nightly"])
