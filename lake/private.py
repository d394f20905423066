"""State for its owner only: folders 0700, files 0600, whatever the process's umask is.

What the project keeps about money (journal, audit record, paper vault, scheduler's database and password) lies in
``.foredrift``. Every place that makes a folder or file there goes through here, and :func:`tighten` closes what other
programs or older versions left open.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

STATE = ".foredrift"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def private_folder(folder: Path) -> Path:
    """Make ``folder`` with its parents and return it: each one that is new, and any ``.foredrift`` above, is 0700."""
    absolute = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow links; names are what is compared
    for part in reversed([absolute, *absolute.parents]):
        if not part.is_dir():
            part.mkdir(mode=0o700, exist_ok=True)
        elif part.name == STATE:
            _close(part)
    return folder


def opener(path: str, flags: int) -> int:
    """Open as ``open(..., opener=opener)`` asks: a file that is new is 0600 from its first moment."""
    return os.open(path, flags, 0o600)


def tighten(folder: Path) -> int:
    """Take every right of others from ``folder`` and all below, links left alone; return how many had one.

    What belongs to another user stays as it is: :func:`exposed` finds it.
    """
    return sum(_close(path) for path in _tree(folder))


def exposed(folder: Path) -> list[Path]:
    """Return what others may read, write or enter of ``folder`` and all below."""
    return [path for path in _tree(folder) if _open_to_others(path)]


def _tree(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        return
    yield folder
    for root, folders, files in os.walk(folder):
        yield from (Path(root, name) for name in (*folders, *files))


def _open_to_others(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:  # another process has just removed it
        return False
    return not stat.S_ISLNK(mode) and bool(mode & _OTHERS)


def _close(path: Path) -> bool:
    """Return whether ``path`` was open to others and is no longer."""
    if not _open_to_others(path):
        return False
    try:
        path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~_OTHERS)
    except (FileNotFoundError, PermissionError):
        return False
    return True
