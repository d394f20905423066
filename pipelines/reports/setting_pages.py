"""What editors and people read about the settings, made from the sections themselves: a JSON schema and a page."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from pipelines.sections import DeploymentSection
from pipelines.setting_sources import VARIABLES
from pipelines.settings import Settings

UNSETTABLE = frozenset({"root"})
SCHEMA_FILE = "settings.schema.json"
_HEAD = """# Settings

Every setting of `foredrift.toml`, with its default and unit; made from the code by `make reference`, so do not edit it.
A variable stands over the file: `FOREDRIFT_PORTFOLIO__NAV_USD=250000` sets `[portfolio] nav_usd`. Lengths of time are
a number with s, m, h, d or w (`90s`, `1h`, `14d`); crons have five fields. `foredrift config show` says what holds in a
project and where each value comes from, `foredrift config check` what is wrong. An editor that reads TOML schemas
(taplo, Even Better TOML) completes and checks the file by the line `#:schema` that `foredrift init` writes on its top.
"""
_TYPES = {str: "text", int: "whole number", float: "number", bool: "true or false", SecretStr: "text, never shown"}


def schema() -> dict[str, Any]:
    """Return the JSON schema of foredrift.toml.

    What a further deployment leaves out is completed from the sections at the top, so an editor may not ask for it.
    """
    found = Settings.model_json_schema()
    for name in UNSETTABLE:
        found["properties"].pop(name)
    found["$defs"][DeploymentSection.__name__]["required"] = ["name"]
    described = "Foredrift settings (foredrift.toml)"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | found | {"title": described}


def schema_text() -> str:
    """Return the schema as it is written to a file."""
    return json.dumps(schema(), indent=1, default=str) + "\n"


def page() -> str:
    """Return docs/settings.md."""
    parts = [_HEAD]
    for heading, note, model in _sections():
        parts += [f"\n## {heading}\n\n{note}\n", "| setting | kind | default | what |\n|---|---|---|---|"]
        parts += [
            _row(f.alias or name, f)
            for name, f in model.model_fields.items()
            if name not in UNSETTABLE and not _inside(f.annotation)
        ]
    parts += ["\n## Variables that are no settings\n\n| variable | what |\n|---|---|"]
    parts += [f"| `{name}` | {said} |" for name, said in VARIABLES.items()]
    return "\n".join(parts) + "\n"


def _row(name: str, f: FieldInfo) -> str:
    return f"| `{name}` | {_escaped(kind_of(f))} | {_quoted(default_of(f))} | {_escaped(f.description or '')} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def _quoted(text: str) -> str:
    return text if text in {"needed", "unset"} else f"`{text}`"


def _sections() -> Iterator[tuple[str, str, type[BaseModel]]]:
    """Yield (heading, note, section) of every table that the file can have, in the file's order."""
    todo: list[tuple[str, FieldInfo]] = [(n, f) for n, f in Settings.model_fields.items() if n not in UNSETTABLE]
    while todo:
        path, field = todo.pop(0)
        model, listed = _inside(field.annotation), _listed(field.annotation)
        if model is None:
            continue
        yield f"`[[{path}]]`" if listed else f"`[{path}]`", _note(model, field), model
        if model is not DeploymentSection:
            todo[:0] = [(f"{path}.{n}", f) for n, f in model.model_fields.items() if _inside(f.annotation)]


def _note(model: type[BaseModel], field: FieldInfo) -> str:
    said = " ".join((model.__doc__ or "").replace("``", "`").split())
    inner = [f"`{n}`" for n, f in model.model_fields.items() if _inside(f.annotation)]
    tables = f" Tables of their own: {', '.join(inner)}." if inner and model is not DeploymentSection else ""
    mine = f" Each row also has the tables {', '.join(inner)}, written as those at the top." * bool(inner)
    absent = " Absent unless written." if field.default is None else ""
    return said + (mine if model is DeploymentSection else tables) + absent


def _parts(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, else the annotation alone; ``Annotated`` is looked through."""
    if get_origin(annotation) is Annotated:
        return _parts(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return tuple(m for part in get_args(annotation) for m in _parts(part))
    return (annotation,)


def _inside(annotation: Any) -> type[BaseModel] | None:
    """Return the section that a setting is, or is a list of; None for a plain value."""
    for part in _parts(annotation):
        for one in (part, *(get_args(part) if get_origin(part) is tuple else ())):
            if isinstance(one, type) and issubclass(one, BaseModel):
                return one
    return None


def _listed(annotation: Any) -> bool:
    return any(get_origin(part) is tuple for part in _parts(annotation))


def kind_of(field: FieldInfo) -> str:
    """Return in words what a setting takes: its type, its choices, its bounds."""
    kinds = [_kind(part) for part in _parts(field.annotation) if part is not type(None)]
    bounds = [f"{sign} {_number(v)}" for m in field.metadata for sign, v in _bounds(m)]
    return " or ".join(dict.fromkeys(kinds)) + (f", {' and '.join(bounds)}" if bounds else "")


def _bounds(constraint: Any) -> Iterator[tuple[str, float]]:
    for name, sign in {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}.items():
        if getattr(constraint, name, None) is not None:
            yield sign, getattr(constraint, name)


def _number(value: float) -> str:
    return f"{value:,}".removesuffix(".0")


def _kind(annotation: Any) -> str:
    annotation = _parts(annotation)[0]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{v}`" for v in inner)
    if origin is tuple:
        return f"list of {_kind(inner[0])}"
    if origin is dict:
        return "table"
    return _TYPES.get(annotation, "value")


def default_of(field: FieldInfo) -> str:
    """Return what is taken where a setting is left out, as the file would write it."""
    if field.is_required():
        return "needed"
    return written(field.get_default(call_default_factory=True))


def written(value: Any) -> str:
    """Return ``value`` as TOML writes it; ``unset`` for an absent one, secrets masked."""
    if value is None:
        return "unset"
    if isinstance(value, SecretStr):
        return '"***"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return _number(value).replace(",", "_")
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {written(v)}" for k, v in value.items()) + " }" if value else "{}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(written(v) for v in value) + "]"
    return json.dumps(str(value), ensure_ascii=False)
