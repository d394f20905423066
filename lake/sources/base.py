"""What every source is: one series of one table, collected in ascending chunks of complete rows.

``lake.ingest`` owns resuming, retrying and gap reports; a source only knows how to ask. A source raises
``SourceUnavailable`` when asking again may help and any other ``SourceError`` when it will not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import polars as pl

from lake.tables import table


class Source(Protocol):
    """One series of one table.

    ``series`` holds the key columns every row shares, for example ``{"chain_id": 1}`` or ``{"source": "binance",
    "asset": "BTC", "step": 3600}``: the lake is searched with it for the newest stored row. ``step_s`` is the grid
    of the table's time column in seconds, None for events; with a grid, missing steps are reported as gaps.
    """

    @property
    def name(self) -> str:
        """Name shown to people, unique within one configuration, for example ``exchange:binance:BTC``."""
        ...

    @property
    def table(self) -> str:
        """Name of the table the rows belong to."""
        ...

    @property
    def series(self) -> Mapping[str, str | int]:
        """Key columns (time excepted) that every row of this source has, with their values."""
        ...

    @property
    def step_s(self) -> int | None:
        """Spacing of the time column, seconds; None where rows are events."""
        ...

    def collect(self, start: datetime, end: datetime) -> Iterator[pl.DataFrame]:
        """Yield frames that fit the table, every row with ``start <= time < end``, complete and already known.

        Times never go back from one chunk to the next, so a run that stopped resumes from the newest stored row.
        An interval that is still running at the time of asking is not yielded. Raises SourceError.
        """
        ...


@dataclass(frozen=True, slots=True)
class Gap:
    """Grid steps that a series does not have: ``start`` is the first missing one, ``end`` the next present one."""

    key: str
    start: datetime
    end: datetime


@dataclass(slots=True)
class RecordedSource:
    """The shipped fake: plays back ``frame`` in pages, after raising each of ``faults`` once.

    ``faults`` maps the number of a page over the whole life of the source to what is raised in its place.
    """

    name: str
    table: str
    series: Mapping[str, str | int]
    frame: pl.DataFrame
    step_s: int | None = None
    page: int = 500
    faults: dict[int, Exception] = field(default_factory=dict)
    asked: list[tuple[datetime, datetime]] = field(default_factory=list)
    _pages: int = 0

    def collect(self, start: datetime, end: datetime) -> Iterator[pl.DataFrame]:
        """Yield the recorded rows of ``[start, end)``, ``page`` rows at a time, oldest first."""
        self.asked.append((start, end))
        time = table(self.table).time
        rows = self.frame.filter(pl.col(time).is_between(start, end, closed="left")).sort(time)
        for first in range(0, rows.height, self.page):
            number, self._pages = self._pages, self._pages + 1
            if number in self.faults:
                raise self.faults.pop(number)
            yield rows[first : first + self.page]


def series_key(series: Mapping[str, str | int]) -> str:
    """Return ``series`` as one line for reports, for example ``binance/BTC/3600``."""
    return "/".join(str(v) for v in series.values())


def gaps_in(times: Sequence[datetime] | pl.Series, step_s: int, key: str) -> list[Gap]:
    """Return the holes between the first and the last of ``times`` on a grid of ``step_s`` seconds, oldest first."""
    frame = pl.DataFrame({"at": pl.Series(values=times, dtype=pl.Datetime("us", "UTC"))}).unique().sort("at")
    step = pl.duration(seconds=step_s)
    holes = frame.select(start=pl.col("at").shift(1) + step, end=pl.col("at")).filter(pl.col("start") < pl.col("end"))
    return [Gap(key, start, end) for start, end in holes.iter_rows()]
