"""Features of installed packages: further columns of the gas family, which the models of that project then train on.

An entry point of the group ``foredrift.features`` names an ``OwnFeature``. Every model says which columns it was
trained on, so one trained with a feature refuses rows without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points

import numpy as np

from features.records import Scans
from features.windows import Array, Rows
from lake.errors import ConfigError, ModelError

GROUP = "foredrift.features"
PREFIX = "own_"


@dataclass(frozen=True, slots=True)
class OwnFeature:
    """One column: ``values(lake, ts)`` returns (n,) floats for decision times ``ts``, NaN where unknown.

    ``ts`` (n,) are full hours in microseconds since 1970, ascending; one at a decision, years in training. The value at
    a time rests on rows with ``available_at`` up to it and at most 70 days older, and is the same whatever other times
    are asked for: `foredrift leakage` tries it.
    """

    name: str
    values: Callable[[Scans, Rows], Array]


@cache
def installed() -> tuple[OwnFeature, ...]:
    """Return the features of installed packages; raises ConfigError where one is no OwnFeature or two share a name."""
    found: dict[str, OwnFeature] = {}
    for point in entry_points(group=GROUP):
        row = point.load()
        if not isinstance(row, OwnFeature) or row.name in found or not row.name.isidentifier():
            raise ConfigError(f"entry point {point.name!r} of {GROUP} must name an OwnFeature with a name of its own")
        found[row.name] = row
    return tuple(found.values())


def own_columns(lake: Scans, ts: Rows) -> dict[str, Array]:
    """Return the columns (n,) of installed features at ``ts`` (n,); ModelError names one of another shape or type."""
    found = {}
    for feature in installed():
        values = np.asarray(feature.values(lake, ts))
        if values.shape != ts.shape or values.dtype != np.float64 or np.isinf(values).any():
            raise ModelError(
                f"feature {feature.name} gave {values.dtype} of shape {values.shape} for {len(ts)} times; give as many "
                "finite floats, NaN where unknown"
            )
        found[PREFIX + feature.name] = values
    return found
