"""Binding the audit record to the chain: the hash of its newest record travels in the next plan's hash.

A request for it is a record of its own. The next plan carries the 32 bytes behind the data of its last swap, where no
router looks: they are part of what the plan's hash is taken over, and so of the vault's own event. Whoever rewrites
what was recorded before then would need another plan hash, which the chain does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from policy.execution.base import Leg
from policy.execution.records.audit import Audit
from policy.execution.records.hashlog import Line
from policy.execution.records.journal import EXECUTED

ANCHOR = "anchor"
SIZE = 32
MOST_DATA = 512
"""Bytes of a leg's call that the reference vault takes."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """One request, and what became of it.

    ``seq``: of the request's record; ``of``: of the record whose hash ``head`` is. ``plan_hash`` is that of the
    executed plan that carried it, empty as long as none did. ``true``: the record still has that hash.
    """

    seq: int
    of: int
    head: str
    plan_hash: str
    true: bool


def ask(audit: Audit, at: datetime) -> Line | None:
    """Record that the head goes into the next plan; None, and nothing is written, where just that is asked already."""
    lines = audit.records()
    if not lines or lines[-1].body.get("event") == ANCHOR:
        return None
    newest = lines[-1]
    return audit.append(ANCHOR, {"ts": at.isoformat(), "of": newest.seq, "head": newest.hash})


def anchors(lines: Sequence[Line]) -> list[Anchor]:
    """Return every request with the first executed plan after it that carried its head."""
    executed = {b["plan_hash"] for b in (x.body for x in lines)
                if b.get("event") == "settlement" and b["outcome"] in EXECUTED}  # fmt: skip
    tails = [(x.seq, str(x.body["plan_hash"]), _tail(x.body)) for x in lines if _planned(x)]
    found = []
    for line in (x for x in lines if x.body.get("event") == ANCHOR):
        of, head = int(line.body["of"]), str(line.body["head"])
        bound = (name for seq, name, tail in tails if seq > line.seq and tail == head and name in executed)
        true = 0 <= of < line.seq and lines[of].hash == head
        found.append(Anchor(line.seq, of, head, next(bound, ""), true))
    return found


def due(lines: Sequence[Line]) -> bytes:
    """Return the head that the next plan is to carry, empty where none is asked for or the last one is on the chain."""
    newest = next((x.seq for x in reversed(lines) if x.body.get("event") == ANCHOR), None)
    if newest is None:
        return b""
    last = anchors(lines)[-1]
    return b"" if last.plan_hash else bytes.fromhex(last.head)


def carrying(legs: Sequence[Leg], head: bytes) -> tuple[Leg, ...]:
    """Return ``legs`` with ``head`` behind the data of the last one; as they are where there is no room for it."""
    if not head or not legs or len(legs[-1].calldata) + SIZE > MOST_DATA:
        return tuple(legs)
    return (*legs[:-1], replace(legs[-1], calldata=legs[-1].calldata + head))


def _planned(line: Line) -> bool:
    body: Any = line.body
    return body.get("event") == "decision" and body["live"] and bool(body["plan"]) and bool(body["plan"]["legs"])


def _tail(body: Any) -> str:
    return str(body["plan"]["legs"][-1]["calldata"])[-2 * SIZE :]
