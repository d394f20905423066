"""Append-only, hash-chained record of every decision: what was known, decided, sent and what came of it.

``path`` holds the records, ``path.head`` the number and hash of the newest one, so that removed records show too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from policy.execution.records.codec import plain
from policy.execution.records.hashlog import Body, HashLog, Line, canonical, read, write_whole


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Outcome of a check. ``broken`` is the number of the first record that does not add up, from 0.

    ``notes``: what is no fault of the chain and still worth knowing, lost records by number and reason first.
    """

    ok: bool
    records: int
    head: str
    broken: int | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()


def inputs_digest(inputs: Mapping[str, Any]) -> str:
    """Return the sha256 of everything a decision was made from."""
    return sha256(canonical(plain(inputs)).encode()).hexdigest()


def head_path(path: Path) -> Path:
    """Return where number and hash of the newest record are noted."""
    return path.with_name(path.name + ".head")


class Audit:
    """Writer of one audit file; safe beside other writers and after a kill in mid-write."""

    def __init__(self, path: Path) -> None:
        self._log = HashLog(path)
        self.path = self._log.path

    def append(self, event: str, body: Body) -> Line:
        """Write one record and the note of it to the disk and return it."""
        return self._log.append(plain({"event": event, **body}), after=self._note)

    def _note(self, line: Line) -> None:
        write_whole(head_path(self.path), json.dumps({"seq": line.seq, "hash": line.hash}).encode())

    def has(self, event: str, **fields: str) -> bool:
        """Return whether a record of ``event`` with these fields is there (a settlement is recorded once)."""
        wanted = {"event": event, **fields}
        return any(all(line.body.get(k) == v for k, v in wanted.items()) for line in self._log.lines())

    def records(self) -> tuple[Line, ...]:
        """Return every record; ExecutionError names the first broken one."""
        return self._log.lines()


def verify(path: Path) -> AuditReport:
    """Check every hash of the chain and that none of its end is missing; names the first broken record.

    A torn last line is what a kill leaves and no fault. Someone who can rewrite the whole file AND its head can
    forge both: keep a copy of the printed head hash elsewhere and compare.
    """
    path = path.resolve()  # the note lies beside the file itself
    reading = read(path)
    n = len(reading.lines)
    head = reading.lines[-1].hash if n else ""
    lost = tuple(f"record {x.seq} is lost: {x.body['reason']}" for x in reading.lines if x.lost)
    if reading.fault:
        return AuditReport(False, n, head, n, reading.fault, lost)
    try:
        newest = noted(head_path(path))
    except FileNotFoundError:
        if n <= 1:  # a kill between the first record and its note
            return AuditReport(True, n, head, notes=lost)
        return AuditReport(False, n, head, 0, "the head file is missing", lost)
    except ValueError:
        return AuditReport(False, n, head, n, "the head file cannot be read", lost)
    if newest is None:
        empty = "the head file is empty, as a power cut leaves it; the next record writes it anew"
        return AuditReport(True, n, head, notes=(*lost, empty))
    seq, digest = newest
    if seq >= n:
        return AuditReport(False, n, head, n, f"records {n} to {seq} are missing at the end", lost)
    if reading.lines[seq].hash != digest:
        return AuditReport(False, n, head, seq, f"record {seq} is not the one that was written", lost)
    return AuditReport(True, n, head, notes=lost)


def noted(path: Path) -> tuple[int, str] | None:
    """Return number and hash of the newest record as noted, None from an empty file; ValueError from nonsense."""
    data = path.read_bytes()
    if not data.strip(b"\0 \r\n"):  # no length, or a length without data, is what file systems leave
        return None
    try:
        note = json.loads(data)
        return int(note["seq"]), str(note["hash"])
    except (KeyError, TypeError) as error:
        raise ValueError("no note of a record") from error


def export(path: Path, parquet: Path) -> int:
    """Write the records as Parquet (seq, event, decision_id, ts, hash, prev, body as JSON); return their number."""
    import polars as pl  # late: the signing path itself needs no frames

    lines = HashLog(path).lines()
    rows = {
        "seq": [line.seq for line in lines],
        "event": [str(line.body.get("event")) for line in lines],
        "decision_id": [line.body.get("decision_id") for line in lines],
        "ts": [line.body.get("ts") for line in lines],
        "hash": [line.hash for line in lines],
        "prev": [line.prev for line in lines],
        "body": [canonical(line.body) for line in lines],
    }
    schema = {"seq": pl.Int64, **dict.fromkeys(("event", "decision_id", "ts", "hash", "prev", "body"), pl.String)}
    pl.DataFrame(rows, schema=schema).write_parquet(parquet)
    return len(lines)
