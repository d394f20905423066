"""The forecaster families, one row each, importable in no time; those of installed packages join them.

An entry point of the group ``foredrift.families`` names a ``FamilyRow``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast

from lake.errors import ConfigError

if TYPE_CHECKING:
    from models.base import Family, SavedFitted

GROUP = "foredrift.families"


@dataclass(frozen=True, slots=True)
class FamilyRow:
    """Where a family is found, and what others must know of it without importing it.

    ``family`` and ``model`` are ``module:Class``: the family itself, and what reads its saved models. ``feed`` is the
    table and key column whose newest row its forecasts start from. ``units``: the unit in which people read a target,
    and what its stored value is multiplied by.
    """

    name: str
    family: str
    model: str
    feed: tuple[str, str]
    units: Mapping[str, tuple[str, float]] = field(default_factory=dict)

    def make(self) -> Family:
        """Return the family."""
        return cast("Family", _named(self.family)())

    def reader(self) -> type[SavedFitted]:
        """Return the class that reads its saved models."""
        return cast("type[SavedFitted]", _named(self.model))


ROWS = (
    FamilyRow(
        "gas", "models.gas.family:GasFamily", "models.gas.family:GasModel", ("gas", "chain_id"),
        {"gas": ("gwei", 1.0), "gas_min": ("gwei", 1.0)},
    ),
    FamilyRow(
        "drift", "models.drift.family:DriftFamily", "models.drift.fitted:DriftFitted", ("prices", "asset"),
        {"drift": ("%", 100.0)},
    ),
    FamilyRow(
        "slippage", "models.slippage.family:SlippageFamily", "models.slippage.family:SlippageFitted",
        ("pool_state", "pool"), {"slippage": ("bp", 10_000.0)},
    ),
)  # fmt: skip
SHIPPED: Mapping[str, FamilyRow] = {row.name: row for row in ROWS}


@cache
def families() -> Mapping[str, FamilyRow]:
    """Return every family by name, shipped ones first; raises ConfigError where an installed one is no FamilyRow.

    Installed packages are looked through once a process: every decision asks.
    """
    found = dict(SHIPPED)
    for point in entry_points(group=GROUP):
        row = point.load()
        if not isinstance(row, FamilyRow) or row.name in found:
            raise ConfigError(f"entry point {point.name!r} of {GROUP} must name a FamilyRow with a name of its own")
        found[row.name] = row
    return found


def _named(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
