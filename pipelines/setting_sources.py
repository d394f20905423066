"""Settings from the environment, and validation errors in words that name the key or the variable to mend."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from lake.errors import ConfigError
from pipelines.setting_types import nearest

_PLAIN = {
    "tuple_type": 'a list is wanted, like ["a", "b"]',
    "model_type": "a table of settings is wanted",
    "missing": "is missing",
}
PREFIX, NESTED = "FOREDRIFT_", "__"
Values = dict[str, Any]
VARIABLES = {
    "FOREDRIFT_CONFIG": "Settings file of scheduled runs; `foredrift serve` sets it.",
    "FOREDRIFT_HOME": "Folder of foredrift.toml for the worker of a work pool.",
    "FOREDRIFT_NOTIFY": "Where alerts go: Apprise URLs, separated by spaces. They may hold keys and are never shown.",
    "FOREDRIFT_NOTIFY_FILE": "File (mode 600) that holds those addresses: the way for services.",
    "FOREDRIFT_PASSPHRASE": "Passphrase of the keystore; each command takes it out of its environment at once.",
    "FOREDRIFT_PASSPHRASE_FILE": "File (mode 600) that holds the passphrase: the way for services.",
    "FOREDRIFT_REPLAY": "SIMULATED_START,REAL_START,SPEED: a paper portfolio lives through recorded hours.",
    "FOREDRIFT_SAFE_API_KEY": "Key of the Safe transaction service. It is never shown.",
    "FOREDRIFT_SAFE_API_KEY_FILE": "File (mode 600) that holds that key: the way for services.",
    "FOREDRIFT_TELEGRAM_TOKEN": "Token of the chat's bot; `foredrift serve` takes it out of its environment at once.",
    "FOREDRIFT_TELEGRAM_TOKEN_FILE": "File (mode 600) that holds that token: the way for services.",
}
"""Variables that are no settings of the file, with what they are for."""


def from_environment(model: type[BaseModel], environ: Mapping[str, str]) -> Values:
    """Return the values that variables ``FOREDRIFT_<SECTION>__<KEY>[__<KEY>]`` give, nested as in the file.

    A list is JSON or separated by commas (``BTC,ETH``), a table is JSON, the word ``none`` an absent value. A section
    or key that does not exist is a ConfigError with the nearest name; other FOREDRIFT_ variables are left alone.
    """
    out: Values = {}
    wrong: list[str] = []
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX):
            continue
        path = variable.removeprefix(PREFIX).lower().split(NESTED)
        if len(path) == 1 and path[0] not in model.model_fields:
            continue
        try:
            annotation, inside = _field(model, path, variable)
            names = [*path[: len(path) - len(inside)], *(part.upper() for part in inside)]
            _put(out, names, _value(annotation, inside, text, variable))
        except ConfigError as error:
            wrong.append(str(error))
    if wrong:
        raise ConfigError("; ".join(wrong))
    return out


def strangers(model: type[BaseModel], environ: Mapping[str, str]) -> list[str]:
    """Return a line for each FOREDRIFT_ variable that nothing reads: most likely it is written wrong."""
    lines = []
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in VARIABLES:
            continue
        first = variable.removeprefix(PREFIX).lower().split(NESTED)
        if len(first) == 1 and first[0] not in model.model_fields:
            lines.append(f"{variable}: nothing reads this variable{nearest(variable, VARIABLES)}")
    return lines


def _field(model: type[BaseModel], path: list[str], variable: str) -> tuple[Any, list[str]]:
    """Return the annotation that ``path`` leads to and what of the path lies inside it (the key of a table)."""
    annotation: Any = model
    for i, part in enumerate(path):
        section = next(_models(annotation), None)
        if section is None:
            return annotation, path[i:]
        if part not in section.model_fields:
            known = [PREFIX + NESTED.join([*path[:i], name]).upper() for name in section.model_fields]
            hint = nearest(PREFIX + NESTED.join(path[: i + 1]).upper(), known)
            where = f"[{'.'.join(path[:i])}]" if i else "the settings"
            raise ConfigError(f"{variable}: there is no {part} in {where}{hint}")
        annotation = section.model_fields[part].annotation
    return annotation, []


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that an annotation can hold directly (``X`` or ``X | None``, never ``tuple[X, ...]``)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in {Union, types.UnionType, Annotated}:
        for part in get_args(annotation):
            yield from _models(part)


def _holds(annotation: Any, kind: type) -> bool:
    """Return whether a list, or a table, is among what ``annotation`` accepts."""
    origin = get_origin(annotation)
    if origin in {Union, types.UnionType, Annotated}:
        return any(_holds(part, kind) for part in get_args(annotation))
    return origin is kind


def _value(annotation: Any, inside: list[str], text: str, variable: str) -> Any:
    if len(inside) > 1 or (inside and not _holds(annotation, dict)):
        raise ConfigError(f"{variable}: the part {NESTED.join(inside).upper()!r} is one too many")
    if text.strip().lower() == "none" and not inside:
        return None
    table = _holds(annotation, dict) or next(_models(annotation), None) is not None
    if not inside and (table or text.lstrip().startswith("[")):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            form = 'a table is JSON like {"a": 1}' if table else "a list is JSON like [1, 2], or 1,2"
            at = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else str(error)
            raise ConfigError(f"{variable}: {form} ({at})") from None
    if not inside and _holds(annotation, tuple) and ("," in text or not _scalar(annotation)):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text


def _scalar(annotation: Any) -> bool:
    """Return whether one plain value is accepted beside a list (``float | tuple[float, ...]``)."""
    parts = get_args(annotation) if get_origin(annotation) in {Union, types.UnionType} else ()
    return any(part in {str, int, float} for part in parts)


def _put(out: Values, path: list[str], value: Any) -> None:
    for part in path[:-1]:
        out = out.setdefault(part, {})
    below = out.get(path[-1])
    out[path[-1]] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value


def merged(file: Values, environment: Values) -> Values:
    """Return the file's values with the environment's over them, table by table."""
    out = dict(file)
    for key, value in environment.items():
        below = out.get(key)
        out[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return out


def explained(model: type[BaseModel], error: ValidationError, file: str, environment: Values) -> str:
    """Return one line a fault: the variable or the key in the file, what was given, what is wanted."""
    lines = [_line(model, e, file, environment) for e in error.errors(include_url=False, include_context=False)]
    if len(lines) == 1:
        return f"the configuration is not valid: {lines[0]}"
    return "the configuration is not valid:\n" + "\n".join(f"  {line}" for line in dict.fromkeys(lines))


def _line(model: type[BaseModel], fault: Any, file: str, environment: Values) -> str:
    path, section, secret = _walk(model, fault["loc"])
    variable = variable_of(path, environment)
    where = variable or f"{'.'.join(path)} in {file}"
    if fault["type"] == "extra_forbidden":
        return f"{where}: there is no such setting{nearest(path[-1], section.model_fields if section else ())}"
    wanted = _PLAIN.get(fault["type"], str(fault["msg"]).removeprefix("Value error, "))
    given = fault["input"]
    plain = isinstance(given, str | int | float) and not secret
    shown = f" (given: {given!r})" if plain and repr(given) not in wanted else ""
    return f"{where}: {wanted}{shown}{_literal_hint(wanted, given)}"


def _walk(model: type[BaseModel], loc: tuple[Any, ...]) -> tuple[list[str], type[BaseModel] | None, bool]:
    """Return the path without the names of a union's members, the innermost section, and whether it is a secret."""
    path: list[str] = []
    section: type[BaseModel] | None = model
    annotation: Any = model
    for part in loc:
        section = next(_nested(annotation), None)
        if section is not None and part in section.model_fields:
            annotation = section.model_fields[str(part)].annotation
        elif isinstance(part, str) and (part in {"str", "int", "float", "bool"} or "[" in part):
            continue  # pydantic names the member of the union it tried
        path.append(str(part))
    return path, section, "SecretStr" in str(annotation)


def _literal_hint(wanted: str, given: Any) -> str:
    if not wanted.startswith("Input should be '") or not isinstance(given, str):
        return ""
    return nearest(given, wanted.split("'")[1::2])


def _nested(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections anywhere inside an annotation, those of a list included."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _nested(part)


def variable_of(path: Sequence[str], environment: Values) -> str | None:
    """Return the variable that gave the value at ``path``, None when the file did."""
    at: Any = environment
    taken: list[str] = []
    for part in path:
        if not isinstance(at, dict) or part not in at:
            break
        at = at[part]
        taken.append(part)
    return PREFIX + NESTED.join(taken).upper() if taken and not isinstance(at, dict) else None
