"""Verbs that keep Foredrift running: serve, ui."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.commands.options import Config


def register(app: typer.Typer) -> None:
    """Add this file's verbs to ``app``."""
    app.command("serve", rich_help_panel="Operate")(serve)
    app.command("ui", rich_help_panel="Operate")(ui)


def serve(
    only: Annotated[str | None, typer.Option(help="Comma-separated deployments (default: all five).")] = None,
    config: Config = None,
) -> None:
    """Run the scheduled deployments (ingest, forecast, rebalance, retrain, compare) in one process."""
    from pipelines.servers.phrase import hand_over
    from pipelines.settings import load

    settings = load(config)
    hand_over()  # before anything heavy: it starts this command again where a passphrase is in the environment
    from pipelines.scheduled.serve import serve as run

    run(settings, only.split(",") if only else None)


def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5310,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the browser.")] = True,
    config: Config = None,
) -> None:
    """Open MLflow on the project's store, at the newest comparison grouped by policy."""
    from pipelines.experiments.ui import serve_ui
    from pipelines.settings import load

    serve_ui(load(config, required=False), port, open_browser=browser)
