"""Verbs for the project's keys: keys new, show, rotate."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pipelines.commands.options import Config, Deployment, Json, write_json

keys_app = typer.Typer(help="The project's keys, each in an encrypted file; only addresses are ever printed.")
Role = Annotated[str | None, typer.Argument(help="keeper, owner or guardian (default: all).", show_default="all")]


def register(app: typer.Typer) -> None:
    """Add this file's verbs to ``app``."""
    app.add_typer(keys_app, name="keys", rich_help_panel="Operate")


@keys_app.command()
def new(role: Role = None, config: Config = None, json: Json = None) -> None:
    """Make the keystores of keeper, owner and guardian that are missing; an existing one is never touched.

    The passphrase comes from FOREDRIFT_PASSPHRASE or FOREDRIFT_PASSPHRASE_FILE (a file or /dev/fd/N), else it is asked.
    """
    from pipelines.deployments import deployment
    from pipelines.reports import key_tables
    from pipelines.settings import load
    from pipelines.stages.keys import new as run

    settings = load(config)
    result = run(deployment(settings), settings.deploy, _phrase, role)
    key_tables.keys(result)
    write_json(json, result)


@keys_app.command()
def show(role: Role = None, config: Config = None, json: Json = None) -> None:
    """Print the address of each key; no passphrase is needed, no key is opened."""
    from pipelines.deployments import deployment
    from pipelines.reports import key_tables
    from pipelines.settings import load
    from pipelines.stages.keys import show as run

    settings = load(config)
    result = run(deployment(settings), settings.deploy, role)
    key_tables.keys(result)
    write_json(json, result)


@keys_app.command()
def rotate(
    role: Annotated[str, typer.Argument(help="keeper or guardian.")],
    live: Annotated[bool, typer.Option("--live", help="Sign and send it; without, it is shown only.")] = False,
    stolen: Annotated[
        bool, typer.Option("--stolen", help="Take the role from the old key at once, before the new one has it.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Begin another rotation where an earlier one is complete.")
    ] = False,
    deployment: Deployment = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Give the keeper's or the guardian's role to a new key: announced first, made by the next run after the delay.

    The old keystore keeps its name until every vault says that the new key has the role; then it is named void.
    """
    from pipelines.deployments import deployment as chosen
    from pipelines.deployments import deployments
    from pipelines.reports import key_tables
    from pipelines.settings import load
    from pipelines.stages.key_rotation import rotate as run

    settings = load(config)
    first = chosen(settings, deployment)
    vaults = [first, *(d for d in deployments(settings) if d.name != first.name)]
    result = run(
        vaults, settings.deploy, role, _phrase, live=live, stolen=stolen, again=again, on_plan=key_tables.rotation
    )
    key_tables.rotated(result, live=live)
    write_json(json, result)


def _at_a_terminal() -> bool:
    """Return whether a person can be asked."""
    return sys.stdin.isatty()


def _phrase() -> str:
    """Return the passphrase for new keys: where it is given, else asked twice on the terminal."""
    from lake.errors import ConfigError
    from pipelines.servers.phrase import passphrase

    found = passphrase()
    if found is None and not _at_a_terminal():
        raise ConfigError("new keys need a passphrase: FOREDRIFT_PASSPHRASE, FOREDRIFT_PASSPHRASE_FILE or a terminal")
    if found is None:
        found = str(typer.prompt("Passphrase for the new keys", hide_input=True, confirmation_prompt=True, err=True))
    if not found:
        raise ConfigError("an empty passphrase protects nothing")
    return found
