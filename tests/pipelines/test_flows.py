"""Deployments, automations and dead runs on a real Prefect server, over PostgreSQL where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import yaml

from lake.errors import ConfigError
from lake.units import utc
from pipelines.servers.scheduler_api import patiently
from pipelines.servers.stuck_runs import SILENT, zombies
from pipelines.servers.subprocesses import free_port, stop, wait_until_healthy
from pipelines.servers.work_pool import require_closed, softness
from pipelines.settings import load
from pipelines.wiring import lake_of
from tests.pipelines.ops_stack import has_postgres, postgres

ROOT = Path(__file__).resolve().parents[2]
TEXT = """
[portfolio]
assets = ["BTC", "ETH"]
[sources.sample]
hours = 200
start = "2026-01-01"
"""
DATABASE = "postgres" if has_postgres() else "sqlite"  # on SQLite it is what serve starts: test_serve.py
ENDS = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A Prefect server on loopback: (url, environment of a client, name of the database)."""
    home = tmp_path_factory.mktemp(DATABASE)
    if DATABASE == "sqlite":
        yield from serving(home, {}, DATABASE)
        return
    with tempfile.TemporaryDirectory() as folder:  # the cluster runs as another user, who must be able to enter
        Path(folder).chmod(0o755)
        with postgres(Path(folder) / "pg") as databases:
            url = f"postgresql+asyncpg://{databases}/prefect"
            yield from serving(home, {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url}, DATABASE)


def serving(home, more, name):
    port = free_port()
    environment = os.environ | more | {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/api"
    try:
        wait_until_healthy(process, f"{url}/health", f"see {home / 'server.log'}", 240)
        yield url, environment | {"PREFECT_API_URL": url}, name
    finally:
        stop(process)


def prefect(environment, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    return done.stdout


def post(url: str, path: str, body: dict):
    """Return the answer of a scheduler that may be busy."""
    answer = patiently(lambda: httpx.post(f"{url}/{path}", json=body, timeout=60))
    answer.raise_for_status()
    return answer.json()


def test_the_work_pool_runs_a_deployment_of_prefect_yaml(server, tmp_path):
    url, environment, _ = server
    (tmp_path / "foredrift.toml").write_text(TEXT)
    mine = environment | {"FOREDRIFT_HOME": str(tmp_path)}
    template = ("--base-job-template", str(ROOT / "work-pool.json"))
    prefect(mine, "work-pool", "create", "foredrift", "--type", "process", *template, cwd=tmp_path)
    require_closed(url, "foredrift")
    post(url, "work_pools/", {"name": "soft", "type": "process"})
    with pytest.raises(ConfigError, match=r"work pool soft is open: .*command.*prefect work-pool update soft"):
        require_closed(url, "soft")
    assert softness(url, "nobody's") == ""
    prefect(mine, "work-pool", "update", "soft", *template, cwd=tmp_path)
    require_closed(url, "soft")
    prefect(mine, "deploy", "--all", "--prefect-file", str(ROOT / "prefect.yaml"), cwd=tmp_path)
    deployed = post(url, "deployments/filter", {})
    planned = {d["entrypoint"].rsplit(".", 1)[1]: d for d in deployed}
    assert set(planned) == {"ingest", "forecast", "rebalance", "retrain", "compare"}
    assert all(d["concurrency_options"]["collision_strategy"] == "CANCEL_NEW" for d in deployed)
    assert all(d["parameters"] == {} and d["enforce_parameter_schema"] for d in deployed)
    assert "money" in planned["rebalance"]["tags"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "foredrift.toml").write_text(TEXT)
    (tmp_path / "polars.py").write_text("raise SystemExit('taken from the working folder')")
    for name in ("lake", "features", "models", "policy", "pipelines"):  # a quant's own folders, where the worker starts
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"open({str(tmp_path / 'taken')!r}, 'w')\n")
    other = {"FOREDRIFT_HOME": str(elsewhere), "FOREDRIFT_CONFIG": str(elsewhere / "foredrift.toml")}
    asked = {"job_variables": {"env": other, "command": "touch taken", "working_dir": str(tmp_path)}}
    run = post(url, f"deployments/{planned['ingest']['id']}/create_flow_run", asked)
    named = {"parameters": {"config": str(elsewhere / "foredrift.toml"), "live": True}}
    wrong = post(url, f"deployments/{planned['forecast']['id']}/create_flow_run", named)
    tomorrow = {"type": "SCHEDULED", "state_details": {"scheduled_time": str(datetime.now(UTC) + timedelta(days=1))}}
    later = {"idempotency_key": "one", "state": tomorrow}
    again = post(url, f"deployments/{planned['ingest']['id']}/create_flow_run", later)
    twice = post(url, f"deployments/{planned['ingest']['id']}/create_flow_run", later)
    assert again["id"] == twice["id"]
    prefect(mine, "worker", "start", "--pool", "foredrift", "--run-once", cwd=tmp_path)
    assert finished(url, run["id"]) == "COMPLETED"
    assert finished(url, wrong["id"]) in {"FAILED", "CRASHED"}  # a parameter that the flow does not have
    assert not (elsewhere / "lake.data").exists()
    assert not list(tmp_path.rglob("taken"))
    assert lake_of(load(tmp_path / "foredrift.toml")).scan("prices").collect().height == 200 * 6


def finished(url: str, run: str, seconds: float = 180) -> str:
    """Return the state of ``run`` once it is a last one."""
    deadline = time.monotonic() + seconds
    while True:
        state = httpx.get(f"{url}/flow_runs/{run}", timeout=60).json()["state_type"]
        if state in ENDS or time.monotonic() > deadline:
            return state
        time.sleep(1)


def test_the_automations_are_accepted(server, tmp_path):
    url, environment, _ = server
    file = ROOT / "docs" / "automations.yaml"
    prefect(environment, "automation", "create", "--from-file", str(file), cwd=tmp_path)
    kept = {a["name"] for a in post(url, "automations/filter", {})}
    assert {a["name"] for a in yaml.safe_load(file.read_text())["automations"]} <= kept


def test_a_killed_run_stays_running_and_is_found(server):
    url, _, _ = server
    flow = post(url, "flows/", {"name": "rebalance"})
    run = post(url, "flow_runs/", {"flow_id": flow["id"], "name": "killed", "state": {"type": "PENDING"}})
    post(url, f"flow_runs/{run['id']}/set_state", {"state": {"type": "RUNNING"}, "force": True})
    assert zombies(url) == []
    later = datetime.now(UTC) + SILENT + timedelta(minutes=1)
    [dead] = [z for z in zombies(url, later) if z.run_id == run["id"]]
    assert dead.name == "killed"
    assert zombies(url, later, own=run["id"]) == []
    assert utc(dead.started) < later
    post(url, f"flow_runs/{run['id']}/set_state", {"state": {"type": "CRASHED"}, "force": True})
    assert zombies(url, later) == []
