"""Verbs about cash between the chains of one portfolio."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.options import Config, Json, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.stages.transfers import Project

transfers = typer.Typer(help="Cash between the chains of one portfolio.", invoke_without_command=True)
AsOf = Annotated[str | None, typer.Option(help="Replay this past moment (UTC), on paper (default: now).")]
Saga = Annotated[str, typer.Argument(metavar="ID", help="Id of a transfer, or how it begins.")]
ChainId = Annotated[int, typer.Argument(metavar="CHAIN", help="Number of the chain, one of [\\[chains]].")]
Usd = Annotated[float, typer.Argument(metavar="USD", min=0.01, help="Amount in USD.")]


def register(app: typer.Typer) -> None:
    """Add this file's verbs to ``app``."""
    app.add_typer(transfers, name="transfers", rich_help_panel="Operate")


@transfers.callback()
def listed(ctx: typer.Context, config: Config = None, json: Json = None) -> None:
    """List the transfers, what is on its way, and where the portfolio lies."""
    if ctx.invoked_subcommand is not None:
        return
    from pipelines.reports import transfer_tables
    from pipelines.stages import transfers as stage

    found = stage.listed(_project(config))
    transfer_tables.fleet(found)
    transfer_tables.advice(stage.fleet_advice(found))
    transfer_tables.transfers(found["transfers"])
    write_json(json, found)


@transfers.command()
def show(saga: Saga, config: Config = None, json: Json = None) -> None:
    """Show one transfer: why it was planned, what was quoted, its transactions and where it stands."""
    from pipelines.reports import transfer_tables
    from pipelines.stages import transfers as stage

    found = stage.shown(_project(config), saga)
    transfer_tables.transfers([found])
    typer.echo(f"planned because {found['why'] or 'nobody said why'}")
    for sent in found["transactions"]:
        state = (
            "failed" if sent["failed"] else "final" if sent["mined"] else "handed over" if sent["handed"] else "signed"
        )
        typer.echo(f"  {sent['leg']} {sent['tx_hash'][:18]} on chain {sent['chain_id']}: {state} {sent['reply'][:60]}")
    write_json(json, found)


@transfers.command()
def resume(
    saga: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Deliver this one once more (default: every one that is due).")
    ] = None,
    later: Annotated[
        str | None, typer.Option(help="Let so much time pass on the paper chains first, e.g. 5h (default: none).")
    ] = None,
    as_of: AsOf = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Look every transfer up on its chains and move it on: what scheduled runs do; nothing new is planned."""
    from lake.units import duration
    from pipelines.reports import transfer_tables
    from pipelines.stages import transfers as stage

    at = _moment(as_of) + duration(later) if later else _moment(as_of)
    found = stage.run_transfers(_project(config), at, decide=False, only=saga)
    transfer_tables.fleet(found)
    transfer_tables.advice(stage.fleet_advice(found))
    transfer_tables.transfers(found["transfers"])
    write_json(json, found)


@transfers.command("write-down")
def write_down(
    saga: Saga,
    reason: Annotated[str, typer.Option(help="Why it is given up.")],
    person: Annotated[str, typer.Option(help="Who says so, by name.")],
    as_of: AsOf = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Write a stuck transfer down to nothing; it is looked for ever after, and reopened when the money comes."""
    from pipelines.stages import transfers as stage

    found = stage.written_down(_project(config), saga, person, reason, _moment(as_of))
    typer.echo(f"transfer {found['saga_id'][:12]} is {found['state']} by {found['person']}: {found['note']}")
    write_json(json, found)


@transfers.command()
def plan(
    origin: Annotated[int, typer.Argument(metavar="FROM", help="Number of the chain it leaves.")],
    destination: Annotated[int, typer.Argument(metavar="TO", help="Number of the chain it goes to.")],
    asset: Annotated[str, typer.Argument(metavar="ASSET", help="The cash asset, e.g. USDC.")],
    amount: Annotated[float, typer.Argument(metavar="USD", min=0.01, help="Amount in USD.")],
    live: Annotated[bool, typer.Option("--live", help="Begin it (default: a dry run).")] = False,
    as_of: AsOf = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Quote and check one transfer by hand; exit 1 where a check refuses it."""
    from pipelines.reports import transfer_tables
    from pipelines.stages import transfers as stage

    asked = stage.Asked(origin, destination, asset, amount)
    made = stage.planned(_project(config), asked, _moment(as_of), live=live)
    transfer_tables.plan(made)
    write_json(json, made)
    if made["verdicts"]:
        raise typer.Exit(1)


@transfers.command()
def deposit(chain: ChainId, usd: Usd, as_of: AsOf = None, config: Config = None, json: Json = None) -> None:
    """Bring cash to a paper vault, as an investor on that chain does."""
    _flow(chain, usd, as_of, config, json)


@transfers.command()
def withdraw(chain: ChainId, usd: Usd, as_of: AsOf = None, config: Config = None, json: Json = None) -> None:
    """Take cash from a paper vault, as an investor on that chain does."""
    _flow(chain, -usd, as_of, config, json)


def _flow(chain: int, usd: float, as_of: str | None, config: Path | None, json: str | None) -> None:
    from pipelines.reports import transfer_tables
    from pipelines.stages import transfers as stage

    found = stage.flowed(_project(config), chain, usd, _moment(as_of))
    transfer_tables.fleet(found)
    transfer_tables.advice(stage.fleet_advice(found))
    write_json(json, found)


def _moment(as_of: str | None) -> datetime:
    from lake.units import utc
    from pipelines.wiring import now

    return utc(as_of) if as_of else now()


def _project(config: Path | None) -> Project:
    from pipelines.deployments import deployments
    from pipelines.settings import load

    return deployments(load(config))
