"""Scheduled runs that went wrong: which ones are dead without saying so, and telling people."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from lake.errors import ForedriftError
from lake.units import utc

SILENT = timedelta(minutes=10)
"""A run that gave no sign of life for so long is taken for dead: over three heartbeats of Prefect's default of 180 s.
`foredrift serve` sets 30 s, so a shorter bound works there too."""
_PAGE = 200  # the API's limit of rows in one answer
_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Zombie:
    """A run that the scheduler believes in and nobody carries out."""

    run_id: str
    name: str
    started: datetime  # or claimed by its worker, where it never started
    silent: timedelta  # at least so long without a sign of life
    state: str = "RUNNING"

    def text(self) -> str:
        """Return the finding as one line."""
        return (
            f"run {self.name} ({self.run_id}) is {self.state} since {self.started:%Y-%m-%d %H:%M} UTC and silent for "
            f"more than {self.silent}: its worker is gone; mark it crashed, the next run recovers from the journal"
        )


def api_url() -> str | None:
    """Return the scheduler's API as set by PREFECT_API_URL, None without one."""
    return os.environ.get("PREFECT_API_URL") or None


def credentials() -> tuple[str, str] | None:
    """Return the scheduler's user and password as set by PREFECT_API_AUTH_STRING, None without one."""
    user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    return (user, password) if password else None


def zombies(url: str, at: datetime | None = None, silent: timedelta = SILENT, own: str | None = None) -> list[Zombie]:
    """Return the RUNNING and PENDING runs of the scheduler at ``url`` that gave no sign of life for ``silent``.

    A sign of life is the start, the claim by a worker or a heartbeat event (Prefect never ends a run whose worker was
    killed with it). ``own`` is the id of the asking run, left out. Raises ForedriftError when the scheduler does not
    answer.
    """
    at = at or datetime.now(UTC)
    wanted = {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}, "limit": _PAGE}
    found = [
        Zombie(r["id"], r["name"], utc(r["start_time"] or r["state"]["timestamp"]), silent, r["state"]["type"])
        for r in _ask(url, "flow_runs/filter", wanted)
        if r["id"] != own
    ]
    return [z for z in found if at - z.started > silent and not _heard(url, z.run_id, at - silent)]


def _heard(url: str, run: str, since: datetime) -> bool:
    """Return whether ``run`` sent a heartbeat after ``since``."""
    wanted = {
        "occurred": {"since": since.isoformat()},
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{run}"]},
    }
    return bool(_ask(url, "events/filter", {"filter": wanted, "limit": 1})["events"])


def _ask(url: str, path: str, body: dict[str, Any]) -> Any:
    try:
        answer = httpx.post(f"{url}/{path}", json=body, timeout=_SECONDS, auth=credentials())
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise ForedriftError(f"the scheduler does not answer {path} ({type(error).__name__})") from error
    return answer.json()
