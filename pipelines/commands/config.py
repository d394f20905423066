"""Verbs around the settings: config show, check, schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines.commands.options import Config, Json, write_json

config_app = typer.Typer(
    help="The settings: what holds and where it comes from, what is wrong, what there is.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add this file's verbs to ``app``."""
    app.add_typer(config_app, name="config", rich_help_panel="Start here")


@config_app.command()
def show(
    under: Annotated[
        str, typer.Argument(metavar="KEY", help="Only these, e.g. portfolio or vault.kind (default: every setting).")
    ] = "",
    changed: Annotated[
        bool, typer.Option("--changed", help="Only what the file or a variable gives (default: defaults too).")
    ] = False,
    config: Config = None,
    json: Json = None,
) -> None:
    """Show every setting with its value and where that comes from: default, file or environment. Secrets are masked."""
    from pipelines.reports import terminal
    from pipelines.stages.config import show as run

    result = run(config, under)
    rows = [r for r in result["settings"] if not changed or r["source"] in {"file", "environment"}]
    shown = [[r["key"], r["value"], r["variable"] or r["source"]] for r in rows]
    terminal.table(f"Settings of {result['file']}", ["setting", "value", "from"], shown, right_from=3)
    if len(rows) == 1:
        terminal.say(rows[0]["what"])
    write_json(json, result | {"settings": rows})


@config_app.command()
def check(config: Config = None, json: Json = None) -> None:
    """Check file and variables: exit 0 valid, 2 with a line for each fault. Nothing is asked of stores or nodes."""
    from pipelines.reports import terminal
    from pipelines.stages.config import check as run

    result = run(config)
    for line in result["strange"]:
        terminal.say(("warn ", "yellow"), line)
    terminal.say(
        f"{result['file']} is valid: {result['from_file']} settings from the file, "
        f"{result['from_environment']} from the environment; foredrift doctor also looks at stores and nodes"
    )
    write_json(json, result)


@config_app.command()
def schema(
    ctx: typer.Context,
    form: Annotated[
        Literal["json", "markdown", "verbs"],
        typer.Option(help="The schema for an editor, the page docs/settings.md, or docs/verbs.md of every verb."),
    ] = "json",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it to this file (default: print it).")] = None,
    json: Json = None,
) -> None:
    """Print the JSON schema of foredrift.toml, by which editors complete and check it; or every setting as a page."""
    from pipelines.reports import setting_pages

    if form == "verbs":
        from pipelines.reports.verb_page import page

        text = page(ctx.find_root().command)
    else:
        text = setting_pages.schema_text() if form == "json" else setting_pages.page()
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
        typer.echo(f"wrote {out}")
    else:
        typer.echo(text, nl=False)
    write_json(json, setting_pages.schema())
