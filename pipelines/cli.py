"""The ``foredrift`` command: collects the verbs and turns deliberate errors into one line and an exit code."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from foredrift.ours import ForeignPackageError, check_ours
from lake.errors import ConfigError, ForedriftError
from pipelines.commands import (
    config,
    data,
    halt,
    hedge,
    keepsake,
    keys,
    lake,
    learn,
    mandate,
    run,
    trade,
    transfers,
    vault,
    watch,
)
from pipelines.commands.options import Json, write_json
from pipelines.reports import output
from pipelines.servers import phrase

INTERRUPTED = 130  # what the command line library makes of Ctrl-C, without a word
EXIT_CODES = (
    "Exit codes: 0 done; 1 failed, or what was asked to be proven does not hold; 2 bad usage or configuration; "
    "130 interrupted. Options that are switches are off unless given. All settings: docs/settings.md."
)
app = typer.Typer(
    name="foredrift",
    help="Rebalance an on-chain portfolio before it drifts out of its mandate.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
)
for group in (data, keepsake, config, lake, learn, trade, transfers, hedge, keys, vault, mandate, halt, watch, run):
    group.register(app)


def _version() -> str:
    from importlib.metadata import version as installed

    return installed("foredrift")


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"foredrift {_version()}")
        raise typer.Exit


@app.callback()
def everywhere(
    ctx: typer.Context,
    shown: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_say_version, is_eager=True)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print errors alone, no tables or progress; --json is written.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also log on stderr what is done, a line an event.")
    ] = False,
) -> None:
    """Rebalance an on-chain portfolio before it drifts out of its mandate."""
    del shown
    if quiet and verbose:
        raise ConfigError("--quiet and --verbose: give one of them")
    if quiet:
        ctx.call_on_close(output.hush())
    if verbose:
        from pipelines.monitor.logs import configure_logging

        ctx.call_on_close(configure_logging("text"))


@app.command(rich_help_panel="Start here")
def version(json: Json = None) -> None:
    """Print the version."""
    typer.echo(f"foredrift {_version()}")
    write_json(json, {"version": _version()})


def main() -> None:
    """Run the command line: exit 0 done, 1 failed, 2 bad usage or configuration, 130 interrupted."""
    output.install()
    phrase.take()
    try:
        check_ours()
        app()
    except ForeignPackageError as error:
        _fail(error, 2)
    except SystemExit as done:
        if done.code == INTERRUPTED:
            _interrupted()
        raise
    except KeyboardInterrupt:
        _interrupted()
    except ConfigError as error:
        _fail(error, 2)
    except ForedriftError as error:
        _fail(error, 1)
    except Exception as error:  # a full disk or a damaged file may be met wherever rows are read lazily
        from lake.trouble import explained

        told = explained(error, "a store of this project")
        if told is None:
            raise
        _fail(told, 1)
    finally:
        cut = output.last_words()
        if cut is not None:
            typer.secho(cut, fg="yellow", err=True)


def _interrupted() -> NoReturn:
    typer.secho("interrupted; what was committed stays, run it again to go on", fg="yellow", err=True)
    sys.exit(INTERRUPTED)


def _fail(error: ForedriftError | ForeignPackageError, code: int) -> NoReturn:
    typer.secho(f"error: {error}", fg="red", err=True)
    for note in getattr(error, "__notes__", []):
        typer.secho(f"  {note}", fg="red", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
