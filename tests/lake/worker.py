"""A process that has everything imported and forks a child for each job, so that a kill costs no start-up.

Reads one JSON line a job: {"job", "lake", "path", "kill_after_s" or null, "commits"}; answers "done", "killed" or
"failed". The kill comes ``kill_after_s`` after that many further commits, so that it strikes in the middle of the work
however slow the machine is.
Nothing of polars or deltalake may run before the fork: their threads do not survive it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from lake import ingest
from lake.imports import undo
from lake.sources import files
from lake.sources.base import RecordedSource
from lake.store import Lake

T0 = datetime(2022, 1, 1, tzinfo=UTC)
H = timedelta(hours=1)


def do_import(lake: str, path: str) -> None:
    """Import ``path`` into prices in small batches."""
    files.BATCH_ROWS = 900
    files.import_file(Lake(lake), "prices", path)


def do_undo(lake: str, path: str) -> None:
    """Import ``path`` over what is there, in small batches, and take it out again."""
    files.BATCH_ROWS = 900
    report = files.import_file(Lake(lake), "prices", path, constants={"source": "sample"})
    undo(Lake(lake), report.import_id)


def do_ingest(lake: str, path: str) -> None:
    """Collect the same rows as a source, page by page."""
    frame = pl.read_parquet(path).filter(pl.col("asset") == "BTC")
    series = {"source": "sample", "asset": "BTC", "step": 3600}
    hours = frame.height
    source = RecordedSource("recorded", "prices", series, frame, 3600, page=hours // 8)
    ingest.run(Lake(lake), source, T0, T0 + hours * H, now=T0 + hours * H)


def do_write(lake: str, path: str) -> None:
    """Write a quarter of the rows many times over, in a dozen small overlapping batches."""
    frame = pl.read_parquet(path)[:2000]
    for i in range(12):
        Lake(lake).write("prices", frame[i * 150 : i * 150 + 350])


JOBS = {"import": do_import, "ingest": do_ingest, "undo": do_undo, "write": do_write}


def await_commits(child: int, lake: str, commits: int) -> int | None:
    """Wait for so many further commits to prices; returns the child's exit status if it ended before that."""
    log = Path(lake) / "prices" / "_delta_log"
    goal = sum(1 for _ in log.glob("*.json")) + commits
    while sum(1 for _ in log.glob("*.json")) < goal:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.001)
    return None


def serve() -> None:
    """Fork one child for each line of standard input."""
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            JOBS[job["job"]](job["lake"], job["path"])
            os._exit(0)
        status = None
        if job["kill_after_s"] is not None:
            status = await_commits(child, job["lake"], job["commits"])
            time.sleep(job["kill_after_s"])
        if status is None:
            if job["kill_after_s"] is not None:
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print("killed" if killed else "done" if status == 0 else "failed", flush=True)


if __name__ == "__main__":
    serve()
