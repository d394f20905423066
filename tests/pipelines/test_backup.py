"""A project survives its own destruction, kills at every step, writers beside it, and the version before it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tarfile
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from lake.errors import ConfigError, DataError, StoreError
from lake.sources.sample import simulate
from lake.store import Lake
from pipelines import layout
from pipelines.cli import app
from pipelines.settings import load
from pipelines.stages import backup as backups
from pipelines.stages.backup import backup
from pipelines.stages.restore import WORK, migrate, restore
from pipelines.wiring import lake_of
from policy.execution.base import OtherVault
from policy.execution.records.audit import verify
from policy.execution.records.journal import Journal, VaultBusy
from policy.execution.records.owner import OwnedElsewhere, owning
from tests.pipelines.market import END, project

FIXTURE = Path(__file__).with_name("layout_0_1.tar.gz")
TABLES = ("prices", "gas", "pool_state", "signals", "decisions")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A project with a lake, a decision, a paper vault, a tracking database and a key; and its backup."""
    root = tmp_path_factory.mktemp("original")
    project(root)
    done = CliRunner().invoke(
        app, ["rebalance", "--live", "--as-of", END.isoformat(), "-c", str(root / "foredrift.toml")]
    )
    assert done.exit_code == 0, done.output
    (root / "mlruns" / "artifacts").mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(root / "mlruns" / "mlflow.db")) as made:
        made.execute("create table if not exists runs (name text)")
        made.execute("insert into runs values ('mine')")
        made.commit()
    (root / "mlruns" / "artifacts" / "model.txt").write_text("tree")
    (root / ".foredrift" / "keeper.json").write_text('{"crypto": {"kdf": "scrypt", "ciphertext": "HUSHKEY"}}')
    return root


@pytest.fixture(scope="module")
def archive(original, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "b.tar.gz"
    backup(original / "foredrift.toml", out)
    return out


def content(root: Path) -> dict[str, object]:
    """Everything of a project that must be equal: lake, journal, audit, vault, settings, tracking store."""
    settings = load(root / "foredrift.toml", any_layout=True)
    lake = lake_of(settings)
    tables = {n: lake.scan(n).collect().sort(pl.all()).rows() for n in TABLES if lake.version(n) >= 0}
    names = [settings.vault.journal, settings.vault.audit, settings.vault.audit + ".head", settings.vault.state]
    files = {n: (root / n).read_bytes() for n in (*names, "foredrift.toml") if (root / n).exists()}
    return {"tables": tables, "versions": {n: lake.version(n) for n in tables}, "files": files}


def test_backup_destroy_restore_is_equal(original, archive, tmp_path):
    before = content(original)
    assert len(before["tables"]) == len(TABLES)
    said = restore(archive, tmp_path / "new")
    assert said["tables"]["prices"] == before["versions"]["prices"]
    assert content(tmp_path / "new") == before
    assert verify(tmp_path / "new" / ".foredrift" / "audit.jsonl").ok
    with closing(sqlite3.connect(tmp_path / "new" / "mlruns" / "mlflow.db")) as made:
        assert made.execute("select name from runs").fetchall() == [("mine",)]
    assert (tmp_path / "new" / "mlruns" / "artifacts" / "model.txt").read_text() == "tree"
    done = CliRunner().invoke(app, ["audit", "replay", "-c", str(tmp_path / "new" / "foredrift.toml")])
    assert done.exit_code == 0, done.output


def test_no_key_is_in_it_and_nobody_else_reads_it(archive, tmp_path):
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    restore(archive, tmp_path)
    assert not (tmp_path / ".foredrift" / "keeper.json").exists()
    assert b"HUSHKEY" not in b"".join(f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())
    for path in (tmp_path / ".foredrift").rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_nothing_is_ever_overwritten(original, archive, tmp_path):
    with pytest.raises(StoreError, match="never overwritten"):
        backup(original / "foredrift.toml", archive)
    (tmp_path / ".foredrift").mkdir()
    mine = tmp_path / ".foredrift" / "audit.jsonl"
    mine.write_text("mine")
    with pytest.raises(StoreError, match=r"audit.jsonl is there already \(1 such\); nothing was restored"):
        restore(archive, tmp_path)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["audit.jsonl"]
    assert mine.read_text() == "mine"


def test_a_run_in_mid_flight_is_waited_for_then_left_alone(original, tmp_path, monkeypatch):
    monkeypatch.setattr(backups, "PATIENCE_S", 0.3)
    journal = Journal(load(original / "foredrift.toml").path(".foredrift/journal"))
    before = journal.path.read_bytes()
    with journal.lease():
        with pytest.raises(VaultBusy, match="must end"):
            backup(original / "foredrift.toml", tmp_path / "b.tar.gz")
        assert list(tmp_path.iterdir()) == []
    assert journal.path.read_bytes() == before
    held = threading.Event()

    def run() -> None:
        with journal.lease():
            held.set()
            threading.Event().wait(0.3)

    monkeypatch.setattr(backups, "PATIENCE_S", 20.0)
    other = threading.Thread(target=run)
    other.start()
    held.wait()
    assert backup(original / "foredrift.toml", tmp_path / "b.tar.gz")["files"] > 10
    other.join()


def test_a_lake_that_is_written_meanwhile_is_taken_as_it_was_at_one_commit(original, tmp_path):
    lake, done = lake_of(load(original / "foredrift.toml")), threading.Event()
    first = lake.version("gas")
    rows = simulate(hours=200)["gas"].with_columns(chain_id=pl.lit(10, pl.Int64))

    def write() -> None:
        for i in range(0, 200, 10):
            if done.is_set():
                return
            lake.write("gas", rows.slice(i, 10))

    writer = threading.Thread(target=write)
    writer.start()
    said = backup(original / "foredrift.toml", tmp_path / "b.tar.gz")
    done.set()
    writer.join()
    restore(tmp_path / "b.tar.gz", tmp_path / "new")
    there = lake_of(load(tmp_path / "new" / "foredrift.toml"))
    assert there.version("gas") == said["tables"]["gas"] >= first
    same = lake.scan("gas", version=said["tables"]["gas"]).collect().sort(pl.all())
    assert there.scan("gas").collect().sort(pl.all()).equals(same)


def killed(at: int, patched: str, run) -> int:
    """Run ``run`` in a child that dies, as by SIGKILL, at the ``at``-th call of os or Path function ``patched``."""
    child = os.fork()
    if child == 0:
        calls = [0]
        owner = Path if patched == "rename" else os
        real = getattr(owner, patched)

        def counted(*args, **kwargs):
            calls[0] += 1
            if calls[0] == at:
                os._exit(9)
            return real(*args, **kwargs)

        setattr(owner, patched, counted)
        try:
            run()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(("patched", "at"), [("fsync", 1), ("fsync", 9), ("rename", 1), ("rename", 4), ("rename", 12)])
def test_a_restore_that_is_killed_goes_on_when_it_is_run_again(original, archive, tmp_path, patched, at):
    assert killed(at, patched, lambda: restore(archive, tmp_path)) == 9
    assert not (tmp_path / "foredrift.toml").exists(), "a half project is no project"
    restore(archive, tmp_path)
    for name in (".foredrift/audit.jsonl", ".foredrift/vault.json", "foredrift.toml"):
        assert (tmp_path / name).read_bytes() == (original / name).read_bytes()
    assert lake_of(load(tmp_path / "foredrift.toml")).version("prices") >= 0
    assert not (tmp_path / WORK).exists()


@pytest.mark.parametrize(("patched", "at"), [("fsync", 1), ("link", 1)])
def test_a_backup_that_is_killed_leaves_none(tmp_path, patched, at):
    from lake.archive import ArchiveMember, unpack, write_archive

    target, members = tmp_path / "b.tar.gz", [ArchiveMember("a/b", b"text")]
    assert killed(at, patched, lambda: write_archive(target, members, {})) == 9
    assert not target.exists()
    write_archive(target, members, {"x": 1})
    assert unpack(target, tmp_path / "out").about == {"x": 1}
    assert [p.name for p in tmp_path.glob("b.*")] == ["b.tar.gz"]


@pytest.mark.parametrize("where", [0.02, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("how", ["cut", "flip"])
def test_a_damaged_backup_restores_nothing(archive, tmp_path, how, where):
    data = bytearray(archive.read_bytes())
    at = int(len(data) * where)
    if how == "cut":
        del data[at:]
    else:
        data[at] ^= 0xFF
    bad = tmp_path / "bad.tar.gz"
    bad.write_bytes(bytes(data))
    with pytest.raises(DataError, match="nothing was restored"):
        restore(bad, tmp_path / "new")
    assert [p for p in (tmp_path / "new").iterdir() if p.name != WORK] == []


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "money/../../evil", "link", "money/unlisted"])
def test_an_archive_that_reaches_outside_or_smuggles_is_refused(archive, tmp_path, name):
    bad = tmp_path / "bad.tar.gz"
    with tarfile.open(archive) as given, tarfile.open(bad, "w:gz") as tar:
        for info in given:
            tar.addfile(info, given.extractfile(info))
        extra = tarfile.TarInfo(name)
        if name == "link":
            extra.type, extra.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(extra)
    with pytest.raises(DataError, match="nothing was restored"):
        restore(bad, tmp_path / "deep" / "new")
    assert not list(tmp_path.rglob("evil"))


@pytest.fixture
def old(tmp_path):
    """A project as version 0.1 left it: a plan of its vault was sent and never looked up."""
    with tarfile.open(FIXTURE) as tar:
        tar.extractall(tmp_path / "old", filter="data")
    return tmp_path / "old"


def test_an_older_project_is_refused_with_the_command_then_migrated_equal(old):
    with pytest.raises(ConfigError, match="run `foredrift migrate`"):
        load(old / "foredrift.toml")
    journal, audit = (old / ".foredrift" / "journal").read_bytes(), (old / ".foredrift" / "audit.jsonl").read_bytes()
    rows = {n: Lake(str(old / "lake.data")).scan(n).collect() for n in TABLES[:4]}
    done = CliRunner().invoke(app, ["migrate", "-c", str(old / "foredrift.toml")])
    assert done.exit_code == 0, done.output
    assert "a plan in it is sent" in " ".join(done.output.split())
    settings = load(old / "foredrift.toml")
    moved = Journal(settings.path(settings.vault.journal))
    assert moved.path.read_bytes() == journal
    flight = moved.in_flight()
    assert flight is not None
    assert (flight.state, flight.plan.nonce, flight.attempts[0].raw) == ("sent", 8, b"signed-bytes")
    assert (old / ".foredrift" / "audit.jsonl").read_bytes() == audit
    assert verify(old / ".foredrift" / "audit.jsonl").ok
    for name, frame in rows.items():
        assert lake_of(settings).scan(name).collect().equals(frame)
        assert frame["available_at"].max() - frame["available_at"].min() >= timedelta(hours=20)
    assert migrate(old / "foredrift.toml", None)["steps"] == []
    [saved] = old.glob("foredrift-*.tar.gz")
    restore(saved, old.parent / "back")
    assert (old.parent / "back" / ".foredrift" / "journal").read_bytes() == journal
    with pytest.raises(ConfigError, match="run `foredrift migrate`"):
        load(old.parent / "back" / "foredrift.toml")


def test_a_migration_never_runs_over_somebody_who_works(old, monkeypatch):
    monkeypatch.setattr(backups, "PATIENCE_S", 0.1)
    before = sorted(p.name for p in (old / ".foredrift").iterdir())
    with Journal(old / ".foredrift" / "journal").lease(), pytest.raises(VaultBusy):
        migrate(old / "foredrift.toml", None)
    with owning(old / ".foredrift" / "journal"), pytest.raises(OwnedElsewhere):
        migrate(old / "foredrift.toml", None)
    assert (old / ".foredrift" / "journal").exists()
    assert set(before) <= {p.name for p in (old / ".foredrift").iterdir()}


def test_another_vaults_plans_are_not_taken_over(old):
    text = (old / "foredrift.toml").read_text().replace("0x" + "1" * 40, "0x" + "2" * 40)
    (old / "foredrift.toml").write_text(text)
    with pytest.raises(OtherVault, match="its newest plan is not finished"):
        migrate(old / "foredrift.toml", None)
    assert (old / ".foredrift" / "journal").exists()


@pytest.mark.parametrize("at", [1])
def test_a_migration_that_is_killed_is_done_by_the_next(old, at):
    settings = load(old / "foredrift.toml", any_layout=True)
    own, journal = settings.path(settings.vault.journal), old / ".foredrift" / "journal"
    before = journal.read_bytes()
    from pipelines.stages.restore import _move

    assert killed(at, "rename", lambda: _move(journal, own)) == 9
    assert journal.read_bytes() == before
    assert not own.exists()
    migrate(old / "foredrift.toml", None)
    assert own.read_bytes() == before


def test_a_newer_layout_is_refused_everywhere(original, archive, tmp_path):
    restore(archive, tmp_path)
    (tmp_path / layout.MARK).write_text('{"layout": 99}')
    for words in (["status"], ["migrate"]):
        done = CliRunner().invoke(app, [*words, "-c", str(tmp_path / "foredrift.toml")])
        assert "written by a newer version" in str(done.exception)
    (tmp_path / layout.MARK).write_text("{")
    with pytest.raises(ConfigError, match="run `foredrift migrate`"):
        load(tmp_path / "foredrift.toml")
    shutil.rmtree(tmp_path / ".foredrift")
    assert load(tmp_path / "foredrift.toml")
