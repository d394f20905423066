"""Verbs of a portfolio under way: show it, stop and resume its trading."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.options import Config, Json, write_json
from pipelines.commands.portfolio import portfolio

if TYPE_CHECKING:
    from pipelines.stages.halting import Project


def register(app: typer.Typer) -> None:
    """Add this file's verbs to ``app``."""
    app.command("portfolio", rich_help_panel="Watch")(portfolio)
    app.command("stop", rich_help_panel="Operate")(stop)
    app.command("resume", rich_help_panel="Operate")(resume)


def stop(
    reason: Annotated[
        str, typer.Option(help="Why, for the audit record and everybody who looks (default: no reason).")
    ] = "",
    config: Config = None,
    json: Json = None,
) -> None:
    r"""Stop trading: every scheduled run, `rebalance --live`, `hedge --live` and keeper refuses until `resume`.

    What was sent already is looked up, never sent again. With \[stop] guardian the vault itself is paused, too; exit 1
    where that or a record fails, the halt holds all the same.
    """
    project = _project(config)
    if project.guardian is not None:
        from pipelines.servers.phrase import hand_over

        hand_over()
    from pipelines.stages.halting import stop as run

    result = run(project, reason)
    typer.echo(result["text"])
    write_json(json, result)
    if result["troubles"] or not all(p["paused"] for p in result["pauses"]):
        raise typer.Exit(1)


def resume(config: Config = None, json: Json = None) -> None:
    """Let trading go on after `stop`; a vault that its guardian paused is resumed by its owner alone."""
    from pipelines.stages.halting import resume as run

    result = run(_project(config))
    typer.echo(result["text"])
    write_json(json, result)


def _project(config: Path | None) -> Project:
    from pipelines.deployments import deployments
    from pipelines.settings import load
    from pipelines.stages.halting import Project
    from pipelines.vault_setup.hedge_context import desk_of

    settings = load(config)
    hedge = () if settings.hedge.account is None else (desk_of(settings).deployment,)
    guardian = settings.stop.guardian
    return Project(settings.root, (*deployments(settings), *hedge), settings.path(guardian) if guardian else None)
