"""Verbs around the vault itself: vault describe, deploy, status, roles, rates, settle, and the owner's changes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
def deploy(
    live: Annotated[bool, typer.Option("--live", help="Make it, with the key of \\[deploy] owner.")] = False,
    deposit: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT",
            help="Put this much of the accounting asset, in its units, into the new vault (default: nothing).",
        ),
    ] = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Show what the reference vault and its oracle would be, and with --live create them; safe to run again.

    Every contract's address follows from its code and arguments, so nothing is made twice. It writes the address into
    the settings file, and what block explorers need to verify the contracts into ./verification.
    """
    from pipelines.deployments import deployment as chosen
    from pipelines.reports import deploy_tables
    from pipelines.settings import load
    from pipelines.stages.vault_deploy import amount_of
    from pipelines.stages.vault_deploy import deploy as run

    settings = load(config)
    result = run(
        chosen(settings), settings.deploy, settings.file, live=live, deposit=amount_of(deposit),
        on_plan=deploy_tables.plan,
    )  # fmt: skip
    deploy_tables.done(result)
    write_json(json, result)


@vault_app.command()
def status(config: Config = None, json: Json = None) -> None:
    """Print the reference vault as the chain has it: value, weights, roles, pause, and what differs from here."""
    from pipelines.deployments import deployment as chosen
    from pipelines.reports import deploy_tables
    from pipelines.settings import load
    from pipelines.stages.vault_status import status as run

    settings = load(config)
    result = run(chosen(settings), settings.deploy)
    deploy_tables.status(result)
    write_json(json, result)


Live = Annotated[bool, typer.Option("--live", help="Sign and send it; without, it is shown only.")]


@vault_app.command("set-targets")
def set_targets(live: Live = False, config: Config = None, json: Json = None) -> None:
    r"""Bring the vault's targets to those of \[portfolio]: announced first, made by the next run after the delay."""
    _change("set_targets", live, config, json)


@vault_app.command("set-mandate")
def set_mandate(live: Live = False, config: Config = None, json: Json = None) -> None:
    r"""Bring the vault's limits and loss budgets to those of \[mandate]: announced first, made after the delay."""
    _change("set_mandate", live, config, json)


@vault_app.command()
def pause(
    live: Live = False,
    guardian: Annotated[bool, typer.Option("--guardian", help="By the guardian's key instead of the owner's.")] = False,
    config: Config = None,
    json: Json = None,
) -> None:
    """Stop trading, deposits and exits at oracle prices at once; exits in kind stay open."""
    _change("pause", live, config, json, guardian=guardian)


@vault_app.command()
def resume(live: Live = False, config: Config = None, json: Json = None) -> None:
    """Open a paused vault again: announced first, made by the next run after the delay."""
    _change("resume", live, config, json)


@vault_app.command("retire-token")
def retire_token(
    token: Annotated[str, typer.Argument(help="Symbol or asset of the token that leaves.")],
    live: Live = False,
    config: Config = None,
    json: Json = None,
) -> None:
    """Take a token out of the vault: target to 0, sold by the keeper, then the set without it; a step a run."""
    _change("retire", live, config, json, token=token)


def _change(verb: str, live: bool, config: Path | None, json: str | None, **more: Any) -> None:
    """Run one of the owner's changes and print where it stands."""
    from pipelines.deployments import deployment as chosen
    from pipelines.reports import deploy_tables
    from pipelines.settings import load
    from pipelines.stages import vault_changes

    settings = load(config)
    run = getattr(vault_changes, verb)
    result = run(chosen(settings), settings.deploy, live=live, on_plan=deploy_tables.changes, **more)
    deploy_tables.changed(result, live=live)
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
        bool, typer.Option("--live", help="Push the valuation (\\[vault] sign_nav), or settle with --owner's key.")
    ] = False,
    owner: Annotated[
        Path | None,
        typer.Option(
            metavar="KEYSTORE",
            help="Encrypted key of an owner of the Safe, to settle with (default: nothing is signed).",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help="Write the settlement for Safe{Wallet}'s builder here (default: not written)."
        ),
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
