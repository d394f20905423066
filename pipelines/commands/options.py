"""Options that several verbs share."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from lake.errors import ConfigError

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Settings file (default: ./foredrift.toml).")]
Json = Annotated[str | None, typer.Option("--json", help="Also write the figures as JSON to FILE, or - for stdout.")]
Start = Annotated[str | None, typer.Option(help="First day or moment (UTC), e.g. 2022-07-01.")]
End = Annotated[str | None, typer.Option(help="End (UTC), not included.")]


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
    """Write ``data`` as JSON (numbers unrounded, keys in given order) to a file, atomically, or to stdout for ``-``."""
    if target is None:
        return
    import json

    text = json.dumps(data, indent=1, allow_nan=False, default=str) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
