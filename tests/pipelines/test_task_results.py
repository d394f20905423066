"""Results of tasks: closed to others, and removed when no run can ask for them any more."""

from __future__ import annotations

import os
import stat

from lake.units import DAY_S
from pipelines.servers.task_results import RESULTS, settle_results

NOW = 1_800_000_000.0


def test_old_results_go_and_the_others_are_closed(tmp_path):
    folder = tmp_path / RESULTS
    folder.mkdir(parents=True)
    for name, age_s in (("new", 60), ("yesterday", DAY_S), ("old", 3 * DAY_S), ("ancient", 400 * DAY_S)):
        file = folder / name
        file.write_text("{}")
        file.chmod(0o666)
        os.utime(file, (NOW - age_s, NOW - age_s))
    beside = tmp_path / "journal.jsonl"
    beside.write_text("{}")
    os.utime(beside, (0, 0))
    assert settle_results(tmp_path, NOW) == 2
    assert sorted(f.name for f in folder.iterdir()) == ["new", "yesterday"]
    assert {stat.S_IMODE(f.stat().st_mode) for f in folder.iterdir()} == {0o600}
    assert beside.exists()
    assert settle_results(tmp_path, NOW) == 0


def test_without_a_scheduler_of_its_own_there_is_nothing_to_do(tmp_path):
    assert settle_results(tmp_path, NOW) == 0
