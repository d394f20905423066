"""Hour of day and day of week (UTC) of hours counted from 1970."""

from __future__ import annotations

import numpy as np

from features.windows import Array, Rows


def hour(hours: Rows) -> Array:
    """Return the hour of day, 0..23."""
    return np.asarray(hours % 24, dtype=np.float64)


def weekday(hours: Rows) -> Array:
    """Return the day of week, Monday 0 .. Sunday 6 (1 January 1970 was a Thursday)."""
    return np.asarray((hours // 24 + 3) % 7, dtype=np.float64)
