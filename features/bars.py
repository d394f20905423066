"""Price bars as arrays on the hourly decision grid: what every price feature is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from features.records import Holds, Records, Scans, microseconds, records
from features.windows import Array, Rows, carried

CARRY_H = 6
"""A missing bar is bridged by the last close for at most this many hours."""

VALUES: tuple[str, ...] = ("close", "high", "low", "volume")


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

    def times(self, rows: Rows) -> Rows:
        """Return the decision times of ``rows`` in microseconds since 1970."""
        return times(self.start, rows, self.step_s)


def times(start: datetime, rows: Rows, step_s: int = 3_600) -> Rows:
    """Return ``start`` + rows x step in microseconds since 1970."""
    return (round(start.timestamp()) + rows * step_s) * 1_000_000


def assets_with_prices(lake: Scans, step_s: int = 3_600, source: str | None = None) -> list[str]:
    """Return the assets that have bars of ``step_s`` seconds, sorted."""
    held = lake.held("prices") if isinstance(lake, Holds) else None
    if held is not None:
        return _of_source(held, step_s, source).present("asset")
    rows = lake.scan("prices").filter(pl.col("step") == step_s)
    if source is not None:
        rows = rows.filter(pl.col("source") == source)
    return sorted(rows.select(pl.col("asset").unique()).collect()["asset"].to_list())


def _of_source(found: Records, step_s: int, source: str | None) -> Records:
    keep = found["step"] == step_s
    return found.where(keep if source is None else keep & (found.among("source", [source]) == 0))


def read_bars(
    lake: Scans, assets: Sequence[str], start: datetime, end: datetime, step_s: int = 3_600, source: str | None = None
) -> Bars:
    """Return the bars of ``assets`` at the decision times start <= ts < end.

    Where several sources have an asset and none is named, the first by name is taken bar by bar.
    """
    step = timedelta(seconds=step_s)
    found = records(lake, "prices", ("source", "asset", "step", *VALUES), start - step, end - step)
    found = _of_source(found, step_s, source)
    names = tuple(sorted(set(assets)))
    if len(found.present("source")) > 1:
        order = np.argsort(-found["source"], kind="stable")  # the last one written stands
        found = Records({name: x[order] for name, x in found.columns.items()}, found.texts)
    count = max(-(-round((end - start).total_seconds()) // step_s), 0)
    row = on_grid(found["ts"] + step_s * 1_000_000, start, count, step_s)
    close, high, low, volume = dense(row, found.among("asset", names), (count, len(names)), [found[v] for v in VALUES])
    fresh = np.isfinite(close)
    return Bars(names, start.astimezone(UTC), step_s, carried(close, CARRY_H), high, low, volume, fresh)


def on_grid(at: Rows, start: datetime, count: int, step_s: int = 3_600) -> Rows:
    """Return the grid row (n,) of each time (microseconds since 1970); -1 between two grid times and outside of it."""
    row, rest = np.divmod(at - microseconds(start), step_s * 1_000_000)
    return np.where((rest == 0) & (row >= 0) & (row < count), row, -1)


def dense(row: Rows, column: Rows, shape: tuple[int, int], values: Sequence[Array]) -> list[Array]:
    """Return one array of ``shape`` for each of ``values`` (n,); places below zero are left out.

    Of several values at one place the last stands.
    """
    keep = (row >= 0) & (column >= 0)
    row, column = row[keep], column[keep]
    out = []
    for value in values:
        x = np.full(shape, np.nan)
        x[row, column] = value[keep]
        out.append(x)
    return out


def summed(row: Rows, column: Rows, shape: tuple[int, int], value: Array) -> Array:
    """Return ``value`` (n,) added up at each place, unknown ones as zero; NaN where there is no row."""
    keep = (row >= 0) & (column >= 0)
    place = row[keep] * shape[1] + column[keep]
    total = np.bincount(place, np.nan_to_num(value[keep]), minlength=shape[0] * shape[1])
    some = np.bincount(place, minlength=shape[0] * shape[1]) > 0
    return np.where(some, total, np.nan).reshape(shape)


def averaged(row: Rows, count: int, value: Array) -> Array:
    """Return (count, 1): the mean of what is known of ``value`` (n,) at each row; rows below zero are left out."""
    keep = (row >= 0) & np.isfinite(value)
    total = np.bincount(row[keep], value[keep], minlength=count)
    known = np.bincount(row[keep], minlength=count)
    return np.where(known > 0, total / np.maximum(known, 1), np.nan)[:, None]
