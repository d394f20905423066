"""The audit chain: tampering at any record shows, torn tails do not, writers may run side by side."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from policy.execution.records.audit import Audit, export, inputs_digest, verify
from policy.execution.records.hashlog import canonical, digest

N = 12


@pytest.fixture
def path(tmp_path) -> Path:
    audit = Audit(tmp_path / "audit.jsonl")
    for i in range(N):
        audit.append("decision" if i % 2 == 0 else "settlement", {"decision_id": f"d{i // 2}", "ts": "t", "n": i})
    return audit.path


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def put(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(canonical(row) + "\n" for row in rows))


def test_an_untouched_chain_verifies(path):
    report = verify(path)
    assert report.ok
    assert report.records == N
    assert report.head == lines(path)[-1]["hash"]
    assert verify(path.with_name("none")).ok


@pytest.mark.parametrize("record", range(N))
def test_any_change_names_the_record(path, record):
    rows = lines(path)
    rows[record]["body"]["n"] = 999
    put(path, rows)
    report = verify(path)
    assert (report.ok, report.broken) == (False, record)
    assert str(record) in report.reason


@pytest.mark.parametrize("record", range(N))
def test_a_rehashed_change_breaks_the_next_link_or_the_head(path, record):
    rows = lines(path)
    rows[record]["body"]["n"] = 999
    rows[record]["hash"] = digest(record, rows[record]["prev"], rows[record]["body"])
    put(path, rows)
    report = verify(path)
    assert (report.ok, report.broken) == (False, min(record + 1, N - 1))


@pytest.mark.parametrize("record", range(N))
def test_a_removed_record_shows(path, record):
    rows = lines(path)
    del rows[record]
    put(path, rows)
    report = verify(path)
    assert (report.ok, report.broken) == (False, min(N - 1, record))


@pytest.mark.parametrize("record", range(N - 1))
def test_swapped_records_show(path, record):
    rows = lines(path)
    rows[record], rows[record + 1] = rows[record + 1], rows[record]
    put(path, rows)
    assert verify(path).broken == record


def test_an_added_record_shows(path):
    rows = lines(path)
    put(path, [*rows, {**rows[-1], "seq": N}])
    assert verify(path).broken == N
    path.with_name(path.name + ".head").unlink()
    put(path, rows)
    assert not verify(path).ok


def test_any_flipped_byte_of_a_record_shows(path):
    data = path.read_bytes()
    for at in range(0, len(data), 7):
        spoiled = bytearray(data)
        spoiled[at] ^= 1
        path.write_bytes(spoiled)
        assert not verify(path).ok, at
    path.write_bytes(data)
    assert verify(path).ok


def test_a_torn_tail_is_no_fault_and_is_cut_by_the_next_writer(path):
    with path.open("ab") as handle:
        handle.write(b'{"seq": 12, "prev"')
    assert verify(path).ok
    Audit(path).append("decision", {"n": 1})
    assert verify(path).ok
    assert verify(path).records == N + 1


WRITER = """
import sys
from pathlib import Path
from policy.execution.records.audit import Audit
audit = Audit(Path(sys.argv[1]))
for i in range(25):
    audit.append("decision", {"who": int(sys.argv[2]), "i": i})
"""


def test_writers_side_by_side_keep_one_chain(tmp_path):
    path = tmp_path / "audit.jsonl"
    crowd = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(who)]) for who in range(3)]
    assert [process.wait(timeout=120) for process in crowd] == [0, 0, 0]
    report = verify(path)
    assert report.ok, report
    assert report.records == 75
    for who in range(3):
        assert [r["body"]["i"] for r in lines(path) if r["body"]["who"] == who] == list(range(25))


def test_export_holds_every_record(path, tmp_path):
    assert export(path, tmp_path / "audit.parquet") == N
    frame = pl.read_parquet(tmp_path / "audit.parquet")
    assert frame.height == N
    assert frame["hash"].to_list() == [row["hash"] for row in lines(path)]
    assert [json.loads(b)["n"] for b in frame["body"]] == list(range(N))


def test_the_inputs_digest_depends_on_every_input_and_not_on_order():
    inputs = {"a": 1, "b": [1.5, None]}
    assert inputs_digest(inputs) == inputs_digest(dict(reversed(inputs.items())))
    assert inputs_digest(inputs) != inputs_digest({**inputs, "a": 2})
