"""Bring data in: collect the configured sources, load the user's own files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from lake.errors import ConfigError
from lake.ingest import IngestReport, run
from lake.sources.files import ImportReport, import_file
from lake.units import duration, utc
from pipelines.progress import Progress, silent
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
        first = min(start, _sample_start(settings)) if source.name.startswith("sample:") else start
        reports.append(run(lake, source, first, end))
    progress("ingest", len(chosen), len(chosen))
    return reports


def _sample_start(settings: Settings) -> datetime:
    sample = settings.sources.sample
    return now() if sample is None else utc(sample.start)


def import_table(
    settings: Settings,
    table: str,
    file: Path,
    mapping: dict[str, str],
    constants: dict[str, str],
    lag: str | None,
    progress: Progress = silent,
) -> ImportReport:
    """Load one Parquet or CSV file into ``table``; see ``lake.sources.files.import_file``."""
    return import_file(
        lake_of(settings), table, file, mapping, constants, lag=duration(lag) if lag else None, progress=progress
    )


def as_rows(reports: Sequence[IngestReport]) -> list[dict[str, Any]]:
    """Return one plain record a report, for tables, artifacts and JSON."""
    return [
        {
            "source": r.source, "table": r.table, "added": r.added, "updated": r.updated,
            "gaps": len(r.gaps), "newest": None if r.freshness is None else r.freshness.isoformat(),
        }
        for r in reports
    ]  # fmt: skip
