"""Verbs around the vault itself: vault describe."""

from __future__ import annotations

import typer

from pipelines.commands.options import Config, Deployment, Json, write_json

vault_app = typer.Typer(help="The vault: what it enforces on chain, and who may do what.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add this file's verbs to ``app``."""
    app.add_typer(vault_app, name="vault", rich_help_panel="Operate")


@vault_app.command()
def describe(deployment: Deployment = None, config: Config = None, json: Json = None) -> None:
    """Print what the configured vault enforces on chain, what is left to this side, and what a stolen key takes."""
    from pipelines.deployments import deployment as chosen
    from pipelines.reports import vault_tables
    from pipelines.settings import load
    from pipelines.stages.vault import describe as run

    result = run(chosen(load(config), deployment))
    vault_tables.described(result)
    write_json(json, result)
