"""Import of the user's own files: recognised, streamed, checked row by row, rejects kept beside the file.

The file is read twice in batches: once for its times and number marks (are they usable, how far apart are rows), once
to load it. Every batch is one atomic write of rows that replace themselves when repeated, so an import that was
killed is simply run again. What it wrote over is kept first, so that ``lake.imports.undo`` can put it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dataframely as dy
import polars as pl
from polars.exceptions import ComputeError

from lake.errors import ConfigError, DataError, SchemaError
from lake.imports import Recorder, identity
from lake.plausibility import flagged
from lake.sources.columns import assure_types, columns_of, importable, scale_of, typed_constants, zone_of
from lake.sources.formats import FileShape, described, shaped
from lake.sources.marks import misread
from lake.sources.reading import Opened, Reading, feather, names_of, opened, scan_text
from lake.sources.rejects import Rejects, SeenKeys, reject_path
from lake.sources.rows import Problems, Recipe, Value, series_of, typed
from lake.sources.spacing import Spacing, spacing, too_early
from lake.sources.stamps import times
from lake.store import Lake
from lake.units import HOUR_S

BATCH_ROWS = 500_000  # about 150 MB in flight; smaller batches make more, smaller files
SHOWN = 3  # examples of each reason in the report

Progress = Callable[[str, int, int], None]
"""Called with what is being done, rows done and rows in all, after every batch."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What one import did. ``rows = added + updated + unchanged + rejected``; ``reasons`` counts rows by reason.

    A row may have several reasons; ``examples`` shows row and value of the first of each. ``first`` and ``last`` bound
    the times of the loaded rows. ``import_id`` takes the import out again (``lake.imports.undo``). ``steps`` is the
    spacing of each series in seconds, ``columns`` table column -> file column, ``left_out`` the file columns not
    loaded, ``notes`` what was derived, ``flagged`` the rows held back until they are accepted (columns as in
    ``lake.plausibility``).
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
    import_id: str = ""
    steps: Mapping[str, int] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    duplicates: int = 0
    examples: tuple[str, ...] = ()
    flagged: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class _Source:
    """A file ready to be read in batches: its rows under the file's own names, and what kind of file it is."""

    path: Path
    scan: pl.LazyFrame
    kind: str
    separator: str = ","
    scale: Mapping[str, float] = field(default_factory=dict)
    grid_s: tuple[int, ...] = ()

    @property
    def is_text(self) -> bool:
        """Whether every value is text as it stands in the file."""
        return self.kind in {"csv", "json"}


@dataclass(frozen=True, slots=True)
class _Profile:
    """What the first pass learnt: rows, and how far apart they are."""

    rows: int
    spacing: Spacing


@dataclass(frozen=True, slots=True)
class Beforehand:
    """What is known of the rows of a file beside the file: how long after its time each became known, and what can be.

    ``lag`` sets ``available_at = time + lag``. ``assets`` are those that may be named (None: any). ``now`` bounds what
    can be known (None: the present).
    """

    lag: timedelta | None = None
    assets: frozenset[str] | None = None
    now: datetime | None = None


def import_file(
    lake: Lake,
    name: str,
    path: str | Path,
    mapping: Mapping[str, str] | None = None,
    constants: Mapping[str, Value] | None = None,
    known: Beforehand | None = None,
    progress: Progress | None = None,
    *,
    reading: Reading | None = None,
) -> ImportReport:
    """Load a file into table ``name``; bad rows go to ``<file>.rejects.csv`` (or ``.parquet``) with their reasons.

    ``mapping`` renames (table column -> file column); ``constants`` fills table columns (``step`` may be ``"1h"``),
    and ``tz`` among them says what times without a zone are. Without a lag in ``known``
    and without such a column a bar is known at its end, gas and pool rows one modal spacing after their time, signals
    too when they are regular, else at once. ``reading`` says how the file is written. Raises SchemaError when columns
    are missing, no time is usable or rows of one series have several lengths, DataError when the file is empty,
    truncated or no table, ConfigError on wrong arguments; then nothing was written.
    """
    spec, path, reading, known = importable(name), Path(path), reading or Reading(), known or Beforehand()
    given, asked = dict(constants or {}), dict(mapping or {})
    arguments = [name, sorted(asked.items()), sorted(given.items()), known.lag, reading.preset, reading]
    with opened(path, reading) as file:
        shape, separator = _shape(file, reading, name)
        source = _Source(path, shape.scan, file.kind, separator, dict(shape.scale), shape.grid_s)
        given = {**{c: v for c, v in shape.constants.items() if c not in asked}, **given}
        renamed = {c: f for c, f in shape.mapping.items() if c not in given} | asked
        zone = zone_of(given.pop("tz", None))
        columns, left_out = columns_of(spec, names_of(path, shape.scan), renamed, given)
        assure_types(spec, columns, shape.scan.collect_schema())
        scale, units = scale_of(columns, shape)
        recipe = Recipe(
            spec=spec,
            columns=columns,
            constants=typed_constants(spec, given),
            zone=zone,
            assets=known.assets,
            lag_s=None if known.lag is None else int(known.lag.total_seconds()),
            decimal=reading.decimal or ".",
            thousands=reading.thousands,
            scale=scale,
            now=known.now or datetime.now(UTC),
        )
        marks = source.is_text and reading.decimal is None and reading.thousands is None
        profile = _profile(source, recipe, marks=marks)
        source, profile = _on_grid(source, recipe, profile)
        recipe, derived = _resolve(recipe, profile)
        unused = f"file columns not in table {spec.name} were left out: {', '.join(left_out)}"
        derived += [unused] if left_out else []
        said = (*file.notes, *shape.notes, *units, *_defaults(recipe, given), *derived)
        record = Recorder.begin(lake, identity(path, arguments), name, str(path))
        report = _load(lake, source, recipe, profile.rows, record, progress)
    report = replace(report, notes=said, columns=columns, left_out=left_out)
    record.done(
        report.rows, report.added, report.updated, report.rejected, (report.first, report.last), "; ".join(said)
    )
    return report


def _shape(file: Opened, reading: Reading, name: str) -> tuple[FileShape, str]:
    """Return the rows of the file under its own names, and its separator."""
    if reading.preset is not None:
        return shaped(reading.preset, name, file, reading), ","
    if file.kind == "json":
        raise DataError(f"{file.path} is {described(file)}; nothing was written")
    if file.kind == "csv":
        scan, separator = scan_text(file, reading)
        names = names_of(file.path, scan)
        return FileShape(scan.rename({n: n.strip() for n in names if n.strip() and n.strip() != n})), separator
    if file.kind == "feather":
        return FileShape(feather(file)), ","
    return FileShape(pl.scan_parquet(file.text, glob=False, hive_partitioning=False)), ","


def _defaults(recipe: Recipe, given: Mapping[str, Value]) -> list[str]:
    """Say what was filled in for all rows, and how the bars are used."""
    filled = [f"{c}={given[c]}" for c in ("source", "chain_id", "asset", "name", "key", "step") if c in given]
    notes = [f"set for all rows: {', '.join(filled)}"] if filled else []
    if recipe.zone is not None:
        notes.append(f"times without a zone are read as {recipe.zone}")
    return notes


def _on_grid(source: _Source, recipe: Recipe, profile: _Profile) -> tuple[_Source, _Profile]:
    """Round the times of a series of snapshots down to the nearest usual step, where the format says so."""
    if not source.grid_s or "step" in recipe.constants or profile.spacing.overall is None:
        return replace(source, grid_s=()), profile
    step = min(source.grid_s, key=lambda s: abs(s - (profile.spacing.overall or 0)))
    source = replace(source, grid_s=(step,))
    return source, _profile(source, recipe, marks=False)


def _batches(source: _Source, columns: list[str] | None = None) -> Iterator[pl.DataFrame]:
    scan = source.scan if columns is None else source.scan.select(columns)
    try:
        yield from scan.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True)
    except (ComputeError, OSError) as error:
        short = " ".join(str(error).split())[:160]
        raise DataError(
            f"{source.path} cannot be read to its end ({short}); a row with too many fields, or a truncated file: "
            "look at it, write it again"
        ) from error


def _profile(source: _Source, recipe: Recipe, *, marks: bool) -> _Profile:
    """Read the times once: count rows, refuse a file without usable times, measure how far apart rows are."""
    keys = [recipe.columns[c] for c in (*recipe.series, recipe.spec.time) if c in recipe.columns]
    wanted = list(dict.fromkeys(keys))
    time = recipe.columns[recipe.spec.time]
    rows = usable = naive_rows = 0
    counts: list[pl.DataFrame] = []
    shown: list[str] = []
    for batch in _batches(source, None if source.is_text else wanted):  # text whole: its ragged rows show now
        at, naive = times(batch[time], recipe.zone, recipe.now)
        if marks:
            _assure_marks(source, recipe, batch, rows)
        rows, usable, naive_rows = rows + batch.height, usable + at.count(), naive_rows + int(naive.sum())
        shown += [repr(v) for v in batch[time].filter(at.is_null()).drop_nulls().head(SHOWN)]
        on_grid = at.dt.truncate(f"{source.grid_s[0]}s") if len(source.grid_s) == 1 else at
        counts.append(_gap_counts(recipe, batch, on_grid))
    if rows == 0:
        raise DataError(f"{source.path} has a header but no rows; nothing was written")
    if usable == 0:
        what = (
            "they carry no time zone: add --tz UTC (or --set tz=UTC) if they are UTC"
            if naive_rows and recipe.zone is None
            else "they are no ISO 8601 times, nor Unix seconds, ms, us or ns, compact dates or Excel days between "
            "2009-01-01 and now"
        )
        raise SchemaError(
            f"{source.path}: none of the {rows} values of {time!r} ({', '.join(shown[:SHOWN])}) is a usable time; "
            f"{what}; nothing was written"
        )
    return _Profile(rows, spacing(counts))


def _gap_counts(recipe: Recipe, batch: pl.DataFrame, at: pl.Series) -> pl.DataFrame:
    """Return how often each gap between successive times of a series occurs in a batch, and how often in a row."""
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
    gaps = frame.select("series", gap).filter(pl.col("gap") > 0)
    runs = gaps.with_columns(run=pl.struct("series", "gap").rle_id())
    by_run = runs.group_by("run").agg(pl.col("series", "gap").first(), pl.len())
    return by_run.group_by("series", "gap").agg(pl.col("len").sum(), run=pl.col("len").max())


def _assure_marks(source: _Source, recipe: Recipe, batch: pl.DataFrame, before: int) -> None:
    """Refuse number marks that nobody named, before anything is written."""
    for name, column in recipe.columns.items():
        if isinstance(recipe.spec.schema.columns()[name], dy.Float64 | dy.Int64):
            found = misread(column, batch[column], source.separator, before)
            if found:
                raise SchemaError(f"{source.path}: {found}; nothing was written")


def _resolve(recipe: Recipe, profile: _Profile) -> tuple[Recipe, list[str]]:
    """Return the recipe with its spacings, and notes on what was derived; SchemaError where nothing tells."""
    spec, found = recipe.spec, profile.spacing
    steps = [int(str(recipe.constants["step"]))] if "step" in recipe.constants else list(found.by_series.values())
    if spec.name == "prices" and recipe.lag_s is not None and steps and recipe.lag_s < max(steps):
        raise ConfigError(
            f"a lag of {recipe.lag_s} s makes bars of {max(steps)} s known before the bar ends; give more"
        )
    step = spec.name == "prices" and "step" not in {*recipe.columns, *recipe.constants}
    late = spec.name != "prices" and "available_at" not in recipe.columns and recipe.lag_s is None
    if spec.snapshot and late:
        return recipe, [f"a row of {spec.name} is known at its {spec.time}; --lag says later"]
    if spec.name == "oracle" or not (step or late):
        given = int(str(recipe.constants["step"])) if spec.name == "prices" and "step" in recipe.constants else None
        return recipe, too_early(given, found)
    remedy = "import them apart, or add --set step=LONGEST" if step else "import them apart, or add --lag 1d"
    mixed = [m for m in found.mixed if spec.name != "signals" or m.rsplit(": ", 1)[0] in found.regular]
    if mixed:
        raise SchemaError(
            f"table {spec.name}: rows of one series have several spacings ({'; '.join(mixed[:3])}), so when each was "
            f"known cannot be told; {remedy}; nothing was written"
        )
    if spec.name == "signals":
        by_series = {s: gap for s, gap in found.by_series.items() if s in found.regular}
        overall = 0
    elif found.overall is None:
        raise SchemaError(
            f"table {spec.name}: no series has two times, so its spacing is unknown; "
            + ("add --set step=1h" if step else "add --lag 1h")
        )
    else:
        by_series, overall = found.by_series, found.overall
    said = ", ".join(f"{s} {gap} s" for s, gap in list(by_series.items())[:8]) or f"{overall} s"
    note = f"step from the modal spacing: {said}" if step else f"available_at = {spec.time} + modal spacing: {said}"
    return replace(recipe, spacing=by_series, default_spacing=overall), [note]


def _load(
    lake: Lake, source: _Source, recipe: Recipe, total: int, record: Recorder, progress: Progress | None
) -> ImportReport:
    """Write good rows batch by batch, set bad rows aside."""
    spec, seen, path = recipe.spec, SeenKeys(), source.path
    rejects = Rejects(reject_path(lake, path, is_text=source.is_text), as_csv=source.is_text)
    done = added = updated = unchanged = 0
    reasons: dict[str, int] = {}
    examples: list[str] = []
    bounds: list[datetime] = []
    steps: dict[str, int] = {}
    for batch in _batches(source):
        rows, problems = typed(recipe, batch)
        if source.grid_s and "step" in rows.columns:
            rows = _rounded(rows, source.grid_s[0])
        good = ~problems.bad(batch.height)
        hashes = rows.select(spec.key).filter(good).hash_rows()
        repeated = pl.repeat(value=False, n=batch.height, eager=True, dtype=pl.Boolean)
        repeated = repeated.scatter(good.arg_true(), seen.repeats(hashes))
        problems.add("duplicate key in the file", repeated)
        bad = problems.bad(batch.height)
        rejects.add(batch, problems, bad, done)
        examples += _examples(recipe, batch, problems, reasons, done)
        for reason, flag in problems.flags.items():
            reasons[reason] = reasons.get(reason, 0) + int(flag.sum())
        kept = rows.filter(~bad).sort(spec.time)
        record.ahead(kept)
        report = lake.write(spec.name, kept)
        added, updated, unchanged = added + report.added, updated + report.updated, unchanged + report.unchanged
        bounds += [t for t in (kept[spec.time].min(), kept[spec.time].max()) if isinstance(t, datetime)]
        late = (pl.col("available_at") - pl.col(spec.time)).dt.total_seconds().max()
        steps |= dict(kept.group_by(series_of(recipe, kept).alias("series")).agg(late).iter_rows())
        done += batch.height
        if progress is not None:
            progress(f"import {path.name}", done, total)
    first = min(bounds, default=None)
    waiting = () if first is None else tuple(flagged(lake, spec.name, since=first).to_dicts())
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
        first=first,
        last=max(bounds, default=None),
        import_id=record.import_id,
        steps=steps,
        duplicates=reasons.get("duplicate key in the file", 0),
        examples=tuple(examples),
        flagged=waiting,
    )


def _rounded(rows: pl.DataFrame, step_s: int) -> pl.DataFrame:
    """Return bars whose times are rounded down to their step; a rounded bar is known a step later than its start."""
    start = pl.col("ts").dt.truncate(f"{step_s}s")
    known = pl.max_horizontal("available_at", start + pl.duration(seconds=step_s))
    return rows.with_columns(ts=start, available_at=known)


def _examples(
    recipe: Recipe, batch: pl.DataFrame, problems: Problems, seen: Mapping[str, int], before: int
) -> list[str]:
    """Return row and value of the first of each reason not seen before."""
    out = []
    for reason, flag in problems.flags.items():
        if reason in seen:
            continue
        at = int(flag.arg_true()[0])
        column = recipe.columns.get(reason.split(" ", 1)[0])
        value = f"{column}={batch[column][at]!r}, " if column else ""
        out.append(f"row {before + at + 1}: {value}{reason}")
    return out


def longer_than_an_hour(report: ImportReport) -> list[str]:
    """Return the price series of an import that nothing will use: decisions and forecasts read bars up to an hour."""
    return [s for s, step in report.steps.items() if report.table == "prices" and step > HOUR_S]
