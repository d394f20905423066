"""An append-only file of JSON lines, each carrying the hash of the one before it.

A line is ``{"seq", "prev", "body", "hash"}`` with ``hash = sha256(prev || canonical body)``. It is flushed to the disk
before :meth:`HashLog.append` returns. A kill in mid-write leaves a torn last line without its newline; the next writer
removes exactly that. Anything else that does not add up is damage and is never repaired silently.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lake.errors import ExecutionError
from lake.private import opener, private_folder

GENESIS = "0" * 64

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """One record of the log."""

    seq: int
    prev: str
    body: Body
    hash: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file holds: the sound records, the byte length they fill, and the first fault if there is one."""

    lines: tuple[Line, ...]
    sound_bytes: int
    torn: bool  # an unfinished last line follows; harmless, left by a kill in mid-write
    fault: str | None = None  # why the record after the sound ones is broken


def canonical(body: Body) -> str:
    """Return the one JSON text of ``body``: sorted keys, no spaces, no NaN."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(seq: int, prev: str, body: Body) -> str:
    """Return the hash that binds ``body`` to its place in the log."""
    return hashlib.sha256(f"{seq}|{prev}|{canonical(body)}".encode()).hexdigest()


def _parse(raw: bytes, seq: int, prev: str) -> Line | str:
    """Return the record in ``raw``, or why it is none."""
    try:
        data = json.loads(raw)
        line = Line(data["seq"], data["prev"], data["body"], data["hash"])
    except (ValueError, KeyError, TypeError) as error:
        return f"record {seq} is no readable record ({type(error).__name__})"
    if line.seq != seq:
        return f"record {seq} says it is number {line.seq}: a record was removed, added or moved"
    if line.prev != prev:
        return f"record {seq} does not follow the record before it"
    if digest(seq, prev, line.body) != line.hash:
        return f"record {seq} was changed after it was written"
    return line


def read(path: Path) -> Reading:
    """Read ``path`` up to its first fault; a missing file is an empty log."""
    if not path.exists():
        return Reading((), 0, torn=False)
    data = path.read_bytes()
    lines: list[Line] = []
    offset, prev = 0, GENESIS
    while offset < len(data):
        end = data.find(b"\n", offset)
        if end < 0:
            return Reading(tuple(lines), offset, torn=True)
        found = _parse(data[offset:end], len(lines), prev)
        if isinstance(found, str):
            return Reading(tuple(lines), offset, torn=False, fault=found)
        lines.append(found)
        prev, offset = found.hash, end + 1
    return Reading(tuple(lines), offset, torn=False)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the writers' lock of ``path`` (released by the kernel when the process dies)."""
    with open(path, "a", opener=opener) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class HashLog:
    """Writer of one log file; safe beside other writers of the same file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        private_folder(path.parent)
        self._lock_path = path.with_name(path.name + ".lock")
        self._size = -1
        self._seq = 0
        self._last = GENESIS

    def lines(self) -> tuple[Line, ...]:
        """Return every sound record; ExecutionError names the first broken one."""
        reading = read(self.path)
        if reading.fault:
            raise ExecutionError(f"{self.path}: {reading.fault}; restore the file from a copy before going on")
        return reading.lines

    def append(self, body: Body) -> Line:
        """Write one record to the disk and return it; a torn tail left by a kill is cut off first."""
        with _locked(self._lock_path):
            self._catch_up()
            seq, prev = self._seq, self._last
            line = Line(seq, prev, body, digest(seq, prev, body))
            text = canonical({"seq": seq, "prev": prev, "body": body, "hash": line.hash}) + "\n"
            with open(self.path, "ab", opener=opener) as handle:
                handle.write(text.encode())
                handle.flush()
                os.fsync(handle.fileno())
                self._size = handle.tell()
            self._seq, self._last = seq + 1, line.hash
        return line

    def _catch_up(self) -> None:
        """Follow what other writers appended and cut a torn tail."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size == self._size:
            return
        reading = read(self.path)
        if reading.fault:
            raise ExecutionError(f"{self.path}: {reading.fault}; restore the file from a copy before going on")
        if reading.torn:
            with self.path.open("r+b") as handle:
                handle.truncate(reading.sound_bytes)
                os.fsync(handle.fileno())
        self._size = reading.sound_bytes
        self._seq = len(reading.lines)
        self._last = reading.lines[-1].hash if reading.lines else GENESIS
