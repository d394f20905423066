"""`foredrift restore` and `foredrift migrate`: a backup becomes a project again; an older project becomes this one's.

Restoring never writes over anything. Files are unpacked and checked beside the project, then moved in, the settings
last: until they are there no verb takes the folder for a project. A kill leaves what was unpacked and checked; running
it again goes on.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lake.archive import Archived, unpack
from lake.errors import ConfigError, StoreError
from lake.paths import is_url, usable
from lake.private import opener, private_folder, tighten
from lake.store import Lake
from lake.tables import TABLES
from pipelines.layout import LAYOUT, installed_version, left_behind, mark, marked
from pipelines.settings import load
from pipelines.stages.backup import LAKE, MONEY, SETTINGS, TRACKING, backup
from pipelines.wiring import lake_of
from policy.execution.records.audit import verify
from policy.execution.records.journal import Journal
from policy.execution.records.owner import owning

WORK = ".foredrift-restoring"
READY = "ready.json"  # written when everything is unpacked and checked


def restore(archive: Path, into: Path) -> dict[str, Any]:
    """Make the project of ``archive`` in the folder ``into``; return what it holds.

    Raises StoreError naming what is in the way, DataError on a damaged archive; nothing is half there afterwards.
    """
    if not archive.is_file():
        raise ConfigError(f"there is no {archive}")
    usable(into.resolve(), "a project with its lake and stores")
    into.mkdir(parents=True, exist_ok=True)
    work = into / WORK
    said = _unpacked(archive, work)
    moves = _moves(said, work, into)
    taken = [target for source, target in moves if source.exists() and target.exists()]
    if taken:
        shutil.rmtree(work)
        raise StoreError(
            f"{taken[0]} is there already ({len(taken)} such); nothing was restored: name an empty folder with --into, "
            "or move the old project away"
        )
    for source, target in moves:
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
    tighten(into / ".foredrift")
    shutil.rmtree(work)
    about = said.about
    return {"into": str(into.resolve()), "files": len(said.members)} | {
        k: about[k] for k in ("made_at", "foredrift", "layout", "tables", "in_flight")
    }


def _unpacked(archive: Path, work: Path) -> Archived:
    """Return what the archive says once all of it lies checked in ``work``; goes on with what a kill left."""
    done = work / READY
    if done.is_file():
        found = json.loads(done.read_text(encoding="utf-8"))
        if found["archive"] == str(archive.resolve()):
            return Archived(found["about"], {n: (s, h) for n, (s, h) in found["members"].items()})
    shutil.rmtree(work, ignore_errors=True)
    private_folder(work)
    said = unpack(archive, work)
    if said.about.get("layout", 0) > LAYOUT:
        shutil.rmtree(work)
        raise ConfigError(
            f"{archive} is of layout {said.about['layout']}; this version knows {LAYOUT}: install a newer one"
        )
    text = json.dumps({"archive": str(archive.resolve()), "about": said.about, "members": said.members})
    scratch = work / f"{READY}.new"
    with open(scratch, "w", encoding="utf-8", opener=opener) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(done)
    return said


def _moves(said: Archived, work: Path, into: Path) -> list[tuple[Path, Path]]:
    """Return (from, to) of every file: lake, tracking store, money, and the settings last."""
    lake = str(said.about["lake"])
    base = {LAKE: Path() if is_url(lake) else Path(lake), TRACKING: Path(), MONEY: Path(), SETTINGS: Path()}
    order = (LAKE, TRACKING, MONEY, SETTINGS)
    rows = [(order.index(name.split("/", 1)[0]), name) for name in said.members]
    return [(work / name, into / base[name.split("/", 1)[0]] / name.split("/", 1)[1]) for _, name in sorted(rows)]


def migrate(config: Path | None, out: Path | None) -> dict[str, Any]:
    """Bring a project that an older version left to this version's layout; return what was done, nothing where none.

    A backup is written first. Raises VaultBusy or OwnedElsewhere while something runs, OtherVault where the old journal
    holds another vault's plans, ConfigError where a table has other columns. Each step is one rename: safe to repeat.
    """
    settings = load(config, any_layout=True)
    before = marked(settings.root)
    if before is not None and before > LAYOUT:
        raise ConfigError(f"{settings.root} is of layout {before}, written by a newer version: install that version")
    _require_tables(lake_of(settings))
    old = left_behind(settings.root, settings.vault.journal)
    steps, saved = [], None
    if old is not None:
        own = settings.path(settings.vault.journal)
        with owning(own), owning(old):
            journal = Journal(old)
            with journal.lease():
                journal.require(settings.chain.id, str(settings.vault.address))
                flight = journal.in_flight()
            saved = backup(config, out)["file"]
            _move(old, own)
        steps.append(f"moved {old} to {own}" + (f"; a plan in it is {flight.state}" if flight is not None else ""))
    record = settings.path(settings.vault.audit)
    if record.exists():
        report = verify(record)
        steps += [] if report.ok else [f"the audit record does not verify: {report.reason}; foredrift audit repair"]
    closed = tighten(settings.path(".foredrift"))
    steps += [f"closed {closed} files to others"] if closed else []
    if before != LAYOUT:
        mark(settings.root, installed_version())
    return {"from": before or 1, "to": LAYOUT, "steps": steps, "backup": saved}


def _move(old: Path, own: Path) -> None:
    """Rename the journal while its own lock is held, so that nobody writes to it on the way."""
    with Journal(old).lease():
        old.rename(own)
        for left in (".lease", ".owner"):
            old.with_name(old.name + left).unlink(missing_ok=True)


def _require_tables(lake: Lake) -> None:
    wrong: Sequence[str] = [
        f"{name}: {', '.join(sorted(missing))}"
        for name, spec in TABLES.items()
        if lake.version(name) >= 0 and (missing := set(spec.columns) - set(lake.scan(name).collect_schema().names()))
    ]
    if wrong:
        raise ConfigError(
            f"tables lack columns of this version ({'; '.join(wrong)}): set another [lake] path, ingest or import anew"
        )
