"""From a file's columns to a table's: typed values, and for every row that does not fit the reasons why.

Nothing here raises for a bad value: a row is either typed or named with its reasons, so that one bad row
never costs the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

import dataframely as dy
import polars as pl

from lake.errors import DataError
from lake.freshness import FUTURE_TOLERANCE_S
from lake.sources.option_rows import RULES
from lake.sources.stamps import EARLIEST, first_of, times
from lake.tables import UTC_US, Table
from lake.units import WORD_BYTES, to_word

Value = str | int | float | bool | None
EXPIRIES = timedelta(days=3653)

BLOCK_RULES = {"heads": (("gas_used is above gas_limit", pl.col("gas_used") > pl.col("gas_limit")),)}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How file columns become rows of ``spec``.

    ``columns`` maps table columns to file columns, ``constants`` fills table columns with one typed value,
    ``zone`` is what naive times are taken to be (None refuses them), ``assets`` the known ones (None: any).
    ``spacing`` maps a series (its key columns without time, joined by ``/``) to seconds: it gives ``step`` of prices
    that lack it and ``available_at = time + spacing`` of other tables; ``default_spacing`` serves unknown series.
    ``lag_s`` overrides how late a row became known. ``decimal`` and ``thousands`` are the marks in numbers given as
    text, ``scale`` what numbers of a column are multiplied by, ``now`` what no row may be known after (None: any).
    """

    spec: Table
    columns: Mapping[str, str]
    constants: Mapping[str, Value] = field(default_factory=dict)
    zone: str | None = None
    assets: frozenset[str] | None = None
    spacing: Mapping[str, int] = field(default_factory=dict)
    default_spacing: int = 0
    lag_s: int | None = None
    decimal: str = "."
    thousands: str | None = None
    scale: Mapping[str, float] = field(default_factory=dict)
    now: datetime | None = None

    @property
    def series(self) -> list[str]:
        """Key columns that tell one series from another."""
        return [c for c in self.spec.key if c not in {self.spec.time, "step", "round"}]


@dataclass(slots=True)
class Problems:
    """Which rows break which rule; ``flags`` maps a reason to one Boolean a row."""

    flags: dict[str, pl.Series] = field(default_factory=dict)

    def add(self, reason: str, flag: pl.Series) -> None:
        """Note that the rows where ``flag`` is true have ``reason``; null counts as false."""
        flag = flag.fill_null(value=False)
        if flag.any():
            self.flags[reason] = self.flags[reason] | flag if reason in self.flags else flag

    def bad(self, height: int) -> pl.Series:
        """Return one Boolean a row: true where anything is wrong."""
        bad = pl.repeat(value=False, n=height, eager=True, dtype=pl.Boolean)
        for flag in self.flags.values():
            bad |= flag
        return bad

    def reasons(self) -> pl.Series:
        """Return one text a row: its reasons joined by ``; ``."""
        frame = pl.DataFrame({str(i): flag for i, flag in enumerate(self.flags.values())})
        texts = [pl.when(pl.col(str(i))).then(pl.lit(reason)) for i, reason in enumerate(self.flags)]
        return frame.select(pl.concat_str(texts, separator="; ", ignore_nulls=True).alias("reason"))["reason"]


def typed(recipe: Recipe, chunk: pl.DataFrame) -> tuple[pl.DataFrame, Problems]:
    """Return the rows of ``chunk`` as columns of the table, in its order, and what is wrong with each.

    Both have as many rows as ``chunk``; a row with problems may hold nulls where the table allows none.
    """
    problems, columns = Problems(), {}
    for name, column in recipe.spec.schema.columns().items():
        if name in recipe.constants:
            columns[name] = pl.repeat(recipe.constants[name], chunk.height, dtype=column.dtype, eager=True).alias(name)
        elif name in recipe.columns:
            columns[name] = _column(recipe, name, column, chunk[recipe.columns[name]], problems)
    frame = pl.DataFrame(columns)
    frame = _derive(recipe, frame)
    frame = frame.with_columns(pl.lit(None, d).alias(c) for c, d in recipe.spec.columns.items() if c not in frame)
    for name, column in recipe.spec.schema.columns().items():
        _bounds(name, column, frame[name], problems)
    _rules(recipe, frame, problems)
    return frame.select(list(recipe.spec.columns)), problems


def series_of(recipe: Recipe, frame: pl.DataFrame) -> pl.Series:
    """Return the name of each row's series: its key columns without time, joined by ``/``."""
    parts = [pl.col(c).cast(pl.String).fill_null("") for c in recipe.series]
    return frame.select(pl.concat_str(parts, separator="/").alias("series"))["series"]


def words(raw: pl.Series) -> pl.Series:
    """Return unsigned chain integers as 32-byte words; null where one is negative, broken or too large."""
    if raw.dtype == pl.Binary:
        return raw.set(raw.bin.size() != WORD_BYTES, None)
    return pl.Series(raw.name, [_word(v) for v in raw.to_list()], dtype=pl.Binary)


def plain(text: pl.Series, decimal: str, thousands: str | None) -> pl.Series:
    """Return numbers written with these marks as Python writes them; null where a mark stands in a wrong place."""
    if decimal == "." and thousands is None:
        return text
    d, tail = re.escape(decimal), r"([eE][+-]?\d+)?$"
    whole = r"\d+" if thousands is None else rf"(\d{{1,3}}({re.escape(thousands)}\d{{3}})+|\d+)"
    kept = text.set(~text.str.contains(rf"^[+-]?({whole}({d}\d*)?|{d}\d+){tail}"), None)
    kept = kept if thousands is None else kept.str.replace_all(thousands, "", literal=True)
    return kept.str.replace(decimal, ".", literal=True)


def _looks_numeric(raw: pl.Series) -> pl.Series:
    """Return which values are numbers or ISO times: readable, so that only their date can be impossible."""
    if raw.dtype != pl.String:
        return pl.repeat(value=True, n=raw.len(), eager=True, dtype=pl.Boolean)
    return raw.str.contains(r"^\s*(\d+(\.\d+)?|\d{4}-\d\d-\d\d([T ].*)?)\s*$").fill_null(value=False)


def _word(value: float | str | Decimal | None) -> bytes | None:
    try:
        number = Decimal(value.strip()) if isinstance(value, str) else value
        if number is None or number != int(number):
            return None
        return to_word(int(number))
    except (DataError, InvalidOperation, ValueError, OverflowError):
        return None


def _column(recipe: Recipe, name: str, column: dy.Column, raw: pl.Series, problems: Problems) -> pl.Series:
    """Return one file column in the type of its table column, noting what could not be read."""
    given = raw.is_not_null()
    if raw.dtype == pl.String:
        given &= raw.str.strip_chars().str.len_bytes() > 0
    if isinstance(column, dy.Datetime):
        ahead = name == "expiry"  # the only time that may lie ahead
        value, naive = times(raw, recipe.zone, (recipe.now or datetime.now(UTC)) + EXPIRIES if ahead else recipe.now)
        shown = f"is shown twice or never by the clock of {recipe.zone} (summer time): write it with its offset"
        problems.add(f"{name} {'has no time zone' if recipe.zone is None else shown}", naive)
        unread = given & value.is_null() & ~naive
        numeric = _looks_numeric(raw) if unread.any() else unread
        problems.add(f"{name} is no time", unread & ~numeric)
        latest = "ten years ahead" if ahead else "now plus a day"
        problems.add(f"{name} is no time between {EARLIEST:%Y-%m-%d} and {latest}", unread & numeric)
    elif isinstance(column, dy.Binary):
        value = words(raw)
        problems.add(f"{name} is no unsigned 256-bit integer", given & value.is_null())
    elif isinstance(column, dy.String):
        value = _text(raw)
    else:
        clean = plain(raw.str.strip_chars(), recipe.decimal, recipe.thousands) if raw.dtype == pl.String else raw
        if clean.dtype == pl.String and column.dtype == pl.Int64:
            whole = clean.cast(pl.Int64, strict=False).cast(pl.Float64)
            clean = first_of([whole, clean.cast(pl.Float64, strict=False)])
        value = clean.cast(column.dtype, strict=False)
        lossy = given & value.is_null()
        if column.dtype == pl.Int64 and clean.dtype.is_float():
            lossy |= clean != clean.floor()
        problems.add(f"{name} is no {'whole number' if column.dtype == pl.Int64 else 'number'}", lossy)
        if name in recipe.scale:
            value = (value * recipe.scale[name]).cast(column.dtype)
    if not column.nullable:
        problems.add(f"{name} is missing", ~given)
    return value.alias(name)


def _text(raw: pl.Series) -> pl.Series:
    if raw.dtype.is_float() and (raw == raw.floor()).all():
        raw = raw.cast(pl.Int64, strict=False)
    text = raw.cast(pl.String, strict=False).str.strip_chars()
    return text.set(text.str.len_bytes() == 0, None)


def _derive(recipe: Recipe, frame: pl.DataFrame) -> pl.DataFrame:
    """Add ``step`` to prices that lack it, and ``available_at`` where the file has none (``lag_s`` always wins)."""
    spec = recipe.spec
    by_series = pl.lit(series_of(recipe, frame)).replace_strict(
        dict(recipe.spacing), default=recipe.default_spacing, return_dtype=pl.Int64
    )
    if "step" in spec.columns and "step" not in frame:
        frame = frame.with_columns(step=by_series)
    if recipe.lag_s is not None:
        return frame.with_columns(available_at=pl.col(spec.time) + pl.duration(seconds=recipe.lag_s))
    if "available_at" in frame:
        return frame
    late = pl.col("step") if "step" in spec.columns else by_series
    return frame.with_columns(available_at=(pl.col(spec.time) + pl.duration(seconds=late)).cast(UTC_US))


def _bounds(name: str, column: dy.Column, value: pl.Series, problems: Problems) -> None:
    if not isinstance(column, (dy.Float64, dy.Int64)):
        return
    if isinstance(column, dy.Float64):
        problems.add(f"{name} is NaN or infinite", ~value.is_finite())
    if column.min_exclusive is not None:
        problems.add(f"{name} is not above {column.min_exclusive:g}", value <= column.min_exclusive)
    if column.min is not None:
        problems.add(f"{name} is below {column.min:g}", value < column.min)
    if column.max is not None:
        problems.add(f"{name} is above {column.max:g}", (value > column.max) & value.is_not_nan())


def _rules(recipe: Recipe, frame: pl.DataFrame, problems: Problems) -> None:
    """Check what concerns several columns at once, and the list of known assets."""
    known = frame[recipe.spec.time]
    if recipe.spec.name == "prices":
        close, high, low = frame["close"], frame["high"], frame["low"]
        problems.add("high is below low", high < low)
        outside = (close < low * (1 - 1e-9)) | (close > high * (1 + 1e-9))
        problems.add("close lies outside low..high", outside)
        known = frame.select(pl.col("ts") + pl.duration(seconds="step"))["ts"]
    for reason, at_fault in (*RULES.get(recipe.spec.name, ()), *BLOCK_RULES.get(recipe.spec.name, ())):
        problems.add(reason, frame.select(at_fault.alias("bad"))["bad"])
    problems.add("available_at is before the row could be known", frame["available_at"] < known)
    if recipe.now is not None:
        latest = recipe.now + timedelta(seconds=FUTURE_TOLERANCE_S)
        problems.add("known only after now (an unfinished bar, or a wrong clock?)", frame["available_at"] > latest)
    if recipe.assets is not None and "asset" in frame:
        unknown = ~frame["asset"].is_in(list(recipe.assets)) & frame["asset"].is_not_null()
        problems.add("asset is not a known one", unknown)
