"""The self-contained page of a mandate report, and its tables as CSV and Parquet: the same bytes everywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2
import polars as pl

PAGE = "mandate.html"
SUMS = "SHA256SUMS"
SHOWN = 2_000
"""Most rows of a table on the page; the files have them all."""
TITLES = {
    "findings": ("What does not add up", "Record, chain and lake held against each other, in every direction."),
    "versions": ("Mandate versions in force", "By the vault's events; hash: sha256 of the content as canonical JSON."),
    "terms": ("Terms that decisions were taken on", "What the chain does not hold, as recorded with each decision."),
    "roles": ("Who may do what", "Before the first block of the period and after its last."),
    "actions": ("Manual actions", "Everything done by hand, on the chain and in the lake."),
    "holders": ("Holders", "Shares after the last block, by the share token's own transfers."),
    "tolerance": ("Time outside tolerance", "Block by block: holdings by transfers, prices by the feeds' rounds."),
    "outside": ("Each time outside", ""),
    "losses": ("Loss budgets", "By the vault's record, billionths of NAV: the plan's, and in the window it ends."),
    "decisions": ("Decisions", "Replay: taken again from the record alone."),
    "refusals": ("Refusals", "What was refused, and by which check."),
    "settlements": ("Settlements", "What became of each plan, with the event that says so."),
    "fills": ("Settled against planned", "Raw token units; off: against the amount quoted, in basis points."),
    "anchors": ("Anchors", "Heads of the audit chain that a plan's hash bound to the chain."),
    "forecasts": ("Forecasts that decisions had", ""),
    "verdicts": ("Verdicts", ""),
}
"""The tables in the order of the page, each with what it is."""
FILES_ONLY = frozenset({"verdicts", "forecasts"})
"""Tables too long for a page: they are counted there and written beside it."""
HIDDEN = {"decisions": {"record", "seq", "weights_before", "digest_again", "plan_hash_again"}, "versions": {"number"}}
LONG = frozenset({"content", "what", "why", "words", "reason", "note", "replay"})


def files_of(head: Mapping[str, Any], tables: Mapping[str, pl.DataFrame]) -> dict[str, bytes]:
    """Return every file of a report by its name: the page, each table as CSV and Parquet, the sums of them all."""
    found = {PAGE: render(head, tables).encode()}
    for name, table in tables.items():
        found[f"{name}.csv"] = table.write_csv(datetime_format="%Y-%m-%dT%H:%M:%SZ").encode()
        found[f"{name}.parquet"] = _parquet(table)
    found["report.json"] = (json.dumps(head, indent=1, sort_keys=True, default=str) + "\n").encode()
    sums = "".join(f"{sha256(data).hexdigest()}  {name}\n" for name, data in sorted(found.items()))
    return found | {SUMS: sums.encode()}


def _parquet(table: pl.DataFrame) -> bytes:
    import io

    into = io.BytesIO()
    table.write_parquet(into, compression="zstd", statistics=False)
    return into.getvalue()


def write(out: Path, files: Mapping[str, bytes]) -> Path:
    """Write a report's files into folder ``out``, the page last; return the page."""
    out.mkdir(parents=True, exist_ok=True)
    for name, data in sorted(files.items(), key=lambda item: item[0] == PAGE):
        scratch = out / f"{name}.part"
        scratch.write_bytes(data)
        scratch.replace(out / name)
    return out / PAGE


def render(head: Mapping[str, Any], tables: Mapping[str, pl.DataFrame]) -> str:
    """Return the page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    sections = [_section(name, tables[name]) for name in TITLES if name in tables]
    return environment.get_template("mandate.html.j2").render(head=head, figures=head["figures"], sections=sections)


def _section(name: str, table: pl.DataFrame) -> dict[str, Any]:
    title, words = TITLES[name]
    columns = [c for c in table.columns if c not in HIDDEN.get(name, ())]
    rows = [] if name in FILES_ONLY else [
        [_cell(c, v) for c, v in zip(columns, row, strict=True)]
        for row in table.select(columns).head(SHOWN).iter_rows()
    ]  # fmt: skip
    return {
        "name": name, "title": title, "words": words, "columns": [c.replace("_", " ") for c in columns], "rows": rows,
        "count": table.height, "left": table.height - len(rows),
    }  # fmt: skip


def _cell(column: str, value: Any) -> dict[str, Any]:
    """Return how one value is shown: hashes and addresses short with the whole at hand, long texts in lines."""
    if value is None:
        return {"text": "", "full": "", "long": False}
    text = f"{value:%Y-%m-%d %H:%M:%S}" if hasattr(value, "isoformat") else _number(value)
    short = len(text) >= 42 and " " not in text and column not in LONG
    return {
        "text": f"{text[:10]}…{text[-4:]}" if short else text,
        "full": text if short else "",
        "long": column in LONG,
    }


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)
