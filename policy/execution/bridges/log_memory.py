"""Logs of long stretches, remembered between looks: each look reads the newest blocks, and the rest only once.

What is remembered ends AGAIN blocks before the block asked for and hangs on that block's hash: where the chain no
longer has it, the memory goes back to an older mark, or begins anew. So the answer is always that of a full scan.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lake.errors import RpcError
from lake.evm import head_of
from lake.rpc import Rpc
from policy.execution.bridges.events import logs_between
from policy.execution.records.hashlog import write_whole
from policy.execution.submission.node import JsonNode

AGAIN = 64
"""Newest blocks that are read again at every look: two epochs of Ethereum, and more than a node lags behind others."""
MARKS = 8
TRIES = 3
VERSION = 1
_Entry = dict[str, list[Any]]


class LogMemory:
    """What scans from a chain's first block have found; kept in ``path`` where there is one, else in memory."""

    def __init__(self, path: Path | None = None, again: int = AGAIN) -> None:
        self.path = path
        self.again = again
        self._scans: dict[str, _Entry] = {}
        self._times: dict[str, int] = {}
        self._load()

    def logs(self, rpc: Rpc, emitter: str, topics: Sequence[str | None], last: int) -> list[dict[str, Any]]:
        """Return what ``logs_between(rpc, emitter, topics, 0, last)`` does; RpcError where the chain moves meanwhile.

        Nothing is remembered of a look during which block ``last`` changed.
        """
        key = json.dumps([emitter.lower(), *topics])
        for _ in range(TRIES):
            before = _hash(rpc, last)
            entry = self._standing(rpc, key)
            begin = entry["marks"][-1][0] + 1 if entry["marks"] else 0
            fresh = logs_between(rpc, emitter, topics, begin, last)
            settled = last - self.again
            mark = [settled, _hash(rpc, settled)] if settled >= begin else None
            if before is None or _hash(rpc, last) != before or (mark is not None and mark[1] is None):
                continue
            found = [log for log in entry["logs"] if log["blockNumber"] <= last] + fresh
            if mark is not None:
                self._scans[key] = {
                    "marks": [*entry["marks"], mark][-MARKS:],
                    "logs": entry["logs"] + [log for log in fresh if log["blockNumber"] <= settled],
                }
                self._save()
            return found
        raise RpcError(f"block {last} changed while the logs up to it were read; look again")

    def time_of(self, rpc: Rpc, block_hash: str) -> int:
        """Return the time of a block, Unix seconds; of a block that is known by its hash it never changes."""
        if block_hash not in self._times:
            self._times[block_hash] = head_of(rpc, block_hash, fees=False).time
        return self._times[block_hash]

    def forget(self) -> None:
        """Begin anew: the next look reads everything."""
        self._scans.clear()
        self._times.clear()
        self._save()

    @property
    def remembers(self) -> bool:
        """Whether anything is remembered."""
        return bool(self._scans)

    def _standing(self, rpc: Rpc, key: str) -> _Entry:
        """Return what is remembered of a scan and the chain still has."""
        entry = self._scans.get(key, {"marks": [], "logs": []})
        marks = list(entry["marks"])
        while marks and _hash(rpc, marks[-1][0]) != marks[-1][1]:
            marks.pop()
        if len(marks) == len(entry["marks"]):
            return entry
        last = marks[-1][0] if marks else -1
        self._scans[key] = {"marks": marks, "logs": [log for log in entry["logs"] if log["blockNumber"] <= last]}
        return self._scans[key]

    def _load(self) -> None:
        """Take what the file has; one that is torn or of another version is a scan that begins anew."""
        if self.path is None or not self.path.exists():
            return
        try:
            body = json.loads(self.path.read_text())
            if body["version"] == VERSION:
                self._scans = {str(k): {"marks": v["marks"], "logs": v["logs"]} for k, v in body["scans"].items()}
                self._times = {str(k): int(v) for k, v in body["times"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            self._scans, self._times = {}, {}

    def _save(self) -> None:
        """Keep it where the folder is there already; what cannot be kept is read again by the next look."""
        if self.path is not None and self.path.parent.is_dir():
            body = {"version": VERSION, "scans": self._scans, "times": self._times}
            with suppress(OSError):
                write_whole(self.path, json.dumps(body).encode())


def _hash(rpc: Rpc, number: int) -> str | None:
    return JsonNode(rpc).block_hash(number)
