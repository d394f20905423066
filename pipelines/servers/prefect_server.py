"""The project's own scheduler: a Prefect server on loopback for as long as something needs it, where none is set.

It answers nobody without the password that only the project's owner can read, lets no page of another origin in, and
inherits neither keys nor other programs' secrets.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lake.errors import ConfigError
from lake.private import private_folder, tighten
from pipelines.servers.rotated import RotatedLog
from pipelines.servers.subprocesses import stop, usual_port, wait_until_healthy

START_S = 240.0  # seconds a server may take to answer: seven on an idle machine, minutes on a crowded one
PASSWORD = "password"  # noqa: S105 # nosec B105 - the name of a file in the scheduler's folder
_FOREIGN = ("FOREDRIFT_", "AWS_", "MLFLOW_")  # variables that the scheduler's own process has no use for
_SECRET = ("KEY", "SECRET", "TOKEN", "PASS", "PRIVATE", "CREDENTIAL", "MNEMONIC", "AUTH")
TIDY = {  # what a server of months would otherwise keep for ever; a variable of these names wins
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(90 * 86_400),  # seconds; what was decided is in the lake
}
_OURS = ("PREFECT_SERVER_", "PG")  # its own settings and its database's


@contextmanager
def scheduler(home: Path) -> Iterator[str]:
    """Yield the API URL: the configured one, or that of a server started on loopback for as long as the block lasts."""
    given = os.environ.get("PREFECT_API_URL")
    if given:
        yield given
        return
    private_folder(home)
    tighten(home)
    port = usual_port(home / "port")
    url, password = f"http://127.0.0.1:{port}/api", password_of(home)
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        env=server_environment(os.environ, home, url, password), cwd=home, umask=0o077, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for this process, which then ends the server
    )  # fmt: skip
    assert process.stdout is not None
    told = RotatedLog(home / "server.log").drain(process.stdout)
    mine = {"PREFECT_API_URL": url, "PREFECT_HOME": str(home), "PREFECT_API_AUTH_STRING": password}
    before = {name: os.environ.get(name) for name in mine}
    try:
        wait_until_healthy(process, f"{url}/health", f"see {home / 'server.log'}", START_S)
        os.environ |= mine
        yield url
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        stop(process)
        told.join(10)


def password_of(home: Path) -> str:
    """Return the scheduler's ``user:password``, made at random the first time and kept in a file of mode 0600."""
    path = home / PASSWORD
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        kept = path.read_text(encoding="ascii").strip()
        if ":" in kept:
            return kept
        raise ConfigError(f"{path} holds no password; remove it, and `foredrift serve` makes a new one") from None
    made = f"foredrift:{secrets.token_urlsafe(32)}"
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(made)
    return made


def server_environment(given: Mapping[str, str], home: Path, url: str, password: str) -> dict[str, str]:
    """Return the environment of the scheduler's process: ``given`` without anything secret that is not its own."""
    kept = {
        name: value
        for name, value in given.items()
        if name.startswith(_OURS)
        or not (name.startswith(_FOREIGN) or any(hint in name.upper() for hint in _SECRET))
    }  # fmt: skip
    return TIDY | kept | {
        "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_UI_API_URL": url,  # else its pages look for the default port
        "PREFECT_SERVER_API_AUTH_STRING": password,
        "PREFECT_API_AUTH_STRING": password,  # its own services ask its API, too
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "",
        "PYTHONSAFEPATH": "1",
    }  # fmt: skip
