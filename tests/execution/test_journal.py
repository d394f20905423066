"""The journal: order of events, one plan in flight, torn at any byte, never lying about damage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from lake.errors import ExecutionError
from policy.execution.base import Hop, Leg, Plan
from policy.execution.records.codec import leg_json, leg_of, plan_json, plan_of
from policy.execution.records.hashlog import HashLog, read
from policy.execution.records.journal import Attempt, Journal, VaultBusy

LEG = Leg("0xa", "0xb", 10**24, 2**200, 2**201, (Hop("uniswap_v3", "0xp", "0xa", "0xb", 500),), "0xr", b"\x01\x02")
PLAN = Plan("d1", "0xv", 1, 7, 1_700_000_000, 10**30, (LEG,), b"\xff" * 32, 100, "0xh")


def attempt(n: int = 0, kind: str = "plan") -> Attempt:
    return Attempt(kind, f"0x{n:064x}", b"signed-bytes", 3, 500_000, 10**11 + n, 10**9, "public", 100 + n)


def filled(path) -> Journal:
    journal = Journal(path)
    with journal.lease():
        journal.plan(PLAN, benefit_usd=12.5, forced=False)
        journal.signed(attempt(1))
        journal.sent(attempt(1).tx_hash, "ok")
        journal.signed(attempt(2))
        journal.sent(attempt(2).tx_hash, "no answer")
        journal.mined(attempt(2).tx_hash, 105, "0xblock", 1)
        journal.close("landed", "in block 105")
    return journal


def test_records_survive_the_round_trip():
    assert leg_of(json.loads(json.dumps(leg_json(LEG)))) == LEG
    assert plan_of(json.loads(json.dumps(plan_json(PLAN)))) == PLAN


def test_a_new_reader_sees_what_was_written(tmp_path):
    filled(tmp_path / "j")
    (flight,) = Journal(tmp_path / "j").flights()
    assert flight.plan == PLAN
    assert flight.state == "landed"
    assert not flight.open
    assert flight.hashes() == (attempt(1).tx_hash, attempt(2).tx_hash)
    assert flight.attempts[1].raw == b"signed-bytes"
    assert all(a.sent for a in flight.attempts)
    assert flight.context["benefit_usd"] == 12.5
    assert flight.mined == (attempt(2).tx_hash, 105, "0xblock", 1)


def test_one_plan_in_flight(tmp_path):
    journal = Journal(tmp_path / "j")
    with journal.lease():
        journal.plan(PLAN)
        with pytest.raises(ExecutionError, match="in flight already"):
            journal.plan(replace(PLAN, decision_id="d2"))


@pytest.mark.parametrize(
    "steps",
    [
        lambda j: j.signed(attempt()),
        lambda j: (j.plan(PLAN), j.sent("0x1", "ok")),
        lambda j: (j.plan(PLAN), j.close("landed", "")),
        lambda j: (j.plan(PLAN), j.signed(attempt()), j.sent("0x", ""), j.close("landed", "")),
        lambda j: (j.plan(PLAN), j.close("void", ""), j.signed(attempt())),
        lambda j: (j.plan(PLAN), j.close("done", "")),
    ],
)
def test_events_out_of_order_never_reach_the_disk(tmp_path, steps):
    journal = Journal(tmp_path / "j")
    with journal.lease(), pytest.raises(ExecutionError):
        steps(journal)
    for state in [f.state for f in Journal(tmp_path / "j").flights()]:
        assert state in {"planned", "sent", "void"}


def test_writing_needs_the_lease_and_only_one_holds_it(tmp_path):
    journal, other = Journal(tmp_path / "j"), Journal(tmp_path / "j")
    with pytest.raises(ExecutionError, match="lease"):
        journal.plan(PLAN)
    with journal.lease():
        with pytest.raises(VaultBusy), other.lease():
            pass
        journal.plan(PLAN)
    with other.lease():
        assert other.in_flight().plan == PLAN


def test_the_lease_ends_with_its_process(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from policy.execution.records.journal import Journal\n"
        "j = Journal(Path(sys.argv[1]))\n"
        "with j.lease():\n    os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "j")], check=False)
    assert done.returncode == 9
    with Journal(tmp_path / "j").lease():
        pass


def test_torn_at_any_byte_the_records_before_survive_and_writing_goes_on(tmp_path):
    filled(tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    whole = read(tmp_path / "whole").lines
    ends = [i + 1 for i, b in enumerate(data) if b == 10]
    path = tmp_path / "torn"
    near = {e + d for e in (0, *ends) for d in range(-40, 41)}  # around every end, and all along the lines
    for cut in sorted({c for c in near if 0 <= c < len(data)} | set(range(0, len(data), 13))):
        path.write_bytes(data[:cut])
        reading = read(path)
        complete = sum(e <= cut for e in ends)
        assert reading.lines == whole[:complete]
        assert reading.fault is None
        assert reading.torn == (cut != 0 and cut not in ends)
    for cut in (0, ends[0], ends[0] + 1, ends[3] - 1, len(data) - 2):
        path.write_bytes(data[:cut])
        log = HashLog(path)
        log.append({"event": "after"})
        assert [line.body["event"] for line in log.lines()][-1] == "after"
        assert len(log.lines()) == sum(e <= cut for e in ends) + 1


def test_damage_that_no_kill_leaves_is_refused_by_reader_and_writer(tmp_path):
    filled(tmp_path / "j")
    data = bytearray((tmp_path / "j").read_bytes())
    data[60] ^= 1
    (tmp_path / "j").write_bytes(data)
    with pytest.raises(ExecutionError, match="record 0"):
        Journal(tmp_path / "j").flights()
    with pytest.raises(ExecutionError, match="record 0"):
        HashLog(tmp_path / "j").append({"event": "x"})
    assert (tmp_path / "j").read_bytes() == bytes(data)


def test_every_record_is_on_the_disk_before_append_returns(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    sync = "policy.execution.records.hashlog.os.fsync"
    monkeypatch.setattr(sync, lambda fd: synced.append(os.fstat(fd).st_size) or real(fd))
    log = HashLog(tmp_path / "log")
    for i in range(3):
        log.append({"event": str(i)})
        assert len(synced) == i + 1
        assert synced[-1] == (tmp_path / "log").stat().st_size


def test_no_key_and_no_bytes_in_what_is_printed():
    assert "signed-bytes" not in repr(attempt())
