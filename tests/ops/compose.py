"""The services of deploy/compose.yaml as processes of this machine, in clean folders, where there is no Docker.

Commands, environment, secrets, health checks and the order of starts are read from the file itself. A container's
paths, host names and ports become folders and free ports here, and nothing of this process's own environment is handed
on. What only Docker does (the image, the read-only root, capabilities, users) is judged by what the file says.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipelines.servers.subprocesses import free_port
from tests.house.counts import ROOT

FILE = ROOT / "deploy" / "compose.yaml"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
PROGRAMS = {"foredrift": [sys.executable, "-m", "pipelines.cli"], "python": [sys.executable]}
LISTENS = {"postgres": 5432, "mlflow": 5000, "page": 9465, "server": 9464}  # by service, inside its container
PATIENCE_S = 600.0  # of a machine that does other things
MOST_RESTARTS = 3
GIVEN = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def read(folder: Path, file: Path = FILE) -> dict[str, Any]:
    """Return the file with ``${FOREDRIFT_DIR}`` as ``folder`` and every other variable as its default."""
    text = GIVEN.sub(lambda m: str(folder) if m[1] == "FOREDRIFT_DIR" else m[2] or "", file.read_text())
    return yaml.safe_load(text)


def image_environment() -> dict[str, str]:
    """Return what the image's last stage sets, without its own PATH."""
    text = DOCKERFILE.read_text().rpartition("\nFROM ")[2].replace("\\\n", " ")
    pairs = [p for line in re.findall(r"^ENV (.*)$", text, re.MULTILINE) for p in line.split()]
    found = dict(p.split("=", 1) for p in pairs)
    del found["PATH"]
    return found


@dataclass
class Composed:
    """Services of the compose file under ``folder``; ``extra``: what an override file would add to an environment."""

    folder: Path
    extra: dict[str, dict[str, str]] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)  # of what ended by itself

    def __post_init__(self) -> None:
        self.given = read(self.folder)
        self.services: dict[str, dict[str, Any]] = self.given["services"]
        self.ports = {name: free_port() for name in LISTENS}

    def prepare(self) -> str:
        """Run the script that makes folders and secrets; return what it said."""
        command = ["/bin/sh", str(ROOT / "deploy" / "prepare.sh"), str(self.folder)]
        own = {"FOREDRIFT_UID": str(os.getuid()), "POSTGRES_UID": str(database_user()[0])}
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]} | own
        )
        for one in (self.folder, self.folder / "secrets"):  # the database's user reaches its own files alone
            one.chmod(0o711)
        return done.stdout

    def here(self, service: str, text: str) -> str:
        """Return ``text`` of a service with the container's paths, hosts and ports as they are on this machine."""
        for name, port in LISTENS.items():
            text = text.replace(f"{name}:{port}", f"127.0.0.1:{self.ports[name]}")
            text = re.sub(rf"(?<=127\.0\.0\.1:){port}\b", str(self.ports[name]), text)
            text = re.sub(rf"^(--port=)?{port}$", lambda m, n=name: f"{m[1] or ''}{self.ports[n]}", text)
        text = text.replace("0.0.0.0", "127.0.0.1")
        for host, container in self.mounts(service):
            text = re.sub(rf"(?<![\w/.]){re.escape(container)}(?=/|$)", host, text)
        return text

    def mounts(self, service: str) -> list[tuple[str, str]]:
        """Return (folder here, path in the container), the longest path first."""
        found = [(v.split(":")[0], v.split(":")[1]) for v in self.services[service].get("volumes", [])]
        found = [(self.copied(host) if host.startswith(".") else host, path) for host, path in found]
        secrets = self.services[service].get("secrets", [])
        found += [(self.given["secrets"][s]["file"], f"/run/secrets/{s}") for s in secrets]
        found.append((str(self.scratch(service)), "/srv/foredrift"))
        return sorted(found, key=lambda pair: -len(pair[1]))

    def copied(self, name: str) -> str:
        """Return where a file beside the compose file lies for users that may not enter this folder."""
        made = self.folder / "own" / Path(name).name
        if not made.exists():
            made.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(FILE.parent / name, made)
            made.chmod(0o644)
        return str(made)

    def scratch(self, service: str) -> Path:
        """Return the folder that stands for a service's own file system."""
        made = self.folder / "own" / service
        made.mkdir(parents=True, exist_ok=True)
        return made

    def environment(self, service: str) -> dict[str, str]:
        """Return what a service's processes have in their environment: the image's, the file's, and nothing else."""
        image = image_environment() if self.services[service]["image"].startswith("foredrift") else {}
        said = {
            name: self.here(service, value) for name, value in self.services[service].get("environment", {}).items()
        }
        here = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "PGPORT": str(self.ports["postgres"]),
        }
        own = {"HOME": str(self.scratch(service)), "TMPDIR": str(self.scratch(service))}
        for name in ("NUMBA_CACHE_DIR", "MPLCONFIGDIR"):  # what is compiled lies beside the code of a checkout
            image.pop(name, None)
        if service == "postgres":
            own["PGSOCKETS"] = "/tmp"  # noqa: S108 - a socket's path is short
        return here | image | own | said | self.extra.get(service, {})

    def folder_of(self, service: str) -> Path:
        """Return the working folder: the project's where it is mounted."""
        found = [host for host, path in self.mounts(service) if path == "/srv/foredrift"]
        return Path(found[0])

    def words(self, service: str, given: list[str]) -> list[str]:
        """Return a command as it runs here."""
        first, *rest = [self.here(service, w) for w in given]
        return [*PROGRAMS.get(first, [first]), *rest]

    def start(self, service: str) -> None:
        """Start a service; its output goes to a file of its name."""
        one = self.services[service]
        entry = one.get("entrypoint") or ["foredrift"]
        user = (
            {} if service != "postgres" or os.geteuid() else dict(zip(("user", "group"), database_user(), strict=True))
        )
        with (self.folder / f"{service}.log").open("ab") as out:
            self.processes[service] = subprocess.Popen(
                self.words(service, [*entry, *one.get("command", [])]), cwd=self.folder_of(service), stdout=out,
                stderr=out, env=self.environment(service), stdin=subprocess.DEVNULL, start_new_session=True, **user,
            )  # fmt: skip

    def healthy(self, service: str) -> tuple[bool, str]:
        """Run a service's health check once; return whether it passed and what it said."""
        kind, *words = self.services[service]["healthcheck"]["test"]
        assert kind == "CMD"
        done = subprocess.run(
            self.words(service, words), cwd=self.folder_of(service), env=self.environment(service), capture_output=True,
            text=True, timeout=300,
        )  # fmt: skip
        return done.returncode == 0, done.stdout + done.stderr

    def wait(self, service: str) -> None:
        """Return when a service's health check passes; AssertionError where it never does, or ends again and again.

        What ends by itself is started again, as its restart policy says.
        """
        end = time.monotonic() + PATIENCE_S
        while True:
            if self.processes[service].poll() is not None:
                self.restarts[service] = self.restarts.get(service, 0) + 1
                again = (
                    self.services[service]["restart"] == "unless-stopped" and self.restarts[service] <= MOST_RESTARTS
                )
                assert again, f"{service} ended: {self.said(service)}"
                self.start(service)
            ok, told = self.healthy(service)
            if ok:
                return
            assert time.monotonic() < end, f"{service}: {told} {self.said(service)}"
            time.sleep(0.5)

    def up(self, *only: str) -> None:
        """Start services, each after those it depends on are healthy."""
        for service in only:
            for other in self.services[service].get("depends_on", ()):
                if other in only:
                    self.wait(other)
            self.start(service)
        for service in only:
            self.wait(service)

    def kill(self, service: str) -> int:
        """End all processes of a service at once, as a container's death does; return how many there were."""
        leader = self.processes.pop(service)
        found = family(leader.pid)
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        leader.wait()
        return len(found)

    def said(self, service: str) -> str:
        return (self.folder / f"{service}.log").read_text(errors="replace")[-3_000:]

    def down(self) -> None:
        """End what is left, in the other order."""
        for service in reversed(list(self.processes)):
            self.kill(service)


def family(pid: int) -> list[int]:
    """Return ``pid`` and all that it started, sessions of their own included."""
    import psutil

    try:
        first = psutil.Process(pid)
        return [*(c.pid for c in first.children(recursive=True)), pid]
    except psutil.NoSuchProcess:
        return [pid]


@contextmanager
def clean_folder() -> Iterator[Path]:
    """Yield a folder that the database's user can reach: pytest's own are closed to everybody else."""
    with tempfile.TemporaryDirectory(prefix="foredrift-") as name:
        yield Path(name)


def database_user() -> tuple[int, int]:
    """Return the user and group that PostgreSQL runs as: it refuses to run as root."""
    if os.geteuid():
        return os.getuid(), os.getgid()
    import pwd

    found = pwd.getpwnam("postgres")
    return found.pw_uid, found.pw_gid


def missing() -> str:
    """Return which of PostgreSQL's programs are not here, empty where all are."""
    absent = [n for n in ("initdb", "postgres", "pg_isready") if shutil.which(n) is None]
    return f"not on this machine: {', '.join(absent)}" if absent else ""
