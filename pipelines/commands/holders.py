"""Verbs around the holders of a vault: vault allow, deny, permissioned, holders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lake.errors import ConfigError
from pipelines.commands.options import Config, Deployment, Json, write_json
from pipelines.commands.vault import vault_app


def register() -> None:
    """Add this file's verbs to the group ``vault``."""
    vault_app.command("allow")(allow)
    vault_app.command("deny")(deny)
    vault_app.command("permissioned")(permissioned)
    vault_app.command("holders")(holders_)


Account = Annotated[
    str, typer.Argument(metavar="ADDRESS", help="Account to list or to strike off.", show_default=False)
]
Live = Annotated[bool, typer.Option("--live", help="Take the printed step with --owner's key.")]
OwnerKey = Annotated[
    Path | None,
    typer.Option(
        "--owner",
        metavar="KEYSTORE",
        help="Encrypted key of the vault's owner, for --live (default: nothing is signed).",
    ),
]


def allow(
    account: Account, live: Live = False, owner: OwnerKey = None, deployment: Deployment = None, config: Config = None,
    json: Json = None,
) -> None:  # fmt: skip
    """Put an account on the list of holders: announced first, made after the timelock's delay by the same command."""
    _list_holder(account, True, (live, owner), deployment, config, json)


def deny(
    account: Account, live: Live = False, owner: OwnerKey = None, deployment: Deployment = None, config: Config = None,
    json: Json = None,
) -> None:  # fmt: skip
    """Strike an account off the list: it may leave, and receives no more shares. Through the timelock, as allow."""
    _list_holder(account, False, (live, owner), deployment, config, json)


def permissioned(
    state: Annotated[str, typer.Argument(metavar="on|off", help="on: only listed accounts; off: anyone.")],
    live: Live = False,
    owner: OwnerKey = None,
    deployment: Deployment = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Let listed accounts alone hold shares, or anyone; through the timelock, as allow."""
    from pipelines.deployments import deployment as chosen
    from pipelines.reports import holder_tables
    from pipelines.settings import load
    from pipelines.stages.holders import set_permissioned

    if state not in {"on", "off"}:
        raise ConfigError(f"write on or off, got {state!r}")
    key = _key(live, owner)
    result = set_permissioned(
        chosen(load(config), deployment), on=state == "on", owner=key, on_plan=holder_tables.change
    )
    holder_tables.changed(result)
    write_json(json, result)


def holders_(
    block: Annotated[
        int | None, typer.Option(min=0, help="After the block of this number (default: the newest).")
    ] = None,
    deployment: Deployment = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Print who holds shares after a block, who may, and every change of the list with who made it and when."""
    from pipelines.deployments import deployment as chosen
    from pipelines.reports import holder_tables
    from pipelines.settings import load
    from pipelines.stages.holders import holders_of

    result = holders_of(chosen(load(config), deployment), block)
    holder_tables.holders(result)
    write_json(json, result)


def _list_holder(
    account: str, allowed: bool, key: tuple[bool, Path | None], deployment: str | None, config: Path | None,
    json: str | None,
) -> None:  # fmt: skip
    from pipelines.deployments import deployment as chosen
    from pipelines.reports import holder_tables
    from pipelines.settings import load
    from pipelines.stages.holders import list_holder

    owner = _key(*key)
    result = list_holder(
        chosen(load(config), deployment), account, allowed=allowed, owner=owner, on_plan=holder_tables.change
    )
    holder_tables.changed(result)
    write_json(json, result)


def _key(live: bool, owner: Path | None) -> Path | None:

    if live != (owner is not None):
        raise ConfigError("--live and --owner KEYSTORE belong together: the owner's key makes the change")
    return owner
