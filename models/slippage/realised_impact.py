"""What own executions taught about price impact: realised over quoted, by when it was known."""

from __future__ import annotations

import json
from datetime import datetime

import numpy as np
import numpy.typing as npt

from features.panel import hours_between
from features.records import Records, microseconds, records
from models.base import LakeView

Array = npt.NDArray[np.float64]

PRIOR_USD = 100.0
"""Quoted impact, in USD, that counts for the quote before any execution: a few small trades do not overrule it."""

LIMITS = (0.2, 5.0)  # a ratio outside is a fault of the records, not of the market


def impact_ratio(lake: LakeView, start: datetime, end: datetime) -> Array:
    """Return realised over quoted impact (n,) for the hours start <= ts < end.

    Executions that landed and carry ``impact_usd`` in both ``realised`` and ``expected`` (JSON) count from their
    ``available_at`` on; the ratio is (PRIOR_USD + sum realised) / (PRIOR_USD + sum expected), 1 without executions.
    """
    found = records(lake, "executions", ("status", "realised", "expected"), None, end, on="available_at")
    found = found.where(found.among("status", ["landed"]) == 0)
    realised, expected = (_impacts(found, column) for column in ("realised", "expected"))
    keep = (expected > 0) & (realised >= 0)
    order = np.argsort(found["available_at"][keep], kind="stable")
    sums = (np.concatenate([[0.0], np.cumsum(x[keep][order])]) for x in (realised, expected))
    learnt, quoted = (PRIOR_USD + x for x in sums)
    hours = microseconds(start) + 3_600_000_000 * np.arange(hours_between(start, end), dtype=np.int64)
    known = np.searchsorted(found["available_at"][keep][order], hours, side="right")
    return np.asarray(np.clip(learnt / quoted, *LIMITS)[known], dtype=np.float64)


def _impacts(found: Records, column: str) -> Array:
    """Return ``impact_usd`` (n,) of JSON texts, NaN where there is none."""
    values = [_number(text) for text in found.texts[column]]
    return np.asarray(np.array([*values, np.nan])[found[column]], dtype=np.float64)


def _number(text: str) -> float:
    try:
        return float(json.loads(text)["impact_usd"])
    except (ValueError, KeyError, TypeError):
        return float("nan")
