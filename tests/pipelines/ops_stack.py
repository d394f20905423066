"""The processes of a drill: Prefect server, MLflow server and a work-pool worker, on SQLite or PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import yaml

from pipelines.servers.scheduler_api import patiently
from pipelines.servers.subprocesses import free_port, stop, wait_until_healthy

ROOT = Path(__file__).resolve().parents[2]
POOL = "foredrift"
TEMPLATE = ROOT / "work-pool.json"
PAGE = 200  # the API's limit of rows in one answer
BINARIES = "/usr/lib/postgresql"


class Stack:
    """A Prefect server, a worker of its pool and an MLflow server over one project folder."""

    def __init__(self, root: Path, environment: dict[str, str], databases: str | None = None) -> None:
        self.root = root
        self.port, self.mlflow_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.environment = environment | {
            "PREFECT_API_URL": self.url, "PREFECT_SERVER_UI_API_URL": self.url, "PREFECT_HOME": str(root / "prefect"),
        }  # fmt: skip
        self.store = f"sqlite:///{root / 'mlflow.db'}"
        if databases:
            self.environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"postgresql+asyncpg://{databases}/prefect"
            self.store = f"postgresql://{databases}/mlflow"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start_server(self) -> None:
        self._start("server", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        wait_until_healthy(self.processes["server"], f"{self.url}/health", f"see {self.root / 'server.log'}", 240)

    def start_mlflow(self) -> None:
        self._start(
            "mlflow", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.mlflow_port), "--workers", "1",
            "--backend-store-uri", self.store, "--artifacts-destination", str(self.root / "artifacts"),
        )  # fmt: skip
        url = f"http://127.0.0.1:{self.mlflow_port}/health"
        wait_until_healthy(self.processes["mlflow"], url, f"see {self.root / 'mlflow.log'}", 240)

    def start_worker(self) -> None:
        self._start("worker", "prefect", "worker", "start", "--pool", POOL, "--limit", "6")

    def deploy(self, *flows: str) -> None:
        """Deploy some flows of the repository's prefect.yaml every minute.

        Without its concurrency limit: runs may overlap, and a killed run would hold the slot for five of ten hours.
        """
        given = yaml.safe_load((ROOT / "prefect.yaml").read_text())
        kept = [d for d in given["deployments"] if d["entrypoint"].rsplit(".", 1)[1] in flows]
        for one in kept:
            one["schedules"] = [{"cron": "* * * * *", "timezone": "UTC"}]
            del one["concurrency_limit"]
        file = self.root / "prefect.yaml"
        file.write_text(yaml.safe_dump(given | {"deployments": kept}))
        for words in (
            ["work-pool", "create", POOL, "--type", "process", "--base-job-template", str(TEMPLATE)],
            ["deploy", "--all"],
        ):
            command = [sys.executable, "-m", "prefect", "--no-prompt", *words]
            done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{' '.join(words)}: {done.stdout}{done.stderr}")

    def _start(self, name: str, *arguments: str) -> None:
        with (self.root / f"{name}.log").open("ab") as out:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *arguments], cwd=self.root, env=self.environment, stdout=out, stderr=out
            )

    def kill(self, name: str) -> int:
        """Kill a process and all it started at once, as a power cut would; return how many there were."""
        process = self.processes.pop(name)
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for one in family:
            one.kill()
        process.wait()
        return len(family)

    def end(self) -> None:
        for name in ("worker", "server", "mlflow"):
            if name in self.processes:
                children = psutil.Process(self.processes[name].pid).children(recursive=True)
                stop(self.processes.pop(name))
                for child in children:
                    if child.is_running():
                        child.kill()

    def runs(self) -> list[dict]:
        """Every flow run the scheduler knows, with the name of its flow as ``flow``."""
        names = {f["id"]: f["name"] for f in self._asked("flows/filter", {})}
        found: list[dict] = []
        while True:
            body = {"sort": "EXPECTED_START_TIME_ASC", "limit": PAGE, "offset": len(found)}
            page = self._asked("flow_runs/filter", body)
            found += [r | {"flow": names[r["flow_id"]]} for r in page]
            if len(page) < PAGE:
                return found

    def _asked(self, path: str, body: dict) -> list[dict]:
        answer = patiently(lambda: httpx.post(f"{self.url}/{path}", json=body, timeout=60))
        answer.raise_for_status()
        return answer.json()


def has_postgres() -> bool:
    """Whether PostgreSQL's own programs are on this machine."""
    return bool(list(Path(BINARIES).glob("*/bin/initdb")))


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Yield ``user@host:port`` of a PostgreSQL cluster of its own in ``folder``, with databases prefect and mlflow.

    Raises FileNotFoundError without PostgreSQL.
    """
    if not has_postgres():
        raise FileNotFoundError(f"no {BINARIES}/*/bin/initdb: install postgresql to run on it")
    binaries, port, data = max(Path(BINARIES).glob("*/bin")), free_port(), folder / "data"
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder.mkdir(parents=True, exist_ok=True)
    if user:
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
        for name in ("prefect", "mlflow"):
            call("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", name)
        yield f"prefect@127.0.0.1:{port}"
    finally:
        call(*control, "stop", "-m", "fast")
