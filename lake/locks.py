"""One run at a time: files that are held while something is done; the kernel lets go when the process dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lake.private import opener


def _appending(path: Path) -> IO[bytes]:
    return open(path, "ab", opener=opener)


@contextmanager
def exclusive(path: Path, *, wait: bool = True, opened: Callable[[Path], IO[bytes]] = _appending) -> Iterator[None]:
    """Hold the file itself, whatever name it is opened by; it is made, readable by its owner only, where it is absent.

    ``wait=False`` raises BlockingIOError where another holds it. A file that was replaced meanwhile is taken anew.
    """
    while True:
        with opened(path) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if path.exists() and os.path.samestat(os.fstat(handle.fileno()), path.stat()):
                yield
                return
