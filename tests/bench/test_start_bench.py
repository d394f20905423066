"""What people wait for at the beginning: the help of the command line, and the built-in market."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from lake.sources.sample import HOURS, simulate


def test_help_takes_little_more_than_the_libraries_it_stands_on(pace, tmp_path):
    def start(*command: str) -> float:
        whole = [sys.executable, *command]
        return pace.seconds(lambda: subprocess.run(whole, cwd=tmp_path, capture_output=True, check=True), 5)

    own, stands_on = start("-m", "pipelines.cli", "--help"), start("-c", "import typer, rich.table, rich.panel")
    if pace.timed:
        print(f"\nfirst help {own:.2f} s, the libraries alone {stands_on:.2f} s")
        assert own < 3 * stands_on


def test_eighteen_months_take_less_than_drawing_them_one_by_one(pace):
    hours = pace.pick(HOURS, 200)
    simulate(hours=100)
    rng = np.random.default_rng(1)
    made: list[dict] = []
    own = pace.seconds(lambda: made.append(simulate(hours=hours, seed=11)), 1)
    one_by_one = pace.seconds(lambda: [rng.standard_normal() for _ in range(hours * 6 * 4)], 1)
    assert made[0]["gas"].height == hours
    if pace.timed:
        assert own < 20 * one_by_one
