"""``foredrift config``: what holds in a project and where each value comes from, and whether the file is right."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from lake.errors import ConfigError
from lake.private import STATE, private_folder
from pipelines.reports.setting_pages import SCHEMA_FILE, UNSETTABLE, schema_text, written
from pipelines.setting_sources import from_environment, strangers, variable_of
from pipelines.setting_types import nearest
from pipelines.settings import DEFAULT_FILE, Settings, as_written, load

_SECRET = re.compile(r"key|secret|token|pass|private|credential|mnemonic|auth", re.IGNORECASE)
_FREE = ("sources.own.", "lake.options.")  # tables whose content nobody knows beforehand
Values = Mapping[str, Any]


def show(config: Path | None, under: str = "") -> dict[str, Any]:
    """Return ``{file, settings: [{key, value, source, variable, what}]}`` of the settings at and below ``under``.

    ``source``: default, file, environment (``variable`` names it), taken over (a further deployment's from the top) or
    derived (from other settings). Secrets are masked. Raises ConfigError on invalid settings.
    """
    settings = load(config)
    file, environment = as_written(settings.file), from_environment(Settings, os.environ)
    rows: list[dict[str, Any]] = [
        {"key": ".".join(path), "value": value, **_origin(path, file, environment, given), "what": what}
        for path, value, given, what in _leaves(settings, ())
    ]
    chosen = [r for r in rows if r["key"] == under or r["key"].startswith(f"{under}." if under else "")]
    if under and not chosen:
        names = {".".join(r["key"].split(".")[:depth]) for r in rows for depth in (1, 2, 3)}
        raise ConfigError(f"there is no setting {under!r}{nearest(under, names)}")
    return {"file": str(settings.file), "settings": chosen}


def check(config: Path | None) -> dict[str, Any]:
    """Return ``{file, from_file, from_environment, strange}`` of valid settings; raises ConfigError naming each fault.

    ``strange``: FOREDRIFT_ variables that nothing reads.
    """
    shown = show(config)  # loads and validates
    counted = {source: sum(r["source"] == source for r in shown["settings"]) for source in ("file", "environment")}
    return {
        "file": shown["file"], "from_file": counted["file"], "from_environment": counted["environment"],
        "strange": strangers(Settings, os.environ),
    }  # fmt: skip


def write_schema(config: Path | None) -> Path:
    """Write the schema that the first line of a starter file names, and return where."""
    folder = private_folder((config or Path(DEFAULT_FILE)).resolve().parent / STATE)
    file = folder / SCHEMA_FILE
    file.write_text(schema_text(), encoding="utf-8")
    return file


def _leaves(section: BaseModel, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, bool, str]]:
    """Yield (path, masked value, whether it was given or computed rather than a default, description) of each value."""
    for name, field in type(section).model_fields.items():
        if not path and name in UNSETTABLE:
            continue
        value, here = getattr(section, name), (*path, name)
        rows = value if isinstance(value, tuple) and value and isinstance(value[0], BaseModel) else None
        if isinstance(value, BaseModel):
            yield from _leaves(value, here)
        elif rows is not None:
            for i, row in enumerate(rows):
                yield from _leaves(row, (*here, str(i)))
        else:
            yield (
                here,
                written(masked(".".join(here), value)),
                name in section.model_fields_set,
                field.description or "",
            )


def masked(key: str, value: Any) -> Any:
    """Return ``value`` without what must not be seen: secrets, passwords in addresses, keys in free tables."""
    if isinstance(value, SecretStr):
        return "***"
    if isinstance(value, Mapping):
        return {k: masked(f"{key}.{k}", v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [masked(key, v) for v in value]
    if not isinstance(value, str):
        return value
    free = key.startswith(_FREE)
    if free and _SECRET.search(key.rpartition(".")[2]):
        return "***"
    return _address(value, free=free) if "://" in value else value


def _address(text: str, *, free: bool) -> str:
    """Mask an address's password and query; where anything may stand in it (``free``), its path too."""
    try:
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "***"
    if not parts.scheme:  # no address, whatever stands in it
        return "***"
    user = parts.username or ""
    who = f"{user}:***@" if parts.password else f"{user}@" if user else ""
    path = "/***" if free and parts.path.strip("/") else parts.path
    return f"{parts.scheme}://{who}{host}{path}" + ("?***" if parts.query else "") + ("#***" if parts.fragment else "")


def _origin(path: tuple[str, ...], file: Values, environment: dict[str, Any], given: bool) -> dict[str, str | None]:
    variable = variable_of(path, environment)
    if variable is None and _at(environment, path) is not None:
        variable = f"FOREDRIFT_{'__'.join(path).upper()}__*"  # entries of a table, each by a variable
    if variable is not None:
        return {"source": "environment", "variable": variable}
    if _at(file, path) is not None:
        return {"source": "file", "variable": None}
    if not given:
        return {"source": "default", "variable": None}
    return {"source": "taken over" if path[0] == "deployments" else "derived", "variable": None}


def _at(values: Any, path: tuple[str, ...]) -> Any:
    """Return what stands at ``path``, None where nothing does; the number of a row leads into a list."""
    for part in path:
        if isinstance(values, Mapping):
            values = values.get(part)
        elif isinstance(values, list) and part.isdigit() and int(part) < len(values):
            values = values[int(part)]
        else:
            return None
    return values
