"""Rules looked up at every block or every few minutes, by name: what they look at, and when.

``gas_band`` decides once an hour, at the schedule's minute, at the price of that minute. The others are the same band
looked up more often, hourly with a virtual gas limit order, hourly with a margin to the tolerance, or the surface.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lake.errors import ConfigError

Resolution = Literal["hour", "5m", "block"]
RESOLUTIONS: tuple[Resolution, ...] = ("hour", "5m", "block")
STEP_S: Mapping[Resolution, int] = {"hour": 3600, "5m": 300, "block": 12}
LIMIT, PATIENCE_H = 0.85, 1  # of a gas limit order: share of the present price, hours it is placed again
MARGIN = 0.85  # of the tolerance, where an hourly rule keeps a margin


@dataclass(frozen=True, slots=True)
class Look:
    """A rule of present gas and distance, looked up every ``every_s`` seconds; None: once an hour, at the minute.

    ``surface`` decides by reservation price instead of the band; ``mixed``: only in weeks before which that has proven
    cheaper than hourly gas_band, which decides in the others; ``limit`` is the cap of its gas limit orders as a
    share of the present price (1: none); ``buffer`` the share of trigger and tolerance it acts at in a hard mandate.
    """

    name: str
    every_s: int | None = None
    surface: bool = False
    mixed: bool = False
    limit: float = 1.0
    buffer: float = 1.0

    def fits(self, resolution: Resolution) -> bool:
        """Return whether a ledger of ``resolution`` has the moments this rule looks at."""
        return self.every_s is None or self.every_s >= STEP_S[resolution]


LOOKS: Mapping[str, Look] = {
    look.name: look
    for look in (
        Look("gas_band"),
        Look("gas_band_margin", buffer=MARGIN),
        Look("gas_limit", limit=LIMIT),
        Look("gas_band_5m", 300),
        Look("surface_5m", 300, surface=True),
        Look("surface_mix_5m", 300, surface=True, mixed=True),
        Look("gas_band_block", 12),
        Look("surface_block", 12, surface=True),
        Look("surface_mix_block", 12, surface=True, mixed=True),
    )
}


HOURLY = ("threshold_5pct", "threshold", "band")


def defaults(resolution: Resolution) -> tuple[str, ...]:
    """Return the policies of a comparison at ``resolution`` that names none: simple hourly rules and what fits."""
    return (*HOURLY, *(look.name for look in LOOKS.values() if look.fits(resolution)))


def resolution_of(text: str) -> Resolution:
    """Return the resolution named ``text``; raises ConfigError for any other word."""
    for name in RESOLUTIONS:
        if text == name:
            return name
    raise ConfigError(f"resolution {text!r}: choose {', '.join(RESOLUTIONS)}")
