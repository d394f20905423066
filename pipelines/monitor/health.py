"""Whether what a project runs is alive, for container health checks, service managers and people: ``foredrift health``.

``serve`` leaves a sign of life in a file while its scheduler answers and its loop turns; a keeper's is its ownership of
the vault; the page, the metrics and MLflow are asked over HTTP.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from lake.private import STATE, opener, private_folder

FILE = f"{STATE}/served.json"
SILENT_S = 90.0  # a sign of life that is older is none: three beats, and a machine that is busy
ASK_S = 10.0
WHAT = ("serve", "keeper", "page", "metrics", "mlflow")


class Owner(Protocol):
    """Who keeps a vault block by block; ``policy.execution.records.owner.Ownership`` fits."""

    @property
    def held(self) -> bool:
        """Whether a process keeps it."""
        ...

    @property
    def fresh(self) -> bool:
        """Whether it has seen a block of late."""
        ...

    def words(self) -> str:
        """Return it in words."""
        ...


@dataclass(frozen=True, slots=True)
class Vital:
    """One thing that was looked at: ``words`` say what was found."""

    what: str
    ok: bool
    words: str


def sign(file: Path, pid: int, at: float) -> None:
    """Leave a sign of life of process ``pid`` at ``at`` (Unix seconds); one reader never sees half of it."""
    private_folder(file.parent)
    temporary = file.with_name(f"{file.name}.{pid}")
    with open(temporary, "w", encoding="ascii", opener=opener) as out:
        json.dump({"pid": pid, "time": at}, out)
    temporary.replace(file)


def served(file: Path, at: float | None = None) -> Vital:
    """Return whether ``foredrift serve`` gave a sign of life within SILENT_S."""
    try:
        told = json.loads(file.read_text(encoding="ascii"))
        age = (time.time() if at is None else at) - float(told["time"])
    except FileNotFoundError:
        return Vital("serve", False, "foredrift serve has not started, or its scheduler has not answered yet")
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Vital("serve", False, f"{file.name} cannot be read: {type(error).__name__}")
    words = f"process {told.get('pid')} and its scheduler, {age:.0f} s ago"
    return Vital("serve", -SILENT_S <= age <= SILENT_S, words)


def kept(owners: Mapping[str, Owner]) -> Vital:
    """Return whether every vault has a keeper that has seen a block of late. ``owners``: by the vault's name."""
    idle = [f"{name}: {o.words() if o.held else 'nobody keeps it'}" for name, o in owners.items() if not o.fresh]
    return Vital("keeper", not idle, "; ".join(idle) or f"{', '.join(owners)}: kept")


def answers(what: str, url: str) -> Vital:
    """Return whether ``url`` answers 200 within ASK_S; the words name host and path, never a password."""
    where = httpx.URL(url)
    shown = f"{where.host}:{where.port}{where.path}"
    try:
        code = httpx.get(url, timeout=ASK_S, trust_env=False).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Vital(what, False, f"{shown} does not answer ({type(error).__name__})")
    return Vital(what, code == httpx.codes.OK, f"{shown} answers {code}")


def lines(found: Sequence[Vital]) -> list[str]:
    """Return a line for each thing that was looked at."""
    return [f"{'ok  ' if one.ok else 'DOWN'} {one.what}: {one.words}" for one in found]


def rows(found: Sequence[Vital]) -> list[dict[str, Any]]:
    """Return them for JSON: what, ok, words."""
    return [{"what": one.what, "ok": one.ok, "words": one.words} for one in found]


def own_sign(file: Path) -> None:
    """Leave a sign of life of this process now."""
    sign(file, os.getpid(), time.time())
