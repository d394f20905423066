"""What ``foredrift mandate report`` prints: the figures of the page and everything that does not add up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from pipelines.reports import terminal


def reported(head: Mapping[str, Any], findings: pl.DataFrame) -> None:
    """Print the figures of a report, then its findings."""
    f = head["figures"]
    outside = "not measured" if f["minutes_outside"] is None else f"{f['minutes_outside']:.2f} min"
    used = "-" if f["largest_window_use"] is None else f"{100 * f['largest_window_use']:.1f} %"
    rows = [
        ["blocks", f"{f['blocks']}"],
        ["decisions (live)", f"{f['decisions']} ({f['live']})"],
        ["taken again alike", f"{f['replayed_same']} of {f['replayed_same'] + f['replayed_different']}"],
        ["plans traded", f"{f['traded']}"],
        ["refusals", f"{f['refusals']}"],
        ["outside tolerance", outside],
        ["short loss budget used at most", used],
        ["mandate versions", f"{f['versions']}"],
        ["manual actions", f"{f['actions']}"],
        ["audit head", head["audit"]["head"] or "none"],
    ]
    terminal.table(f"{head['name']}, {head['from']} to {head['to']}", ["", ""], rows, whole=1)
    if findings.is_empty():
        terminal.say("record, lake and chain agree, in every direction")
        return
    told = [[row["kind"], row["words"]] for row in findings.iter_rows(named=True)]
    terminal.table(f"{len(told)} findings, {f['faults']} of them faults", ["kind", "what"], told, whole=1)


def rehearsed(outcomes: Mapping[str, int], tables: Mapping[str, pl.DataFrame]) -> dict[str, int]:
    """Print what the decisions of a rehearsal came to, and what was refused; return the refusals by check."""
    terminal.table("Rehearsed", ["outcome", "decisions"], [[k, str(n)] for k, n in sorted(outcomes.items())])
    failed = tables["verdicts"].filter(~pl.col("ok"))
    counts = (
        failed.group_by("check").agg(pl.len(), pl.col("reason").last()).sort("len", "check", descending=[True, False])
    )
    if counts.is_empty():
        terminal.say("nothing would have been refused")
        return {}
    rows = [[check, str(n), reason] for check, n, reason in counts.iter_rows()]
    terminal.table("Would have been refused", ["check", "times", "the last time"], rows, whole=2)
    return dict(counts.select("check", "len").iter_rows())


def anchored(result: Mapping[str, Any]) -> None:
    """Print what was asked to be anchored, and what became of every earlier request."""
    rows = [
        [str(a["of"]), a["head"], a["plan_hash"] or "no plan yet", "true" if a["true"] else "NOT the record's"]
        for a in result["anchors"]
    ]
    terminal.table(f"Anchors of {result['deployment']}", ["record", "head", "plan hash", "state"], rows, whole=1)
    if result["due"]:
        terminal.say(f"the next executed plan carries {result['due']}")
