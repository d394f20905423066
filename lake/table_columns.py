"""Kinds of columns that tables share."""

from __future__ import annotations

import dataframely as dy


def moment(*, key: bool = False) -> dy.Datetime:
    """Return a moment, UTC, never null."""
    return dy.Datetime(primary_key=key, nullable=False, time_unit="us", time_zone="UTC")


def name_key() -> dy.String:
    """Return a name that is part of the key."""
    return dy.String(primary_key=True, min_length=1)


def finite(*, above: float | None = None, at_least: float | None = None, required: bool = False) -> dy.Float64:
    """Return a finite number, null allowed unless ``required``."""
    return dy.Float64(nullable=not required, min_exclusive=above, min=at_least, allow_inf=False, allow_nan=False)
