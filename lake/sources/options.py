"""Recorded option chains: one row a listed option and snapshot, checked before anything is computed from it.

Columns: ts, asset, expiry (aware UTC), strike (USD), kind (c or p), mark_iv (fraction a year), forward (USD); bid_coin
and ask_coin (coins, null without a quote), mark_coin (coins) and delta (the venue's own) where recorded. Files are
Parquet, as exchanges' archives are exported; ``place`` is a row's own, for what was read one option after another.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from lake.errors import ConfigError, DataError

KEYS = ("ts", "asset", "expiry", "strike", "kind")
NEEDED = (*KEYS, "mark_iv", "forward")
HIGHEST_VOL = 5.0  # 500 % a year; above it a file is in per cent
_ROWS_TOLD = 3
YEAR_S = 365 * 86_400


def read_chain(path: Path) -> pl.DataFrame:
    """Return the chain in ``path`` as float columns with ``tau`` (years to expiry), sorted by key.

    Raises ConfigError where there is no such file, DataError naming column or rows, the value and the remedy.
    """
    if not path.is_file():
        raise ConfigError(f"option chain {path}: no such file; give a Parquet file with {', '.join(NEEDED)}")
    try:
        rows = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"option chain {path}: not a readable Parquet file ({error})") from None
    return check(rows, str(path))


def check(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return ``rows`` with plain types and ``tau``; raises DataError with the first offenders of every fault."""
    missing = [c for c in NEEDED if c not in rows.columns]
    if missing:
        raise DataError(f"{name}: columns {', '.join(missing)} are missing; {', '.join(NEEDED)} are required")
    for column in ("ts", "expiry"):
        kind = rows.schema[column]
        if not isinstance(kind, pl.Datetime) or kind.time_zone is None:
            raise DataError(f"{name}: {column} is {kind}; aware UTC time stamps are required: say which zone they are")
    for column in ("strike", "mark_iv", "forward"):
        if not rows.schema[column].is_numeric():
            raise DataError(f"{name}: {column} is {rows.schema[column]}; numbers are required")
    may = ("strike", "mark_iv", "forward", "bid_coin", "ask_coin", "mark_coin", "delta")
    numbers = [c for c in may if c in rows.columns]
    plain = rows.with_columns(
        pl.int_range(pl.len()).alias("place"),
        *(pl.col(c).cast(pl.Float64) for c in numbers),
        *(pl.col(c).dt.convert_time_zone("UTC").dt.cast_time_unit("us") for c in ("ts", "expiry")),
    ).with_columns(tau=(pl.col("expiry") - pl.col("ts")).dt.total_microseconds() / (YEAR_S * 1e6))
    faults = [told for told in (_offenders(plain, name, *rule) for rule in _rules(plain)) if told]
    if faults:
        raise DataError("; ".join(faults))
    return plain.sort(KEYS)


def _rules(rows: pl.DataFrame) -> list[tuple[pl.Expr, str, str]]:
    """Return (rows at fault, what they show, what to do) for every kind of fault."""
    vol, quoted = pl.col("mark_iv"), "bid_coin" in rows.columns and "ask_coin" in rows.columns

    def positive(column: str) -> pl.Expr:
        return ~(pl.col(column).is_finite() & (pl.col(column) > 0.0)).fill_null(value=False)

    rules = [
        (pl.col("asset").is_null(), "asset", "every row names its underlying"),
        (~pl.col("kind").is_in(["c", "p"]).fill_null(value=False), "kind", "c (call) or p (put) is required"),
        (positive("strike"), "strike", "a positive strike in USD is required"),
        (positive("forward"), "forward", "the forward of the expiry in USD is required"),
        (positive("mark_iv"), "mark_iv", "a positive implied volatility is required; drop options without a mark"),
        (vol > HIGHEST_VOL, "mark_iv", "over 500 % a year: is it in per cent? divide by 100"),
        (~(pl.col("tau") > 0.0).fill_null(value=False), "expiry", "an expiry after ts is required; drop what expired"),
        (
            pl.struct(KEYS).is_duplicated(),
            "strike",
            "ts, asset, expiry, strike and kind are the key: keep one row each",
        ),
    ]
    if quoted:
        bid, ask = pl.col("bid_coin"), pl.col("ask_coin")
        rules += [
            (bid > ask, "bid_coin", "the bid is above the ask: a crossed quote"),
            ((bid < 0) | (ask < 0) | bid.is_nan() | ask.is_nan(), "ask_coin", "null, not a sign or nan, is no quote"),
            ((bid > 1.0) & (pl.col("kind") == "c"), "bid_coin", "a call is worth under one coin: is the quote in USD?"),
        ]
    if "mark_coin" in rows.columns:
        mark = pl.col("mark_coin")
        rules.append((~(mark >= 0.0).fill_null(value=True) | mark.is_nan(), "mark_coin", "null, not a sign or nan"))
    if "delta" in rows.columns:
        delta = pl.col("delta")
        wrong = (delta.abs() > 1.0) | delta.is_nan()
        wrong = wrong | ((delta < 0.0) & (pl.col("kind") == "c")) | ((delta > 0.0) & (pl.col("kind") == "p"))
        rules.append((wrong, "delta", "0 to 1 of a call, -1 to 0 of a put: one option, not a position"))
    return rules


def _offenders(rows: pl.DataFrame, name: str, at_fault: pl.Expr, column: str, remedy: str) -> str | None:
    found = rows.with_row_index("row").filter(at_fault)
    if found.is_empty():
        return None
    shown = ", ".join(f"row {r}: {v}" for r, v in found.select("row", column).head(_ROWS_TOLD).iter_rows())
    more = f" and {len(found) - _ROWS_TOLD} more" if len(found) > _ROWS_TOLD else ""
    return f"{name}: {column} at {shown}{more}; {remedy}"
