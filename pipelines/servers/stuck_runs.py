"""Scheduled runs that went wrong: which ones are dead without saying so, and telling people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from lake.errors import ForedriftError
from lake.units import utc
from pipelines.servers.scheduler_api import credentials, patiently

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
        answer = patiently(lambda: httpx.post(f"{url}/{path}", json=body, timeout=_SECONDS, auth=credentials()))
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise ForedriftError(f"the scheduler does not answer {path} ({type(error).__name__})") from error
    return answer.json()
