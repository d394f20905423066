"""Where a project's halt lies: one file beside the scheduler's folder, for every vault, run and keeper of it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from policy.execution.records.halt import HaltFile

FILE = ".foredrift/halt.json"


class HasPath(Protocol):
    """A project, or one of its vaults: the folder that paths start from."""

    def path(self, relative: str) -> Path:
        """Return a project path, absolute."""
        ...


def halt_of(project: HasPath) -> HaltFile:
    """Return the halt of the project that ``project`` is, or belongs to."""
    return HaltFile(project.path(FILE))
