"""Verbs around books of options: greeks, hedge, attribution, volatility."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import Config, End, Json, Start, write_json


def register(app: typer.Typer) -> None:
    """Add this file's verbs to ``app``."""
    app.command("greeks", rich_help_panel="Hedge")(greeks)
    app.command("hedge", rich_help_panel="Hedge")(hedge)
    app.command("attribution", rich_help_panel="Hedge")(attribution)
    app.command("volatility", rich_help_panel="Hedge")(volatility)


def greeks(
    book: Annotated[
        Path | None,
        typer.Argument(
            metavar="BOOK.toml", help="Positions, prices and time stamp (default: --portfolio).", show_default=False
        ),
    ] = None,
    portfolio: Annotated[
        str | None, typer.Option(metavar="NAME", help="A portfolio of table positions (default: BOOK.toml).")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="Moment (UTC) of --portfolio, by what was known (default: now).")
    ] = None,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Cheapest listed options that bring gamma and vega inside \\[limits].")
    ] = False,
    chain: Annotated[
        Path | None,
        typer.Option(metavar="CHAIN.parquet", help="Option chain for --suggest (default: table options of the lake)."),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="FILE.html", help="Also write book, ladder and stress as a page (default: not written)."
        ),
    ] = None,
    added: Annotated[
        list[Path] | None,
        typer.Option(
            "--add",
            metavar="FILE.json",
            help="To --report: figures of attribution or compare --hedge, repeatable (default: none).",
        ),
    ] = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Show value and Greeks of a book, its ladder, stress and break-even move."""
    from pipelines.reports import hedge_tables
    from pipelines.stages.greeks import greeks_of

    result = greeks_of(book, portfolio, as_of, config)
    if suggest:
        from pipelines.stages.chains import chain_of
        from pipelines.stages.suggest import suggestions

        result |= suggestions(book, chain_of(chain, config))
    hedge_tables.greeks(result)
    if suggest:
        hedge_tables.suggestions(result)
    if page is not None:
        from pipelines.reports.hedge_page import write_page

        typer.echo(f"report: {write_page(page, result, added or [])}")
    write_json(json, result)


def hedge(
    live: Annotated[bool, typer.Option("--live", help="Execute the printed plan.")] = False,
    config: Config = None,
    json: Json = None,
) -> None:
    r"""Take one hedge decision of the account in \[hedge]; prints the plan, --live executes it."""
    from pipelines.reports import hedge_tables
    from pipelines.settings import load
    from pipelines.stages.hedge import hedge as run
    from pipelines.vault_setup.hedge_context import desk_of

    result = run(desk_of(load(config)), live=live, on_plan=hedge_tables.hedge_plan)
    hedge_tables.hedge(result)
    write_json(json, result)


def attribution(
    chain: Annotated[
        Path | None,
        typer.Argument(metavar="CHAIN.parquet", help="Recorded option chain (default: table options of the lake)."),
    ] = None,
    start: Start = None,
    end: End = None,
    least: Annotated[
        float, typer.Option(min=0, max=1, help="Share (0 to 1) of hedged profit, 7 to 35 days, that must be explained.")
    ] = 0.985,
    portfolio: Annotated[
        str | None, typer.Option(metavar="NAME", help="Attribute the recorded books of a portfolio (default: a chain).")
    ] = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Attribute option profits to delta, gamma, theta, vega, vanna and volga; exit 1 where too much is unexplained."""
    from pipelines.reports import hedge_tables
    from pipelines.stages.attribution import attribution as run
    from pipelines.stages.chains import chain_of

    if portfolio is None:
        result = run(chain_of(chain, config), start, end, least)
        hedge_tables.attribution(result)
    else:
        from lake.errors import ConfigError
        from pipelines.settings import load
        from pipelines.stages.book_changes import book_changes
        from pipelines.wiring import lake_of

        if chain is not None:
            raise ConfigError("give either a CHAIN.parquet or --portfolio NAME")
        result = book_changes(lake_of(load(config)), portfolio, start, end, least)
        hedge_tables.book_changes(result)
    write_json(json, result)
    if not result["ok"]:
        raise typer.Exit(1)


def volatility(
    asset: Annotated[str, typer.Argument(help="Underlying, as prices name it.")],
    index: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.parquet",
            help="Implied volatility by day: ts, asset, close in points (default: table volindex).",
        ),
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
