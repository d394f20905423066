"""Options that several verbs share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from lake.errors import ConfigError, StoreError
from pipelines.reports.output import hushed

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Settings file (default: ./foredrift.toml).")]
_stdout: TextIO | None = None  # where JSON goes while everything else that is printed goes to stderr


def _leave_stdout_to_json(ctx: typer.Context, target: str | None) -> str | None:
    """Send what the verb prints to stderr when its JSON goes to stdout, until the verb ends."""
    global _stdout
    if target is not None and not _is_stdout(target):
        _assure_target(target)
    if target is None or not _is_stdout(target) or _stdout is not None:
        return target
    before, quiet = sys.stdout, hushed()
    _stdout, sys.stdout = (before, sys.stderr) if quiet is None else (quiet, before)

    def back() -> None:
        global _stdout
        if _stdout is not None:
            _stdout.flush()
            sys.stdout, _stdout = before, None

    ctx.call_on_close(back)
    return target


Json = Annotated[
    str | None,
    typer.Option(
        "--json", metavar="FILE", callback=_leave_stdout_to_json,
        help="Also write the figures as JSON to FILE (a pipe is written through); - is clean JSON on stdout "
        "(default: not written).",
    ),
]  # fmt: skip
Deployment = Annotated[
    str | None,
    typer.Option("--deployment", metavar="NAME", help="One of [\\[deployments]] (default: that of \\[vault])."),
]
Start = Annotated[
    str | None, typer.Option(help="First day or moment (UTC), e.g. 2022-07-01 (default: where the data begin, or now).")
]
End = Annotated[str | None, typer.Option(help="End (UTC), not included (default: where the data end).")]


def pairs(items: Iterable[str], option: str) -> dict[str, str]:
    """Parse repeated ``left=right`` options into a dict; raises ConfigError naming the bad one."""
    out: dict[str, str] = {}
    for item in items:
        left, sep, right = item.partition("=")
        if not sep or not left or not right:
            raise ConfigError(f"{option} {item!r}: write {option} left=right")
        out[left.strip()] = right.strip()
    return out


def write_json(target: str | None, data: Any) -> None:
    """Write ``data`` as JSON (numbers unrounded, keys in given order) to ``target``.

    A plain file is replaced atomically, also behind a symlink, which stays. A pipe, FIFO or device is written through.
    ``-`` and a path that is this process's own stdout (``/dev/stdout``) give clean JSON there: with them all else
    that is printed has gone to stderr.
    """
    if target is None:
        return
    import json

    text = json.dumps(data, indent=1, allow_nan=False, default=str) + "\n"
    if _is_stdout(target):
        _stdout.write(text) if _stdout is not None else sys.stdout.write(text)
        return
    path = Path(target)
    _assure_target(target)
    try:
        if path.exists() and not path.is_file():
            with path.open("w", encoding="utf-8") as through:
                through.write(text)
            return
        path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name[:200]}.{os.getpid()}.tmp")  # two processes may write the same target
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"the work is done, but --json {target} could not be written: {error.strerror}") from error


def _assure_target(target: str) -> None:
    """Refuse before the work what JSON can never be written to: a folder, a place in a file, a link to itself."""
    path = Path(target)
    try:
        if path.is_dir():
            raise ConfigError(f"--json {target} is a folder; name a file in it, or - for stdout")
        if path.exists() and not path.is_file():
            return
        path = path.resolve()
        above = next(p for p in (path.parent, *path.parents) if p.exists())
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"--json {target} cannot be written: {error}") from error
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise ConfigError(f"--json {target} cannot be written: {above} is no folder that this user may write to")


def _is_stdout(target: str) -> bool:
    """Return whether ``target`` means this process's stdout, under whatever name."""
    if target == "-":
        return True
    if not target.startswith(("/dev/", "/proc/")):
        return False
    try:
        return os.path.samestat(Path(target).stat(), os.fstat(1))
    except OSError:
        return False
