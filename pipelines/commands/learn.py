"""Verbs around forecasts: train, forecast, models."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.commands.options import Config, End, Json, Start, write_json

models_app = typer.Typer(help="Champions, challengers and the evidence behind them.", no_args_is_help=False)


def register(app: typer.Typer) -> None:
    """Add this file's verbs to ``app``."""
    app.command("train", rich_help_panel="Forecast")(train)
    app.command("forecast", rich_help_panel="Forecast")(forecast)
    app.add_typer(models_app, name="models", rich_help_panel="Forecast")


def train(
    families: Annotated[list[str] | None, typer.Argument(help="gas, drift, slippage (default: all).")] = None,
    start: Start = None,
    end: End = None,
    report: Annotated[bool, typer.Option("--report", help="Print scores, coverage by month and the ablation.")] = False,
    register_: Annotated[bool, typer.Option("--register/--no-register", help="Log to MLflow, judge promotion.")] = True,
    config: Config = None,
    json: Json = None,
) -> None:
    """Train walk-forward, score against baselines, log to MLflow and promote on evidence."""
    from pipelines.settings import load

    settings = load(config)  # first: what is wrong with it is said before seconds of imports
    from pipelines.deployments import deployment
    from pipelines.reports import terminal
    from pipelines.stages.train import train as run

    with terminal.progress() as bar:
        result = run(deployment(settings), families or [], start, end, bar, report=report, register=register_)
    terminal.training(result)
    write_json(json, result.json)


def forecast(
    as_of: Annotated[str | None, typer.Option("--as-of", help="Issue as of this moment (UTC; default: now).")] = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Issue forecasts into the lake with the champions."""
    from pipelines.deployments import deployment
    from pipelines.reports import terminal
    from pipelines.settings import load
    from pipelines.stages.forecast import forecast as run

    result = run(deployment(load(config)), as_of)
    terminal.forecasts(result)
    write_json(json, result)


@models_app.callback(invoke_without_command=True)
def models(ctx: typer.Context, config: Config = None, json: Json = None) -> None:
    """List champions and challengers with the evidence of every promotion."""
    if ctx.invoked_subcommand is not None:
        return
    from pipelines.deployments import deployment
    from pipelines.experiments.model_lifecycle import report as registry_report
    from pipelines.reports import terminal
    from pipelines.settings import load

    report = registry_report(deployment(load(config)))
    terminal.models(report)
    write_json(json, report)


@models_app.command()
def promote(
    family: Annotated[str, typer.Argument(help="gas, drift or slippage.")],
    version: Annotated[str, typer.Argument(help="Registered version.")],
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    config: Config = None,
    json: Json = None,
) -> None:
    """Make a version champion by hand; needs a reason."""
    from pipelines.experiments.model_lifecycle import promote as run
    from pipelines.settings import load

    told = run(load(config), family, version, reason)
    typer.echo(told)
    write_json(json, {"family": family, "done": told})


@models_app.command()
def demote(
    family: Annotated[str, typer.Argument(help="gas, drift or slippage.")],
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    config: Config = None,
    json: Json = None,
) -> None:
    """Put the best baseline back as champion by hand; needs a reason."""
    from pipelines.experiments.model_lifecycle import demote as run
    from pipelines.settings import load

    told = run(load(config), family, reason)
    typer.echo(told)
    write_json(json, {"family": family, "done": told})
