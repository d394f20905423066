"""How much of what a forecast says has been proven by outcomes."""

from __future__ import annotations

import numpy as np

from policy.base import Vector

LEAST_H = 72  # outcomes needed before forecasts are judged
ERRORS = 2.0  # standard errors taken off
NOTHING = 1e-9  # a forecast that says no more than this beyond what it is compared with says nothing


def proven_slope(said: Vector, missed: Vector, plain: Vector) -> float:
    """Return the slope of ``missed`` on ``said`` (all (T,), hourly, NaN where unknown) that outcomes prove, 0 to 1.

    ``said`` is what a forecast adds to a ``plain`` one, ``missed`` what the plain one turned out to lack. A plain
    forecast that swings too far is in both, so that noise would seem to foretell what it lacks: slope and error are
    those left once a constant and ``plain`` have been taken out of both. ERRORS standard errors, of daily sums as
    neighbouring hours share their outcomes, are taken off; 0 with less than LEAST_H outcomes.
    """
    both = np.isfinite(said) & np.isfinite(missed) & np.isfinite(plain) & (np.abs(np.nan_to_num(said)) > NOTHING)
    if np.count_nonzero(both) < LEAST_H:
        return 0.0
    other = np.column_stack([np.ones(np.count_nonzero(both)), plain[both]])
    basis, _ = np.linalg.qr(other)
    x, y = (v - basis @ (basis.T @ v) for v in (said[both], missed[both]))
    square = float(x @ x)
    if square <= NOTHING * x.size:
        return 0.0
    slope = float(x @ y) / square
    days = np.add.reduceat((y - slope * x) * x, np.arange(0, x.size, 24))
    return min(max(slope - ERRORS * float(np.sqrt(days @ days)) / square, 0.0), 1.0)
