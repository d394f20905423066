"""The runner of suspects counts, stops at a failure, and leaves no busy loop behind."""

from __future__ import annotations

import psutil

from tests import suspects

SHAKY = """
from pathlib import Path
def test_shaky():
    count = Path(__file__).with_name("count")
    runs = len(count.read_text()) if count.exists() else 0
    count.write_text("x" * (runs + 1))
    assert runs != 1, "the second run fails"
"""


def test_a_suspect_runs_until_it_fails_and_says_how(tmp_path):
    (tmp_path / "test_shaky.py").write_text(SHAKY)
    [found] = suspects.repeat(["test_shaky.py"], 3, root=tmp_path)
    assert (found.runs, found.failures) == (2, 1)
    assert "the second run fails" in found.said
    assert suspects.repeat(["test_shaky.py"], 1, root=tmp_path)[0].failures == 0


def test_busy_loops_end_with_their_block():
    before = set(psutil.Process().children())
    with suspects.busy(wanted=True):
        assert len(set(psutil.Process().children()) - before) == (psutil.cpu_count() or 1)
    assert set(psutil.Process().children()) <= before
    with suspects.busy(wanted=False):
        assert set(psutil.Process().children()) <= before
