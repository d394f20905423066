"""Collect a source into the lake: resume where it stopped, retry what may pass, report what is missing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from lake.errors import ConfigError, SourceError, SourceUnavailable
from lake.freshness import FUTURE_TOLERANCE_S, series_columns
from lake.plausibility import flagged
from lake.sources.base import Gap, Source, gaps_in, series_key
from lake.store import Lake
from lake.tables import TABLES, Table, table

MAX_TRIES = 6  # of one read without any progress; with the waits below about half a minute
MAX_WAIT_S = 120.0  # longest single wait a source may ask for; a longer one ends the run, to be resumed later
REGULAR_SHARE = 0.8  # a series whose modal spacing makes up at least this share of all is on a grid

Progress = Callable[[str, int, int], None]
"""Called with what is being done, seconds of history covered and seconds in all."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one collection did.

    ``added``, ``updated`` and ``unchanged`` count rows; ``gaps`` lists grid steps of ``[since, until)`` that are still
    missing; ``freshness`` is when the newest stored row of the series became known; ``retries`` counts repeated reads;
    ``flagged`` counts rows from ``since`` on that are held back until accepted (``lake.plausibility``).
    """

    source: str
    table: str
    key: str
    added: int
    updated: int
    unchanged: int
    gaps: tuple[Gap, ...]
    freshness: datetime | None
    retries: int
    flagged: int = 0


def run(
    lake: Lake,
    source: Source,
    since: datetime,
    until: datetime,
    progress: Progress | None = None,
    *,
    now: datetime | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> IngestReport:
    """Collect what the lake lacks of ``source`` in ``[since, until)`` and report rows, gaps and freshness.

    Asks for everything after the newest stored row, for what lies before the oldest and, on a grid, for the holes
    between. Every chunk is one atomic write, so a run killed at any moment is continued by the next. Reads that raise
    SourceUnavailable are repeated with growing, jittered waits (at most ``MAX_TRIES`` without progress); the last such
    error is raised with a note of what was kept. ``pause`` waits, seconds; ``now`` bounds what can be missing.
    """
    if since >= until:
        raise ConfigError(f"nothing to collect: since {since} is not before until {until}")
    spec = table(source.table)
    stored = _stored(lake, spec, source)
    total = int((until - since).total_seconds())
    tally = _Tally()
    for start, end, whole in _missing(stored[spec.time], since, until, source.step_s):
        for reached in _collect(lake, spec, source, start, end, whole, tally, pause):
            if progress is not None:
                progress(source.name, int((reached - since).total_seconds()), total)
    if progress is not None:
        progress(source.name, total, total)
    stored = _stored(lake, spec, source)
    return IngestReport(
        source=source.name,
        table=spec.name,
        key=series_key(source.series),
        added=tally.added,
        updated=tally.updated,
        unchanged=tally.unchanged,
        gaps=tuple(_gaps(stored[spec.time], source, since, min(until, now or datetime.now(UTC)))),
        freshness=_moment(stored["available_at"].max()),
        retries=tally.retries,
        flagged=_waiting(lake, spec, source, since),
    )


def _waiting(lake: Lake, spec: Table, source: Source, since: datetime) -> int:
    """Return how many rows of the source's series wait to be accepted."""
    keys = series_columns(spec.name)
    if any(k not in source.series for k in keys):
        return flagged(lake, spec.name, since=since).height
    key = "/".join(str(source.series[k]) for k in keys)
    return flagged(lake, spec.name, since=since).filter(pl.col("series") == key).height


def status(lake: Lake, now: datetime) -> pl.DataFrame:
    """Return one row a stored series: table, key, rows, first, last, age (since newest known row), gaps, future.

    ``first`` and ``last`` are times. ``gaps`` counts missing grid steps between them, of heads missing blocks; 0 for
    series that are not on a grid. ``future`` counts rows that are known only after ``now``; ``age`` is that of the
    newest row known by then, null where there is none.
    """
    frames = [
        _series_status(lake, TABLES[n], now) for n in ("prices", "gas", "heads", "pool_state", "oracle", "signals")
    ]
    return pl.concat(frames).sort("table", "key")


@dataclass(slots=True)
class _Tally:
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    retries: int = 0


def _stored(lake: Lake, spec: Table, source: Source) -> pl.DataFrame:
    """Return the stored times of the source's series, oldest first."""
    mine = [pl.col(c) == v for c, v in source.series.items()]
    rows = lake.scan(spec.name).filter(*mine).select(spec.time, "available_at")
    return rows.sort(spec.time).collect()


def _missing(
    stored: pl.Series, since: datetime, until: datetime, step_s: int | None
) -> list[tuple[datetime, datetime, bool]]:
    """Return the ranges to ask for, oldest first; the flag says that a range must be written whole.

    Without a grid a half-written head could not be told from a quiet time, hence whole; nor could what lies between a
    stored stretch and a window apart from it, so that is asked for, too.
    """
    first, last = _moment(stored.min()), _moment(stored.max())
    if first is None or last is None or until <= first or since > last:
        if first is None or last is None or step_s is not None:
            return [(since, until, False)]
        return [(min(since, last), max(until, first), True)]
    step = timedelta(seconds=step_s or 0)
    ranges = [(since, first, step_s is None)] if since + step <= first and since < first else []
    if step_s is not None:
        ranges += [(max(g.start, since), min(g.end, until), False) for g in gaps_in(stored, step_s, "")]
    ranges.append((max(last + step, since), until, False))
    return [(start, end, whole) for start, end, whole in ranges if start < end]


def _collect(
    lake: Lake,
    spec: Table,
    source: Source,
    start: datetime,
    end: datetime,
    whole: bool,
    tally: _Tally,
    pause: Callable[[float], None],
) -> Iterator[datetime]:
    """Write the chunks of one range as they come and yield how far it got; begins again after a passing failure."""
    at, tries = start, 0
    while at < end:
        try:
            chunks = source.collect(at, end)
            for chunk in _joined(chunks) if whole else chunks:
                if chunk.is_empty():
                    continue
                _belongs(spec, source, chunk, at, end)
                report = lake.write(spec.name, chunk)
                tally.added, tally.updated = tally.added + report.added, tally.updated + report.updated
                tally.unchanged += report.unchanged
                newest = _moment(chunk[spec.time].max()) or at
                at, tries = newest + timedelta(seconds=source.step_s or 0), 0
                yield at
        except SourceUnavailable as error:
            tries += 1
            wait = error.retry_after_s or random.uniform(0.5, 1.5) * min(0.5 * 2**tries, 30.0)
            if tries >= MAX_TRIES or wait > MAX_WAIT_S:
                error.add_note(
                    f"{source.name}: gave up after {tries} tries at {at}; {tally.added} rows were kept, "
                    "run it again to go on from there"
                )
                raise
            tally.retries += 1
            pause(wait)
        else:
            return


def _joined(chunks: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    got = list(chunks)
    if got:
        yield pl.concat(got)


def _belongs(spec: Table, source: Source, chunk: pl.DataFrame, start: datetime, end: datetime) -> None:
    """Refuse rows outside the range asked for or of another series: they would be stored under wrong terms."""
    inside = pl.col(spec.time).is_between(start, end, closed="left")
    mine = [pl.col(c) == v for c, v in source.series.items()]
    strays = chunk.filter(~pl.all_horizontal(inside, *mine)).height
    if strays:
        raise SourceError(
            f"{source.name}: {strays} of {chunk.height} rows lie outside {start} .. {end} or are not of series "
            f"{series_key(source.series)}; nothing of them was written"
        )


def _gaps(stored: pl.Series, source: Source, since: datetime, until: datetime) -> list[Gap]:
    """Return the grid steps of ``[since, until)`` that the series lacks."""
    if source.step_s is None:
        return []
    key, step = series_key(source.series), timedelta(seconds=source.step_s)
    inside = stored.filter(stored.is_between(since, until, closed="left"))
    first, last = _moment(inside.min()), _moment(inside.max())
    if first is None or last is None:
        return [Gap(key, since, until)] if since + step <= until else []
    head = [Gap(key, since, first)] if since + step <= first else []
    tail = [Gap(key, last + step, until)] if last + 2 * step <= until else []
    return [*head, *gaps_in(inside, source.step_s, key), *tail]


def _series_status(lake: Lake, spec: Table, now: datetime) -> pl.DataFrame:
    keys, blocks = series_columns(spec.name), "number" in spec.key
    place = "number" if blocks else spec.time
    rows = lake.scan(spec.name).select(*keys, *{place, spec.time}, "available_at").sort(*keys, place)
    late = pl.col("available_at") > pl.lit(now) + pl.duration(seconds=FUTURE_TOLERANCE_S)
    between = pl.col(place).diff().over(keys)
    gap = between if blocks else between.dt.total_seconds()
    counted = (
        rows.with_columns(gap=pl.when(gap > 0).then(gap))
        .group_by(keys, maintain_order=True)
        .agg(
            rows=pl.len(),
            first=pl.col(spec.time).min(),
            last=pl.col(spec.time).max(),
            age=pl.lit(now) - pl.col("available_at").filter(~late).max(),
            future=late.sum(),
            gap=pl.col("gap").drop_nulls(),
        )
        .collect()
    )
    steps = pl.col("gap").list.eval(pl.element() // pl.element().mode().min() - 1).list.sum()
    regular = pl.col("gap").list.eval(pl.element() == pl.element().mode().min()).list.mean() >= REGULAR_SHARE
    return counted.select(
        table=pl.lit(spec.name),
        key=pl.concat_str([pl.col(k).cast(pl.String) for k in keys], separator="/"),
        rows=pl.col("rows").cast(pl.Int64),
        first="first",
        last="last",
        age=pl.col("age").cast(pl.Duration("us")),
        gaps=pl.when(regular).then(steps).otherwise(0).fill_null(0).cast(pl.Int64),
        future=pl.col("future").cast(pl.Int64),
    )


def _moment(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None
