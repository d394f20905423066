"""Which column of a file is which column of a table, what is filled in for all rows, and in which unit values come."""

from __future__ import annotations

from collections.abc import Mapping
from zoneinfo import available_timezones

import polars as pl
from polars.exceptions import PolarsError

from lake.errors import ConfigError, SchemaError
from lake.sources.formats import FileShape, looks_like
from lake.sources.rows import Value
from lake.tables import Table, table
from lake.units import WEI_PER_GWEI, duration

IMPORTABLE = (
    "prices", "gas", "heads", "pool_state", "oracle", "signals", "options", "volindex", "perps", "rates", "positions",
)  # fmt: skip
"""Tables a file may be loaded into; the others are computed here and nowhere else."""

ALSO_CALLED = {"heads": {"number": "block_number"}}
"""By table what a file's column may be called besides its own name."""


def importable(name: str) -> Table:
    """Return table ``name``; ConfigError where no file may be loaded into it."""
    if name not in IMPORTABLE:
        raise ConfigError(f"a file cannot be loaded into {name!r}; the tables for own data are {', '.join(IMPORTABLE)}")
    return table(name)


def zone_of(given: Value) -> str | None:
    """Return the time zone named for times without one; ConfigError where there is none of that name."""
    if given is not None and given not in available_timezones():
        raise ConfigError(f"tz={given!r} is no time zone; write for example tz=UTC or tz=Europe/Paris")
    return None if given is None else str(given)


def columns_of(
    spec: Table, names: list[str], mapping: dict[str, str], constants: dict[str, Value]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return table column -> file column and the file columns left out; SchemaError names all that miss at once."""
    unknown = [c for c in [*mapping, *constants] if c not in spec.columns]
    twice = [c for c in mapping if c in constants]
    if unknown or twice:
        raise ConfigError(
            f"table {spec.name} has no columns {unknown}, and {twice} are both mapped and set; "
            f"its columns are {', '.join(spec.columns)}"
        )
    also = {c: f for c, f in ALSO_CALLED.get(spec.name, {}).items() if c not in names and f in names}
    mapping = {**{c: f for c, f in also.items() if c not in constants}, **mapping}
    absent = [f for f in mapping.values() if f not in names]
    columns = {c: mapping.get(c, c) for c in spec.columns if c not in constants}
    columns = {c: f for c, f in columns.items() if f in names}
    derived = {"source", "chain_id", "step"}
    missing = [c for c in spec.required if c not in columns and c not in constants and c not in derived]
    if absent or missing:
        raise SchemaError(
            f"table {spec.name} needs columns {missing or 'none more'}; mapped columns {absent} are not in the file, "
            f"which has {', '.join(names)}: {_remedy(names, missing, absent)}"
        )
    constants.update(
        {
            c: d
            for c, d in (("source", "file"), ("chain_id", 1))
            if c in spec.columns and c not in {*columns, *constants}
        }
    )
    return columns, tuple(n for n in names if n not in columns.values())


def assure_types(spec: Table, columns: Mapping[str, str], found: Mapping[str, pl.DataType]) -> None:
    """Refuse columns whose type in the file cannot be meant: a time or a truth value for a number, lists for a text.

    Raises SchemaError naming them all: polars would make numbers of them (days, microseconds, 0 and 1).
    """
    wrong = []
    for name, column in columns.items():
        kind, wanted = found[column], spec.columns[name]
        flag = kind == pl.Boolean and spec.name != "signals"  # a signal may well be true or false
        odd = kind.is_temporal() or flag or (kind == pl.Binary and wanted != pl.Binary)
        if ((wanted.is_numeric() or wanted == pl.Binary) and odd) or kind.is_nested() or kind == pl.Object:
            wrong.append(f"{column!r} holds {kind}, which cannot be {name}")
    if wrong:
        raise SchemaError(f"table {spec.name}: {'; '.join(wrong)}: map another column (--map); nothing was written")


def _remedy(names: list[str], missing: list[str], absent: list[str]) -> str:
    """Return how to give what a file lacks, by the name of the export where its header is one's."""
    if missing == ["asset"] and not absent:
        return "the file names no asset, fill it with --set asset=SYMBOL (--set column=value)"
    export = looks_like(names)
    known = f"this looks like a {export} export, read it with --format {export}; or " if export and not absent else ""
    return f"{known}rename with --map new=old or fill with --set column=value"


def typed_constants(spec: Table, constants: dict[str, Value]) -> dict[str, Value]:
    """Return the constants in the types of their columns; a wrong one is a ConfigError."""
    typed_values: dict[str, Value] = {}
    for name, value in constants.items():
        dtype = spec.columns[name]
        if name == "step" and isinstance(value, str | int):
            value = int(duration(value).total_seconds())  # noqa: PLW2901
        try:
            typed_values[name] = pl.Series([value]).cast(dtype, strict=True)[0] if dtype != pl.Binary else None
        except (PolarsError, TypeError) as error:
            raise ConfigError(f"{name}={value!r} does not fit table {spec.name}, where it is {dtype}") from error
        if typed_values[name] is None or typed_values[name] == "":
            raise ConfigError(f"{name}={value!r} cannot be set for every row of table {spec.name}")
    return typed_values


def scale_of(columns: Mapping[str, str], shape: FileShape) -> tuple[dict[str, float], list[str]]:
    """Return what values are multiplied by: a preset's factors, and 1e-9 where a gwei column is fed from one in wei."""
    scale = dict(shape.scale)
    wei = {c: f for c, f in columns.items() if c.endswith("_gwei") and "wei" in f.lower() and "gwei" not in f.lower()}
    found = {c: f for c, f in wei.items() if c not in scale}
    return scale | dict.fromkeys(found, 1 / WEI_PER_GWEI), [f"{f!r} is in wei: divided by 1e9" for f in found.values()]
