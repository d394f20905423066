"""The shipped policies by name and part, importable in no time: settings and help texts need names, not code.

``reactive`` rules need no forecast, ``predictive`` ones read forecasts and need a reactive fallback, a ``bound`` knows
the future and so only appears in comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

Part = Literal["reactive", "predictive", "bound"]

PARTS: Mapping[str, Part] = {
    "hold": "reactive",
    "calendar_daily": "reactive",
    "calendar_weekly": "reactive",
    "threshold_5pct": "reactive",
    "threshold": "reactive",
    "band": "reactive",
    "gas_band": "reactive",
    "predictive": "predictive",
    "foresight_gas": "bound",
    "clairvoyant": "bound",
}
REACTIVE_NAMES: tuple[str, ...] = tuple(n for n, part in PARTS.items() if part == "reactive")
LIVE_NAMES: tuple[str, ...] = tuple(n for n, part in PARTS.items() if part != "bound")


def installed() -> dict[str, EntryPoint]:
    """Return the policies of installed packages by name: entry points of the group ``foredrift.policies``.

    Each is a factory ``(history, lake, config) -> BandRule``, like those of the registry.
    """
    return {e.name: e for e in entry_points(group="foredrift.policies")}
