"""Verbs that keep Foredrift running: serve, keep, ui; and the one that asks whether they do: health."""

from __future__ import annotations

from typing import Annotated

import typer

from lake.errors import ConfigError
from pipelines.commands.options import Config, Json, Start, write_json


def register(app: typer.Typer) -> None:
    """Add this file's verbs to ``app``."""
    app.command("serve", rich_help_panel="Operate")(serve)
    app.command("keep", rich_help_panel="Operate")(keep)
    app.command("ui", rich_help_panel="Operate")(ui)
    app.command("health", rich_help_panel="Watch")(health)


def serve(
    only: Annotated[str | None, typer.Option(help="Comma-separated deployments (default: all five).")] = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Run the scheduled deployments (ingest, forecast, rebalance, retrain, compare) in one process."""
    from pipelines.servers.phrase import hand_over
    from pipelines.settings import load

    settings = load(config)
    hand_over()  # before anything heavy: it starts this command again where a passphrase is in the environment
    from pipelines.scheduled.serve import asked
    from pipelines.scheduled.serve import serve as run

    names = asked(only.split(",") if only else None)
    write_json(json, {"config": str(settings.file), "deployments": names, "live": settings.live_on_schedule})
    run(settings, names)


def keep(
    live: Annotated[bool, typer.Option("--live", help="Execute on a chain; without it plans are only made.")] = False,
    ws: Annotated[str | None, typer.Option(help="Websocket that announces blocks (default: \\[keep] ws).")] = None,
    http: Annotated[
        list[str] | None,
        typer.Option(
            help="Node asked for the truth, again for each (default: \\[keep] http, else \\[chain] rpc_urls)."
        ),
    ] = None,
    blocks: Annotated[
        int | None, typer.Option(min=1, help="Number of blocks to look at (default: until interrupted).")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Look at one block and end.")] = False,
    deployment: Annotated[
        str | None, typer.Option(metavar="NAME", help="Keep this one alone (default: all on the first one's chain).")
    ] = None,
    start: Start = None,
    speed: Annotated[
        float,
        typer.Option(min=0.0, help="With --start: number of times as fast as blocks came; 0: as fast as it goes."),
    ] = 0.0,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="This is process I of N that share the vaults (default: keep all of them)."),
    ] = None,
    localnet: Annotated[
        bool, typer.Option("--localnet", help="Try a keeper on the local market (--blocks, 200) and judge it; exit 1.")
    ] = False,
    faults: Annotated[str, typer.Option(help="With --localnet: all or none of the node's faults.")] = "all",
    seed: Annotated[int, typer.Option(help="With --localnet: seed (a number) of its blocks, prices and faults.")] = 1,
    config: Config = None,
    json: Json = None,
) -> None:
    """Keep vaults block by block: look at each new block, trade where its gas is worth it, until interrupted.

    The simulated vault is kept on paper: on the heads of a real chain, or with --start on recorded blocks. --localnet
    needs no project: a vault on a local chain is kept behind faults, and what was done is held against the truth.
    """
    if localnet:
        _try_keeper(blocks or 200, faults, seed, json)
        return
    from pipelines.servers.phrase import hand_over
    from pipelines.settings import load

    settings = load(config)
    if live:
        hand_over()
    from pipelines.deployments import chosen, deployments
    from pipelines.monitor.logs import configure_logging
    from pipelines.scheduled.keep_vaults import KeepChoice, keep_vaults

    if settings.watch.log == "json":
        configure_logging("json")
    asked = KeepChoice(live, ws, tuple(http or ()), 1 if once else blocks, start, speed, shard)
    write_json(json, keep_vaults(chosen(settings, deployment), settings.keep, asked, deployments(settings)))


def _try_keeper(blocks: int, faults: str, seed: int, json: str | None) -> None:
    """Print and write the figures of a trial; exit 1 unless its six counts are zero and it came to its end."""
    if faults not in {"all", "none"}:
        raise ConfigError(f"--faults {faults!r}: all or none")
    from pipelines.demo.keep_trial import SIX, try_keeper
    from pipelines.reports import terminal

    found = try_keeper(blocks, faults=faults == "all", seed=seed)
    terminal.trial(found)
    write_json(json, found)
    if not found["settled"] or any(zero(found) for zero in SIX):
        raise typer.Exit(1)


def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5310,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the browser.")] = True,
    config: Config = None,
    json: Json = None,
) -> None:
    """Open MLflow on the project's store, at the newest comparison grouped by policy."""
    from pipelines.experiments.ui import serve_ui
    from pipelines.settings import load

    settings = load(config, required=False)
    serve_ui(settings, port, open_browser=browser, ready=lambda page: write_json(json, {"page": page}))


def health(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            help="serve, keeper, page, metrics or mlflow (default: serve, and what the settings switch on).",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Say whether what this project runs is alive, a line each; exit 1 where something is not. For health checks."""
    from pipelines.deployments import deployments
    from pipelines.experiments.client import tracking_uri
    from pipelines.monitor.health import FILE, Owner, lines, rows
    from pipelines.settings import load
    from pipelines.settlements.reconcile import owner_of
    from pipelines.stages.health import Places
    from pipelines.stages.health import health as run
    from pipelines.vault_setup.transfer_fleet import leader

    settings = load(config, required=False)

    def owners() -> dict[str, Owner]:
        project = deployments(settings)
        return {one.name: owner_of(one) for one in project if leader(project, one) is one}

    page = None if settings.page.off else (settings.page.bind, settings.page.port)
    metrics, tracking = settings.watch.prometheus_port, tracking_uri(settings)
    found = run(Places(settings.path(FILE), owners, page, metrics, tracking, settings.keep.serve), what or ())
    for line in lines(found):
        typer.echo(line)
    write_json(json, rows(found))
    if not all(one.ok for one in found):
        raise typer.Exit(1)
