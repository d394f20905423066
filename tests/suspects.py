"""Suspects run again and again: `make suspects`, or

    python -m tests.suspects [--times 20] [--busy] [--on] [TEST ...]

Every run is a pytest process of its own. ``--busy`` runs them beside a busy loop on every core, as a loaded machine
would. A test that fails once is done, its output is printed (``--on``: it runs on). Exit 0 when nothing failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
SENSITIVE = (
    "tests/execution/test_engine_chain.py",
    "tests/execution/test_audit.py",
    "tests/execution/test_localnet_rules.py",
    "tests/execution/test_localnet_serve.py",
    "tests/lake/test_exchange.py",
    "tests/lake/test_kill.py",
    "tests/policy/test_predictive.py::test_a_decision_solves_its_own_week_only",
    "tests/pipelines/test_ops.py",
    "tests/pipelines/test_watch.py",
    "tests/pipelines/test_localnet_cli.py",
)
"""Tests that start processes, wait for them, or race them: what a busy machine would upset first."""
LOOP = "import os, time\nowner = os.getppid()\nwhile os.getppid() == owner:\n    for _ in range(10**6): pass"


@dataclass
class Tally:
    """How often one suspect was run and how often it failed."""

    test: str
    runs: int = 0
    failures: int = 0
    said: str = ""


@contextmanager
def busy(wanted: bool) -> Iterator[None]:
    """Keep every core busy meanwhile; the loops end with this process, however it ends."""
    loops = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(os.cpu_count() or 1 if wanted else 0)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def repeat(tests: Sequence[str], times: int, *, on: bool = False, root: Path = ROOT) -> list[Tally]:
    """Run each of ``tests`` up to ``times`` times, by turns, until it fails (``on``: all the times)."""
    tallies = [Tally(test) for test in tests]
    for _ in range(times):
        for tally in tallies:
            if tally.failures and not on:
                continue
            command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-q", tally.test]
            done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
            tally.runs += 1
            if done.returncode:
                tally.failures += 1
                tally.said = done.stdout + done.stderr
    return tallies


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.suspects", description="Run tests until they fail.")
    parser.add_argument("tests", nargs="*", default=SENSITIVE, help="pytest ids; without any, those known to be touchy")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--busy", action="store_true", help="beside a busy loop on every core")
    parser.add_argument("--on", action="store_true", help="go on after a failure, to count them")
    given = parser.parse_args(words)
    with busy(given.busy):
        tallies = repeat(given.tests, given.times, on=given.on)
    table = Table("suspect", "runs", "passed", "failed")
    for tally in tallies:
        table.add_row(tally.test, str(tally.runs), str(tally.runs - tally.failures), str(tally.failures))
    for tally in tallies:
        print(tally.said, end="")
    Console().print(table)
    return int(any(t.failures for t in tallies))


if __name__ == "__main__":
    sys.exit(main())
