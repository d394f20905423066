"""Verbs around the vault itself: vault describe, roles, rates, settle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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


@vault_app.command()
def roles(
    live: Annotated[
        bool, typer.Option("--live", help="Install it with --owner's key (for a Safe that needs one signature).")
    ] = False,
    owner: Annotated[
        Path | None,
        typer.Option(
            metavar="KEYSTORE", help="Encrypted key of an owner of the Safe, for --live (default: nothing is signed)."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Write the calls for Safe{Wallet}'s transaction builder here (default: not written).",
        ),
    ] = None,
    deployment: Deployment = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Print what the keeper may do in the configured Safe (Zodiac Roles v2), and what its owners still have to sign."""
    from lake.errors import ConfigError
    from pipelines.deployments import deployment as chosen
    from pipelines.reports import vault_tables
    from pipelines.settings import load
    from pipelines.stages.vault_roles import roles as run

    if live != (owner is not None):
        raise ConfigError("--live and --owner KEYSTORE belong together: the owner's key signs the installation")
    settings = load(config)
    result = run(chosen(settings, deployment), owner=owner, out=out, on_plan=vault_tables.role)
    vault_tables.installed(result)
    write_json(json, result)


@vault_app.command()
def rates(
    accept: Annotated[
        str | None,
        typer.Option(
            metavar="SYMBOL", help="Believe this token's rate from now on, after a look (default: only print)."
        ),
    ] = None,
    deployment: Deployment = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Print the exchange rates of yield-bearing tokens (ERC-4626), what they earned, and what is wrong with them."""
    from pipelines.deployments import deployment as chosen
    from pipelines.reports import vault_tables
    from pipelines.settings import load
    from pipelines.stages.vault import rates as run

    result = run(chosen(load(config), deployment), accept)
    vault_tables.rates(result)
    write_json(json, result)


@vault_app.command()
def settle(
    live: Annotated[
        bool, typer.Option("--live", help="Push the valuation ([vault] sign_nav), or settle with --owner's key.")
    ] = False,
    owner: Annotated[
        Path | None, typer.Option(metavar="KEYSTORE", help="Encrypted key of an owner of the Safe, to settle with.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write the settlement for Safe{Wallet}'s builder.")
    ] = None,
    deployment: Deployment = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Print the requests that wait in a Lagoon vault (ERC-7540), the valuation proposed, and what is to be signed."""
    from pipelines.deployments import deployment as chosen
    from pipelines.reports import vault_tables
    from pipelines.settings import load
    from pipelines.stages.vault_settle import settle as run

    result = run(chosen(load(config), deployment), live=live, owner=owner, out=out, on_plan=vault_tables.requests)
    vault_tables.settled(result)
    write_json(json, result)
