"""Mending a damaged log: a record whose one wrong bit the hashes prove is restored, any other is given up by name.

Nothing is thrown away: the damaged file stays beside the mended one. Where a record's text cannot be proven, a line
that says so takes its place and keeps the chain of hashes, so the records after it remain as they were.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lake.errors import ExecutionError
from policy.execution.records.hashlog import GENESIS, LOST, Line, digest, exclusive, parse, read, write_whole, written
from policy.execution.records.journal import CLOSING

SEARCH_BYTES = 65_536  # a damaged stretch beyond this is given up without trying every bit


@dataclass(frozen=True, slots=True)
class Mended:
    """What was done to one file. ``copy`` is the damaged one, None where nothing had to be done."""

    path: Path
    restored: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    copy: Path | None = None

    def words(self) -> str:
        """Return it in one line."""
        if self.copy is None:
            return f"{self.path.name}: sound, nothing was changed"
        parts = [
            f"{what} {', '.join(map(str, numbers))}"
            for what, numbers in (("restored bit for bit: record", self.restored), ("lost: record", self.lost))
            if numbers
        ]
        return f"{self.path.name}: {'; '.join(parts)}; the damaged file is kept as {self.copy.name}"


def repair(
    path: Path,
    reason: str,
    allow: Callable[[Sequence[Line], int], str | None] | None = None,
    noted: tuple[int, str] | None = None,
) -> Mended:
    """Mend the log at ``path`` and return what was done.

    ``noted``: number and hash of the newest record, where they are kept elsewhere too.

    ``allow(lines, first)`` may refuse to give records up (they are marked in ``lines``, from number ``first``): it
    returns why and until when, raised as ExecutionError, and the file stays as it is.
    """
    path = path.resolve()
    if not path.exists() or read(path).fault is None:
        return Mended(path)
    with exclusive(path):
        data = path.read_bytes()
        lines, restored, lost = _mend(data, reason, noted)
        refusal = allow(lines, lost[0]) if allow is not None and lost else None
        if refusal is not None:
            raise ExecutionError(refusal)
        copy = path.with_name(f"{path.name}.damaged-{hashlib.sha256(data).hexdigest()[:12]}")
        write_whole(copy, data)
        write_whole(path, b"".join(written(line) for line in lines))
    return Mended(path, tuple(restored), tuple(lost), copy)


def _mend(data: bytes, reason: str, noted: tuple[int, str] | None) -> tuple[list[Line], list[int], list[int]]:
    """Return the records of the mended file, the numbers of the restored and of the lost ones."""
    *raws, tail = data.split(b"\n")
    cut = tail[:-1].endswith(b"}")  # a whole record whose newline is damaged; any other tail was torn by a kill
    raws += [tail] if cut else []
    lines: list[Line] = []
    restored: list[int] = []
    lost: list[int] = []
    at = 0
    while at < len(raws):
        seq, prev = len(lines), lines[-1].hash if lines else GENESIS
        found = parse(raws[at], seq, prev)
        if isinstance(found, Line):
            lines.append(found)
            at += 1
            continue
        upto, after = _next_sound(raws, at, seq)
        stretch = b"\n".join(raws[at:upto]) + (b"" if cut and upto == len(raws) else b"\n")
        mended = _one_bit(stretch, seq, prev, after)
        if mended is None:
            count = max(1, after.seq - seq) if after is not None else max(1, upto - at)
            mended = _given_up(stretch, (seq, prev, count), _end(after, noted), reason)
            lost += [line.seq for line in mended]
        else:
            restored += [line.seq for line in mended]
        lines += mended
        at = upto
    return lines, restored, lost


def _next_sound(raws: Sequence[bytes], at: int, seq: int) -> tuple[int, Line | None]:
    """Return the place of the next record that is sound in itself and the record; the end and None without one."""
    for place in range(at + 1, len(raws)):
        try:
            data = json.loads(raws[place])
            found = parse(raws[place], int(data["seq"]), str(data["prev"]))
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(found, Line) and not found.lost and found.seq > seq:
            return place, found
    return len(raws), None


def _one_bit(stretch: bytes, seq: int, prev: str, after: Line | None) -> list[Line] | None:
    """Return the records that turning ONE bit of ``stretch`` back gives, where the hashes prove them."""
    if len(stretch) > SEARCH_BYTES:
        return None
    trial = bytearray(stretch)
    one = stretch.count(b"\n") <= 1
    for i in range(len(trial)):
        for bit in range(8):
            was = trial[i]
            trial[i] = was ^ (1 << bit)
            breaks = b"\n"[0] in {was, trial[i]}  # the wrong bit made or unmade the end of a record
            if breaks or (one and _likely(bytes(trial), seq, prev)):
                found = _records(bytes(trial), seq, prev, after)
                if found is not None:
                    return found
            trial[i] = was
    return None


_FORM = re.compile(rb'\{"body":(.*),"hash":"([0-9a-f]{64})","prev":"[0-9a-f]{64}","seq":\d+\}\n', re.DOTALL)


def _likely(raw: bytes, seq: int, prev: str) -> bool:
    """Whether ``raw`` has a record's form and hash: what ``parse`` proves, at a tenth of its time."""
    form = _FORM.fullmatch(raw)
    return form is not None and hashlib.sha256(f"{seq}|{prev}|".encode() + form[1]).hexdigest().encode() == form[2]


def _records(data: bytes, seq: int, prev: str, after: Line | None) -> list[Line] | None:
    """Return the records in ``data`` if all are sound, in place, and lead to ``after``."""
    if not data.endswith(b"\n"):
        return None
    lines: list[Line] = []
    for raw in data[:-1].split(b"\n"):
        found = parse(raw, seq + len(lines), prev)
        if isinstance(found, str) or found.lost:
            return None
        lines.append(found)
        prev = found.hash
    return lines if after is None or (after.seq, after.prev) == (seq + len(lines), prev) else None


def _end(after: Line | None, noted: tuple[int, str] | None) -> tuple[int, str] | None:
    """Return number and hash that the last of the lost records must have, None where nothing tells."""
    return noted if after is None else (after.seq - 1, after.prev)


def _given_up(stretch: bytes, place: tuple[int, str, int], end: tuple[int, str] | None, reason: str) -> list[Line]:
    """Return lines in the stead of lost records; ``place``: first number, hash before it, how many there were."""
    seq, prev, count = place
    body = {"event": LOST, "reason": reason, "raw_sha256": hashlib.sha256(stretch).hexdigest()}
    lines: list[Line] = []
    for number in range(seq, seq + count):
        own = digest(number, prev, body)
        lines.append(Line(number, prev, body, end[1] if end is not None and end[0] == number else own))
        prev = lines[-1].hash
    return lines


def may_give_up(age_s: float, now_s: float, longest_s: int = 3_600) -> Callable[[Sequence[Line], int], str | None]:
    """Return the journal's rule: no record of a plan that may still be on its way is given up.

    ``age_s``: seconds since the file was written last; ``now_s``: the present, unix seconds. A plan is over once the
    next one was begun, or when its deadline (``longest_s`` after the last write where that is lost too) is past.
    """

    def rule(lines: Sequence[Line], first: int) -> str | None:
        last = max(line.seq for line in lines if line.lost)
        if any(line.body["event"] == "planned" for line in lines[last + 1 :]):
            return None
        begun = [line for line in lines[:first] if line.body["event"] == "planned"]
        closed = begun and any(x.body["event"] in CLOSING for x in lines[begun[-1].seq : first])
        wait = longest_s - age_s
        if begun and not closed:
            wait = max(wait, float(begun[-1].body["plan"]["deadline"]) + 900 - now_s)
        if wait <= 0:
            return None
        return (
            f"record {first} is of a plan that may still be on its way; in {wait / 60:.0f} minutes it cannot land any "
            "more: run `foredrift audit repair` again then (nothing was changed)"
        )

    return rule
