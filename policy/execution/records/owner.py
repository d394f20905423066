"""Who keeps a vault block by block: ``<journal>.owner``, held while the keeper lives and rewritten at every block.

The scheduled run asks it first and declines while the keeper is fresh. The lock is the kernel's, so it ends with the
process however that ends; what the file says is for people, and for telling a keeper that hangs from one that works. A
run that takes over is kept apart from a keeper that returns by the journal's own lease.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from lake.errors import ExecutionError
from lake.private import opener, private_folder

FRESH_BLOCKS = 3
LEAST_FRESH_S = 6.0
PATIENCE_S = 2.0  # for a reader that looks at the lock just now
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class OwnedElsewhere(ExecutionError):
    """Another keeper owns this vault."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """What is known of a vault's keeper. ``held``: one is alive; ``fresh``: and has seen a block of late.

    ``age_s``: seconds since it was last refreshed, None where it never was; ``told``: what it said of itself.
    """

    held: bool = False
    fresh: bool = False
    age_s: float | None = None
    told: Mapping[str, Any] = field(default_factory=dict)

    def words(self) -> str:
        """Return who owns the vault, as people read it."""
        if not self.held:
            return "nobody keeps it block by block"
        state = "fresh" if self.fresh else "silent"
        return f"keeper {self.told.get('pid', '?')} at block {self.told.get('block', '?')}, {state}"


class OwnerFile:
    """The held file of a living keeper."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._fixed = {"pid": os.getpid(), "boot": boot_id(), "since": time.time()}

    def refresh(self, block: int, told: Mapping[str, Any] | None = None) -> None:
        """Say that ``block`` was seen now, with what else is to be known (JSON values)."""
        body = {**self._fixed, "block": block, "time": time.time(), **(told or {})}
        data = (json.dumps(body, allow_nan=False) + "\n").encode()
        os.pwrite(self._file.fileno(), data, 0)
        os.ftruncate(self._file.fileno(), len(data))


def owner_path(journal: Path) -> Path:
    """Return the owner's file beside a journal."""
    return journal.with_name(journal.name + ".owner")


def boot_id() -> str:
    """Return the id of this start of the machine, empty where the system tells none."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


@contextmanager
def owning(journal: Path, patience_s: float = PATIENCE_S) -> Iterator[OwnerFile]:
    """Own the vault of ``journal`` while the block lasts; OwnedElsewhere, naming the other, where one does already.

    ``patience_s``: how long to try, for a reader may look at the lock just now.
    """
    path = owner_path(journal)
    private_folder(path.parent)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b", buffering=0) as file:
        end = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    found = ownership(journal, 12.0)
                    raise OwnedElsewhere(f"{path.name}: {found.words()}; end it first") from None
                time.sleep(0.02)
        yield OwnerFile(file)


def ownership(journal: Path, block_time_s: float, now_s: float | None = None) -> Ownership:
    """Return who keeps the vault of ``journal``; fresh while its last block is younger than three block times."""
    path = owner_path(journal)
    try:
        file = open(path, "rb", opener=opener)  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return Ownership()
    with file:
        told = _told(file)
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            held = True
        else:
            held = False
    seen = told.get("time")
    age = (time.time() if now_s is None else now_s) - seen if isinstance(seen, int | float) else None
    allowed = max(FRESH_BLOCKS * block_time_s, LEAST_FRESH_S)
    fresh = held and age is not None and age < allowed
    return Ownership(held, fresh, age, told)


def _told(file: IO[bytes]) -> dict[str, Any]:
    """Return what the owner wrote; nothing where it is being written or no JSON."""
    for _ in range(3):
        file.seek(0)
        try:
            found = json.loads(file.read())
        except ValueError:
            time.sleep(0.005)
            continue
        return found if isinstance(found, dict) else {}
    return {}
