"""The lake: Delta tables in a folder or an S3 bucket, read as of a moment, written atomically and idempotently.

Facts the code rests on: a Delta commit killed at any moment leaves the old version readable; duplicate new
keys inside one merge would be inserted twice, so a batch is de-duplicated first; every commit carries the
same application transaction, so two writers who read the same version conflict and the loser looks again
(this is what makes a plain append of rows that were missing safe, and four times cheaper than a merge); the
writer panics on Enum and Categorical columns, so the schema is enforced before it is called.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from lake.errors import DataError, LakeConflict, SchemaError, StoreError
from lake.paths import is_url, usable
from lake.tables import TABLES, Table, table
from lake.trouble import storage

PART = "part"  # month of the table's time column, on disk only
COMPACT_EVERY = 200  # commits; hourly writes of one series merge their small files every eight days
RETENTION_HOURS = 168  # files that only older versions need are deleted; 168 is the least Delta allows by default
_TRIES = 20  # with the waits below about 25 s, which outlasts dozens of writers of one table
_WRITER = "foredrift"  # one application id for all writers: concurrent commits to a table always conflict
_T = TypeVar("_T")
_MISSING = (TableNotFoundError,)


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What one write did: rows new, rows changed, rows that were there already, and the table version after it."""

    table: str
    added: int
    updated: int
    unchanged: int
    version: int


@dataclass(frozen=True, slots=True)
class Lake:
    """Handle on a lake; cheap to make, safe to share between processes.

    ``root`` is a folder or an ``s3://bucket/prefix`` URL, ``options`` the object-store options (endpoint, keys).
    """

    root: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def uri(self, name: str) -> str:
        """Return where table ``name`` lives; raises ConfigError when the lake's path holds an unusable character."""
        root = self.root if is_url(self.root) else usable(Path(self.root).resolve(), "the lake")
        return f"{root.rstrip('/')}/{table(name).name}"

    def version(self, name: str) -> int:
        """Return the version of table ``name``, -1 when it was never written."""
        delta = self._open(name)
        return -1 if delta is None else delta.version()

    def scan(self, name: str, as_of: datetime | None = None, version: int | None = None) -> pl.LazyFrame:
        """Return table ``name`` lazily, without any row that was not yet available at ``as_of``.

        A table never written scans as an empty frame of the right schema. ``version`` reads an old version.
        """
        spec = table(name)
        delta = self._open(name, version)
        if delta is None:
            return pl.LazyFrame(schema=spec.columns)
        frame = pl.scan_delta(delta)
        if spec.partition:
            frame = frame.drop(PART)
        return frame if as_of is None else frame.filter(pl.col("available_at") <= as_of)

    def write(self, name: str, frame: pl.DataFrame) -> WriteReport:
        """Merge ``frame`` into table ``name`` by key, in one atomic commit.

        Rows equal to stored ones are left alone, so repeating a write changes nothing. In an append-only
        table a stored row wins over a new one with the same key. Raises SchemaError on wrong columns or
        types, DataError naming the broken rules, LakeConflict when another writer kept winning.
        """
        spec = table(name)
        rows = check(spec, frame).unique(spec.key, keep="last", maintain_order=True)
        if rows.is_empty():
            return WriteReport(name, 0, 0, 0, self.version(name))
        rows = _with_part(spec, rows)
        report = _persist(name, self.uri(name), lambda: self._upsert(spec, rows))
        if report.added + report.updated and report.version % COMPACT_EVERY == 0:
            with suppress(CommitFailedError):  # another writer is busy; the next multiple will do
                _tidy(_table(self.uri(name), None, self.options), RETENTION_HOURS)
        return report

    def difference(self, name: str, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """Return what writing ``frame`` would do: rows that are new, rows that change, stored rows they replace.

        Nothing is written. Raises as :meth:`write` does.
        """
        spec = table(name)
        rows = check(spec, frame).unique(spec.key, keep="last", maintain_order=True)
        delta = self._open(name)
        if delta is None or rows.is_empty():
            return rows, rows.clear(), rows.clear()
        new, changed = _difference(spec, pl.scan_delta(delta), _with_part(spec, rows))
        plain = [c for c in new.columns if c != PART]
        return new.select(plain), changed.select(plain), self.stored(name, changed.select(plain))

    def stored(self, name: str, keys: pl.DataFrame) -> pl.DataFrame:
        """Return the stored rows whose key is among those of ``keys``, in the columns of the table."""
        spec = table(name)
        if keys.is_empty():
            return self.scan(name).head(0).collect()
        known = self.scan(name)
        for column in spec.key:
            known = known.filter(pl.col(column).is_between(pl.lit(keys[column].min()), pl.lit(keys[column].max())))
        return known.join(keys.lazy().select(spec.key), on=spec.key, how="semi").collect()

    def revert(self, name: str, gone: pl.DataFrame, back: pl.DataFrame) -> None:
        """Remove the rows with the keys of ``gone`` and put those of ``back`` in their place, in one commit."""
        spec = table(name)
        batch = pl.concat([gone.with_columns(_drop=pl.lit(value=True)), back.with_columns(_drop=pl.lit(value=False))])
        if batch.is_empty():
            return
        batch = _with_part(spec, batch)

        def merge() -> None:
            delta = self._open(name)
            if delta is not None:
                _merge_back(spec, delta, batch)

        _persist(name, self.uri(name), merge)

    def replace(self, name: str, frame: pl.DataFrame, start: datetime, end: datetime) -> int:
        """Make the rows with ``start <= time < end`` exactly ``frame``, in one commit; return the new version.

        For tables that are computed (features): a rerun replaces its range. Refused for append-only tables.
        """
        spec = table(name)
        if spec.append_only:
            raise DataError(f"table {name} is append-only: rows are logged as issued and never replaced")
        rows = check(spec, frame).unique(spec.key, keep="last", maintain_order=True)
        outside = rows.filter(~pl.col(spec.time).is_between(start, end, closed="left")).height
        if outside:
            raise DataError(
                f"table {name}: {outside} rows lie outside the range {start} .. {end} that is being replaced"
            )
        rows = _with_part(spec, rows)
        predicate = f"{spec.time} >= '{start.isoformat()}' AND {spec.time} < '{end.isoformat()}'"

        def overwrite() -> int:
            delta = self._open_or_create(spec, rows)
            write_deltalake(
                delta,
                _arrow(rows),
                mode="overwrite",
                predicate=predicate,
                schema_mode="merge",
                commit_properties=_commit(delta),
            )
            return self.version(name)

        return _persist(name, self.uri(name), overwrite)

    def digest(self, name: str, rows: pl.DataFrame | None = None) -> str:
        """Return a sha256 over the sorted rows of table ``name`` (or of ``rows``), independent of storage layout."""
        spec = table(name)
        data = self.scan(name).collect() if rows is None else rows
        return frame_digest(data.sort(spec.key))

    def compact(self, retention_hours: int = RETENTION_HOURS) -> dict[str, int]:
        """Merge small files and delete files that no version younger than ``retention_hours`` needs."""
        removed = {}
        for name in TABLES:
            delta = self._open(name)
            if delta is not None:
                removed[name] = _persist(name, self.uri(name), partial(_tidy, delta, retention_hours))
        return removed

    def _open(self, name: str, version: int | None = None) -> DeltaTable | None:
        uri = self.uri(name)
        try:
            with storage(f"table {name} at {uri}"):
                return _table(uri, version, self.options)
        except _MISSING:
            self._no_remains(name, uri)
            return None

    def _no_remains(self, name: str, uri: str) -> None:
        """Refuse to call a table empty whose folder still holds data: its log is gone, not its rows."""
        if is_url(uri) or not Path(uri).is_dir():
            return
        if any(Path(uri).rglob("*.parquet")):
            raise StoreError(
                f"table {name} at {uri} has data but no readable log (_delta_log): restore that folder from a backup, "
                "or move the table away and import or ingest again; nothing was written"
            )

    def _create(self, spec: Table, rows: pl.DataFrame) -> None:
        if not is_url(self.root):
            Path(self.root).mkdir(parents=True, exist_ok=True)
        DeltaTable.create(
            self.uri(spec.name),
            schema=_arrow(rows.clear()).schema,
            mode="ignore",
            partition_by=[PART] if spec.partition else None,
            storage_options=dict(self.options),
        )

    def _open_or_create(self, spec: Table, rows: pl.DataFrame) -> DeltaTable:
        delta = self._open(spec.name)
        if delta is None:
            self._create(spec, rows)
            delta = self._open(spec.name)
        if delta is None:
            raise DataError(f"table {spec.name} could not be created at {self.uri(spec.name)}")
        return delta

    def _upsert(self, spec: Table, rows: pl.DataFrame) -> WriteReport:
        delta = self._open_or_create(spec, rows)
        new, changed = _difference(spec, pl.scan_delta(delta), rows)
        unchanged = rows.height - new.height - changed.height
        if spec.append_only:
            unchanged, changed = unchanged + changed.height, changed.clear()
        if new.is_empty() and changed.is_empty():
            return WriteReport(spec.name, 0, 0, unchanged, delta.version())
        if changed.is_empty():
            write_deltalake(
                delta,
                _arrow(new),
                mode="append",
                schema_mode="merge" if spec.open_columns else None,
                commit_properties=_commit(delta),
            )
        else:
            _merge(spec, delta, pl.concat([new, changed]))
        return WriteReport(spec.name, new.height, changed.height, unchanged, self.version(spec.name))


def _match(spec: Table, batch: pl.DataFrame) -> str:
    """Return the predicate that pairs rows by key, within the months that ``batch`` touches."""
    match = [f"t.{k} = s.{k}" for k in spec.key]
    if spec.partition:
        months = ", ".join(f"'{m}'" for m in batch[PART].unique().sort())
        match += [f"t.{PART} IN ({months})", f"t.{PART} = s.{PART}"]
    return " AND ".join(match)


def _merge_back(spec: Table, delta: DeltaTable, batch: pl.DataFrame) -> None:
    """Delete the rows of ``batch`` marked ``_drop`` and write the others over what is stored, in one commit."""
    updates = {c: f"s.{c}" for c in batch.columns if c not in {"_drop", PART}}
    merge = delta.merge(
        _arrow(batch),
        predicate=_match(spec, batch),
        source_alias="s",
        target_alias="t",
        commit_properties=_commit(delta),
    )
    merge.when_matched_delete(predicate="s._drop = true").when_matched_update(
        updates=updates, predicate="s._drop = false"
    ).execute()


def _merge(spec: Table, delta: DeltaTable, batch: pl.DataFrame) -> None:
    """Insert or update ``batch`` in one commit; reads and rewrites only the months it touches."""
    delta.merge(
        _arrow(batch),
        predicate=_match(spec, batch),
        source_alias="s",
        target_alias="t",
        merge_schema=spec.open_columns,
        commit_properties=_commit(delta),
    ).when_matched_update_all().when_not_matched_insert_all().execute()


class _LocalTable(DeltaTable):
    """A table in a folder: its files are named as the file system names them, not as in a URL."""

    def file_uris(self, *args: Any, **kwargs: Any) -> list[str]:
        """Return the paths of the table's files, percent escapes undone (pola-rs/polars#20944)."""
        return [unquote(path) for path in super().file_uris(*args, **kwargs)]


def _table(uri: str, version: int | None, options: Mapping[str, str]) -> DeltaTable:
    made = DeltaTable if is_url(uri) else _LocalTable
    return made(uri, version=version, storage_options=dict(options))


def _persist(name: str, uri: str, commit: Callable[[], _T]) -> _T:
    """Return what ``commit`` returns, running it again while another writer wins; LakeConflict when it never stops."""
    for attempt in range(_TRIES):
        try:
            with storage(f"table {name} at {uri}"):
                return commit()
        except CommitFailedError:
            time.sleep(random.uniform(0.5, 1.5) * min(0.05 * 2**attempt, 2.0))
    raise LakeConflict(f"table {name}: another writer won {_TRIES} times in a row; nothing was written, run it again")


def _commit(delta: DeltaTable) -> CommitProperties:
    return CommitProperties(app_transactions=[Transaction(_WRITER, delta.version() + 1)])


def _tidy(delta: DeltaTable, retention_hours: int) -> int:
    delta.update_incremental()
    delta.optimize.compact()
    return len(delta.vacuum(retention_hours, dry_run=False))


def _arrow(rows: pl.DataFrame) -> Any:  # a pyarrow table; the package ships no types
    return rows.to_arrow(compat_level=pl.CompatLevel.oldest())


def check(spec: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """Return ``frame`` with the table's columns in order and its types, or raise naming every broken rule.

    Missing optional columns become null. Types are cast only where nothing can be lost (UTC times of another
    resolution, integers to floats); text never becomes a number here. Unknown columns are refused.
    """
    missing = [c for c in [*spec.required, "available_at"] if c not in frame.columns]
    extra = [] if spec.open_columns else [c for c in frame.columns if c not in spec.columns]
    if missing or extra:
        raise SchemaError(
            f"table {spec.name}: missing columns {missing}, unknown columns {extra}; "
            f"it has {', '.join(spec.columns)} (import can rename with --map new=old and fill with --set col=value)"
        )
    casts = []
    for name, dtype in spec.columns.items():
        given = frame.schema.get(name)
        if given is None:
            casts.append(pl.lit(None, dtype).alias(name))
        elif given == dtype:
            casts.append(pl.col(name))
        elif given == pl.Null or _widens(given, dtype):
            casts.append(pl.col(name).cast(dtype))
        else:
            raise SchemaError(f"table {spec.name}: column {name} is {given}, required is {dtype}")
    features = [pl.col(c).cast(pl.Float64) for c in frame.columns if c not in spec.columns]
    rows = frame.select(*casts, *features)
    _, failure = spec.schema.filter(rows.select(list(spec.columns)).unique(spec.key, keep="last"))
    if len(failure):
        raise DataError(f"table {spec.name}: rows break its rules ({failure.counts()}); nothing was written")
    return rows


def frame_digest(frame: pl.DataFrame) -> str:
    """Return a sha256 over column names and values in the given order; equal frames have equal digests."""
    sha = hashlib.sha256(",".join(frame.columns).encode())
    for column in frame.get_columns():
        sha.update(column.is_null().to_numpy().tobytes())
        if column.dtype.is_numeric() or column.dtype.is_temporal():
            sha.update(column.to_physical().fill_null(0).to_numpy().tobytes())
        elif column.dtype == pl.Binary:
            sha.update(b"".join(column.fill_null(b"").to_list()))
        else:
            flat = column.cast(pl.List(pl.String)).list.join(",") if isinstance(column.dtype, pl.List) else column
            sha.update("\x1f".join(flat.cast(pl.String).fill_null("").to_list()).encode())
    return sha.hexdigest()


def _widens(given: pl.DataType, wanted: pl.DataType) -> bool:
    if isinstance(given, pl.Datetime) and isinstance(wanted, pl.Datetime):
        return given.time_zone == "UTC"
    if wanted == pl.Float64:
        return given.is_numeric()
    if wanted == pl.Int64:
        return given.is_integer() and given != pl.UInt64
    if wanted == pl.List(pl.Float32):
        return isinstance(given, (pl.List, pl.Array))
    return wanted == pl.String and isinstance(given, (pl.Categorical, pl.Enum))


def _with_part(spec: Table, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col(spec.time).dt.strftime("%Y-%m").alias(PART)) if spec.partition else rows


def _difference(spec: Table, stored: pl.LazyFrame, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split ``rows`` into those whose key is not stored and those stored with another value."""
    for column in spec.key:  # bounds let the scan skip files; without time in the key a row may move in time
        stored = stored.filter(pl.col(column).is_between(pl.lit(rows[column].min()), pl.lit(rows[column].max())))
    if spec.partition:
        stored = stored.filter(pl.col(PART).is_in(rows[PART].unique().to_list()))
    known = stored.join(rows.lazy().select(spec.key), on=spec.key, how="semi").collect()
    new = rows.join(known, on=spec.key, how="anti", maintain_order="left")
    seen = rows.join(known, on=spec.key, how="semi", maintain_order="left")
    columns = [c for c in seen.columns if c in known.columns]
    late = [c for c in seen.columns if c not in known.columns]
    changed = seen.join(known, on=columns, how="anti", nulls_equal=True, maintain_order="left") if not late else seen
    return new, changed
