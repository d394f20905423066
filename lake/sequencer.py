"""The one judge of an L2's uptime feed, for guards, the oracle's arithmetic and whoever reads the feed.

Chainlink's answer is 0 while the sequencer is up and 1 while it is down; ``startedAt`` is when that last changed. A
feed that was never set up answers 0 with ``startedAt`` 0, which proves nothing and counts as down.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Uptime(StrEnum):
    """What an uptime feed says about trading now."""

    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"  # no answer, never started, or started in the future
    GRACE = "grace"  # back, for no longer than the grace time


@dataclass(frozen=True, slots=True)
class Sequencer:
    """The judgement and why, in words; ``uptime`` UP is the only one to trade on."""

    uptime: Uptime
    words: str


def judge(answer: int | None, started_at: int, now: int, grace_s: int) -> Sequencer:
    """Return what the feed's newest round means at block time ``now``; ``answer`` None: the feed does not answer.

    Times are Unix seconds. The sequencer must have been up for MORE than ``grace_s``, as the contract requires.
    """
    if answer is None:
        return Sequencer(Uptime.UNKNOWN, "the sequencer's uptime feed does not answer")
    if answer != 0:
        return Sequencer(Uptime.DOWN, f"the sequencer has been down since {started_at} (the feed answers {answer})")
    if started_at == 0:
        return Sequencer(Uptime.UNKNOWN, "the sequencer's uptime feed has never started (startedAt is 0)")
    up_s = now - started_at
    if up_s < 0:
        return Sequencer(Uptime.UNKNOWN, f"the sequencer's uptime feed starts at {started_at}, the block is at {now}")
    if up_s <= grace_s:
        return Sequencer(Uptime.GRACE, f"the sequencer is back for {up_s} s, more than {grace_s} s are required")
    return Sequencer(Uptime.UP, f"up for {up_s} s")
