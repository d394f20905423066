"""How hard a benchmark tries: to measure (`make bench`) or only to run (the suite), so that none of them rots.

The switch is pytest-benchmark's own: the project's options say ``--benchmark-disable``, `make bench` adds
``--benchmark-enable``. Without it a benchmark does its work once on a small case, checks what comes out of it and
asserts nothing about time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """Whether times count (``timed``), and what follows from it."""

    timed: bool

    def pick(self, whole: int, small: int) -> int:
        """Return the size of the case: ``whole`` where times count."""
        return whole if self.timed else small

    def seconds(self, work: Callable[[], object], tries: int, clock: Callable[[], float] = time.perf_counter) -> float:
        """Return the shortest of ``tries`` runs on ``clock``; of one run where times do not count."""
        found = []
        for _ in range(self.pick(tries, 1)):
            began = clock()
            work()
            found.append(clock() - began)
        return min(found)
