"""Import of the user's own Parquet and CSV files: streamed, checked row by row, rejects kept beside the file.

The file is read twice in batches: once for its times (are they usable, how far apart are rows), once to load
it. Every batch is one atomic write of rows that replace themselves when repeated, so an import that was
killed is simply run again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import available_timezones

import numpy as np
import polars as pl
from polars.exceptions import ComputeError, NoDataError, PolarsError

from lake.errors import ConfigError, DataError, SchemaError
from lake.sources.rows import Problems, Recipe, Value, series_of, times, typed
from lake.store import Lake
from lake.tables import Table, table
from lake.units import duration

IMPORTABLE = ("prices", "gas", "pool_state", "oracle", "signals")
"""Tables a file may be loaded into; the others are computed here and nowhere else."""

BATCH_ROWS = 500_000  # about 150 MB in flight; smaller batches make more, smaller files
DAILY_SHARE = 0.8  # a signal is a regular series when at least this share of its gaps equals the modal one

Progress = Callable[[str, int, int], None]
"""Called with what is being done, rows done and rows in all, after every batch."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What one import did. ``rows = added + updated + unchanged + rejected``; ``reasons`` counts rows by reason.

    A row may have several reasons. ``first`` and ``last`` bound the times of the loaded rows, ``notes`` says what
    was derived or left out.
    """

    table: str
    path: str
    rows: int
    added: int
    updated: int
    unchanged: int
    rejected: int
    reject_path: str | None
    reasons: dict[str, int]
    first: datetime | None
    last: datetime | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Profile:
    """What the first pass learnt: rows, modal spacing (seconds) of each series and of all, regular series."""

    rows: int
    spacing: dict[str, int]
    overall: int | None
    regular: frozenset[str]


@dataclass(slots=True)
class _Seen:
    """Hashes of the keys loaded so far, as a few sorted runs (8 bytes a row).

    Two keys share a 64-bit hash with probability n**2 / 2**65: 3e-6 for a whole file of 10 million rows.
    """

    runs: list[np.ndarray[tuple[int], np.dtype[np.uint64]]] = field(default_factory=list)

    def repeats(self, hashes: pl.Series) -> pl.Series:
        """Return which hashes came before, in this batch or an earlier one, and remember the others."""
        order = np.argsort(hashes.to_numpy(), kind="stable")  # sorted queries walk a run instead of jumping in it
        values = hashes.to_numpy()[order]
        new = np.ones(values.size, dtype=np.bool_)
        new[1:] = values[1:] != values[:-1]
        for run in self.runs:
            at = np.searchsorted(run, values)
            new &= run[np.minimum(at, run.size - 1)] != values
        if new.any():
            self.runs.append(values[new])
        first = np.empty_like(new)
        first[order] = new
        while len(self.runs) > 1 and self.runs[-2].size < 2 * self.runs[-1].size:
            self.runs[-2:] = [np.sort(np.concatenate(self.runs[-2:]), kind="stable")]
        return pl.Series(~first)


def import_file(
    lake: Lake,
    name: str,
    path: str | Path,
    mapping: Mapping[str, str] | None = None,
    constants: Mapping[str, Value] | None = None,
    lag: timedelta | None = None,
    known_assets: set[str] | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Load a Parquet or CSV file into table ``name``; bad rows go to ``<file>.rejects.parquet`` with their reasons.

    ``mapping`` renames (table column -> file column); ``constants`` fills table columns (``step`` may be ``"1h"``),
    and ``tz`` among them says what times without a zone are. ``lag`` sets ``available_at = time + lag``. Without it and
    without such a column a bar is known at its end, gas and pool rows one modal spacing after their time, signals too
    when they are regular, else at once. Returns counts, times and reasons. Raises SchemaError when columns are missing
    or no time is usable, DataError when the file is empty, truncated or no table, ConfigError on wrong arguments; then
    nothing was written.
    """
    spec, path = _importable(name), Path(path)
    given = dict(constants or {})
    zone = _zone(given.pop("tz", None))
    scan = _open(path)
    columns, notes = _columns(spec, _names(path, scan), dict(mapping or {}), given)
    recipe = Recipe(
        spec=spec,
        columns=columns,
        constants=_typed_constants(spec, given),
        zone=zone,
        assets=None if known_assets is None else frozenset(known_assets),
        lag_s=None if lag is None else int(lag.total_seconds()),
    )
    profile = _profile(path, scan, recipe)
    recipe, derived = _resolve(recipe, profile)
    return _load(lake, path, scan, recipe, profile.rows, (*notes, *derived), progress)


def _importable(name: str) -> Table:
    if name not in IMPORTABLE:
        raise ConfigError(f"a file cannot be loaded into {name!r}; the tables for own data are {', '.join(IMPORTABLE)}")
    return table(name)


def _zone(given: Value) -> str | None:
    if given is not None and given not in available_timezones():
        raise ConfigError(f"tz={given!r} is no time zone; write for example tz=UTC or tz=Europe/Paris")
    return None if given is None else str(given)


def _open(path: Path) -> pl.LazyFrame:
    """Return the file lazily; CSV columns stay text, so that every value is read by the same rules."""
    if not path.is_file():
        raise DataError(f"there is no file {path}; give one Parquet or CSV file")
    with path.open("rb") as file:
        head = file.read(65_536)
    if not head.strip():
        raise DataError(f"{path} is empty: it holds no header and no rows; nothing was written")
    if head[:4] == b"PAR1":
        return pl.scan_parquet(path, glob=False, hive_partitioning=False)
    if path.suffix.lower() in {".parquet", ".pq"} or head[:2] in {b"PK", b"\x1f\x8b"} or b"\0" in head:
        raise DataError(
            f"{path} is neither Parquet nor CSV text (a packed archive, a spreadsheet or a broken file?); "
            "unpack or export it to CSV or Parquet first"
        )
    header = head.splitlines()[0].decode("utf-8", errors="replace")
    separator = max(",;\t|", key=header.count)
    return pl.scan_csv(path, infer_schema=False, separator=separator, glob=False)


def _names(path: Path, scan: pl.LazyFrame) -> list[str]:
    try:
        return scan.collect_schema().names()
    except (ComputeError, NoDataError) as error:
        raise DataError(f"{path} cannot be read as a table ({error}); write it again or convert it first") from error


def _columns(
    spec: Table, names: list[str], mapping: dict[str, str], constants: dict[str, Value]
) -> tuple[dict[str, str], list[str]]:
    """Return table column -> file column and notes; every wrong or missing name at once is a SchemaError."""
    unknown = [c for c in [*mapping, *constants] if c not in spec.columns]
    twice = [c for c in mapping if c in constants]
    if unknown or twice:
        raise ConfigError(
            f"table {spec.name} has no columns {unknown}, and {twice} are both mapped and set; "
            f"its columns are {', '.join(spec.columns)}"
        )
    absent = [f for f in mapping.values() if f not in names]
    columns = {c: mapping.get(c, c) for c in spec.columns if c not in constants}
    columns = {c: f for c, f in columns.items() if f in names}
    derived = {"source", "chain_id", "step"}
    missing = [c for c in spec.required if c not in columns and c not in constants and c not in derived]
    if absent or missing:
        raise SchemaError(
            f"table {spec.name} needs columns {missing or 'none more'}; mapped columns {absent} are not in the file, "
            f"which has {', '.join(names)}: rename with --map new=old or fill with --set column=value"
        )
    constants.update(
        {
            c: d
            for c, d in (("source", "file"), ("chain_id", 1))
            if c in spec.columns and c not in {*columns, *constants}
        }
    )
    unused = [n for n in names if n not in columns.values()]
    return columns, [f"file columns not in table {spec.name} were left out: {', '.join(unused)}"] if unused else []


def _typed_constants(spec: Table, constants: dict[str, Value]) -> dict[str, Value]:
    """Return the constants in the types of their columns; a wrong one is a ConfigError."""
    typed_values: dict[str, Value] = {}
    for name, value in constants.items():
        dtype = spec.columns[name]
        if name == "step" and isinstance(value, str | int):
            value = int(duration(value).total_seconds())  # noqa: PLW2901
        try:
            typed_values[name] = pl.Series([value]).cast(dtype, strict=True)[0] if dtype != pl.Binary else None
        except (PolarsError, TypeError) as error:
            raise ConfigError(f"{name}={value!r} does not fit table {spec.name}, where it is {dtype}") from error
        if typed_values[name] is None or typed_values[name] == "":
            raise ConfigError(f"{name}={value!r} cannot be set for every row of table {spec.name}")
    return typed_values


def _batches(path: Path, scan: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    try:
        yield from scan.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True)
    except ComputeError as error:
        raise DataError(f"{path} cannot be read to its end ({error}); it may be truncated, write it again") from error


def _profile(path: Path, scan: pl.LazyFrame, recipe: Recipe) -> _Profile:
    """Read the times once: count rows, refuse a file without usable times, measure how far apart rows are."""
    keys = [recipe.columns[c] for c in (*recipe.series, recipe.spec.time) if c in recipe.columns]
    time = recipe.columns[recipe.spec.time]
    rows = usable = naive_rows = 0
    counts: list[pl.DataFrame] = []
    wanted = keys if path.open("rb").read(4) == b"PAR1" else pl.all()  # a CSV is read whole: its ragged rows show now
    for batch in _batches(path, scan.select(wanted)):
        at, naive = times(batch[time], recipe.zone)
        rows, usable, naive_rows = rows + batch.height, usable + at.count(), naive_rows + int(naive.sum())
        frame = (
            at.alias("at")
            .to_frame()
            .with_columns(
                batch[recipe.columns[c]].cast(pl.String).alias(c)
                if c in recipe.columns
                else pl.lit(str(recipe.constants[c])).alias(c)
                for c in recipe.series
            )
        )
        frame = pl.DataFrame({"series": series_of(recipe, frame), "at": frame["at"]}).drop_nulls().sort("series", "at")
        gap = pl.col("at").diff().over("series").dt.total_seconds().alias("gap")
        counts.append(frame.select("series", gap).filter(pl.col("gap") > 0).group_by("series", "gap").len())
    if rows == 0:
        raise DataError(f"{path} has a header but no rows; nothing was written")
    if usable == 0:
        why = (
            "they carry no time zone: add --set tz=UTC if they are UTC"
            if naive_rows
            else "they are no ISO 8601 times nor Unix seconds, milliseconds or microseconds"
        )
        raise SchemaError(f"{path}: none of the {rows} values of {time!r} is a usable time; {why}; nothing was written")
    return _modal(rows, pl.concat(counts))


def _modal(rows: int, counts: pl.DataFrame) -> _Profile:
    gaps = (
        counts.group_by("series", "gap")
        .agg(pl.col("len").sum())
        .sort("series", "len", "gap", descending=[False, True, False])
    )
    share = pl.col("len").first() / pl.col("len").sum()
    modal = gaps.group_by("series", maintain_order=True).agg(pl.col("gap").first(), share.alias("share"))
    every = counts.group_by("gap").agg(pl.col("len").sum()).sort("len", "gap", descending=[True, False])
    return _Profile(
        rows=rows,
        spacing=dict(modal.select("series", "gap").iter_rows()),
        overall=every["gap"][0] if every.height else None,
        regular=frozenset(modal.filter(pl.col("share") >= DAILY_SHARE)["series"]),
    )


def _resolve(recipe: Recipe, profile: _Profile) -> tuple[Recipe, list[str]]:
    """Return the recipe with its spacings, and notes on what was derived; SchemaError where nothing tells."""
    spec = recipe.spec
    steps = [int(str(recipe.constants["step"]))] if "step" in recipe.constants else list(profile.spacing.values())
    if spec.name == "prices" and recipe.lag_s is not None and steps and recipe.lag_s < max(steps):
        raise ConfigError(
            f"a lag of {recipe.lag_s} s makes bars of {max(steps)} s known before the bar ends; give more"
        )
    step = spec.name == "prices" and "step" not in {*recipe.columns, *recipe.constants}
    late = spec.name != "prices" and "available_at" not in recipe.columns and recipe.lag_s is None
    if spec.name == "oracle" or not (step or late):
        return recipe, []
    if spec.name == "signals":
        spacing = {s: gap for s, gap in profile.spacing.items() if s in profile.regular}
        overall = 0
    elif profile.overall is None:
        raise SchemaError(
            f"table {spec.name}: no series has two times, so its spacing is unknown; "
            + ("add --set step=1h" if step else "add --lag 1h")
        )
    else:
        spacing, overall = profile.spacing, profile.overall
    said = ", ".join(f"{s} {gap} s" for s, gap in list(spacing.items())[:8]) or f"{overall} s"
    note = f"step from the modal spacing: {said}" if step else f"available_at = {spec.time} + modal spacing: {said}"
    return replace(recipe, spacing=spacing, default_spacing=overall), [note]


def _load(
    lake: Lake,
    path: Path,
    scan: pl.LazyFrame,
    recipe: Recipe,
    total: int,
    notes: tuple[str, ...],
    progress: Progress | None,
) -> ImportReport:
    """Write good rows batch by batch, set bad rows aside."""
    spec, seen = recipe.spec, _Seen()
    rejects = _Rejects(_reject_path(lake, path))
    done = added = updated = unchanged = 0
    reasons: dict[str, int] = {}
    bounds: list[datetime] = []
    for batch in _batches(path, scan):
        rows, problems = typed(recipe, batch)
        good = ~problems.bad(batch.height)
        hashes = rows.select(spec.key).filter(good).hash_rows()
        repeated = pl.repeat(value=False, n=batch.height, eager=True, dtype=pl.Boolean)
        repeated = repeated.scatter(good.arg_true(), seen.repeats(hashes))
        problems.add("duplicate key in the file", repeated)
        bad = problems.bad(batch.height)
        rejects.add(batch, problems, bad, done)
        for reason, flag in problems.flags.items():
            reasons[reason] = reasons.get(reason, 0) + int(flag.sum())
        report = lake.write(spec.name, rows.filter(~bad).sort(spec.time))
        added, updated, unchanged = added + report.added, updated + report.updated, unchanged + report.unchanged
        kept = rows.filter(~bad)[spec.time]
        bounds += [t for t in (kept.min(), kept.max()) if isinstance(t, datetime)]
        done += batch.height
        if progress is not None:
            progress(f"import {path.name}", done, total)
    return ImportReport(
        table=spec.name,
        path=str(path),
        rows=done,
        added=added,
        updated=updated,
        unchanged=unchanged,
        rejected=done - added - updated - unchanged,
        reject_path=rejects.close(),
        reasons=dict(sorted(reasons.items(), key=lambda item: -item[1])),
        first=min(bounds, default=None),
        last=max(bounds, default=None),
        notes=notes,
    )


def _reject_path(lake: Lake, path: Path) -> Path:
    """Return where bad rows go: beside the file, or beside the lake when the file's folder is read-only."""
    name = f"{path.name}.rejects.parquet"
    writable = path.parent.stat().st_mode & 0o222 and os.access(path.parent, os.W_OK)
    if writable:
        return path.parent / name
    return (Path.cwd() if "://" in lake.root else Path(lake.root).parent) / name


class _Rejects:
    """Bad rows as they stand in the file, with ``row`` (1 = first data row) and ``reason``, spilled batch by batch."""

    def __init__(self, path: Path) -> None:
        """Start over: remove what an earlier import of the same file left."""
        self.path = path
        self.parts: list[Path] = []
        for old in [path, *path.parent.glob(f"{path.name}.part*")]:
            old.unlink(missing_ok=True)

    def add(self, batch: pl.DataFrame, problems: Problems, bad: pl.Series, before: int) -> None:
        """Set the bad rows of a batch aside; ``before`` rows of the file came before it."""
        if not bad.any():
            return
        numbered = batch.with_columns(
            row=pl.int_range(before + 1, before + 1 + batch.height), reason=problems.reasons()
        )
        part = self.path.with_name(f"{self.path.name}.part{len(self.parts)}")
        part.parent.mkdir(parents=True, exist_ok=True)
        numbered.select("row", "reason", pl.exclude("row", "reason")).filter(bad).write_parquet(part)
        self.parts.append(part)

    def close(self) -> str | None:
        """Join the parts into one file and return its path; None where no row was bad."""
        if not self.parts:
            return None
        whole = self.path.with_name(f"{self.path.name}.part")
        pl.scan_parquet(self.parts, glob=False).sink_parquet(whole)
        whole.replace(self.path)
        for part in self.parts:
            part.unlink()
        return str(self.path)
