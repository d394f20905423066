"""Verbs around what is in the lake: imports, undo, flagged, accept, tidy."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.commands.options import Config, Json, write_json

lake_app = typer.Typer(help="What was imported, taking it out again, confirming odd values.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add this file's verbs to ``app``."""
    app.add_typer(lake_app, name="lake", rich_help_panel="Data")


@lake_app.command()
def imports(config: Config = None, json: Json = None) -> None:
    """List the imports: id, time, file, table, rows, key range, sha256 and state."""
    from pipelines.reports import imported
    from pipelines.settings import load
    from pipelines.stages.ingest import imports_of
    from pipelines.wiring import lake_of

    rows = imports_of(lake_of(load(config)))
    imported.imports(rows)
    write_json(json, rows)


@lake_app.command()
def undo(
    import_id: Annotated[str, typer.Argument(metavar="ID", help="As printed by import and lake imports.")],
    config: Config = None,
    json: Json = None,
) -> None:
    """Take one import out again: remove what it added, put back what it changed. Safe to repeat."""
    from pipelines.reports import imported
    from pipelines.settings import load
    from pipelines.stages.ingest import undo_import
    from pipelines.wiring import lake_of

    report = undo_import(lake_of(load(config)), import_id)
    imported.undone(report)
    write_json(json, report)


@lake_app.command()
def flagged(config: Config = None, json: Json = None) -> None:
    """List the implausible rows that decisions hold back: price jumps, gas in the wrong unit."""
    from pipelines.reports import imported
    from pipelines.settings import load
    from pipelines.stages.ingest import flagged_rows
    from pipelines.wiring import lake_of

    rows = flagged_rows(lake_of(load(config)))
    imported.flagged(rows)
    write_json(json, rows)


@lake_app.command()
def accept(
    what: Annotated[str, typer.Argument(metavar="ID|TABLE", help="An import's id, or prices or gas.")],
    note: Annotated[str, typer.Option(help="Why the values are right, for the record.")],
    series: Annotated[
        str | None, typer.Option(help="Only this series, as lake flagged prints it (default: all of the table).")
    ] = None,
    start: Annotated[str | None, typer.Option(help="First time (UTC; default: the first row).")] = None,
    end: Annotated[str | None, typer.Option(help="Last time (UTC), included (default: the last row).")] = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Confirm implausible rows after looking at them, so that decisions use them."""
    from pipelines.settings import load
    from pipelines.stages.ingest import accept_rows
    from pipelines.wiring import lake_of

    report = accept_rows(lake_of(load(config)), what, series, start, end, note)
    typer.echo(f"{report['accepted']} rows of {report['table']} accepted")
    write_json(json, report)


@lake_app.command()
def tidy(
    keep: Annotated[
        int, typer.Option(min=168, help="Hours of older versions to keep readable; a reader may still be in one.")
    ] = 168,
    config: Config = None,
    json: Json = None,
) -> None:
    """Merge small files and delete those that only older versions need; no row goes. Writes do it every 200 commits."""
    from pipelines.settings import load
    from pipelines.wiring import lake_of

    removed = lake_of(load(config)).compact(keep)
    for name, files in removed.items():
        typer.echo(f"{name}: {files} files deleted")
    if not removed:
        typer.echo("the lake is empty")
    write_json(json, {"removed": removed})
