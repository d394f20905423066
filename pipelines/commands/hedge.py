"""Verbs around books of options: greeks, attribution, volatility."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import Config, End, Json, Start, write_json


def register(app: typer.Typer) -> None:
    """Add this file's verbs to ``app``."""
    app.command("greeks", rich_help_panel="Hedge")(greeks)
    app.command("attribution", rich_help_panel="Hedge")(attribution)
    app.command("volatility", rich_help_panel="Hedge")(volatility)


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


def volatility(
    asset: Annotated[str, typer.Argument(help="Underlying, as prices name it.")],
    index: Annotated[
        Path | None, typer.Option(metavar="FILE.parquet", help="Implied volatility by day: ts, asset, close (points).")
    ] = None,
    start: Start = None,
    end: End = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Score forecasts of realised and implied volatility against the best mean of the past; says which are of use."""
    from pipelines.reports import hedge_tables
    from pipelines.settings import load
    from pipelines.stages.volatility import volatility as run

    result = run(load(config), asset, index, start, end)
    hedge_tables.volatility(result)
    write_json(json, result)
