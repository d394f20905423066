"""The halt: a file that every live cycle looks for before it decides, and again before anything is signed or sent.

It is written whole or not at all. A file that is there and cannot be read halts as well: nobody knows what it says.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from lake.private import private_folder
from lake.units import utc
from policy.execution.records.hashlog import sync_folder, write_whole

REMEDY = "`foredrift resume` lets it go on"


@dataclass(frozen=True, slots=True)
class Halt:
    """Since when nothing is traded, why, and who said so (``terminal``, ``chat``)."""

    since: str
    reason: str
    by: str

    def words(self) -> str:
        """Return the halt as one sentence, without its end."""
        when = f" since {utc(self.since):%Y-%m-%d %H:%M} UTC" if self.since else ""
        return f"trading is stopped{when} ({self.reason})"


@dataclass(frozen=True, slots=True)
class HaltFile:
    """The halt of one project; the same file for every vault, run and keeper of it."""

    path: Path

    def read(self) -> Halt | None:
        """Return the halt in force, None where there is none; what cannot be read is one."""
        try:
            said = json.loads(self.path.read_text(encoding="utf-8"))
            return Halt(utc(said["since"]).isoformat(), str(said["reason"]), str(said["by"]))
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            return None
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, trading must not go on
            return Halt("", f"{self.path.name} is there and cannot be read: {type(error).__name__}", "unknown")

    def stop(self, at: datetime, reason: str, by: str) -> Halt:
        """Halt from now on; one that is in force already stays as it is and is returned."""
        known = self.read()
        if known is not None:
            return known
        made = Halt(at.isoformat(), " ".join(reason.split()) or "no reason given", by)
        private_folder(self.path.parent)
        write_whole(self.path, json.dumps(asdict(made)).encode())
        return made

    def resume(self) -> None:
        """End the halt."""
        self.path.unlink(missing_ok=True)
        if self.path.parent.is_dir():
            sync_folder(self.path.parent)

    def told(self) -> str | None:
        """Return why nothing may be sent, in words; None where it may."""
        found = self.read()
        return None if found is None else found.words()


Halted = Callable[[], str | None]
"""Says why nothing may be sent just now; None where it may."""


def never() -> str | None:
    """Return None: nothing halts this one."""
    return None
