"""Price bars as arrays on the hourly decision grid: what every price feature is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from features.windows import Array, Rows, carried

CARRY_H = 6
"""A missing bar is bridged by the last close for at most this many hours."""

VALUES: tuple[str, ...] = ("close", "high", "low", "volume")


class Scans(Protocol):
    """What features read: a lake, or recent rows of one."""

    def scan(self, name: str, as_of: datetime | None = None) -> pl.LazyFrame:
        """Return table ``name`` lazily without rows that were not available at ``as_of``."""
        ...


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars of ``assets`` on the grid: arrays (t, k), NaN where unknown.

    Row i is the decision time ``start`` + i steps, at which the bar is complete (open + step). ``close`` carries the
    last one over at most CARRY_H missing bars, where ``fresh`` is false; ``hours`` (t,) counts from 1970.
    """

    assets: tuple[str, ...]
    start: datetime
    step_s: int
    close: Array
    high: Array
    low: Array
    volume: Array
    fresh: npt.NDArray[np.bool_]

    @property
    def hours(self) -> Rows:
        """Return each row's decision time in hours since 1970."""
        return (int(self.start.timestamp()) + self.step_s * np.arange(len(self.close), dtype=np.int64)) // 3_600

    def times(self, rows: Rows) -> pl.Series:
        """Return the decision times of ``rows``."""
        return times(self.start, rows, self.step_s)


def times(start: datetime, rows: Rows, step_s: int = 3_600) -> pl.Series:
    """Return ``start`` + rows x step as a series ``ts`` of UTC times."""
    micros = (round(start.timestamp()) + rows * step_s) * 1_000_000
    return pl.Series("ts", micros, pl.Int64).cast(pl.Datetime("us", "UTC"))


def assets_with_prices(lake: Scans, step_s: int = 3_600, source: str | None = None) -> list[str]:
    """Return the assets that have bars of ``step_s`` seconds, sorted."""
    rows = lake.scan("prices").filter(pl.col("step") == step_s)
    if source is not None:
        rows = rows.filter(pl.col("source") == source)
    return sorted(rows.select(pl.col("asset").unique()).collect()["asset"].to_list())


def read_bars(
    lake: Scans, assets: Sequence[str], start: datetime, end: datetime, step_s: int = 3_600, source: str | None = None
) -> Bars:
    """Return the bars of ``assets`` at the decision times start <= ts < end.

    Where several sources have an asset and none is named, the first by name is taken bar by bar.
    """
    step = timedelta(seconds=step_s)
    rows = lake.scan("prices").filter(
        (pl.col("step") == step_s)
        & pl.col("asset").is_in(list(assets))
        & pl.col("ts").is_between(start - step, end - step, closed="left")
    )
    if source is not None:
        rows = rows.filter(pl.col("source") == source)
    found = rows.select("source", "asset", (pl.col("ts") + step).dt.epoch("s"), *VALUES).collect()
    if found["source"].n_unique() > 1:
        found = found.sort("source", descending=True, maintain_order=True)  # the last one written stands
    names = tuple(sorted(set(assets)))
    count = max(-(-round((end - start).total_seconds()) // step_s), 0)
    close, high, low, volume = dense(found, "asset", names, start, count, VALUES, step_s)
    fresh = np.isfinite(close)
    return Bars(names, start.astimezone(UTC), step_s, carried(close, CARRY_H), high, low, volume, fresh)


def dense(
    found: pl.DataFrame, key: str, names: Sequence[str], start: datetime, count: int, values: Sequence[str],
    step_s: int = 3_600,
) -> list[Array]:  # fmt: skip
    """Return one array (count, len(names)) per value column of ``found`` (``key``, ts in epoch seconds, values).

    Every key of ``found`` is among ``names``. Rows between two grid times are left out; of several rows at one the last
    stands.
    """
    offset = found["ts"].to_numpy() - round(start.timestamp())
    row, rest = np.divmod(offset, step_s)
    keep = (rest == 0) & (row >= 0) & (row < count)
    column = found[key].cast(pl.String).cast(pl.Enum(list(names))).to_physical().to_numpy()
    out = []
    for value in values:
        x = np.full((count, len(names)), np.nan)
        x[row[keep], column[keep]] = found[value].cast(pl.Float64).fill_null(float("nan")).to_numpy()[keep]
        out.append(x)
    return out
