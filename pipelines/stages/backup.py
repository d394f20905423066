"""`foredrift backup`: lake, journals, audit records, paper vaults, tracking store and settings in one checked file.

What money depends on (journal, audit record, paper vault) is read while the vault's lease is held, so the three fit
together; a plan that is on its way is in the journal and stays on its way. A lake is read up to the commits that there
were, and the tracking database through its own copying. Keys are never taken: not a keystore, not a passphrase.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deltalake import DeltaTable

from lake.archive import ArchiveMember, write_archive
from lake.errors import StoreError
from lake.paths import is_url
from lake.private import STATE
from lake.tables import TABLES
from pipelines.hedge_section import HedgeSection
from pipelines.layout import LAYOUT, installed_version
from pipelines.settings import load
from pipelines.vault_settings import VaultSettings, vaults_of
from policy.execution.records.audit import head_path
from policy.execution.records.journal import Journal, VaultBusy

LEFT_OUT = ("prefect", "replay", "demo")  # folders of .foredrift that are made anew
_LOCKS = (".lease", ".lock", ".owner", ".part", ".new")
PATIENCE_S = 20.0  # for a run that holds a vault just now
SETTINGS, LAKE, MONEY, TRACKING = "settings", "lake", "money", "mlflow"


def backup(config: Path | None, out: Path | None) -> dict[str, Any]:
    """Write the project's backup to ``out`` (None: ``foredrift-<time>.tar.gz`` beside the settings); return what is in.

    Raises VaultBusy while a run holds a vault, StoreError where ``out`` is there or a file cannot be read.
    """
    settings = load(config, any_layout=True)
    now = datetime.now(UTC)
    path = (out or settings.root / f"foredrift-{now:%Y%m%dT%H%M%SZ}.tar.gz").resolve()
    vaults = vaults_of(settings)
    with ExitStack() as held, TemporaryDirectory(dir=path.parent if path.parent.is_dir() else None) as scratch:
        flights = _hold(held, vaults, settings.hedge)
        money = [*_money(vaults, settings.hedge, path)]
        frozen = [ArchiveMember(m.name, m.source.read_bytes()) for m in money if isinstance(m.source, Path)]
        held.close()  # what follows does not change under the reader
        lake, versions = _lake(vaults[0])
        tracked = [*_tracking(vaults[0], Path(scratch))]
        about = {
            "foredrift": installed_version(), "layout": LAYOUT, "made_at": now.isoformat(timespec="seconds"),
            "settings": settings.file.name, "lake": settings.lake.path, "tables": versions, "in_flight": flights,
        }  # fmt: skip
        members = [ArchiveMember(f"{SETTINGS}/{settings.file.name}", settings.file), *frozen, *lake, *tracked]
        written = write_archive(path, members, about)
    left = [] if not is_url(settings.lake.path) else [f"the lake at {settings.lake.path} (a bucket keeps its versions)"]
    return {
        "file": str(path), "bytes": path.stat().st_size, "files": len(written.members), "tables": versions,
        "in_flight": flights, "left_out": left,
    }  # fmt: skip


def _hold(held: ExitStack, vaults: Sequence[VaultSettings], hedge: HedgeSection) -> dict[str, str]:
    """Take the lease of every journal that exists; return the plans in flight, by vault."""
    journals = {v.name: v.journal for v in vaults}
    if hedge.account is not None:
        journals["hedge"] = vaults[0].path(hedge.journal)
    flights = {}
    for name, path in journals.items():
        if not path.exists():
            continue
        journal = Journal(path)
        _patiently(held, journal)
        last = journal.in_flight()
        if last is not None:
            flights[name] = last.state
    return flights


def _patiently(held: ExitStack, journal: Journal) -> None:
    """Take the lease of ``journal``; a cycle takes seconds, so a busy vault is asked again for a while."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            held.enter_context(journal.lease())
        except VaultBusy:
            if time.monotonic() >= end:
                raise
            time.sleep(0.2)
        else:
            return


def _money(vaults: Sequence[VaultSettings], hedge: HedgeSection, out: Path) -> Iterator[ArchiveMember]:
    """Yield the files of .foredrift, and those that the settings put elsewhere, without locks and keys."""
    secret = {v.path(k) for v in vaults for k in (v.vault.keystore, v.vault.relay_identity) if k}
    project = vaults[0]
    secret |= {project.path(hedge.keystore)} if hedge.keystore else set()
    root = project.path(STATE)
    files = {f for f in root.rglob("*") if f.relative_to(root).parts[0] not in LEFT_OUT} if root.is_dir() else set()
    for vault in vaults:
        files |= {vault.journal, vault.audit, head_path(vault.audit), vault.path(vault.vault.state)}
    if hedge.account is not None:
        audit = project.path(hedge.audit)
        files |= {project.path(hedge.journal), audit, head_path(audit)}
    for file in sorted(files):
        if file.is_file() and not file.name.endswith(_LOCKS) and file not in secret | {out} and not _key(file):
            yield ArchiveMember(f"{MONEY}/{_relative(project, file)}", file)


def _key(file: Path) -> bool:
    """Return whether a file looks like an encrypted key, wherever it lies."""
    head = file.read_bytes()[:4_096]
    return b'"crypto"' in head.lower() and b'"kdf"' in head.lower()


def _relative(project: VaultSettings, file: Path) -> str:
    try:
        return file.relative_to(project.root.resolve()).as_posix()
    except ValueError:
        raise StoreError(f"{file} lies outside the project; move it there ([vault]), or copy it yourself") from None


def _lake(project: VaultSettings) -> tuple[list[ArchiveMember], dict[str, int]]:
    """Return the lake's files and the version of each table: its commits first, then what they refer to."""
    if is_url(project.lake.path):
        return [], {}
    root = project.path(project.lake.path)
    members, versions = [], {}
    for folder in sorted(f for f in root.iterdir() if f.is_dir()) if root.is_dir() else []:
        if folder.name not in TABLES or not (folder / "_delta_log").is_dir():
            continue
        version = DeltaTable(str(folder)).version()
        versions[folder.name] = version
        names = [f for f in (folder / "_delta_log").iterdir() if f.name[:20].isdigit() and int(f.name[:20]) <= version]
        data = [f for f in folder.rglob("*.parquet") if "_delta_log" not in f.parts]
        members += [ArchiveMember(f"{LAKE}/{f.relative_to(root).as_posix()}", f) for f in sorted([*names, *data])]
    return members, versions


def _database(project: VaultSettings) -> Path | None:
    """Return the file of a local tracking database, None for a server's."""
    uri = project.mlflow.tracking_uri
    path = project.path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
    return path if path is not None and path.is_file() else None


def _tracking(project: VaultSettings, scratch: Path) -> Iterator[ArchiveMember]:
    """Yield the tracking database, copied as SQLite copies one that is in use, and the artifacts beside it."""
    database = _database(project)
    if database is None:
        return
    copy = scratch / "mlflow.db"
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    yield ArchiveMember(f"{TRACKING}/{_relative(project, database)}", copy)
    artifacts = project.path(project.mlflow.artifacts)
    if not is_url(project.mlflow.artifacts) and artifacts.is_dir():
        for file in sorted(f for f in artifacts.rglob("*") if f.is_file()):
            yield ArchiveMember(f"{TRACKING}/{_relative(project, file)}", file)
