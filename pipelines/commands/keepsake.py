"""Verbs that keep a project safe: backup, restore, migrate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import Config, Json, write_json


def register(app: typer.Typer) -> None:
    """Add this file's verbs to ``app``."""
    app.command("backup", rich_help_panel="Operate")(backup)
    app.command("restore", rich_help_panel="Operate")(restore)
    app.command("migrate", rich_help_panel="Operate")(migrate)


def backup(
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.tar.gz", help="Where to write it (default: foredrift-<time>.tar.gz by the settings)."
        ),
    ] = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Write lake, journals, audit records, vaults, models and settings to one file with checksums; no key is in it.

    Takes each vault's lease for a moment and ends with 1 while a run holds it. A plan on its way stays on its way.
    """
    from pipelines.stages.backup import backup as run

    result = run(config, out)
    typer.echo(f"wrote {result['file']}: {result['files']} files, {result['bytes'] / 1e6:.1f} MB")
    for name, state in result["in_flight"].items():
        typer.echo(f"in flight: a plan of {name} is {state}; this copy of the journal is of that moment")
    for what in result["left_out"]:
        typer.echo(f"left out: {what}")
    write_json(json, result)


def restore(
    archive: Annotated[Path, typer.Argument(metavar="FILE.tar.gz", help="A file that foredrift backup wrote.")],
    into: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the project; nothing in it is replaced.")
    ] = Path(),
    json: Json = None,
) -> None:
    """Make the project of a backup again, every byte checked; replaces nothing and is safe to repeat after a kill."""
    from pipelines.stages.restore import restore as run

    result = run(archive, into)
    typer.echo(f"restored {result['files']} files of {result['made_at']} (foredrift {result['foredrift']})")
    for name, state in result["in_flight"].items():
        typer.echo(
            f"a plan of {name} was {state} then: end every other keeper of that vault, look with foredrift rebalance, "
            "then foredrift rebalance --live finds out what became of it"
        )
    write_json(json, result)


def migrate(
    out: Annotated[
        Path | None,
        typer.Option("--backup", metavar="FILE.tar.gz", help="Where the backup goes (default: as foredrift backup)."),
    ] = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Bring files that an older version left to this version's layout, after a backup; does nothing where none are."""
    from pipelines.stages.restore import migrate as run

    result = run(config, out)
    for step in result["steps"]:
        typer.echo(step)
    typer.echo(f"layout {result['to']}" + (f"; backup: {result['backup']}" if result["backup"] else ""))
    write_json(json, result)
