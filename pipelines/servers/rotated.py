"""A log of a server that runs for months: files of bounded size, the oldest goes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import IO

from lake.private import opener

LIMIT = 5_000_000  # bytes a file
KEPT = 4  # files beside the one that is written


class RotatedLog:
    """Takes bytes; ``file`` is the newest part, ``file.1`` the one before it, up to ``file.KEPT``."""

    def __init__(self, file: Path, limit: int = LIMIT, kept: int = KEPT) -> None:
        self.file, self.limit, self.kept = file, limit, kept

    def write(self, data: bytes) -> None:
        """Append ``data`` whole; before a file outgrows its limit the next one begins. A full disk loses the line."""
        try:
            size = self.file.stat().st_size if self.file.exists() else 0
            if size and size + len(data) > self.limit:
                self._turn()
            with open(self.file, "ab", opener=opener) as out:
                out.write(data)
        except OSError:
            return  # what a server says is no reason to stop it

    def _turn(self) -> None:
        for i in range(self.kept, 0, -1):
            older = self.file if i == 1 else self._part(i - 1)
            if older.exists():
                older.replace(self._part(i))

    def _part(self, number: int) -> Path:
        return self.file.with_name(f"{self.file.name}.{number}")

    def drain(self, stream: IO[bytes]) -> threading.Thread:
        """Write every line of ``stream`` in a thread until it ends; return the thread."""

        def run() -> None:
            with stream:
                for line in stream:
                    self.write(line)

        thread = threading.Thread(target=run, name="server log", daemon=True)
        thread.start()
        return thread
