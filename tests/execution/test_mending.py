"""Damage on the disk: one wrong bit is put right by proof, the rest is given up by name, a plan on its way never."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from lake.errors import ExecutionError
from policy.execution.engine import dry, step
from policy.execution.records.audit import Audit, head_path, noted, verify
from policy.execution.records.hashlog import Damaged, HashLog, read
from policy.execution.records.journal import Journal
from policy.execution.records.mending import may_give_up, repair
from tests.execution.brick_matrix import Bench, Killed, chain, context, stopper

NEVER = may_give_up(age_s=10**9, now_s=10**12)


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """What was written is in the page cache; test_journal checks that it is synced."""
    monkeypatch.setattr("policy.execution.records.hashlog.os.fsync", lambda fd: None)


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """A journal of three landed plans, and its audit."""
    bench = Bench(tmp_path_factory.mktemp("lived"), chain())
    for _ in range(3):
        assert bench.step().outcome == "traded"
        bench.drift()
    files = {name: (bench.folder / name).read_bytes() for name in ("journal.jsonl", "audit.jsonl", "audit.jsonl.head")}
    return bench.sim, files


def put(folder, files) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)


def test_any_single_wrong_bit_is_put_right_byte_for_byte(tmp_path, lived):
    _, files = lived
    rng = random.Random(5)
    for name in ("journal.jsonl", "audit.jsonl"):
        whole = files[name]
        ends = [i for i, b in enumerate(whole) if b == 10]
        for at in [*rng.sample(range(len(whole)), 3), ends[1], ends[-1], 0, 9, len(whole) - 2]:
            put(tmp_path, files)
            data = bytearray(whole)
            data[at] ^= 1 << rng.randrange(8)
            path = tmp_path / name
            path.write_bytes(data)
            assert read(path).fault is not None
            with pytest.raises(Damaged, match="audit repair"):
                HashLog(path).lines()
            done = repair(path, "test", may_give_up(0.0, 0.0))  # needs no leave: nothing is given up
            assert path.read_bytes() == whole, (name, at)
            assert done.restored
            assert not done.lost
            assert done.copy.read_bytes() == bytes(data)
            done.copy.unlink()
    assert verify(tmp_path / "audit.jsonl").ok


@pytest.mark.parametrize("record", range(6))
def test_records_that_cannot_be_proven_are_named_and_the_chain_goes_on(tmp_path, lived, record):
    _, files = lived
    put(tmp_path, files)
    path = tmp_path / "audit.jsonl"
    rows = files["audit.jsonl"].splitlines(keepends=True)
    rows[record] = b'{"scribbled": ' + b"x" * 50 + b"}\n"
    path.write_bytes(b"".join(rows))
    assert not verify(path).ok
    done = repair(path, "a bad sector", noted=noted(head_path(path)))
    assert done.lost == (record,)
    assert "kept as" in done.words()
    report = verify(path)
    assert report.ok
    assert report.records == len(rows)
    assert (
        report.head == json.loads(files["audit.jsonl"].splitlines()[-1])["hash"]
    )  # the hash kept elsewhere still holds
    assert report.notes == (f"record {record} is lost: a bad sector",)
    kept = [line for i, line in enumerate(path.read_bytes().splitlines(keepends=True)) if i != record]
    assert kept == rows[:record] + rows[record + 1 :]
    Audit(path).append("note", {"ts": "x"})
    assert verify(path).ok
    assert repair(path, "again").copy is None


@pytest.mark.parametrize("first", range(0, 15, 2))
@pytest.mark.parametrize("n", [1, 4])
def test_a_journal_with_lost_records_trades_on_once_they_cannot_matter(tmp_path, lived, first, n):
    sim, files = lived
    put(tmp_path, files)
    path = tmp_path / "journal.jsonl"
    rows = files["journal.jsonl"].splitlines(keepends=True)
    rows[first : first + n] = [b"\0" * 700 + b"\n" for _ in rows[first : first + n]]
    path.write_bytes(b"".join(rows))
    for ctx in (context(tmp_path, sim), dry(context(tmp_path, sim))):
        report = step(ctx)
        assert report.outcome == "refused"
        assert "audit repair" in report.why
    done = repair(path, "a bad sector", NEVER)
    assert done.lost == tuple(range(first, first + len(rows[first : first + n])))
    flights = Journal(path).flights()
    assert sum(f.state == "landed" for f in flights) >= 1
    assert all(not f.open for f in flights)
    bench = Bench(tmp_path, sim)
    start = list(sim.blocks)
    before = sim.world.clock.nonce
    assert bench.step().outcome == "traded"
    assert sim.world.clock.nonce == before + 1
    sim.blocks[:] = start


@pytest.mark.parametrize("stage", ["journal", "journal_signed", "journal_sent", "journal_mined", "audit_settled"])
def test_no_record_of_a_plan_on_its_way_is_given_up_before_its_deadline(tmp_path, stage):
    sim = chain()
    with pytest.raises(Killed):
        step(context(tmp_path, sim, checkpoint=stopper(stage)))
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    plan = Journal(path).last().plan
    rows = whole.splitlines(keepends=True)
    for record in range(len(rows)):
        spoiled = b"".join([*rows[:record], b"spoiled {}\n", *rows[record + 1 :]])
        path.write_bytes(spoiled)
        for now in (plan.deadline - 600, plan.deadline):
            with pytest.raises(ExecutionError, match=r"still be on its way.*minutes"):
                repair(path, "test", may_give_up(age_s=60, now_s=now))
        assert path.read_bytes() == spoiled
        done = repair(path, "test", may_give_up(age_s=4_000, now_s=plan.deadline + 4_000))
        assert record in done.lost
        done.copy.unlink()
    flipped = bytearray(whole)
    flipped[-200] ^= 4
    path.write_bytes(flipped)
    repair(path, "test", may_give_up(age_s=1, now_s=plan.deadline - 600))  # a proof needs no waiting
    assert path.read_bytes() == whole
    assert step(context(tmp_path, sim)).outcome in {"traded", "done"}
    assert sim.executions == 1


def test_a_record_made_lost_by_hand_does_not_pass_for_sound(tmp_path, lived):
    _, files = lived
    put(tmp_path, files)
    path = tmp_path / "audit.jsonl"
    rows = [json.loads(r) for r in files["audit.jsonl"].splitlines()]
    rows[2]["body"] = {"event": "lost", "reason": "none"}
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert verify(path).broken == 2


@pytest.mark.parametrize("left", [b"", b"\0" * 80, b"\n", b"  \n"])
def test_a_head_emptied_by_a_power_cut_is_no_alarm_and_is_written_anew(tmp_path, lived, left):
    _, files = lived
    put(tmp_path, {**files, "audit.jsonl.head": left})
    path = tmp_path / "audit.jsonl"
    report = verify(path)
    assert report.ok
    assert "power cut" in report.notes[0]
    Audit(path).append("note", {"ts": "x"})
    assert verify(path) == replace(verify(path), ok=True, notes=())
    (tmp_path / "audit.jsonl.head").write_bytes(b"nonsense")
    assert not verify(path).ok


def test_the_head_is_on_the_disk_before_and_after_its_renaming(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "fdatasync", "replace"):
        real = getattr(__import__("os"), name)
        monkeypatch.setattr(
            f"policy.execution.records.hashlog.os.{name}", lambda *a, n=name, r=real: done.append(n) or r(*a)
        )
    monkeypatch.setattr("pathlib.Path.replace", lambda a, b: done.append("rename") or __import__("os").rename(a, b))
    audit = Audit(tmp_path / "audit.jsonl")
    audit.append("note", {})
    done.clear()
    audit.append("note", {})
    assert done.index("rename") > done.index("fsync")
    assert done[done.index("rename") - 1] in {"fsync", "fdatasync"}  # the new file's bytes
    assert done[-1] == "fdatasync"  # and its name
    assert verify(audit.path).ok
