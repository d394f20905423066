"""What an ingest collected, as plain records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lake.ingest import IngestReport


def as_rows(reports: Sequence[IngestReport]) -> list[dict[str, Any]]:
    """Return one plain record a report, for tables, artifacts and JSON."""
    return [
        {
            "source": r.source, "table": r.table, "added": r.added, "updated": r.updated,
            "gaps": len(r.gaps), "flagged": r.flagged,
            "newest": None if r.freshness is None else r.freshness.isoformat(),
        }
        for r in reports
    ]  # fmt: skip
