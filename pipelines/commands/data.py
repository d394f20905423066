"""Verbs that bring data in and look after it: init, networks, import, ingest, status, doctor, leakage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import Config, End, Json, Start, pairs, write_json


def register(app: typer.Typer) -> None:
    """Add this file's verbs to ``app``."""
    app.command("init", rich_help_panel="Start here")(init)
    app.command("networks", rich_help_panel="Start here")(networks)
    app.command("import", rich_help_panel="Data")(import_)
    app.command("ingest", rich_help_panel="Data")(ingest)
    app.command("status", rich_help_panel="Watch")(status)
    app.command("doctor", rich_help_panel="Watch")(doctor)
    app.command("leakage", rich_help_panel="Watch")(leakage)


def init(
    config: Config = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    sample: Annotated[bool, typer.Option("--sample", help="A paper portfolio on the sample market, as it is.")] = False,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="A vault on this network (foredrift networks), with --assets (default: paper)."
        ),
    ] = None,
    assets: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Tokens of the network to hold, e.g. WETH,WBTC,USDC (default: none)."),
    ] = None,
    rpc: Annotated[
        list[str] | None,
        typer.Option("--rpc", metavar="URL", help="A node of the network, repeatable (default: none)."),
    ] = None,
    heartbeat: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TOKEN=AGE",
            help="A feed's heartbeat that you looked up, in seconds or with its unit (ETH=86400, ETH=24h), where "
            "public sources do not agree; repeatable (default: none).",
        ),
    ] = None,
    pool: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A/B=FEE",
            help="A Uniswap v3 pool that you looked up, by its fee in millionths (WETH/USDC=500); repeatable "
            "(default: none).",
        ),
    ] = None,
    json: Json = None,
) -> None:
    """Write a commented starter foredrift.toml; with --network a complete one, every address from its rows."""
    from lake.errors import ConfigError
    from lake.paths import usable
    from pipelines.settings import DEFAULT_FILE, starter
    from pipelines.stages.config import write_schema

    more = rpc or heartbeat or pool
    if (network is None) != (assets is None) or (network is not None and sample) or (more and network is None):
        raise ConfigError(
            "--network and --assets belong together, --rpc, --heartbeat and --pool to them; --sample is a paper "
            "portfolio alone"
        )
    if network is not None and assets is not None:
        from lake.networks.looked_up import looked_up
        from pipelines.stages.start import settings_for

        given = looked_up(heartbeat or (), pool or ())
        text = settings_for(network, [a.strip() for a in assets.split(",") if a.strip()], rpc or (), given)
        first = "foredrift keys new"
    else:
        text, first = starter(sample=sample), "foredrift ingest" if sample else "foredrift import or foredrift ingest"

    path = config or Path(DEFAULT_FILE)
    if path.exists() and not force:
        raise ConfigError(f"{path} is there already; --force overwrites it")
    usable(path.resolve().parent, "a project with its lake and stores")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    write_schema(path)
    then = "docs/going-live.md" if network else "train and compare"
    typer.echo(f"wrote {path}; next: {first}, then {then}")
    write_json(json, {"wrote": str(path)})


def networks(
    name: Annotated[str | None, typer.Argument(help="One network (default: all, in short).")] = None,
    json: Json = None,
) -> None:
    """Print the networks whose tokens, feeds, pools and contracts are confirmed, each row with its public sources."""
    from pipelines.reports import network_tables
    from pipelines.stages.networks import listed, one

    if name is None:
        every = listed()
        network_tables.networks(every)
        write_json(json, every)
        return
    found = one(name)
    network_tables.network(found)
    write_json(json, found)


def import_(
    table: Annotated[
        str,
        typer.Argument(
            help="Lake table: prices, gas, pool_state, oracle, signals, options, volindex, perps, rates, positions."
        ),
    ],
    file: Annotated[Path, typer.Argument(help="Parquet, Feather or CSV file, or one of them packed (zip, gz).")],
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", help="TABLE_COLUMN=FILE_COLUMN, repeatable (default: names as they are)."),
    ] = None,
    constants: Annotated[
        list[str] | None, typer.Option("--set", help="COLUMN=VALUE for all rows, repeatable (default: none).")
    ] = None,
    lag: Annotated[
        str | None,
        typer.Option(help="How long after ts a row is known, e.g. 90s or 1h (default: the length of a bar)."),
    ] = None,
    tz: Annotated[
        str | None, typer.Option(help="Zone of times that name none, e.g. UTC (default: they are refused).")
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="A known export: binance-klines, cryptodatadownload, etherscan-gas, freqtrade, coingecko, dune, "
            "deribit-chain, dvol (default: columns named as the table's).",
        ),
    ] = None,
    decimal: Annotated[str | None, typer.Option(help="Decimal mark of numbers, . or , (default: .).")] = None,
    thousands: Annotated[str | None, typer.Option(help="Mark between thousands, e.g. . or , (default: none).")] = None,
    skip: Annotated[int, typer.Option(help="Number of lines before the header to leave out.")] = 0,
    no_header: Annotated[
        bool, typer.Option("--no-header", help="No header: columns are column_1, column_2, ...")
    ] = False,
    encoding: Annotated[
        str | None, typer.Option(help="Encoding of the text, e.g. latin-1 (default: UTF-8, or as its first bytes say).")
    ] = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Validate and load your own file into a lake table; rejected rows are written beside it with the reason.

    Times need a zone: ISO text with Z or an offset, or Unix s, ms, us, ns. Times without one, compact dates (20240101)
    and Excel days are read with --tz UTC. What was derived is printed; foredrift lake undo takes an import out again.
    """
    from lake.sources.reading import Reading
    from pipelines.reports import imported, terminal
    from pipelines.settings import load
    from pipelines.stages.ingest import ImportOptions, import_table
    from pipelines.wiring import lake_of

    settings = load(config)
    filled = pairs(constants or [], "--set") | ({"tz": tz} if tz else {})
    reading = Reading(skip, not no_header, encoding, decimal, thousands, format_)
    how = ImportOptions(pairs(mapping or [], "--map"), filled, lag, reading)
    with terminal.progress() as bar:
        report = import_table(lake_of(settings), table, file, how, bar)
    imported.import_report(report)
    write_json(json, imported.import_json(report))
    if report.rejected:
        raise typer.Exit(1)


def ingest(
    sources: Annotated[list[str] | None, typer.Argument(help="Sources to collect (default: all configured).")] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="Collect from here (UTC) where the lake has nothing yet (default: as far as the source goes)."
        ),
    ] = None,
    until: Annotated[str | None, typer.Option(help="Collect up to here (default: now).")] = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Collect prices, gas, pools, oracles and signals; goes on where it stopped."""
    from pipelines.reports import terminal
    from pipelines.settings import load
    from pipelines.stages.ingest import ingest_all

    settings = load(config)
    with terminal.progress() as bar:
        reports = ingest_all(settings, sources or [], since, until, bar)
    terminal.ingest_reports(reports)
    write_json(json, terminal.ingest_json(reports))


def status(config: Config = None, json: Json = None) -> None:
    """Show how fresh the lake, forecasts and models are, and what the last decision was."""
    from pipelines.reports import terminal, transfer_tables
    from pipelines.reports.greeks_words import greeks_words
    from pipelines.settings import load
    from pipelines.stages.status import status as collect

    report = collect(load(config))
    transfer_tables.fleet(report)
    terminal.status(report)
    for row in report["deployments"]:
        if row["greeks"] is not None:
            terminal.say(f"book of {row['name']}: {greeks_words(row['greeks'])}")
    write_json(json, report)


def doctor(config: Config = None, json: Json = None) -> None:
    """Check the environment, the settings and the stores; say what is wrong and what to do."""
    from pipelines.reports import terminal
    from pipelines.stages.doctor import examine

    findings = examine(config)
    terminal.findings(findings)
    write_json(json, findings)
    if any(f["level"] == "error" for f in findings):
        raise typer.Exit(1)


def leakage(start: Start = None, end: End = None, config: Config = None, json: Json = None) -> None:
    """Perturb everything after a moment and prove that nothing at or before it changes."""
    from pipelines.deployments import deployment
    from pipelines.reports import terminal
    from pipelines.settings import load
    from pipelines.stages.leakage import prove

    own = deployment(load(config))
    with terminal.progress() as bar:
        report = prove(own, start, end, bar)
    terminal.leakage(report)
    write_json(json, report)
    if report["leaks"]:
        raise typer.Exit(1)
