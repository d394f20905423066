"""Panels: one row a key and decision time, made of what was known then, nothing later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from features.windows import Array
from lake.errors import ModelError

CARRY_H = 6
"""Hours a last known value is carried over a hole; exchange outages last up to five hours."""


_FEW = 1_000  # rows below which a loop in Python is faster than a query


def hour_of(column: str = "available_at") -> pl.Expr:
    """Return the first full hour at or after ``column``: the decision time from which a row is known."""
    return (pl.col(column) + timedelta(hours=1) - timedelta(microseconds=1)).dt.truncate("1h")


def whole_hour(moment: datetime) -> datetime:
    """Return the first full hour at or after ``moment``, UTC."""
    down = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return down if down == moment else down + timedelta(hours=1)


def hours_between(start: datetime, end: datetime) -> int:
    """Return how many hourly decision times start <= ts < end there are; both are full hours."""
    return max(round((end - start).total_seconds()) // 3_600, 0)


def to_hours(rows: pl.LazyFrame, values: Sequence[str], by: Sequence[str] = ()) -> pl.LazyFrame:
    """Return (by..., ts, values...): rows that became available in (ts - 1 h, ts], averaged; one row per hour."""
    means = [pl.col(v).cast(pl.Float64).mean() for v in values]
    return rows.group_by(*by, hour_of().alias("ts")).agg(means)


class Columns:
    """Rows of a panel as arrays: ``key``, ``ts`` and float64 columns (n,), NaN where unknown.

    A decision reads it without ever making a frame; from a frame (``of``) columns are taken out once, when asked for.
    """

    __slots__ = ("_frame", "_held", "key", "ts")

    def __init__(
        self, key: pl.Series, ts: pl.Series, held: dict[str, Array], frame: pl.DataFrame | None = None
    ) -> None:
        self.key = key
        self.ts = ts
        self._held = held
        self._frame = frame

    @classmethod
    def of(cls, panel: pl.DataFrame | Columns) -> Columns:
        """Return ``panel`` as columns."""
        return panel if isinstance(panel, Columns) else cls(panel["key"], panel["ts"], {}, panel)

    @property
    def height(self) -> int:
        """Return the number of rows."""
        return len(self.key)

    @property
    def names(self) -> list[str]:
        """Return the names of all columns but key and ts."""
        known = [] if self._frame is None else self._frame.columns
        return [n for n in dict.fromkeys([*known, *self._held]) if n not in ("key", "ts")]

    def column(self, name: str) -> Array:
        """Return one column (n,); raises ModelError when there is none of that name."""
        if name not in self._held:
            return self.matrix([name])[:, 0]
        return self._held[name]

    def matrix(self, names: Sequence[str]) -> Array:
        """Return the columns (n, k); raises ModelError naming every missing one."""
        absent = [n for n in names if n not in self._held]
        if absent:
            known = set() if self._frame is None else set(self._frame.columns)
            missing = [n for n in absent if n not in known]
            if missing or self._frame is None:
                raise ModelError(f"the panel lacks features the model was trained on: {missing}")
            for name in absent:
                series = self._frame.get_column(name)
                wanted = series if series.dtype == pl.Float64 else series.cast(pl.Float64)
                self._held[name] = np.asarray(wanted.to_numpy(), dtype=np.float64)
        return np.stack([self._held[n] for n in names], axis=1)

    def filter(self, keep: npt.NDArray[np.bool_]) -> Columns:
        """Return the rows where ``keep`` (n,) is true."""
        if keep.all():
            return self
        held = {name: x[keep] for name, x in self._held.items()}
        mask = pl.Series(keep)
        frame = None if self._frame is None else self._frame.filter(mask)
        return Columns(self.key.filter(mask), self.ts.filter(mask), held, frame)

    def pairs(self) -> npt.NDArray[np.bool_]:
        """Return which rows (n,) are about a pair of assets, "A|B"."""
        if self.height < _FEW:
            return np.array(["|" in key for key in self.key.to_list()], dtype=bool)
        return np.asarray(self.key.str.contains("|", literal=True).to_numpy(), dtype=bool)

    def extended(self, more: dict[str, Array]) -> Columns:
        """Return the rows with further columns (n,)."""
        return Columns(self.key, self.ts, self._held | more, self._frame)

    def frame(self) -> pl.DataFrame:
        """Return the rows as a frame, NaN as null."""
        if self._frame is not None:
            return self._frame
        values = [pl.Series(name, x, pl.Float64, nan_to_null=True) for name, x in self._held.items()]
        return pl.DataFrame([self.key, self.ts, *values])


def flat(keys: Sequence[str], ts: pl.Series, columns: Mapping[str, Array]) -> Columns:
    """Return the rows of arrays (n, k): one row a time and key, times outermost."""
    n, k = len(ts), len(keys)
    names, moments = pl.Series("key", list(keys), pl.String), ts.alias("ts")
    if n == 1:
        moments = moments.new_from_index(0, k)
    else:
        names, moments = names.gather(np.tile(np.arange(k), n)), moments.gather(np.repeat(np.arange(n), k))
    return Columns(names, moments, {name: np.ravel(x) for name, x in columns.items()})


def stacked(above: Columns, below: Columns) -> Columns:
    """Return the rows of both, NaN where one of them lacks a column."""
    known = [(c, set(c.names)) for c in (above, below)]
    held = {}
    for name in dict.fromkeys([*above.names, *below.names]):
        parts = [c.column(name) if name in names else np.full(c.height, np.nan) for c, names in known]
        held[name] = np.concatenate(parts)
    return Columns(pl.concat([above.key, below.key]), pl.concat([above.ts, below.ts]), held)


def feature_columns(panel: pl.DataFrame) -> list[str]:
    """Return the feature columns of a panel: all but key, ts and those with a ``|`` in their name (labels)."""
    return [c for c in panel.columns if c not in ("key", "ts") and "|" not in c]
