"""Figures that are undefined: null in the JSON of a comparison, left out of tables and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def nan_to_none(value: Any) -> Any:
    """Return ``value`` with None for every NaN: a ratio over no cost is undefined, and JSON has no word for NaN."""
    if isinstance(value, dict):
        return {k: nan_to_none(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [nan_to_none(v) for v in value]
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124


def complete_rows(data: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the records of ``data[name]`` without a null."""
    return [r for r in data[name] if None not in r.values()]
