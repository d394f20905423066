"""Files that are held: one at a time, whatever becomes of the name meanwhile."""

from __future__ import annotations

import pytest

from lake.locks import exclusive


def test_a_file_is_held_by_one_at_a_time(tmp_path):
    path = tmp_path / "lock"
    with exclusive(path), pytest.raises(BlockingIOError), exclusive(path, wait=False):
        pass
    with exclusive(path, wait=False):
        assert path.stat().st_mode & 0o077 == 0


def test_a_file_that_was_replaced_is_taken_anew(tmp_path):
    path = tmp_path / "log"
    with exclusive(path):
        path.rename(tmp_path / "moved")
        with exclusive(path, wait=False):
            assert path.exists()
