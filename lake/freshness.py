"""How fresh the stored series are, judged in one place: fresh, stale, or stamped in the future.

A row known only after now cannot be: its file was wrong, or a clock is. Counting it as "minus five hours old" would
call a dead series fresh for ever, so it is a state of its own and never hides the age of the rows before it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import polars as pl

from lake.store import Lake
from lake.tables import table

FUTURE_TOLERANCE_S = 120  # two clocks that are both right may differ by this much
State = Literal["fresh", "stale", "future", "none"]


def state_of(age_s: float | None, future_rows: int, stale_after_s: float) -> State:
    """Return the state of a series: ``future`` wins, ``none`` when nothing was known yet, else by age in seconds.

    ``age_s`` is the age of the newest row known by now; a negative one beyond the tolerance is ``future`` too.
    """
    if future_rows > 0 or (age_s is not None and age_s < -FUTURE_TOLERANCE_S):
        return "future"
    if age_s is None:
        return "none"
    return "stale" if age_s > stale_after_s else "fresh"


def series_columns(name: str) -> list[str]:
    """Return the columns that tell the series of table ``name`` apart."""
    spec = table(name)
    return [c for c in spec.key if c not in {spec.time, "round", "number"}]


def freshness(lake: Lake, name: str, now: datetime, stale_after_s: float) -> pl.DataFrame:
    """Return one row a series of table ``name``, judged at ``now``.

    Columns: those of the key without time, ``rows``, ``last`` (time of the newest row known by now), ``known`` (when it
    became known), ``age_s`` (seconds since then), ``future`` (rows known only after now, beyond the tolerance),
    ``state`` (see :func:`state_of`). Guards and status judge by this alone.
    """
    spec, keys = table(name), series_columns(name)
    late = pl.col("available_at") > pl.lit(now) + pl.duration(seconds=FUTURE_TOLERANCE_S)
    found = (
        lake.scan(name)
        .group_by(keys)
        .agg(
            rows=pl.len().cast(pl.Int64),
            last=pl.col(spec.time).filter(~late).max(),
            known=pl.col("available_at").filter(~late).max(),
            future=late.sum().cast(pl.Int64),
        )
        .sort(keys)
        .with_columns(age_s=(pl.lit(now) - pl.col("known")).dt.total_milliseconds() / 1_000)
        .collect()
    )
    states = [state_of(age, future, stale_after_s) for age, future in found.select("age_s", "future").iter_rows()]
    return found.with_columns(state=pl.Series(states, dtype=pl.String))
