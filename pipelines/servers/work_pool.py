"""Whether a work pool lets whoever may start a run say what the run is: its command, environment or folder.

The template in ``work-pool.json`` leaves nothing to be said. A pool that was made without it takes Prefect's own, in
which a request sets ``command`` and ``env``: who reaches the scheduler then runs anything, with the keeper's
passphrase.
"""

from __future__ import annotations

import json
from typing import Any

import httpx

from lake.errors import ConfigError, ForedriftError
from pipelines.servers.scheduler_api import credentials, patiently

_SECONDS = 10.0
_MISSING = 404


def softness(url: str, name: str) -> str:
    """Return what a request may change in runs of pool ``name``, empty where it is nothing or there is no such pool.

    Raises ForedriftError where the scheduler at ``url`` does not answer, a late one asked again.
    """
    try:
        where = f"{url}/work_pools/{name}"
        answer = patiently(lambda: httpx.get(where, timeout=_SECONDS, auth=credentials()))
        if answer.status_code == _MISSING:
            return ""
        answer.raise_for_status()
        pool: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise ForedriftError(f"the scheduler does not tell of work pool {name} ({type(error).__name__})") from error
    return open_to_requests(pool.get("base_job_template") or {})


def open_to_requests(template: dict[str, Any]) -> str:
    """Return what a pool's base job template leaves to a request, in words."""
    if not template.get("job_configuration"):
        return "it has no template of its own, so a request sets command, environment and folder"
    names = sorted((template.get("variables") or {}).get("properties") or {})
    if names:
        return f"a request sets {', '.join(names)}"
    return "its job is filled in by requests" if "{{" in json.dumps(template["job_configuration"]) else ""


def closing_command(name: str) -> str:
    """Return the command that closes pool ``name``."""
    return f"prefect work-pool update {name} --base-job-template work-pool.json (beside prefect.yaml)"


def require_closed(url: str, name: str) -> None:
    """Raise ConfigError with what to do where pool ``name`` is open to requests."""
    said = softness(url, name)
    if said:
        raise ConfigError(f"work pool {name} is open: {said}, beside the keeper's key; run `{closing_command(name)}`")
