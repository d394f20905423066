"""The keepers of ``foredrift serve``: started, watched, started again where one ends, and ended with it.

A vault that another keeper owns is left to it and taken up when that one ends. What is kept follows from the owner's
lock alone, which one process can hold; nothing here makes a second keeper of a vault possible.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lake.errors import ConfigError
from pipelines.deployments import Deployment
from pipelines.monitor import served_keepers
from pipelines.monitor.logs import log
from pipelines.scheduled.claims import BLOCK_S
from pipelines.sections import KeepSection
from pipelines.servers.phrase import FILE_VARIABLE, VARIABLE
from pipelines.vault_setup.transfer_fleet import decides_as_one, leader
from policy.execution.records.owner import ownership

CHILD = (sys.executable, "-m", "pipelines.scheduled.kept_child")
_NOT_ITS_OWN = ("PREFECT_", "NOTIFY_SOCKET", "WATCHDOG_")  # the scheduler's password, and serve's own watchdog


@dataclass(frozen=True, slots=True)
class Restarts:
    """How often is looked, and how a keeper that ends is started again: ``most`` times in ``window_s``, seconds apart
    doubling from ``first_s``; ``grace_s`` is how long one may take to end.
    """

    look_s: float = 1.0
    say_s: float = 5.0
    first_s: float = 1.0
    most: int = 5
    window_s: float = 3_600.0
    grace_s: float = 30.0


@dataclass(frozen=True, slots=True)
class KeptGroup:
    """Vaults that one process keeps: ``journals`` by name, on one chain (or on paper), all of them live or none."""

    journals: Mapping[str, Path]
    live: bool


def groups(vaults: Sequence[Deployment], section: KeepSection) -> list[KeptGroup]:
    """Return the vaults by the process that keeps them, of a portfolio its first; ConfigError where one has no node."""
    found: dict[tuple[bool, int, bool, bool], dict[str, Path]] = {}
    for d in vaults:
        if leader(vaults, d) is not d:
            continue
        paper = d.vault.kind == "simulated"
        if not (section.http or d.chain.rpc_urls):
            raise ConfigError(f"[keep] serve: {d.name} has no node to follow; set [keep] http or [chain] rpc_urls")
        key = paper, 0 if paper else d.chain.id, d.live and not paper, decides_as_one(d)
        found.setdefault(key, {})[d.name] = d.journal
    return [KeptGroup(journals, live) for (_, _, live, _), journals in found.items()]


def environment(given: Mapping[str, str], *, live: bool) -> dict[str, str]:
    """Return what a keeper's process is told: ``given`` without what is not its own; no passphrase unless it signs."""
    kept = {name: value for name, value in given.items() if not name.startswith(_NOT_ITS_OWN)}
    for name in (VARIABLE, *(() if live else (FILE_VARIABLE,))):
        kept.pop(name, None)
    return kept


@dataclass(slots=True)
class KeeperProcess:
    """One group's keeper. ``ends``: when it ended unasked within the window; ``again_s``: not started before."""

    group: KeptGroup
    command: Sequence[str] = CHILD
    pace: Restarts = field(default_factory=Restarts)
    process: subprocess.Popen[bytes] | None = None
    names: tuple[str, ...] = ()
    ends: deque[float] = field(default_factory=deque)
    again_s: float = 0.0
    why: str = "not started yet"

    def look(self, now_s: float) -> None:
        """Start the keeper of every vault that nobody else keeps, or again where it ended; ``now_s`` is monotonic."""
        while self.ends and self.ends[0] <= now_s - self.pace.window_s:
            self.ends.popleft()
        if self.process is not None and self.process.poll() is not None:
            self._ended(f"ended with code {self.process.returncode}", now_s)
        owners = {n: ownership(j, BLOCK_S) for n, j in self.group.journals.items() if n not in self.names}
        free = tuple(n for n in self.group.journals if n in self.names or not owners[n].held)
        if self.process is not None:
            if free == self.names:
                return
            self.end()  # a vault that another keeper had is free: one process keeps it with the others
        if now_s < self.again_s:
            return
        if not free:
            self.why = "; ".join(f"{n}: {o.words()}" for n, o in owners.items()) + "; it is left to that one"
            return
        self._start(free, now_s)

    def end(self) -> None:
        """End the process between two blocks, by force where it takes longer than the grace."""
        if self.process is None:
            return
        process, self.process, self.names, self.why = self.process, None, (), "ended"
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(self.pace.grace_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdin is not None:
            process.stdin.close()

    def row(self) -> dict[str, Any]:
        """Return what is told of it."""
        return {
            "vaults": list(self.names or self.group.journals), "live": self.group.live,
            "state": "waiting" if self.process is None else "running",
            "pid": None if self.process is None else self.process.pid, "restarts": len(self.ends), "why": self.why,
        }  # fmt: skip

    def _start(self, names: tuple[str, ...], now_s: float) -> None:
        try:
            self.process = subprocess.Popen(
                [*self.command, *names], env=environment(os.environ, live=self.group.live), stdin=subprocess.PIPE,
                stdout=2, start_new_session=True,  # Ctrl-C is for serve, which then ends the keeper
            )  # fmt: skip
        except OSError as error:
            self._ended(f"could not be started ({error})", now_s)
            return
        self.names = names
        left = [n for n in self.group.journals if n not in names]
        self.why = f"started; left to another keeper: {', '.join(left)}" if left else "started"
        log("keeper", pid=self.process.pid, vaults=", ".join(names), live=self.group.live)

    def _ended(self, how: str, now_s: float) -> None:
        self.end()
        self.ends.append(now_s)
        if len(self.ends) > self.pace.most:
            self.again_s = self.ends[0] + self.pace.window_s
            wait = self.again_s - now_s
            self.why = f"{how}, {len(self.ends)} times of late; started again in {wait:.0f} s, see the log before that"
        else:
            wait = self.pace.first_s * 2.0 ** (len(self.ends) - 1)
            self.again_s, self.why = now_s + wait, f"{how}; started again in {wait:g} s"
        log("keeper", vaults=", ".join(self.group.journals), ended=self.why)


@contextmanager
def keepers(
    found: Sequence[KeptGroup], folder: Path, command: Sequence[str] = CHILD, pace: Restarts | None = None
) -> Iterator[None]:
    """Keep ``found`` while the block lasts, telling what becomes of it in a file of ``folder``."""
    if not found:
        yield
        return
    pace, stop, path = pace or Restarts(), threading.Event(), folder / served_keepers.FILE
    watched = [KeeperProcess(group, command, pace) for group in found]
    thread = threading.Thread(target=_watch, args=(watched, path, pace, stop), name="keepers")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        path.unlink(missing_ok=True)


def _watch(watched: Sequence[KeeperProcess], path: Path, pace: Restarts, stop: threading.Event) -> None:
    said, before = -pace.say_s, list[dict[str, Any]]()
    try:
        while not stop.is_set():
            now = time.monotonic()
            try:
                for one in watched:
                    one.look(now)
                rows = [one.row() for one in watched]
                if rows != before or now >= said + pace.say_s:
                    served_keepers.write(path, rows)
                    said, before = now, rows
            except OSError as error:  # a full disk ends no keeper
                log("keeper", error=str(error))
            stop.wait(pace.look_s)
    finally:
        for one in watched:
            one.end()
