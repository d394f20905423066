"""Imports as events: what each file did to the lake, and how to take it out again.

Before a batch is written, the rows it will add or change are kept beside the rows they replace (table ``undo``); an
undo puts back what is still as the import left it, batch by batch, newest first, each in one commit. So an import or
an undo killed at any moment is finished by running it again, and rows that somebody wrote later are never touched.
"""

from __future__ import annotations

import hashlib
import io
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from lake.errors import ConfigError
from lake.store import Lake
from lake.tables import table

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Identity:
    """``import_id`` of one file under one set of arguments, and the file's sha256."""

    import_id: str
    sha256: str


@dataclass(frozen=True, slots=True)
class UndoReport:
    """What an undo did: rows removed, rows put back as they were, rows left because they were written again since."""

    import_id: str
    table: str
    removed: int
    restored: int
    left: int
    already: bool


def identity(path: Path, arguments: list[Any]) -> Identity:
    """Return the identity of importing ``path`` with ``arguments``; the same file and arguments have the same one."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            sha.update(chunk)
    whole = hashlib.sha256(f"{sha.hexdigest()} {arguments!r}".encode())
    return Identity(whole.hexdigest()[:12], sha.hexdigest())


@dataclass(frozen=True, slots=True)
class Recorder:
    """Writes the events of one import, and ahead of every batch what it will change."""

    lake: Lake
    import_id: str
    sha256: str
    table: str
    file: str

    @classmethod
    def begin(cls, lake: Lake, who: Identity, name: str, file: str) -> Recorder:
        """Record that the import starts; one that never ends was interrupted, and can be undone all the same."""
        made = cls(lake, who.import_id, who.sha256, name, file)
        made.event("started")
        return made

    def ahead(self, rows: pl.DataFrame) -> None:
        """Keep which of ``rows`` are new, and the stored rows that the others will replace."""
        new, changed, replaced = self.lake.difference(self.table, rows)
        after = pl.concat([new, changed])
        if after.is_empty():
            return
        kept = {
            "import_id": self.import_id, "seq": time.time_ns(), "table": self.table, "after": _packed(after),
            "before": _packed(replaced), "available_at": datetime.now(UTC),
        }  # fmt: skip
        self.lake.write("undo", pl.DataFrame([kept], schema=table("undo").columns))

    def done(
        self,
        rows: int,
        added: int,
        updated: int,
        rejected: int,
        span: tuple[datetime | None, datetime | None],
        note: str | None,
    ) -> None:
        """Record that the import ended, with its counts and the times of its first and last loaded row."""
        self.event("done", rows, added, updated, rejected, span, note)

    def event(
        self,
        what: str,
        rows: int = 0,
        added: int = 0,
        updated: int = 0,
        rejected: int = 0,
        span: tuple[datetime | None, datetime | None] = (None, None),
        note: str | None = None,
    ) -> None:
        """Append one event."""
        at = datetime.now(UTC)
        row = {
            "import_id": self.import_id, "ts": at, "event": what, "table": self.table, "file": self.file,
            "sha256": self.sha256, "rows": rows, "added": added, "updated": updated, "rejected": rejected,
            "first": span[0], "last": span[1], "note": note, "available_at": at,
        }  # fmt: skip
        self.lake.write("imports", pl.DataFrame([row], schema=table("imports").columns))


def imports(lake: Lake) -> pl.DataFrame:
    """Return one row an import, oldest first: import_id, ts, state, file, table, counts, first, last, sha256, note.

    ``state`` is done, interrupted (started, never ended), undone, or undo interrupted. ``added`` and ``updated`` are
    summed over repeated runs of the same import since it was last undone.
    """
    events = lake.scan("imports").sort("import_id", "ts").collect()
    words = {"started": "interrupted", "undo started": "undo interrupted", "done": "done", "undone": "undone"}
    alive = (pl.col("event") == "undone").cast(pl.Int64).reverse().cum_sum().reverse().over("import_id") == 0
    last_done = pl.col("event") == "done"
    return (
        events.with_columns(alive=alive)
        .group_by("import_id", maintain_order=True)
        .agg(
            pl.col("ts").last(),
            state=pl.col("event").last().replace_strict(words, return_dtype=pl.String),
            file=pl.col("file").last(),
            table=pl.col("table").last(),
            rows=pl.col("rows").filter(last_done).last(),
            added=pl.col("added").filter("alive").sum(),
            updated=pl.col("updated").filter("alive").sum(),
            rejected=pl.col("rejected").filter(last_done).last(),
            first=pl.col("first").filter(last_done).last(),
            last=pl.col("last").filter(last_done).last(),
            sha256=pl.col("sha256").last(),
            note=pl.col("note").filter(last_done).last(),
        )
        .sort("ts")
    )


def undo(lake: Lake, import_id: str) -> UndoReport:
    """Take import ``import_id`` (or an unambiguous beginning of it) out of the lake; safe to repeat and to kill.

    Rows it added are removed, rows it changed are put back as they were; a row written again since by another import,
    ingest or anything else stays. Raises ConfigError where there is no such import.
    """
    row = _one(lake, import_id)
    record = Recorder(lake, row["import_id"], row["sha256"], row["table"], row["file"])
    if row["state"] == "undone":
        return UndoReport(record.import_id, record.table, 0, 0, 0, already=True)
    record.event("undo started")
    earlier = _undone_batches(lake, record)
    removed = restored = left = 0
    touched: list[pl.DataFrame] = []
    for batch in _batches_of(lake, [record.import_id]):
        after, before = _unpacked(batch["after"]), _unpacked(batch["before"])
        stored = lake.stored(record.table, after)
        mine = after.join(stored, on=after.columns, how="semi", nulls_equal=True)
        key = table(record.table).key
        back = before.join(mine, on=key, how="semi")
        for seq, old_after, old_before in earlier:  # what stood there may itself have been taken out since
            if seq > batch["seq"]:
                continue
            void = back.join(old_after, on=back.columns, how="semi", nulls_equal=True)
            back = pl.concat([back.join(void, on=key, how="anti"), old_before.join(void, on=key, how="semi")])
        gone = mine.join(back, on=key, how="anti")
        lake.revert(record.table, gone, back)
        removed, restored = removed + gone.height, restored + back.height
        left += after.join(mine, on=key, how="anti").join(_keys(touched, after, key), on=key, how="anti").height
        touched.append(after.select(key))
    record.event("undone", removed + restored, note=f"{left} rows written again since were left")
    return UndoReport(record.import_id, record.table, removed, restored, left, already=False)


def _keys(touched: list[pl.DataFrame], like: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    return pl.concat(touched) if touched else like.select(key).clear()


def _one(lake: Lake, import_id: str) -> dict[str, Any]:
    known = imports(lake)
    found = known.filter(pl.col("import_id").str.starts_with(import_id)) if import_id else known.clear()
    if found.height != 1:
        listed = ", ".join(known["import_id"].tail(5)) or "none"
        what = "no import" if found.is_empty() else f"{found.height} imports"
        raise ConfigError(f"{what} with id {import_id!r}; the last ones are {listed} (foredrift lake imports)")
    return found.row(0, named=True)


def _undone_batches(lake: Lake, record: Recorder) -> list[tuple[int, pl.DataFrame, pl.DataFrame]]:
    """Return when other imports, undone by now, wrote what to the same table, and over what; newest first."""
    others = imports(lake).filter(
        (pl.col("state") == "undone") & (pl.col("table") == record.table) & (pl.col("import_id") != record.import_id)
    )["import_id"]
    return [(b["seq"], _unpacked(b["after"]), _unpacked(b["before"])) for b in _batches_of(lake, others.to_list())]


def _batches_of(lake: Lake, ids: list[str]) -> list[dict[str, Any]]:
    if not ids:
        return []
    return lake.scan("undo").filter(pl.col("import_id").is_in(ids)).sort("seq", descending=True).collect().to_dicts()


def _packed(rows: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    rows.write_ipc(out, compression="zstd")
    return out.getvalue()


def _unpacked(kept: bytes) -> pl.DataFrame:
    return pl.read_ipc(io.BytesIO(kept))
