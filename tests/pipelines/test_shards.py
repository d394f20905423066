"""Vaults over four keeper processes: each is kept once, and those of a killed process go over to the others."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter

import pytest

from lake.errors import ConfigError
from pipelines.scheduled.claims import Claims, place_of, shard_of
from policy.execution.records.owner import OwnedElsewhere, owner_path

PROCESS = """
import json, sys, time
from pathlib import Path
from pipelines.scheduled.claims import Claims, shard_of
folder, shard, names = Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(",")
with Claims({n: folder / n / "journal" for n in names}, shard_of(shard)) as claims:
    block = 0
    while True:
        block += 1
        for file in claims.owned.values():
            file.refresh(block, {"shard": shard})
        (folder / f"ready-{shard[0]}").touch()
        time.sleep(0.1)
        if len(list(folder.glob("ready-*"))) == 4:
            claims.more()
"""
NAMES = [f"fund-{n}" for n in range(16)]


def keepers(folder) -> dict[str, int]:
    """Return the process that says it keeps each vault."""
    found = {}
    for name in NAMES:
        path = owner_path(folder / name / "journal")
        try:
            found[name] = json.loads(path.read_text())["pid"]
        except (FileNotFoundError, ValueError):
            continue
    return found


def until(folder, good) -> dict[str, int]:
    """Wait for as long as a busy machine needs."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        found = keepers(folder)
        if good(found):
            return found
        time.sleep(0.1)
    raise AssertionError(keepers(folder))


def test_four_processes_keep_each_vault_once_and_take_over_from_a_killed_one(tmp_path):
    command = [sys.executable, "-c", PROCESS, str(tmp_path)]
    running = [subprocess.Popen([*command, f"{i}/4", ",".join(NAMES)]) for i in range(1, 5)]
    try:
        pids = {p.pid: i for i, p in enumerate(running)}
        found = until(tmp_path, lambda k: len(k) == len(NAMES) and set(k.values()) == set(pids))
        assert found == {n: running[place_of(n, 4)].pid for n in NAMES}
        victim = running[0]
        orphans = {n for n, pid in found.items() if pid == victim.pid}
        victim.kill()
        victim.wait()
        after = until(tmp_path, lambda k: victim.pid not in k.values())
        assert {n: pid for n, pid in after.items() if n not in orphans} == {
            n: pid for n, pid in found.items() if n not in orphans
        }
        assert set(Counter(after.values())) <= {p.pid for p in running[1:]}
        for name in NAMES:  # whoever says so also holds it: nobody else can
            with pytest.raises(OwnedElsewhere), Claims({name: tmp_path / name / "journal"}):
                pass
    finally:
        for process in running:
            process.kill()
            process.wait()


def test_a_process_alone_keeps_all_or_says_who_does(tmp_path):
    journals = {n: tmp_path / n / "journal" for n in ("a", "b")}
    with Claims(journals) as claims:
        assert list(claims.owned) == ["a", "b"]
        with pytest.raises(OwnedElsewhere, match="keeper"), Claims(journals):
            pass
        with pytest.raises(OwnedElsewhere, match="start fewer processes"), Claims(journals, (1, 2)):
            pass
    with Claims(journals) as claims:
        assert claims.more() == []


@pytest.mark.parametrize("text", ["0/4", "5/4", "x", "1/", "1/0", "-1/4", "1/4/4"])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="1 <= I <= N"):
        shard_of(text)


def test_shards_are_written_from_one():
    assert shard_of(None) == (0, 1)
    assert shard_of("1/4") == (0, 4)
    assert shard_of("4/4") == (3, 4)
