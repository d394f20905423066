"""A newcomer's first changes, from CONTRIBUTING: each works in a clean copy and touches two files at most."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.first_changes import apply, copy_tree, worked_changes

CHANGES = worked_changes()


def test_contributing_works_four_changes_out() -> None:
    assert list(CHANGES) == ["A policy", "A venue", "A feature", "A source"]


@pytest.mark.slow
@pytest.mark.parametrize("what", list(CHANGES))
def test_a_first_change_works_and_touches_two_files_and_its_test(what: str, tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree", tests=True)
    touched = apply(CHANGES[what], tree)
    tests = [t for t in touched if Path(t).name.startswith("test_")]
    assert len(tests) == 1
    assert len(touched) - 1 <= 2, touched
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST", "FOREDRIFT"))}
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", tests[0]]
    done = subprocess.run(command, cwd=tree, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout or "[100%]" in done.stdout
