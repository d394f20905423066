"""The verb that shows the portfolio: in the terminal, and as a web page."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.options import Config, Deployment, Json, write_json

if TYPE_CHECKING:
    from pipelines.deployments import Deployment as Project


def portfolio(
    watch: Annotated[bool, typer.Option("--watch", help="Look again every --every seconds until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=1.0, help="Seconds between two looks of --watch.")] = 30.0,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve it as a web page on \\[page] port until Ctrl-C.")
    ] = False,
    deployment: Deployment = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Show NAV, bands, what comes next and why, what it cost, and what it saved against plain rules."""
    from lake.errors import ConfigError
    from pipelines.deployments import chosen
    from pipelines.settings import load

    if watch and serve:
        raise ConfigError("--watch shows it here, --serve in a browser: give one of them")
    settings = load(config)
    project, vaults = chosen(settings, None), chosen(settings, deployment)
    stale = settings.watch.stale_after
    if serve:
        from pipelines.scheduled.portfolio_serving import serving

        with serving(vaults, settings.page, stale, project) as address:
            typer.echo(f"portfolio: {address}  (Ctrl-C ends it)")
            while True:
                time.sleep(3600)
    _show(vaults, project, stale, watch=watch, every=every, json=json)


def _show(
    vaults: tuple[Project, ...], project: tuple[Project, ...], stale: str, *, watch: bool, every: float,
    json: str | None,
) -> None:  # fmt: skip
    """Print the portfolios, again and again with ``watch``, and write the last look as JSON."""
    from pipelines.reports import terminal
    from pipelines.reports.portfolio_terminal import rendered
    from pipelines.stages.portfolio import portfolio as run
    from pipelines.wiring import now

    while True:
        found = [run(one, now(), stale, project) for one in vaults]
        if watch and terminal.console.is_terminal:
            terminal.console.clear()
        for one in found:
            terminal.console.print(rendered(one))
        write_json(json, found[0] if len(found) == 1 else {"portfolios": found})
        if not watch:
            return
        time.sleep(every)
