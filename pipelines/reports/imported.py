"""What people see of imports: what was read, derived, left out, set aside and held back; and the lake's own record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipelines.reports.terminal import say, table

if TYPE_CHECKING:
    from lake.sources.files import ImportReport

SHOWN = 8  # steps and flagged rows printed; all are in the JSON
_REMEDY = {
    "has no time zone": "times without a zone are refused: add --tz UTC if they are UTC",
    "is no number": "numbers in another notation: see --decimal and --thousands",
}


def import_report(report: ImportReport) -> None:
    """Print what an import did, what it derived, where its rejects are and what is held back."""
    say(
        f"{report.rows:,} rows read: {report.added:,} added, {report.updated:,} changed, ",
        f"{report.unchanged:,} there already, ",
        (f"{report.rejected:,} rejected", "red" if report.rejected else "green"),
    )
    if report.first is not None:
        steps = [f"{series} {step} s" for series, step in list(report.steps.items())[:SHOWN]]
        more = f" and {len(report.steps) - SHOWN} more" if len(report.steps) > SHOWN else ""
        say(f"times: {report.first.isoformat()} .. {report.last.isoformat() if report.last else '-'}")
        say(f"known after: {', '.join(steps)}{more}")
    say(f"columns: {', '.join(c if c == f else f'{c} from {f}' for c, f in report.columns.items())}")
    say(f"left out: {', '.join(report.left_out) or 'none'}; duplicates: {report.duplicates}")
    for note in report.notes:
        say(f"  {note}")
    for line in unused(report):
        say(("→", "yellow"), f" {line}")
    if report.rejected:
        table("Rejected", ["reason", "rows"], sorted(report.reasons.items(), key=lambda r: -r[1]))
        for line in report.examples[:SHOWN]:
            say(f"  {line}")
        for line in remedies(report):
            say(("→", "yellow"), f" {line}")
        say(f"the rejected rows with their reason: {report.reject_path}")
    for row in report.flagged[:SHOWN]:
        say(("→", "yellow"), f" {row['series']} {row['ts'].isoformat()}: {row['text']}")
    if report.flagged:
        say(
            f"{len(report.flagged)} implausible rows are held back from decisions until confirmed: "
            f"foredrift lake accept {report.import_id} --note WHY; or take it out: "
            f"foredrift lake undo {report.import_id}"
        )
    say(f"import {report.import_id}")


def unused(report: ImportReport) -> list[str]:
    """Return what to say about bars that nothing will use."""
    from lake.sources.files import longer_than_an_hour

    longer = longer_than_an_hour(report)
    if not longer:
        return []
    said = (
        f"bars longer than an hour are stored but unused: {', '.join(longer[:SHOWN])}; decisions, forecasts and "
        "comparisons read bars of one hour or less, so import hourly bars as well"
    )
    return [said]


def remedies(report: ImportReport) -> list[str]:
    """Return what to do about the reasons for which rows were rejected."""
    return [do for what, do in _REMEDY.items() if any(reason.endswith(what) for reason in report.reasons)]


def import_json(report: ImportReport) -> dict[str, Any]:
    """Return an import report as plain data."""
    return {
        "table": report.table, "rows": report.rows, "added": report.added, "updated": report.updated,
        "unchanged": report.unchanged, "rejected": report.rejected, "reasons": dict(report.reasons),
        "reject_path": None if report.reject_path is None else str(report.reject_path),
        "import_id": report.import_id, "first": _iso(report.first), "last": _iso(report.last),
        "steps_s": dict(report.steps), "columns": dict(report.columns), "left_out": list(report.left_out),
        "duplicates": report.duplicates, "notes": [*report.notes, *unused(report)], "examples": list(report.examples),
        "remedies": remedies(report),
        "flagged": [{k: _iso(v) if isinstance(v, datetime) else v for k, v in row.items()} for row in report.flagged],
    }  # fmt: skip


def imports(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the imports of a lake, oldest first."""
    if not rows:
        say("no file was imported yet")
        return
    names = ["import_id", "ts", "state", "table", "rows", "added", "updated", "first", "last", "sha256", "file"]
    short = {"ts": 19, "first": 16, "last": 16, "sha256": 12}
    shown = [[r[n][: short[n]] if n in short and r[n] else r[n] for n in names] for r in rows]
    table("Imports", names, shown, right_from=99, whole=3)


def undone(report: Mapping[str, Any]) -> None:
    """Print what an undo did."""
    if report["already"]:
        say(f"import {report['import_id']} was undone before; nothing to do")
        return
    left = f"; {report['left']:,} rows were written again since and stay" if report["left"] else ""
    say(
        f"import {report['import_id']} undone: {report['removed']:,} rows removed from {report['table']}, "
        f"{report['restored']:,} put back as they were{left}"
    )


def flagged(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the implausible rows that wait to be accepted."""
    if not rows:
        say("no implausible rows wait")
        return
    names = ["table", "series", "ts", "reason", "before", "value"]
    table("Held back until accepted", names, [[r[n] for n in names] for r in rows], right_from=4)
    say("confirm with: foredrift lake accept TABLE --series SERIES --start TIME --end TIME --note WHY")


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
