"""Times as files write them, read only where the date is possible: ISO text, Unix time, compact dates, Excel days.

A number is a time only if the date it gives lies between 2009 (no chain is older) and now plus a day. Each notation
owns its own range of numbers, so no value has two readings: Excel days are near 4.5e4, dates of 8 digits near 2e7,
Unix seconds near 1.7e9, dates of 10, 12 and 14 digits near 2.02e9, 2.02e11 and 2.02e13, Unix ms, us and ns above.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from lake.tables import UTC_US

EARLIEST = datetime(2009, 1, 1, tzinfo=UTC)
AHEAD = timedelta(days=1)
EXCEL_DAY_ZERO = datetime(1899, 12, 30)  # noqa: DTZ001 - Excel knows no zones; serial 1 is 1900-01-01, with its 1900 bug
_EXCEL = (39_814, 73_050)  # 2009-01-01 .. 2099-12-31
_AWARE = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z", "%Y-%m-%d %H:%M%#z")
_NAIVE = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_COMPACT = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_EPOCH = ((1, 10**6), (10**3, 10**3), (10**6, 1), (10**9, 0))  # units a second, microseconds a unit (ns: divided)


def times(raw: pl.Series, zone: str | None, now: datetime | None = None) -> tuple[pl.Series, pl.Series]:
    """Return ``raw`` as UTC times (null where unreadable or impossible) and which readable ones are naive and refused.

    Reads ISO 8601 text with an offset or Z, zoned datetimes, and Unix time in s, ms, us or ns. A time without a zone
    (also a compact date or an Excel day) is read in ``zone``; with ``zone=None`` it is refused, and so is one that
    the clock of ``zone`` shows twice or never (summer time).
    """
    none = pl.repeat(value=False, n=raw.len(), eager=True, dtype=pl.Boolean)
    latest = (now or datetime.now(UTC)) + AHEAD
    if isinstance(raw.dtype, pl.Datetime) and raw.dtype.time_zone is not None:
        return _possible(raw.dt.convert_time_zone("UTC").cast(UTC_US), latest), none
    if raw.dtype.is_numeric():
        aware, naive = _numbers(raw, latest)
    elif isinstance(raw.dtype, pl.Datetime) or raw.dtype == pl.Date:
        naive, aware = raw.cast(pl.Datetime("us")), pl.repeat(None, raw.len(), eager=True, dtype=UTC_US)
    else:
        aware, naive = _text(raw.cast(pl.String, strict=False).str.strip_chars(), latest)
    if zone is None:
        return _possible(aware, latest), naive.is_not_null() & aware.is_null()
    placed = naive.dt.replace_time_zone(zone, ambiguous="null", non_existent="null").dt.convert_time_zone("UTC")
    lost = naive.is_not_null() & placed.is_null() & aware.is_null()
    return _possible(first_of([aware, placed.cast(UTC_US)]), latest), lost


def first_of(options: list[pl.Series]) -> pl.Series:
    """Return, row by row, the first value that is not null."""
    frame = pl.DataFrame({str(i): option for i, option in enumerate(options)})
    return frame.select(pl.coalesce(pl.all()).alias("first"))["first"]


def _possible(at: pl.Series, latest: datetime) -> pl.Series:
    return at.set(~at.is_between(EARLIEST, latest), None)


def _text(text: pl.Series, latest: datetime) -> tuple[pl.Series, pl.Series]:
    aware = _read(text, _AWARE).cast(UTC_US)
    rest = text.set(aware.is_not_null(), None)  # a file of one notation is done here
    if rest.count() == 0:
        return aware, pl.repeat(None, text.len(), eager=True, dtype=pl.Datetime("us"))
    aware = first_of([aware, _read(rest.str.replace(r"\s*UTC$", "Z"), _AWARE).cast(UTC_US)])
    whole = rest.str.extract(r"^(\d{5,19})(?:\.0*)?$")
    unix, compact = _numbers(whole.cast(pl.Int64, strict=False), latest)
    part_unix, excel = _numbers(rest.str.extract(r"^(\d{5,19}\.\d+)$").cast(pl.Float64, strict=False), latest)
    naive = first_of([_read(rest.set(aware.is_not_null(), None), _NAIVE), compact, excel])
    return first_of([aware, unix, part_unix]), naive


def _numbers(raw: pl.Series, latest: datetime) -> tuple[pl.Series, pl.Series]:
    """Return numbers as Unix times, and as naive times where they can only be compact dates or Excel days."""
    exact = raw.dtype.is_integer()
    value = pl.col("v")
    unix = [_unix(value, per_second, factor, exact) for per_second, factor in _EPOCH]
    epoch = pl.coalesce([pl.when(u.is_between(EARLIEST, latest)).then(u) for u in unix])
    digits = value.cast(pl.Int64, strict=False).cast(pl.String)
    compact = [
        pl.when((value == value.floor()) & (digits.str.len_bytes() == size))
        .then(_padded(digits, size).str.to_datetime("%Y%m%d%H%M%S", strict=False, time_unit="us"))
        for size in _COMPACT
    ]  # fmt: skip
    seconds = (value.cast(pl.Float64) * 86_400).round(0).cast(pl.Int64, strict=False)
    excel = pl.when(value.is_between(*_EXCEL)).then(pl.lit(EXCEL_DAY_ZERO) + pl.duration(seconds=seconds))
    frame = raw.alias("v").to_frame().select(
        epoch=epoch.cast(UTC_US), naive=pl.coalesce([*compact, excel]).cast(pl.Datetime("us"))
    )  # fmt: skip
    naive = frame["naive"].set(frame["epoch"].is_not_null(), None)
    low, high = EARLIEST.replace(tzinfo=None) - AHEAD, latest.replace(tzinfo=None) + AHEAD  # any zone's clock
    return frame["epoch"], naive.set(~naive.is_between(low, high), None)


def _unix(value: pl.Expr, per_second: int, factor: int, exact: bool) -> pl.Expr:
    """Return numbers of one unit as UTC microseconds, null beyond any calendar."""
    inside = value.is_between(1_000_000_000 * per_second, 5_000_000_000 * per_second)
    held = pl.when(inside).then(value)
    if exact:
        us = held.cast(pl.Int64, strict=False) * factor if factor else held.cast(pl.Int64, strict=False) // 1_000
    else:
        us = (held * factor).round(0) if factor else (held / 1_000).floor()
    return us.cast(pl.Int64, strict=False).cast(UTC_US)


def _padded(digits: pl.Expr, size: int) -> pl.Expr:
    return digits + "0" * (14 - size)


def _read(text: pl.Series, formats: tuple[str, ...]) -> pl.Series:
    """Return the times that the first fitting format reads, trying no further than needed."""
    found = pl.repeat(None, text.len(), eager=True, dtype=pl.Datetime("us", "UTC" if "z" in formats[0] else None))
    for pattern in formats:
        if found.null_count() == text.null_count():
            break
        found = first_of([found, text.str.to_datetime(pattern, strict=False, time_unit="us").cast(found.dtype)])
    return found
