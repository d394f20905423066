"""Bring data in: collect the configured sources, load the user's own files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from lake.errors import ConfigError
from lake.imports import imports, undo
from lake.ingest import IngestReport, run
from lake.plausibility import accept, flagged
from lake.sources.files import Beforehand, ImportReport, import_file
from lake.sources.reading import Reading
from lake.store import Lake
from lake.units import duration, utc
from pipelines.progress import Progress, silent
from pipelines.sections import SampleSection
from pipelines.settings import Settings
from pipelines.wiring import lake_of, now, sources_of

DEFAULT_HISTORY = timedelta(days=540)


def source_names(settings: Settings) -> list[str]:
    """Return the names of the configured sources, in the order they are collected."""
    return [source.name for source in sources_of(settings)]


def ingest_all(
    settings: Settings, names: Sequence[str], since: str | None, until: str | None, progress: Progress = silent
) -> list[IngestReport]:
    """Collect the named sources (all when empty) into the lake; each goes on where the lake ends.

    A name may also be a prefix such as ``exchange``. Raises ConfigError on an unknown name or without any source.
    """
    known = sources_of(settings)
    chosen = [s for s in known if not names or any(s.name == n or s.name.startswith(n + ":") for n in names)]
    if not chosen:
        listed = ", ".join(s.name for s in known) or "none: add a [sources.*] section or use `foredrift import`"
        raise ConfigError(f"no source matches {list(names)}; configured are {listed}")
    end = utc(until) if until else now()
    start = utc(since) if since else end - DEFAULT_HISTORY
    lake = lake_of(settings)
    reports = []
    for i, source in enumerate(chosen):
        progress(f"ingest {source.name}", i, len(chosen))
        first = _sample_start(settings.sources.sample, since, end) if source.name.startswith("sample:") else start
        reports.append(run(lake, source, first, end))
    progress("ingest", len(chosen), len(chosen))
    return reports


def _sample_start(sample: SampleSection | None, since: str | None, end: datetime) -> datetime:
    """Return the first hour to take of the simulated market: its own where it is a closed span, else as configured."""
    if sample is not None and sample.start and sample.hours:
        return min(utc(since), utc(sample.start)) if since else utc(sample.start)
    if since:
        return utc(since)
    from lake.sources.sample import HOURS

    return end - timedelta(hours=(sample.hours if sample else None) or HOURS)


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How a file is to be loaded: ``mapping``, ``constants``, ``lag`` and ``reading`` as of import_file."""

    mapping: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    lag: str | None = None
    reading: Reading = field(default_factory=Reading)


def import_table(lake: Lake, table: str, file: Path, how: ImportOptions, progress: Progress = silent) -> ImportReport:
    """Load one file into ``table``; see ``lake.sources.files.import_file``."""
    return import_file(
        lake, table, file, how.mapping, how.constants, Beforehand(duration(how.lag) if how.lag else None, now=now()),
        progress, reading=how.reading,
    )  # fmt: skip


def imports_of(lake: Lake) -> list[dict[str, Any]]:
    """Return every import of the project's lake, oldest first, as plain records (times as ISO text)."""
    return [_plain(row) for row in imports(lake).to_dicts()]


def undo_import(lake: Lake, import_id: str) -> dict[str, Any]:
    """Take one import out of the lake again; see ``lake.imports.undo``."""
    return asdict(undo(lake, import_id))


def flagged_rows(lake: Lake) -> list[dict[str, Any]]:
    """Return the implausible rows that wait for ``foredrift lake accept``, as plain records."""
    return [_plain(row) for name in ("prices", "gas") for row in flagged(lake, name).to_dicts()]


def accept_rows(
    lake: Lake, what: str, series: str | None, start: str | None, end: str | None, note: str
) -> dict[str, Any]:
    """Confirm implausible rows: those of an import (``what`` is its id) or of a table (prices, gas) by series and time.

    Raises ConfigError when nothing that waits matches.
    """
    names, first, last = ["prices", "gas"], start, end
    if what not in names:
        found = [r for r in imports(lake).to_dicts() if r["import_id"].startswith(what)]
        if len(found) != 1:
            raise ConfigError(f"{what!r} is neither prices, gas nor one import's id (foredrift lake imports)")
        names, first, last = [found[0]["table"]], start or _iso(found[0]["first"]), end or _iso(found[0]["last"])
    else:
        names = [what]
    waiting = flagged(lake, names[0])
    if series is not None:
        waiting = waiting.filter(pl.col("series") == series)
    if first is not None:
        waiting = waiting.filter(pl.col("ts") >= utc(first))
    if last is not None:
        waiting = waiting.filter(pl.col("ts") <= utc(last))
    if waiting.is_empty():
        raise ConfigError(f"no implausible rows wait under {what!r} with these bounds (foredrift lake flagged)")
    for key, ts in waiting.select("series", "ts").iter_rows():
        accept(lake, names[0], key, ts, ts, note)
    return {"table": names[0], "accepted": waiting.height, "note": note}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {k: _iso(v) if isinstance(v, datetime) else v for k, v in row.items()}


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
