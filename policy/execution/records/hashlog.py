"""An append-only file of JSON lines, each carrying the hash of the one before it.

A line is ``{"seq", "prev", "body", "hash"}`` with ``hash = sha256(prev || canonical body)``. It is flushed to the disk
before :meth:`HashLog.append` returns. A kill in mid-write leaves a torn last line without its newline; the next writer
removes exactly that. Anything else that does not add up is damage and is never repaired silently: ``policy.execution.
mending`` restores a record where its hash proves it, and else puts ``{"seq", "prev", "lost", "hash"}`` in its place,
which says why and keeps the chain.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lake import locks
from lake.errors import ExecutionError
from lake.private import opener, private_folder

GENESIS = "0" * 64
LOST = "lost"  # event of a record whose text is gone

Body = Mapping[str, Any]


class Damaged(ExecutionError):
    """A log does not add up; runs stop until it was mended."""


@dataclass(frozen=True, slots=True)
class Line:
    """One record of the log; the body of a lost one is ``{"event": "lost", "reason", "raw_sha256"}``."""

    seq: int
    prev: str
    body: Body
    hash: str

    @property
    def lost(self) -> bool:
        """Whether the record's text is gone."""
        return self.body.get("event") == LOST


@dataclass(frozen=True, slots=True)
class LogReading:
    """What a file holds: the sound records, the byte length they fill, and the first fault if there is one."""

    lines: tuple[Line, ...] = ()
    sound_bytes: int = 0
    torn: bool = False  # an unfinished last line follows; harmless, left by a kill in mid-write
    fault: str | None = None  # why the record after the sound ones is broken


def canonical(body: Body) -> str:
    """Return the one JSON text of ``body``: sorted keys, no spaces, no NaN."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(seq: int, prev: str, body: Body) -> str:
    """Return the hash that binds ``body`` to its place in the log."""
    return hashlib.sha256(f"{seq}|{prev}|{canonical(body)}".encode()).hexdigest()


def written(line: Line) -> bytes:
    """Return the bytes of one record as they stand in the file."""
    if line.lost:
        lost = {k: v for k, v in line.body.items() if k != "event"}
        return (canonical({"seq": line.seq, "prev": line.prev, LOST: lost, "hash": line.hash}) + "\n").encode()
    return (canonical({"seq": line.seq, "prev": line.prev, "body": line.body, "hash": line.hash}) + "\n").encode()


def parse(raw: bytes, seq: int, prev: str) -> Line | str:
    """Return the record in ``raw``, or why it is none."""
    try:
        data = json.loads(raw)
        lost = LOST in data
        line = Line(data["seq"], data["prev"], {**data[LOST], "event": LOST} if lost else data["body"], data["hash"])
        event_lost = not lost and line.lost
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"record {seq} is no readable record ({type(error).__name__})"
    if line.seq != seq:
        return f"record {seq} says it is number {line.seq}: a record was removed, added or moved"
    if line.prev != prev:
        return f"record {seq} does not follow the record before it"
    if event_lost or (not lost and digest(seq, prev, line.body) != line.hash):
        return f"record {seq} was changed after it was written"
    return line


def read(path: Path, known: LogReading | None = None) -> LogReading:
    """Read ``path`` up to its first fault, going on where ``known`` ended; a missing file is an empty log."""
    known = known or LogReading()
    if not path.exists():
        return LogReading()
    with path.open("rb") as handle:
        handle.seek(known.sound_bytes)
        data = handle.read()
    lines = list(known.lines)
    at, prev = 0, lines[-1].hash if lines else GENESIS
    torn, fault = False, None
    while at < len(data):
        end = data.find(b"\n", at)
        if end < 0:
            whole = isinstance(parse(data[at:-1], len(lines), prev), Line)
            torn, fault = not whole, f"record {len(lines)} does not end in a newline" if whole else None
            break
        found = parse(data[at:end], len(lines), prev)
        if isinstance(found, str):
            fault = found
            break
        lines.append(found)
        prev, at = found.hash, end + 1
    kept = known.lines if len(lines) == len(known.lines) else tuple(lines)
    return LogReading(kept, known.sound_bytes + at, torn, fault)


def sync_folder(folder: Path) -> None:
    """Put the names in ``folder`` on the disk: a new or renamed file is there after a power cut only then."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        getattr(os, "fdatasync", os.fsync)(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, data: bytes) -> None:
    """Replace the file at ``path`` so that a kill or a power cut leaves either the old one or the new one."""
    scratch = path.with_name(path.name + ".new")
    with open_private(scratch, os.O_TRUNC) as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    scratch.replace(path)
    sync_folder(path.parent)


def open_private(path: Path, flag: int = os.O_APPEND) -> IO[bytes]:
    """Open ``path`` for writing; made anew it is readable by its owner only, and its name is on the disk."""
    made = not path.exists()
    handle = os.fdopen(opener(str(path), os.O_WRONLY | os.O_CREAT | flag), "wb")
    if made:
        sync_folder(path.parent)
    return handle


def exclusive(path: Path, *, wait: bool = True) -> AbstractContextManager[None]:
    """Hold the log; see ``lake.locks.exclusive``. A log that is made for it has its name on the disk."""
    return locks.exclusive(path, wait=wait, opened=open_private)


class HashLog:
    """Writer and reader of one log file; safe beside other writers of the same file. It reads every byte once."""

    def __init__(self, path: Path) -> None:
        private_folder(path.parent)
        self.path = path.resolve()
        self._known = LogReading()
        self._stamp: tuple[int, int, int] | None = None  # inode, size, time of change at the last look
        self._size = -1
        self._seq = 0
        self._last = GENESIS

    def lines(self) -> tuple[Line, ...]:
        """Return every sound record; Damaged names the first broken one."""
        return self._sound().lines

    def append(
        self, body: Body, *, expect: int | None = None, held: bool = False, after: Callable[[Line], None] | None = None
    ) -> Line:
        """Write one record to the disk and return it; a torn tail left by a kill is cut off first.

        ``expect``: the number it must get, ExecutionError where another writer was there. ``held``: the caller holds
        the file (``exclusive``). ``after`` is called with the record before the file is let go.
        """
        with nullcontext() if held else exclusive(self.path):
            self._catch_up()
            if expect is not None and self._seq != expect:
                raise ExecutionError(
                    f"{self.path} has {self._seq} records where {expect} were expected: another program writes to it; "
                    "nothing was written"
                )
            seq, prev = self._seq, self._last
            line = Line(seq, prev, body, digest(seq, prev, body))
            with open_private(self.path) as handle:
                handle.write(written(line))
                handle.flush()
                os.fsync(handle.fileno())
                self._size = handle.tell()
            self._seq, self._last = seq + 1, line.hash
            if after is not None:
                after(line)
        return line

    def _catch_up(self) -> None:
        """Follow what other writers appended and cut a torn tail."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size == self._size:
            return
        reading = self._sound()
        if reading.torn:
            with self.path.open("r+b") as handle:
                handle.truncate(reading.sound_bytes)
                os.fsync(handle.fileno())
        self._size = reading.sound_bytes
        self._seq = len(reading.lines)
        self._last = reading.lines[-1].hash if reading.lines else GENESIS

    def _sound(self) -> LogReading:
        """Return what the file holds, reading only what was added since the last look."""
        try:
            stat = self.path.stat()
            stamp = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        except FileNotFoundError:
            stamp = None
        if stamp is None or stamp != self._stamp:
            old = self._stamp
            grown = stamp is not None and old is not None and stamp[0] == old[0] and stamp[1] > old[1]
            self._known = read(self.path, self._known if grown else None)
            self._stamp = stamp
        if self._known.fault:
            raise Damaged(f"{self.path}: {self._known.fault}; run `foredrift audit repair`, which keeps a copy")
        return self._known
