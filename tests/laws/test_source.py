"""Laws of every source: rows only of the range asked for, fit for the table, known when they say, repeatable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import polars as pl
import pytest

from lake.errors import SourceUnavailable
from lake.ingest import run
from lake.sources import sample
from lake.sources.base import RecordedSource, Source
from lake.sources.signals import FearGreedSource, FundingSource, HeadlineSource
from lake.store import Lake, check
from lake.tables import table
from tests.lake.exchange_server import Market, serve
from tests.lake.test_signals import fear_greed, feed, funding, http
from tests.laws import chain_cases
from tests.laws.chain_cases import chain_history  # noqa: F401

T0 = datetime(2022, 1, 1, tzinfo=UTC)
H = timedelta(hours=1)


@dataclass
class Case:
    """A source with the span in which it has rows."""

    source: Source
    start: datetime
    end: datetime


@contextmanager
def recorded() -> Iterator[Case]:
    frame = sample.simulate(start=T0, hours=240)["gas"].sample(fraction=1.0, shuffle=True, seed=1)
    doubled = pl.concat([frame, frame[:20]])  # out of order and with repeats
    yield Case(RecordedSource("recorded", "gas", {"chain_id": 1}, doubled, 3600, page=37), T0, T0 + 240 * H)


@contextmanager
def simulated(position: int) -> Iterator[Case]:
    yield Case(sample.sources(start=T0, hours=240)[position], T0, T0 + 240 * H)


@contextmanager
def exchange() -> Iterator[Case]:
    pytest.importorskip("ccxt", reason="exchange bars need the extra `exchange`")
    from lake.sources.exchange import ExchangeSource, client

    with serve(Market(int(T0.timestamp() * 1000), 240, holes={7, 8}, cap=50)) as market:
        ccxt = client("binance", market.url)
        ccxt.rateLimit = 1
        yield Case(ExchangeSource("BTC", "BTC/USDT", 3600, ccxt, lambda: T0 + 239.5 * H), T0, T0 + 240 * H)


@contextmanager
def greedy() -> Iterator[Case]:
    yield Case(FearGreedSource(http=http(fear_greed)), T0, T0 + 240 * H)


@contextmanager
def funded() -> Iterator[Case]:
    yield Case(FundingSource("BTC", "BTCUSDT", http=http(funding)), T0, T0 + 240 * H)


@contextmanager
def news() -> Iterator[Case]:
    text = feed(*((T0 + i * 7 * H, f"Headline {i} is good") for i in range(30)))
    yield Case(HeadlineSource(("https://a.example",), http(lambda r: httpx.Response(200, text=text))), T0, T0 + 240 * H)


CASES: dict[str, Callable[[], object]] = {
    "recorded": recorded, "exchange": exchange, "fear_greed": greedy, "funding": funded, "headlines": news,
    "sample_prices": lambda: simulated(0), "sample_gas": lambda: simulated(6), "sample_pool": lambda: simulated(7),
    "sample_signal": lambda: simulated(-1),
}  # fmt: skip


@pytest.fixture(params=[*CASES, *(pytest.param(name, marks=pytest.mark.chain) for name in chain_cases.NAMES)])
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    if request.param in chain_cases.NAMES:
        source = request.getfixturevalue("chain_history")[request.param]
        yield Case(source, chain_cases.START, chain_cases.START + chain_cases.HOURS * H)
        return
    with CASES[request.param]() as made:
        yield made


def rows(case: Case, first: float = 0.0, last: float = 1.0) -> pl.DataFrame:
    """What the source yields for a part of its span, as one frame."""
    span = (case.end - case.start) / H
    start, end = (case.start + round(span * part) * H for part in (first, last))
    spec = table(case.source.table)
    return pl.concat([pl.DataFrame(schema=spec.columns), *(check(spec, c) for c in case.source.collect(start, end))])


def test_rows_fit_the_table_and_the_series(case: Case) -> None:
    got = rows(case)
    assert got.height > 5
    for column, value in case.source.series.items():
        assert got[column].unique().to_list() == [value]


def test_no_row_outside_the_asked_range_and_parts_make_the_whole(case: Case) -> None:
    spec = table(case.source.table)
    parts = [rows(case, a, b) for a, b in ((0.0, 0.3), (0.3, 0.31), (0.31, 1.0))]
    span = (case.end - case.start) / H
    for part, (a, b) in zip(parts, ((0.0, 0.3), (0.3, 0.31), (0.31, 1.0)), strict=True):
        start, end = (case.start + round(span * x) * H for x in (a, b))
        assert part[spec.time].is_between(start, end, closed="left").all()
    whole = rows(case).unique(spec.key).sort(spec.key)
    assert pl.concat(parts).unique(spec.key).sort(spec.key).equals(whole)


def test_times_never_go_back_between_chunks(case: Case) -> None:
    time = table(case.source.table).time
    newest = None
    for chunk in case.source.collect(case.start, case.end):
        assert newest is None or chunk[time].min() >= newest
        newest = chunk[time].max()


def test_a_row_is_known_at_its_time_or_later_and_an_interval_at_its_end(case: Case) -> None:
    spec, got = table(case.source.table), rows(case)
    assert (got["available_at"] >= got[spec.time]).all()
    if spec.name in {"prices", "gas", "pool_state"}:
        assert (got["available_at"] >= got[spec.time] + timedelta(seconds=case.source.step_s or 0)).all()


def test_a_range_without_rows_is_empty_and_no_failure(case: Case) -> None:
    assert list(case.source.collect(case.start - 200 * H, case.start - 100 * H)) == []


def test_collecting_twice_changes_nothing(case: Case, lake: Lake) -> None:
    first = run(lake, case.source, case.start, case.end, now=case.end)
    version, digest = lake.version(case.source.table), lake.digest(case.source.table)
    second = run(lake, case.source, case.start, case.end, now=case.end)
    assert first.added > 5
    assert (second.added, second.updated) == (0, 0)
    assert (lake.version(case.source.table), lake.digest(case.source.table)) == (version, digest)


@dataclass
class Cut:
    """A source that breaks off after ``chunks`` chunks, as a killed process or a dead line would."""

    inner: Source
    chunks: int

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def collect(self, start: datetime, end: datetime) -> Iterator[pl.DataFrame]:
        for number, chunk in enumerate(self.inner.collect(start, end)):
            if number == self.chunks:
                raise SourceUnavailable("cut", retry_after_s=1e9)
            yield chunk


def test_a_run_cut_anywhere_is_continued_to_the_same_lake(case: Case, lake: Lake) -> None:
    whole = Lake(lake.root + ".whole")
    run(whole, case.source, case.start, case.end, now=case.end)
    middle = case.start + (case.end - case.start) / 2
    for chunks, until in ((0, middle), (1, middle), (2, case.end)):
        try:
            run(lake, Cut(case.source, chunks), case.start, until, now=case.end)
        except SourceUnavailable:
            continue
    run(lake, case.source, case.start, case.end, now=case.end)
    assert lake.digest(case.source.table) == whole.digest(case.source.table)


def test_gaps_are_exactly_the_missing_steps(case: Case, lake: Lake) -> None:
    report = run(lake, case.source, case.start, case.end, now=case.end)
    if case.source.step_s is None:
        assert report.gaps == ()
        return
    step = timedelta(seconds=case.source.step_s)
    have = set(lake.scan(report.table).collect()[table(report.table).time].to_list())
    told = {g.start + i * step for g in report.gaps for i in range(int((g.end - g.start) / step))}
    want = {case.start + i * step for i in range(int((case.end - case.start) / step))}
    assert told == want - have
