"""Rows of a lake table as arrays: what features filter and put on the grid without a query a step.

A query over ten thousand rows costs a millisecond, most of it before the first row is looked at; the same comparison of
arrays costs microseconds. A lake is asked once for the rows in reach; rows held in memory are arrays already.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

Ints = npt.NDArray[np.int64]


class Scans(Protocol):
    """What features read: a lake, or recent rows of one."""

    def scan(self, name: str, as_of: datetime | None = None) -> pl.LazyFrame:
        """Return table ``name`` lazily without rows that were not available at ``as_of``."""
        ...


class Holds(ABC):
    """Rows of a lake kept in memory. A class to inherit: to look a protocol up costs more than to read the rows."""

    __slots__ = ()

    @abstractmethod
    def held(self, name: str) -> Records | None:
        """Return the rows of table ``name`` as arrays, None where it is not kept."""


@dataclass(frozen=True, slots=True)
class Records:
    """Columns (n,) of a table: times in microseconds since 1970, numbers as float64 with NaN where unknown.

    A text is the position of its value among the sorted ``texts`` of its column, -1 where unknown.
    """

    columns: Mapping[str, npt.NDArray[Any]]
    texts: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Records:
        """Return the rows of ``frame``; columns of raw bytes are left out."""
        columns: dict[str, npt.NDArray[Any]] = {}
        texts: dict[str, tuple[str, ...]] = {}
        for series in frame:
            if series.dtype.is_temporal():
                columns[series.name] = series.dt.epoch("us").to_numpy()
            elif series.dtype.is_numeric():
                columns[series.name] = series.cast(pl.Float64).to_numpy()
            elif series.dtype == pl.String:
                values = series.drop_nulls().unique().sort().to_list()
                codes = series.cast(pl.Enum(values)).to_physical().cast(pl.Int64).fill_null(-1)
                columns[series.name], texts[series.name] = codes.to_numpy(), tuple(values)
        return cls(columns, texts)

    def __getitem__(self, column: str) -> npt.NDArray[Any]:
        """Return one column (n,)."""
        return self.columns[column]

    def where(self, keep: npt.NDArray[np.bool_], names: Sequence[str] | None = None) -> Records:
        """Return the rows where ``keep`` (n,) is true, of the columns ``names`` (None: all)."""
        wanted = self.columns if names is None else {n: self.columns[n] for n in names}
        return Records(wanted if keep.all() else {n: x[keep] for n, x in wanted.items()}, self.texts)

    def among(self, column: str, values: Sequence[str]) -> Ints:
        """Return the position (n,) of each row's text within ``values``, -1 where it is none of them."""
        place = {value: k for k, value in enumerate(values)}
        known = np.array([*(place.get(text, -1) for text in self.texts[column]), -1], dtype=np.int64)
        return np.asarray(known[self.columns[column]], dtype=np.int64)

    def present(self, column: str) -> list[str]:
        """Return the texts that some row has, sorted."""
        seen = np.bincount(self.columns[column] + 1, minlength=1)[1:]
        return [self.texts[column][k] for k in np.flatnonzero(seen)]


def records(
    lake: Scans, name: str, columns: Sequence[str], since: datetime | None, until: datetime, on: str = "ts"
) -> Records:
    """Return ``on`` and ``columns`` of the rows of table ``name`` with since (None: any time) <= ``on`` < until."""
    names = list(dict.fromkeys((on, *columns)))
    held = lake.held(name) if isinstance(lake, Holds) else None
    if held is None:
        within = pl.col(on) < until if since is None else pl.col(on).is_between(since, until, closed="left")
        return Records.of(lake.scan(name).filter(within).select(names).collect())
    keep = held[on] < microseconds(until)
    return held.where(keep if since is None else keep & (held[on] >= microseconds(since)), names)


def microseconds(moment: datetime) -> int:
    """Return ``moment`` in microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment(micros: int) -> datetime:
    """Return the time that lies ``micros`` microseconds after 1970 began."""
    return _EPOCH + timedelta(microseconds=micros)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
