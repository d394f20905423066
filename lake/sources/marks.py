"""Number marks that a text file shows but nobody named: 42.013,25 read as it stands would be lost or, worse, wrong."""

from __future__ import annotations

import polars as pl

_COMMA = r"^[+-]?(\d{1,3}(\.\d{3})+|\d+),\d+$"
_GROUPED = r"^[+-]?\d{1,3}([,' \u00a0\u202f_]\d{3})+(\.\d+)?$"
_POINTS = r"^[+-]?\d{1,3}(\.\d{3}){2,}$"
_THREE = r"^[+-]?[1-9]\d{0,2}\.\d{3}$"


def misread(name: str, raw: pl.Series, separator: str, before: int) -> str | None:
    """Return what is wrong with the numbers of a text column read with a decimal point and without thousands, or None.

    ``before`` rows of the file came before these. Points in groups of three are ambiguous only where the separator is
    no comma, as in files with decimal commas, and no value of the column contradicts it.
    """
    text = raw.str.strip_chars()
    for pattern, what in (
        (_POINTS, "points between thousands: add --thousands . --decimal ,"),
        (_COMMA, "decimal commas: add --decimal , (with --thousands . for points between thousands)"),
        (_GROUPED, "marks between thousands: add --thousands MARK (or --decimal ,)"),
    ):
        hit = text.str.contains(pattern).fill_null(value=False)
        if hit.any():
            at = int(hit.arg_true()[0])
            return f"row {before + at + 1}: {name} {raw[at]!r} looks like {what}"
    pointed = text.filter(text.str.contains(".", literal=True).fill_null(value=False))
    if separator != "," and pointed.len() and pointed.str.contains(_THREE).all():
        at = int(text.str.contains(_THREE).fill_null(value=False).arg_true()[0])
        return (
            f"row {before + at + 1}: {name} {raw[at]!r} may be a decimal fraction or thousands with a point between: "
            "say --decimal . or --thousands . --decimal ,"
        )
    return None
