"""The keystore's passphrase: taken out of the environment at start, so that no child process inherits it.

It is given by FOREDRIFT_PASSPHRASE (moved to this process's memory at start), or by FOREDRIFT_PASSPHRASE_FILE, a file
that only its owner may read: a secret's mount, systemd's credential, or an open descriptor (/dev/fd/3). ``serve``
starts the processes that sign, so it replaces itself by a copy without the variable and keeps the passphrase in memory
that only this user's processes can open.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lake.errors import ConfigError

VARIABLE = "FOREDRIFT_PASSPHRASE"
FILE_VARIABLE = "FOREDRIFT_PASSPHRASE_FILE"
_held: list[str] = []  # at most one: what take() found


def take() -> None:
    """Move FOREDRIFT_PASSPHRASE from the environment into this process's memory."""
    given = os.environ.pop(VARIABLE, None)
    if given:
        _held[:] = [given]


def passphrase() -> str | None:
    """Return the keystore passphrase, None where none is given. Raises ConfigError for a file others can read."""
    given = os.environ.get(VARIABLE)
    if given:
        return given
    if _held:
        return _held[-1]
    file = os.environ.get(FILE_VARIABLE)
    return _read(Path(file)) if file else None


@contextmanager
def using(phrase: str) -> Iterator[None]:
    """Let ``phrase`` be the passphrase of this process for as long as the block lasts."""
    take()
    before = list(_held)
    _held[:] = [phrase]
    try:
        yield
    finally:
        _held[:] = before


def hand_over() -> None:
    """Where this process was started with FOREDRIFT_PASSPHRASE, run its command again without it, in the same process.

    A variable that is only removed can still be read in /proc/PID/environ. The new image reads the passphrase from
    anonymous memory, and so do the processes that it starts to sign.
    """
    take()
    if not _held:
        return
    if not hasattr(os, "memfd_create"):
        raise ConfigError(f"this system has no anonymous memory: put the passphrase in a file named by {FILE_VARIABLE}")
    memory = os.memfd_create("foredrift", 0)
    os.fchmod(memory, 0o600)
    os.write(memory, _held[-1].encode())
    os.environ[FILE_VARIABLE] = f"/proc/{os.getpid()}/fd/{memory}"
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 # nosec B606 - this very command


def keep_to_this_process() -> None:
    """Let no program that is started from here inherit the anonymous memory's descriptor (they open it by its path)."""
    file = os.environ.get(FILE_VARIABLE, "")
    mine = f"/proc/{os.getpid()}/fd/"
    if file.startswith(mine):
        os.set_inheritable(int(file.removeprefix(mine)), False)


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{FILE_VARIABLE} names {path}, which cannot be read: {type(error).__name__}") from None
    if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{path} is open to others (mode {mode & 0o777:o}): chmod 600 {path}")
    if not text:
        raise ConfigError(f"{FILE_VARIABLE} names {path}, which is empty")
    return text
