"""The ``foredrift`` command: collects the verbs and turns deliberate errors into one line and an exit code."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from foredrift.ours import ForeignPackageError, check_ours
from lake.errors import ConfigError, ForedriftError
from pipelines.commands import data, halt, hedge, lake, learn, mandate, run, trade, vault, watch
from pipelines.reports import output
from pipelines.servers import phrase

INTERRUPTED = 130  # what the command line library makes of Ctrl-C, without a word
app = typer.Typer(
    name="foredrift",
    help="Rebalance an on-chain portfolio before it drifts out of its mandate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
)
for group in (data, lake, learn, trade, hedge, vault, mandate, halt, watch, run):
    group.register(app)


@app.command(rich_help_panel="Start here")
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    typer.echo(f"foredrift {installed('foredrift')}")


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
