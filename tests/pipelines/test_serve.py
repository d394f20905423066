"""`foredrift serve` as people run it: a run on schedule, the given project, and nobody else let in."""

from __future__ import annotations

import base64
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import pytest

from lake.errors import ConfigError
from lake.units import utc
from pipelines.deployments import deployments
from pipelines.scheduled.serve import serve
from pipelines.servers.prefect_server import server_environment
from pipelines.servers.scheduler_api import patiently
from pipelines.servers.subprocesses import stop
from pipelines.settings import load
from pipelines.stages.status import status
from pipelines.wiring import lake_of
from policy.execution.records.audit import Audit

SERVED = """
[portfolio]
assets = ["BTC", "ETH"]
[lake]
path = "paper.data"
[sources.sample]
hours = 400
start = "2026-01-01"
[policy]
kind = "gas_band"
[schedule]
ingest = "* * * * *"
rebalance = "0 0 1 1 *"
[[deployments]]
name = "growth"
[deployments.portfolio]
assets = ["ETH", "BTC"]
targets = [0.7, 0.3]
"""
HOURS = 400
REPLAYED = "2026-01-17T16:00"  # where the recorded hours end: the clock of the runs goes on from there
PHRASE = "correct-horse-battery-PASSPHRASE"
PATIENCE_S = 240
EVIL = "https://evil.example"


class Served:
    """A running `foredrift serve`: its folder, process, address and the password of its scheduler."""

    def __init__(self, root: Path, process: subprocess.Popen[bytes]) -> None:
        self.root, self.process = root, process
        self.home = root / ".foredrift" / "prefect"
        self.url = ""
        self.heard: list[str] = []  # what a service manager is told
        self.environments: dict[str, bytes] = {}  # by command line, of every process seen in its tree

    def auth(self) -> tuple[str, str]:
        user, _, password = (self.home / "password").read_text().partition(":")
        return user, password

    def answers(self) -> bool:
        if not (self.home / "port").exists():
            return False
        self.url = f"http://127.0.0.1:{(self.home / 'port').read_text().strip()}/api"
        try:
            return bool(self.post("deployments/filter", {}))
        except (httpx.HTTPError, FileNotFoundError):
            return False

    def post(self, path: str, body: dict) -> list | dict:
        found = patiently(lambda: httpx.post(f"{self.url}/{path}", json=body, timeout=30, auth=self.auth()))
        found.raise_for_status()
        return found.json()

    def money(self) -> list[dict]:
        """The deployments that decide, one a vault."""
        return [d for d in self.post("deployments/filter", {}) if "money" in d["tags"]]

    def look(self) -> None:
        """Keep the environment of every process of the tree, as another program of this user could read it."""
        for one in (psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)):
            try:
                name = " ".join(one.cmdline())
                self.environments[name] = Path(f"/proc/{one.pid}/environ").read_bytes()
            except (psutil.Error, OSError):
                continue

    def wait(self, condition, what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.poll() is None, (self.root / "out.log").read_text()[-3_000:]
            assert time.monotonic() < deadline, what + (self.root / "out.log").read_text()[-3_000:]
            self.look()
            time.sleep(0.3)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Two settings files in one folder, the second one served; everybody may read what the process makes (umask 0)."""
    root = tmp_path_factory.mktemp("served")
    (root / "foredrift.toml").write_text("[lake]\npath = 'other.data'\n")
    (root / "paper.toml").write_text(SERVED)
    environment = {n: v for n, v in os.environ.items() if not n.startswith("PREFECT_API")}
    environment |= {"FOREDRIFT_REPLAY": f"{REPLAYED},{datetime.now(UTC).isoformat()},1"}
    environment |= {"FOREDRIFT_PASSPHRASE": PHRASE, "AWS_SECRET_ACCESS_KEY": "OBJECTSTORE"}
    environment["NOTIFY_SOCKET"] = str(root / "notify")
    with (root / "out.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", "serve", "--only", "ingest,rebalance", "-c", "paper.toml"],
            cwd=root, env=environment, stdout=log, stderr=log, umask=0,
        )  # fmt: skip
    made = Served(root, process)
    with manager(root / "notify", made.heard):
        try:
            made.wait(made.answers, "the scheduler did not answer")
            yield made
        finally:
            stop(process, 30)


@contextmanager
def manager(path: Path, heard: list[str]):
    """A service manager that hears what it is told, for as long as the block lasts."""
    done = threading.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(0.2)

        def listen() -> None:
            while not done.is_set():
                with suppress(TimeoutError):
                    heard.extend(listener.recv(4_096).decode().split("\n"))

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(600)]


def test_a_scheduled_ingest_fires_and_fills_the_lake_of_the_given_file(served):
    done: list[dict] = []

    def completed() -> bool:
        runs = served.post("flow_runs/filter", {"sort": "START_TIME_ASC"})
        done[:] = [r for r in runs if r["state_type"] == "COMPLETED"]
        return bool(done)

    served.wait(completed, "no scheduled run was completed")
    assert done[0]["auto_scheduled"]
    assert done[0]["name"].startswith("ingest-")
    assert "ingest" in {a["key"] for a in served.post("artifacts/filter", {})}
    assert httpx.get(served.url.removesuffix("/api") + "/ui-settings", timeout=60).json()["api_url"] == served.url
    assert lake_of(load(served.root / "paper.toml")).scan("prices").collect().height == HOURS * 6
    assert not (served.root / "other.data").exists()


def test_a_service_manager_hears_that_it_is_ready_and_alive_and_so_does_a_health_check(served):
    served.wait(lambda: "READY=1" in served.heard, "it was never ready")
    served.wait(lambda: served.heard.count("WATCHDOG=1") >= 3, "it gave no sign of life")
    assert served.heard.count("READY=1") == 1
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "health", "serve", "-c", "paper.toml"], cwd=served.root,
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"ok   serve: process {served.process.pid} ")
    log = served.home / "server.log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert log.stat().st_size > 0


@pytest.mark.parametrize("path", ["deployments/filter", "flow_runs/filter", "flows/filter", "variables/filter"])
def test_nobody_without_the_password_lists_anything(served, path):
    assert httpx.post(f"{served.url}/{path}", json={}, timeout=30).status_code == 401
    wrong = httpx.post(f"{served.url}/{path}", json={}, timeout=30, auth=("foredrift", "guess"))
    assert wrong.status_code == 401


def test_nobody_without_the_password_starts_anything(served):
    for money in served.money():
        for headers in ({}, {"Origin": EVIL}, {"Host": f"health@{EVIL}"}):
            path = f"{served.url}/deployments/{money['id']}/create_flow_run"
            assert httpx.post(path, json={}, headers=headers, timeout=30).status_code in {400, 401}
    assert served.post("flow_runs/filter", {"flow_runs": {"tags": {"all_": ["money"]}, "state": {"type": {
        "any_": ["RUNNING", "COMPLETED", "FAILED"]}}}}) == []  # fmt: skip


def test_no_page_of_another_origin_reads_an_answer(served):
    token = base64.b64encode(":".join(served.auth()).encode()).decode()
    for headers in ({}, {"Authorization": f"Basic {token}"}):
        told = httpx.post(f"{served.url}/flows/filter", json={}, headers=headers | {"Origin": EVIL}, timeout=30)
        assert "access-control-allow-origin" not in told.headers
    asked = {"Origin": EVIL, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    before = httpx.options(f"{served.url}/flows/filter", headers=asked, timeout=30)
    assert "access-control-allow-origin" not in before.headers
    assert before.status_code >= 400


@pytest.mark.parametrize(
    "parameters", [{"live": True}, {"config": "/elsewhere/foredrift.toml"}, {"as_of": "2026-01-05"}, {"settings": {}}]
)
def test_a_request_cannot_name_a_file_or_make_a_run_live(served, parameters):
    for deployment in served.post("deployments/filter", {}):
        assert deployment["parameters"] == {}
        path = f"{served.url}/deployments/{deployment['id']}/create_flow_run"
        told = httpx.post(path, json={"parameters": parameters}, timeout=30, auth=served.auth())
        assert told.status_code == 409, told.text
        assert next(iter(parameters)) in told.text


def test_two_vaults_decide_side_by_side_and_are_shown(served):
    made = {d["name"]: d for d in served.money()}
    assert set(made) == {"foredrift", "growth"}
    settings = load(served.root / "paper.toml")
    served.wait(lambda: lake_of(settings).version("prices") >= 0, "no ingest was completed")
    runs = {
        served.post(f"deployments/{d['id']}/create_flow_run", {"idempotency_key": d["id"]})["id"] for d in made.values()
    }
    assert len(runs) == 2

    def finished() -> bool:
        found = served.post("flow_runs/filter", {"flow_runs": {"id": {"any_": sorted(runs)}}})
        assert not [r for r in found if r["state_type"] in {"FAILED", "CRASHED", "CANCELLED"}], found
        return {r["state_name"] for r in found} == {"Completed"}

    served.wait(finished, "the two runs did not end")
    taken = lake_of(settings).scan("decisions").collect()
    project = deployments(settings)
    shown = {row["name"]: row for row in status(settings, utc(REPLAYED))["deployments"]}
    for one in project:
        [record] = [r.body for r in Audit(one.audit).records() if r.body["event"] == "decision"]
        assert shown[one.name]["decision_id"] == record["decision_id"]
        assert record["decision_id"] in set(taken["decision_id"])
        assert shown[one.name]["ts"].startswith("2026-01-17")
    assert taken["decision_id"].n_unique() == taken["vault"].n_unique() == 2
    assert "rebalance-growth" in {a["key"] for a in served.post("artifacts/filter", {})}


def test_no_process_of_the_tree_shows_the_passphrase(served):
    served.look()
    seen = served.environments
    assert any("prefect server start" in name for name in seen), list(seen)
    assert any("prefect.engine" in name for name in seen), list(seen)
    assert [name for name, environment in seen.items() if PHRASE.encode() in environment] == []
    [server] = [e for name, e in seen.items() if "prefect server start" in name]
    assert b"OBJECTSTORE" not in server
    assert b"FOREDRIFT_" not in server
    password = served.auth()[1]
    assert [name for name in seen if password in name or PHRASE in name] == []
    written = [p for p in served.root.rglob("*") if p.is_file() and PHRASE.encode() in p.read_bytes()]
    assert written == []
    assert password.encode() not in (served.root / "out.log").read_bytes()


def test_what_is_kept_is_for_its_owner_only(served):
    state = served.root / ".foredrift"

    def modes() -> dict[Path, int]:
        found = {}
        for path in (state, *state.rglob("*")):
            with suppress(FileNotFoundError):  # a database's own files come and go
                found[path] = stat.S_IMODE(path.lstat().st_mode) if not path.is_symlink() else 0o700
        return found

    def open_to_others() -> list[str]:
        return [f"{path.relative_to(served.root)} {mode:o}" for path, mode in modes().items() if mode & 0o077]

    results = state / "prefect" / "storage"  # Prefect writes them by the umask, a run closes its own when they are kept
    assert not [found for found in open_to_others() if not found.startswith(str(results.relative_to(served.root)))]
    assert {mode for path, mode in modes().items() if path.is_dir()} == {0o700}
    served.wait(lambda: not open_to_others(), f"open to others: {open_to_others()}")


def test_the_scheduler_inherits_no_secret():
    given = {
        "PATH": "/bin", "FOREDRIFT_PASSPHRASE": "a", "FOREDRIFT_NOTIFY": "b", "AWS_SESSION_TOKEN": "c",
        "MLFLOW_TRACKING_URI": "postgresql://u:p@h/d", "GITHUB_TOKEN": "d", "PRIVATE_KEY": "e", "PGPASSFILE": "/f",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": "g", "PREFECT_API_KEY": "h", "MNEMONIC": "i",
    }  # fmt: skip
    kept = server_environment(given, Path("/home"), "http://127.0.0.1:1/api", "u:p")
    assert set(kept) & set(given) == {"PATH", "PGPASSFILE", "PREFECT_SERVER_DATABASE_CONNECTION_URL"}


def test_an_unknown_deployment_is_named(tmp_path):
    (tmp_path / "foredrift.toml").write_text(SERVED)
    with pytest.raises(ConfigError, match="no deployment nightly"):
        serve(load(tmp_path / "foredrift.toml"), ["nightly"])
