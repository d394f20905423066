"""The loop of ``foredrift keep``: heads in, looks and decision cycles out, until a signal, a count or the end.

Looks run on the newest head only; what arrived meanwhile was seen by the follower and needs no decision of its own. A
signal ends the loop between two blocks: a cycle that has begun is carried to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lake.heads import Extended, Jumped, Reorged, Stale
from pipelines.scheduled.sd_notify import notify
from policy.keeping.desk import SeenBlock
from policy.keeping.keeper import Act, Keeper
from policy.keeping.last_figures import LastFigures

IDLE_S = 5.0  # a sign of life for the watchdog although no block came
KEPT_ACTS = 200
HeadEvent = Extended | Reorged | Jumped | Stale
Shown = Callable[[SeenBlock, Sequence[Act]], None]


@dataclass(slots=True)
class Mail:
    """The newest head, how far what was seen before it was undone, and when it arrived: a mailbox of one."""

    head: SeenBlock | None = None
    ancestor: int | None = None
    arrived: float = 0.0
    seen: int = 0
    bell: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, event: HeadEvent) -> None:
        """Take an event of the follower; one that only says that nothing came is no mail."""
        if isinstance(event, Stale):
            return
        if isinstance(event, Reorged):
            self._undo(event.ancestor.number)
            self.head, self.seen = event.applied[-1], self.seen + len(event.applied)
        elif isinstance(event, Jumped):
            self._undo(-1)
            self.head, self.seen = event.head, self.seen + 1
        else:
            self.head, self.seen = event.head, self.seen + 1
        self.arrived = time.perf_counter()
        self.bell.set()

    def _undo(self, ancestor: int) -> None:
        self.ancestor = ancestor if self.ancestor is None else min(self.ancestor, ancestor)

    def take(self) -> tuple[SeenBlock, int | None, float]:
        """Return the newest head, the block above which everything before it was undone, and its arrival."""
        assert self.head is not None
        found = self.head, self.ancestor, self.arrived
        self.ancestor = None
        self.bell.clear()
        return found


@dataclass(slots=True)
class KeepRun:
    """What a keeper did: cycles, and the seconds from a head's arrival to the end of its look or cycle."""

    acts: deque[Act] = field(default_factory=lambda: deque(maxlen=KEPT_ACTS))
    outcomes: Counter[str] = field(default_factory=Counter)
    looked_s: LastFigures = field(default_factory=LastFigures)
    acted_s: LastFigures = field(default_factory=LastFigures)
    blocks: int = 0
    rss_mb: LastFigures = field(default_factory=LastFigures)

    @property
    def cycles(self) -> int:
        """Decision cycles that were run."""
        return self.outcomes.total()

    def took(self, acts: Sequence[Act], arrived: float) -> None:
        """Book a block."""
        self.blocks += 1
        self.acts.extend(acts)
        self.outcomes.update(a.report.recovered or a.report.outcome for a in acts)
        (self.acted_s if acts else self.looked_s).append(time.perf_counter() - arrived)
        self.rss_mb.append(rss_mb())

    def json(self) -> dict[str, Any]:
        """Return counts, outcomes by kind, latencies in ms and the growth of memory over the run's second half, MB."""
        return {
            "blocks": self.blocks, "cycles": self.cycles, "outcomes": dict(self.outcomes),
            "latency": {
                **percentiles("decision", self.looked_s.values()), **percentiles("cycle", self.acted_s.values())
            },
            "rss_mb": round(rss_mb(), 1), "rss_slope_mb": slope(self.rss_mb.values()),
            "acts": [
                {"vault": a.vault, "block": a.block, "triggers": list(a.triggers), "outcome": a.report.outcome,
                 "decision_id": a.report.decision_id, "why": a.report.why, "seconds": round(a.seconds, 4)}
                for a in self.acts
            ],
        }  # fmt: skip


def percentiles(name: str, seconds: npt.NDArray[np.float64]) -> dict[str, float | None]:
    """Return ``NAME_p50_ms`` and ``NAME_p99_ms``, None without a measurement."""
    if not seconds.size:
        return {f"{name}_p50_ms": None, f"{name}_p99_ms": None}
    low, high = np.percentile(seconds, [50, 99]) * 1e3
    return {f"{name}_p50_ms": round(float(low), 3), f"{name}_p99_ms": round(float(high), 3)}


def rss_mb() -> float:
    """Return this process's resident memory, MB; the most it ever had where the system does not tell the present."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def slope(rss: npt.NDArray[np.float64]) -> float | None:
    """Return the growth of memory over the second half of a run, MB, by least squares; None for a short one."""
    if len(rss) < 100:
        return None
    half = rss[len(rss) // 2 :]
    return round(float(np.polyfit(np.arange(half.size) / half.size, half, 1)[0]), 3)


async def keep(
    keeper: Keeper,
    events: AsyncIterator[HeadEvent],
    *,
    blocks: int | None = None,
    refusal: Callable[[], str | None] = lambda: None,
    shown: Shown | None = None,
    run: KeepRun | None = None,
    regroup: Callable[[SeenBlock], Keeper | None] | None = None,
) -> KeepRun:
    """Keep vaults on ``events`` until they end, ``blocks`` were looked at, or SIGTERM or Ctrl-C; return what was done.

    ``refusal``: why nothing may be sent just now, in words; ``shown`` is called after each block; ``run`` is
    filled as it goes; ``regroup`` may return another keeper for the blocks that follow.
    """
    mail, run, stop = Mail(), run or KeepRun(), asyncio.Event()
    pump = asyncio.create_task(_pump(events, mail, stop))
    try:
        with _signals(stop):
            while not stop.is_set():
                await _either(mail.bell, stop)
                notify("WATCHDOG=1")
                if not mail.bell.is_set():
                    continue
                head, ancestor, arrived = mail.take()
                if ancestor is not None:
                    keeper.undo(ancestor)
                acts = await asyncio.to_thread(keeper.on_block, head, quiet=refusal() or "")
                run.took(acts, arrived)
                if run.blocks == 1:
                    notify("READY=1")
                if shown is not None:
                    shown(head, acts)
                if regroup is not None:
                    other: Keeper | None = await asyncio.to_thread(lambda: regroup(head))  # noqa: B023
                    keeper = other or keeper
                if blocks is not None and run.blocks >= blocks:
                    break
    finally:
        notify("STOPPING=1")
        pump.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await pump
    return run


async def _either(bell: asyncio.Event, stop: asyncio.Event) -> None:
    """Wait for mail or the end, IDLE_S at most."""
    waits = [asyncio.create_task(e.wait()) for e in (bell, stop)]
    await asyncio.wait(waits, timeout=IDLE_S, return_when=asyncio.FIRST_COMPLETED)
    for task in waits:
        task.cancel()


async def _pump(events: AsyncIterator[HeadEvent], mail: Mail, stop: asyncio.Event) -> None:
    """Put every event into the mailbox; where they end, the keeper does."""
    try:
        async for event in events:
            mail.put(event)
    finally:
        stop.set()


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C end the loop between two blocks, where this thread may say so."""
    loop = asyncio.get_running_loop()
    taken = []
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, stop.set)
            taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)


def replay(keeper: Keeper, heads: Iterable[SeenBlock], pace_s: float = 0.0, shown: Shown | None = None) -> KeepRun:
    """Keep vaults on recorded ``heads``, one after another, ``pace_s`` seconds apart at least; return what was done."""
    run = KeepRun()
    for head in heads:
        arrived = time.perf_counter()
        acts = keeper.on_block(head)
        run.took(acts, arrived)
        if shown is not None:
            shown(head, acts)
        time.sleep(max(pace_s - (time.perf_counter() - arrived), 0.0))
    return run
