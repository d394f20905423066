"""Verbs around books of options: greeks, attribution."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import End, Json, Start, write_json


def register(app: typer.Typer) -> None:
    """Add this file's verbs to ``app``."""
    app.command("greeks", rich_help_panel="Hedge")(greeks)
    app.command("attribution", rich_help_panel="Hedge")(attribution)


def greeks(
    book: Annotated[Path, typer.Argument(metavar="BOOK.toml", help="Positions, prices and time stamp.")],
    json: Json = None,
) -> None:
    """Show value and Greeks of a book, its ladder, stress and break-even move."""
    from pipelines.reports import hedge_tables
    from pipelines.stages.greeks import greeks as run

    result = run(book)
    hedge_tables.greeks(result)
    write_json(json, result)


def attribution(
    chain: Annotated[Path, typer.Argument(metavar="CHAIN.parquet", help="Recorded option chain.")],
    start: Start = None,
    end: End = None,
    least: Annotated[
        float, typer.Option(min=0, max=1, help="Share of hedged profit, 7 to 35 days, that must be explained.")
    ] = 0.985,
    json: Json = None,
) -> None:
    """Attribute option profits to delta, gamma, theta, vega, vanna and volga; exit 1 where too much is unexplained."""
    from pipelines.reports import hedge_tables
    from pipelines.stages.attribution import attribution as run

    result = run(chain, start, end, least)
    hedge_tables.attribution(result)
    write_json(json, result)
    if not result["ok"]:
        raise typer.Exit(1)
