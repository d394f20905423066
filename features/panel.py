"""Panels: one row a key and decision time, made of what was known then, nothing later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from features.windows import Array, Rows
from lake.errors import ModelError

_HOUR_US = 3_600_000_000

CARRY_H = 6
"""Hours a last known value is carried over a hole; exchange outages last up to five hours."""


Strings = npt.NDArray[np.object_]
"""Texts as an array of Python strings: a few of them are compared and joined faster than a series is made."""


def hour_of(at: Rows) -> Rows:
    """Return the first full hour at or after ``at`` (microseconds since 1970): when a row available then is known."""
    return -(-at // _HOUR_US) * _HOUR_US


def whole_hour(moment: datetime) -> datetime:
    """Return the first full hour at or after ``moment``, UTC."""
    down = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return down if down == moment else down + timedelta(hours=1)


def hours_between(start: datetime, end: datetime) -> int:
    """Return how many hourly decision times start <= ts < end there are; both are full hours."""
    return max(round((end - start).total_seconds()) // 3_600, 0)


class Columns:
    """Rows of a panel as arrays: ``key``, ``ts`` and float64 columns (n,), NaN where unknown.

    ``ts`` is in microseconds since 1970. A decision reads it without ever making a frame; from a frame (``of``) columns
    are taken out once, when asked for.
    """

    __slots__ = ("_frame", "_held", "_key", "_ts")

    def __init__(
        self, key: Strings | None, ts: Rows | None, held: dict[str, Array], frame: pl.DataFrame | None = None
    ) -> None:
        self._key = key
        self._ts = ts
        self._held = held
        self._frame = frame

    @classmethod
    def of(cls, panel: pl.DataFrame | Columns) -> Columns:
        """Return ``panel`` as columns."""
        return panel if isinstance(panel, Columns) else cls(None, None, {}, panel)

    @property
    def key(self) -> Strings:
        """Return what each row (n,) is about."""
        if self._key is None:
            assert self._frame is not None
            self._key = np.array(self._frame["key"].to_list(), dtype=object)
        return self._key

    @property
    def ts(self) -> Rows:
        """Return the decision time of each row (n,) in microseconds since 1970."""
        if self._ts is None:
            assert self._frame is not None
            self._ts = np.asarray(self._frame["ts"].dt.epoch("us").to_numpy(), dtype=np.int64)
        return self._ts

    @property
    def height(self) -> int:
        """Return the number of rows."""
        return len(self.key) if self._frame is None else self._frame.height

    @property
    def names(self) -> list[str]:
        """Return the names of all columns but key and ts."""
        known = [] if self._frame is None else self._frame.columns
        return [n for n in dict.fromkeys([*known, *self._held]) if n not in ("key", "ts")]

    def column(self, name: str) -> Array:
        """Return one column (n,); raises ModelError when there is none of that name."""
        if name not in self._held:
            self._take([name])
        return self._held[name]

    def matrix(self, names: Sequence[str]) -> Array:
        """Return the columns (n, k); raises ModelError naming every missing one."""
        self._take([n for n in names if n not in self._held])
        out = np.empty((self.height, len(names)))
        for k, name in enumerate(names):
            out[:, k] = self._held[name]
        return out

    def _take(self, absent: Sequence[str]) -> None:
        """Take the columns ``absent`` out of the frame."""
        known = set() if self._frame is None else set(self._frame.columns)
        missing = [n for n in absent if n not in known]
        if missing:
            raise ModelError(f"the panel lacks features the model was trained on: {missing}")
        for name in absent:
            assert self._frame is not None
            series = self._frame.get_column(name)
            wanted = series if series.dtype == pl.Float64 else series.cast(pl.Float64)
            self._held[name] = np.asarray(wanted.to_numpy(), dtype=np.float64)

    def filter(self, keep: npt.NDArray[np.bool_]) -> Columns:
        """Return the rows where ``keep`` (n,) is true."""
        if keep.all():
            return self
        held = {name: x[keep] for name, x in self._held.items()}
        frame = None if self._frame is None else self._frame.filter(pl.Series(keep))
        return Columns(self.key[keep], self.ts[keep], held, frame)

    def pairs(self) -> npt.NDArray[np.bool_]:
        """Return which rows (n,) are about a pair of assets, "A|B"."""
        return np.array(["|" in key for key in self.key.tolist()], dtype=bool)

    def extended(self, more: dict[str, Array]) -> Columns:
        """Return the rows with further columns (n,)."""
        return Columns(self._key, self._ts, self._held | more, self._frame)

    def frame(self) -> pl.DataFrame:
        """Return the rows as a frame, NaN as null."""
        if self._frame is not None:
            return self._frame
        values = [pl.Series(name, x, pl.Float64, nan_to_null=True) for name, x in self._held.items()]
        return pl.DataFrame([pl.Series("key", self.key.tolist(), pl.String), moments("ts", self.ts), *values])


def moments(name: str, micros: Rows) -> pl.Series:
    """Return microseconds since 1970 (n,) as a series of UTC times."""
    return pl.Series(name, micros, pl.Int64).cast(pl.Datetime("us", "UTC"))


def flat(keys: Sequence[str], ts: Rows, columns: Mapping[str, Array]) -> Columns:
    """Return the rows of arrays (n, k): one row a time (microseconds since 1970) and key, times outermost."""
    names = np.tile(np.array(keys, dtype=object), len(ts))
    return Columns(names, np.repeat(ts, len(keys)), {name: np.ravel(x) for name, x in columns.items()})


def stacked(above: Columns, below: Columns) -> Columns:
    """Return the rows of both, NaN where one of them lacks a column."""
    known = [(c, set(c.names), np.full(c.height, np.nan)) for c in (above, below)]
    held = {}
    for name in dict.fromkeys([*above.names, *below.names]):
        held[name] = np.concatenate([c.column(name) if name in names else blank for c, names, blank in known])
    return Columns(np.concatenate([above.key, below.key]), np.concatenate([above.ts, below.ts]), held)


def feature_columns(panel: pl.DataFrame) -> list[str]:
    """Return the feature columns of a panel: all but key, ts and those with a ``|`` in their name (labels)."""
    return [c for c in panel.columns if c not in ("key", "ts") and "|" not in c]
