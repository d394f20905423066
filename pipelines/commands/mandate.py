"""Verbs around the evidence of a mandate: mandate report, and the rehearsal that ends with one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands import holders
from pipelines.commands.options import Config, Deployment, Json, write_json

mandate_app = typer.Typer(
    help="Evidence for who gave the mandate: what was decided, done and allowed.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add this file's verbs to ``app``."""
    app.add_typer(mandate_app, name="mandate", rich_help_panel="Watch")
    app.command("rehearse", rich_help_panel="Operate")(rehearse)
    holders.register()


@mandate_app.command("report")
def report(
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="First day or moment (UTC), e.g. 2026-01-01.")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="End (UTC), not included; must be past.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to write to (default: ./mandate-NAME-FROM-TO).")
    ] = None,
    deployment: Deployment = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Write the evidence of a period: one HTML page, each table as CSV and Parquet; exit 1 where something differs.

    From the lake, the audit record and the chain alone: a second person with the same three gets the same bytes.
    """
    from lake.units import utc
    from pipelines.deployments import deployment as chosen
    from pipelines.reports import mandate_page, mandate_tables
    from pipelines.settings import load
    from pipelines.stages.mandate import evidence_of

    one = chosen(load(config), deployment)
    found = evidence_of(one, utc(start), utc(end))
    folder = out or Path(f"mandate-{one.name}-{utc(start):%Y%m%dT%H%M}-{utc(end):%Y%m%dT%H%M}")
    page = mandate_page.write(folder, mandate_page.files_of(found.head, found.tables))
    mandate_tables.reported(found.head, found.tables["findings"])
    typer.echo(f"report: {page}")
    write_json(json, found.head | {"findings": found.tables["findings"].to_dicts(), "folder": str(folder)})
    if found.faults:
        raise typer.Exit(1)


def rehearse(
    days: Annotated[int, typer.Option(min=1, max=60, help="Days of decisions, as often as the schedule's.")] = 7,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the report (default: ./rehearsal-NAME).")
    ] = None,
    deployment: Deployment = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Rehearse your own configuration on a local chain: days of live decisions in minutes, then their report.

    Your assets, targets, policy and mandate in a vault of your kind (paper: a reference vault) at today's prices of
    your lake; then the moves, gas and forecasts of its last days once more. Who has to sign or settle besides does so
    within the hour. It touches neither your journal, audit record and lake nor your keys.
    """
    from pipelines.demo.rehearsal import note_of
    from pipelines.demo.rehearsal import rehearse as run
    from pipelines.deployments import deployment as chosen
    from pipelines.reports import mandate_page, mandate_tables, terminal
    from pipelines.settings import load

    one = chosen(load(config), deployment)
    outcomes: dict[str, int] = {}
    terminal.say(note_of(one))
    with terminal.progress() as bar:

        def told(done: int, total: int, outcome: str) -> None:
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
            bar("decisions of the rehearsal", done, total)

        found, notes = run(one, days, told)
    folder = out or Path(f"rehearsal-{one.name}")
    page = mandate_page.write(folder, mandate_page.files_of(found.head, found.tables))
    refused = mandate_tables.rehearsed(outcomes, found.tables)
    mandate_tables.reported(found.head, found.tables["findings"])
    for words in notes:
        terminal.say(words)
    typer.echo(f"report: {page}")
    shown = found.head | {"outcomes": outcomes, "refused": refused, "people": list(notes), "folder": str(folder)}
    write_json(json, shown | {"findings": found.tables["findings"].to_dicts()})
    if found.faults:
        raise typer.Exit(1)
