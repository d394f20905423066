"""What a decision rests on besides the chain, input by input, and whether each is recent enough.

One number for all would hide a dead series behind a live one: an asset whose bars stopped a week ago is traded at its
last price as long as another's go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from policy.execution.base import Verdict
from policy.execution.checks.verdicts import passed, refused

CLOCKS_APART = timedelta(seconds=120)  # two right clocks may differ by this much; beyond it a time is of the future


@dataclass(frozen=True, slots=True)
class Input:
    """One series a decision uses: ``kind`` (price, gas, pool), its ``name``, and the time ``at`` of its newest value.

    ``max_age`` replaces the common limit. ``bridged``: an old value does not stop the decision but is told (recorded
    gas: the chain itself has a price, or the last known one stands).
    """

    kind: str
    name: str
    at: datetime
    max_age: timedelta | None = None
    bridged: bool = False

    def __str__(self) -> str:
        """Return the input in words."""
        return f"{self.kind} of {self.name}"


def oldest(inputs: Sequence[Input]) -> Input | None:
    """Return the input with the oldest value, None without any."""
    return min(inputs, key=lambda i: i.at, default=None)


def judged(inputs: Sequence[Input], now: datetime, max_age: timedelta) -> list[Verdict]:
    """Return a refusal for every input that is too old or of the future, and what is carried; else the oldest."""
    found: list[Verdict] = []
    for one in sorted(inputs, key=lambda i: i.at):
        age, allowed = now - one.at, one.max_age or max_age
        figures: dict[str, str | float] = {
            "input": str(one),
            "age_s": age.total_seconds(),
            "allowed_s": allowed.total_seconds(),
        }
        when = f"{one.at:%Y-%m-%d %H:%M} UTC"
        if age < -CLOCKS_APART:
            reason = f"{one}: its newest value is of {when}, {-age} after now; correct the clock, or take the rows out"
            found.append(refused("data_future", reason, **figures))
        elif age > allowed and one.bridged:
            reason = f"{one}: nothing since {when}, {age} ago; the last known value stands"
            found.append(passed("data_carried", reason, **figures))
        elif age > allowed:
            reason = f"{one}: nothing since {when}, {age} ago, {allowed} is allowed; foredrift ingest"
            found.append(refused("data_stale", reason, **figures))
    first = oldest([i for i in inputs if not i.bridged])
    if first is not None and all(v.ok for v in found):
        age = now - first.at
        reason = f"oldest input: {first}, {age.total_seconds():.0f} s old"
        found.append(passed("data_fresh", reason, input=str(first), age_s=age.total_seconds()))
    return found


def inputs_json(inputs: Sequence[Input]) -> list[dict[str, Any]]:
    """Return the inputs for the record, oldest first."""
    return [{"kind": i.kind, "name": i.name, "at": i.at.isoformat()} for i in sorted(inputs, key=lambda i: i.at)]
