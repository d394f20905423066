"""Ten simulated hours of operation with failures, printed as a table: ``make ops``.

A Prefect server and ``foredrift serve`` run the ingest and rebalance schedules on the paper vault, one simulated hour a
minute (cron's finest step). The worker is killed twice and the server once; at the end the journal, the lake and the
scheduler are asked what happened. Exit 1 when a decision was executed twice or the lake has a gap.

    python -m tests.pipelines.ops_run [--hours 10] [--database URL]
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import polars as pl

from pipelines.ingest import ingest_all
from pipelines.process import free_port, stop, wait_until_healthy
from pipelines.settings import Settings, load
from pipelines.wiring import lake_of
from policy.execution.journal import Journal

MINUTE_S = 60
BEGIN = datetime(2024, 2, 1, tzinfo=UTC)
TEXT = """
[portfolio]
assets = ["BTC", "ETH", "LINK"]
nav_usd = 250_000
scenario = "hard"
tolerance = 0.002
[mandate]
min_trade_usd = 1
[sources.sample]
hours = 1500
start = "2024-01-01"
[policy]
kind = "gas_band"
[schedule]
ingest = "* * * * *"
rebalance = "* * * * *"
max_late = "5m"
"""


class Stack:
    """The processes of one run: a server and a worker, each in its own session, so that it dies with its children."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root = root
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.environment = environment | {"PREFECT_API_URL": self.url}
        self.server: subprocess.Popen[bytes] | None = None
        self.worker: subprocess.Popen[bytes] | None = None

    def start_server(self) -> None:
        command = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        self.server = self._start(command, "server.log")
        wait_until_healthy(self.server, f"{self.url}/health", f"see {self.root / 'server.log'}", 240)

    def start_worker(self) -> None:
        self.worker = self._start(["-c", WORKER, str(self.root / "foredrift.toml")], "worker.log")

    def _start(self, arguments: list[str], log: str) -> subprocess.Popen[bytes]:
        with (self.root / log).open("ab") as out:
            return subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.root,
                env=self.environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """Kill a process and all its children at once, as a power cut would."""
        process = getattr(self, name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def end(self) -> None:
        for process in (self.worker, self.server):
            if process is not None:
                stop(process)

    def runs(self) -> list[dict]:
        """Every flow run, with the name of its flow as ``flow``."""
        flows = httpx.post(f"{self.url}/flows/filter", json={}, timeout=60).json()
        names = {f["id"]: f["name"] for f in flows}
        return [r | {"flow": names[r["flow_id"]]} for r in self._runs()]

    def _runs(self) -> list[dict]:
        found: list[dict] = []
        while True:
            body = {"sort": "START_TIME_ASC", "limit": 200, "offset": len(found)}
            page = httpx.post(f"{self.url}/flow_runs/filter", json=body, timeout=60).json()
            found += page
            if len(page) < 200:
                return found


WORKER = """
import sys
from pathlib import Path
from prefect import serve
from prefect.schedules import Cron
from pipelines.flows import FLOWS, TAGS
from pipelines.settings import load
settings = load(Path(sys.argv[1]))
extra = {"ingest": {}, "rebalance": {"live": True}}
serve(*[
    FLOWS[name].to_deployment(
        name="foredrift", schedule=Cron(getattr(settings.schedule, name), timezone="UTC"), tags=TAGS,
        parameters={"config": sys.argv[1], **more},
    )
    for name, more in extra.items()
], limit=4)
"""
# no concurrency limit here: runs may overlap, and a killed run would hold the scheduler's slot for five of ten hours


def operate(root: Path, hours: int, database: str | None = None) -> tuple[Settings, list[dict], list[str]]:
    """Run ``hours`` simulated hours with two worker kills and one server kill; return settings, runs and the story."""
    (root / "foredrift.toml").write_text(TEXT)
    settings = load(root / "foredrift.toml")
    ingest_all(settings, [], None, BEGIN.isoformat())
    environment = dict(os.environ) | {
        "PREFECT_HOME": str(root / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "OMP_NUM_THREADS": "1",
    }
    if database:
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
    story: list[str] = []
    stack = Stack(root, environment)
    try:
        stack.start_server()
        began = datetime.now(UTC)
        stack.environment["FOREDRIFT_REPLAY"] = f"{BEGIN.isoformat()},{began.isoformat()},{3600 / MINUTE_S}"
        stack.start_worker()

        def tell(text: str) -> None:
            minutes = (datetime.now(UTC) - began).total_seconds() / MINUTE_S
            story.append(f"simulated hour {minutes:4.1f}: {text}")
            print(story[-1], flush=True)

        def until(share: float) -> None:
            time.sleep(max(0.0, (began + timedelta(minutes=hours * share) - datetime.now(UTC)).total_seconds()))

        until(0.3)
        tell("worker killed with its runs")
        stack.kill("worker")
        time.sleep(10)
        stack.start_worker()
        until(0.5)
        tell("server killed")
        stack.kill("server")
        time.sleep(10)
        stack.start_server()
        tell("server back")
        until(0.75)
        tell("worker killed with its runs")
        stack.kill("worker")
        time.sleep(10)
        stack.start_worker()
        until(1.0)
        tell("end")
        runs = stack.runs()
    finally:
        stack.end()
    return settings, runs, story


def findings(settings: Settings, runs: list[dict]) -> dict[str, object]:
    """Return the figures of a run: decisions, most executions of one, hours the lake lacks, runs by flow and state."""
    journal = Journal(settings.path(settings.vault.journal))
    landed = Counter(f.plan.decision_id for f in journal.flights() if f.state == "landed")
    lake = lake_of(settings)
    hours = lake.scan("gas").select("ts").sort("ts").collect()["ts"]
    gaps = int((hours.diff().drop_nulls() > timedelta(hours=1)).sum())
    states = Counter((r["flow"], r["state_type"]) for r in runs)
    started = {k: v for k, v in states.items() if k[1] != "SCHEDULED"}
    return {
        "decisions kept": lake.scan("decisions").select(pl.len()).collect().item(),
        "executed decisions": len(landed),
        "most executions of one decision": max(landed.values(), default=0),
        "execution rows in the lake": lake.scan("executions").select(pl.len()).collect().item(),
        "plans in the journal": len(journal.flights()),
        "hours in the lake": len(hours),
        "newest hour": str(hours[-1]),
        "gaps in the lake": gaps,
        **{f"{flow} runs {state.lower()}": n for (flow, state), n in sorted(started.items())},
    }


def show(figures: dict[str, object]) -> None:
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"  {name:<{width}}  {value}")


def sound(figures: dict[str, object]) -> bool:
    """Whether nothing was executed twice, something was executed, and the lake is whole."""
    return figures["most executions of one decision"] == 1 and figures["gaps in the lake"] == 0


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Yield the URL of a PostgreSQL cluster of its own in ``folder``; raises FileNotFoundError without PostgreSQL."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not versions:
        raise FileNotFoundError("no /usr/lib/postgresql: install postgresql to run on it")
    binaries, port, data = versions[-1], free_port(), folder / "data"
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder.mkdir(parents=True, exist_ok=True)
    if user:
        import shutil

        shutil.chown(folder, "postgres")

    def call(name: str, *arguments: str) -> None:
        done = subprocess.run([*user, str(binaries / name), *arguments], capture_output=True, text=True, cwd=folder)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stdout}{done.stderr}")

    call("initdb", "-D", str(data), "-A", "trust", "-U", "prefect")
    control = ("pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-w")
    options = f"-p {port} -h 127.0.0.1 -k {folder}"
    with (folder / "out").open("wb") as out:  # the server keeps pg_ctl's output open, so it must be no pipe
        subprocess.run(
            [*user, str(binaries / control[0]), *control[1:], "-o", options, "start"],
            stdout=out, stderr=out, cwd=folder, check=True,
        )  # fmt: skip
    try:
        call("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "prefect")
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
    finally:
        call(*control, "stop", "-m", "fast")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--hours", type=int, default=10, help="simulated hours, one a minute")
    parser.add_argument("--postgres", action="store_true", help="with a PostgreSQL cluster of its own")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "project"
        root.mkdir()
        Path(scratch).chmod(0o755)
        if given.postgres:
            with postgres(Path(scratch) / "pg") as url:
                settings, runs, _ = operate(root, given.hours, url)
        else:
            settings, runs, _ = operate(root, given.hours)
        figures = findings(settings, runs)
        print(f"{given.hours} simulated hours on {'PostgreSQL' if given.postgres else 'SQLite'}")
        show(figures)
        errors = [line for line in (root / "worker.log").read_text().splitlines() if "Error" in line]
        if errors:
            print("\nerrors in the worker's log:", *sorted(set(errors))[:20], sep="\n  ")
    return 0 if sound(figures) else 1


if __name__ == "__main__":
    sys.exit(main())
