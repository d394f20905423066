"""Daily mood, funding of perpetual futures, and the polarity of headlines: rows of table ``signals``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from xml.etree import ElementTree as ET  # nosec B405 - documents with entities are refused

import httpx
import polars as pl

from lake.errors import SourceError, SourceUnavailable
from lake.sources.http import client, get_json, get_text
from lake.tables import TABLES
from lake.units import DAY_S

FEAR_GREED_URL = "https://api.alternative.me/fng/"
FUNDING_URL = "https://fapi.binance.com/fapi/v1/fundingRate"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FEEDS = ("https://www.coindesk.com/arc/outboundfeeds/rss/", "https://cointelegraph.com/rss")
FUNDING_PAGE = 1_000  # Binance's maximum
FEAR_GREED_DELAY = timedelta(hours=1)  # published at the start of its day, with some minutes of delay


@dataclass(frozen=True, slots=True)
class FearGreedSource:
    """The crypto fear & greed index of alternative.me, 0 (fear) to 100 (greed), one value a day."""

    url: str = FEAR_GREED_URL
    http: httpx.Client = field(default_factory=client, repr=False)
    name: str = "signals:fear_greed"
    table: str = "signals"
    step_s: int | None = DAY_S

    @property
    def series(self) -> Mapping[str, str | int]:
        """Signal ``fear_greed`` of the market."""
        return {"name": "fear_greed", "key": "market"}

    def collect(self, start: datetime, end: datetime) -> Iterator[pl.DataFrame]:
        """Yield the days of ``[start, end)`` in one chunk; the service only knows "the last N days"."""
        days = max((datetime.now(UTC) - start).days + 2, 2)
        answer = get_json(self.http, self.url, {"limit": days, "format": "json"})
        try:
            rows = [(datetime.fromtimestamp(int(r["timestamp"]), UTC), float(r["value"])) for r in answer["data"]]
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(f"{self.url} no longer sends data[].timestamp and .value: {error!r}") from error
        yield from _chunk(self.series, rows, start, end, FEAR_GREED_DELAY)


@dataclass(frozen=True, slots=True)
class FundingSource:
    """Funding rate of a perpetual future per interval (8 h for most), as a fraction; known when it is charged."""

    asset: str
    symbol: str  # for example BTCUSDT
    url: str = FUNDING_URL
    http: httpx.Client = field(default_factory=client, repr=False)
    table: str = "signals"
    step_s: int | None = None  # exchanges change the interval of a contract

    @property
    def name(self) -> str:
        """For example ``signals:funding:BTC``."""
        return f"signals:funding:{self.asset}"

    @property
    def series(self) -> Mapping[str, str | int]:
        """Signal ``funding_8h`` of the asset: each charge, a fraction of the position (per 8 h on most contracts)."""
        return {"name": "funding_8h", "key": self.asset}

    def collect(self, start: datetime, end: datetime) -> Iterator[pl.DataFrame]:
        """Yield the charges of ``[start, end)``, a page at a time, oldest first."""
        at = start
        while at < end:
            span = {"startTime": _ms(at), "endTime": _ms(end) - 1, "limit": FUNDING_PAGE}
            answer = get_json(self.http, self.url, {"symbol": self.symbol, **span})
            try:
                rows = [(_from_ms(int(r["fundingTime"])), float(r["fundingRate"])) for r in answer]
            except (KeyError, TypeError, ValueError) as error:
                raise SourceError(f"{self.url} no longer sends fundingTime and fundingRate: {error!r}") from error
            yield from _chunk(self.series, rows, at, end, timedelta(0))
            if len(rows) < FUNDING_PAGE:
                return
            at = max(t for t, _ in rows) + timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class HeadlineSource:
    """Polarity of news headlines by VADER, -1 (bad) to 1 (good); the name of the signal carries the method.

    VADER is a lexicon with rules (Hutto & Gilbert, ICWSM 2014) made for short posts; it knows no market jargon, so
    take it for what it is. Headlines of one moment are averaged. Feeds only hold their newest items: what was not
    collected in time is lost, and no gap can be told.
    """

    urls: tuple[str, ...] = FEEDS
    http: httpx.Client = field(default_factory=client, repr=False)
    score: Callable[[str], float] | None = None
    name: str = "signals:headlines"
    table: str = "signals"
    step_s: int | None = None

    @property
    def series(self) -> Mapping[str, str | int]:
        """Signal ``sentiment_vader`` of the market."""
        return {"name": "sentiment_vader", "key": "market"}

    def collect(self, start: datetime, end: datetime) -> Iterator[pl.DataFrame]:
        """Yield scored headlines of ``[start, end)`` in one chunk; raises SourceError only when every feed fails."""
        scored, failures = self.score or vader(), []
        rows: list[tuple[datetime, float]] = []
        for url in self.urls:
            try:
                rows += [(at, scored(title)) for at, title in headlines(get_text(self.http, url))]
            except SourceError as error:
                failures.append(error)
        if failures and len(failures) == len(self.urls):
            raise failures[0]
        means = pl.DataFrame(rows, schema=["ts", "value"], orient="row") if rows else None
        if means is not None:
            averaged = means.group_by("ts").agg(pl.col("value").mean()).sort("ts").rows()
            yield from _chunk(self.series, averaged, start, end, timedelta(0))


def vader() -> Callable[[str], float]:
    """Return VADER's compound score, a function from text to -1 .. 1."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # reads its lexicon on construction

    analyzer = SentimentIntensityAnalyzer()
    return lambda text: float(analyzer.polarity_scores(text)["compound"])


def headlines(feed: str) -> list[tuple[datetime, str]]:
    """Return (time of publication, title) of every item of an RSS 2.0 feed; items without either are left out.

    Raises SourceUnavailable on broken XML; a feed with its own document type is refused (entity expansion).
    """
    if "<!DOCTYPE" in feed or "<!ENTITY" in feed:
        raise SourceError("the feed declares its own document type, which a news feed never needs; it was not read")
    try:
        root = ET.fromstring(feed)  # noqa: S314 # nosec B314 - entities were refused above
    except ET.ParseError as error:
        raise SourceUnavailable(f"the feed is broken XML ({error})") from error
    items = []
    for item in root.iter("item"):
        title, date = (item.findtext("title") or "").strip(), item.findtext("pubDate")
        at = _published(date)
        if title and at is not None:
            items.append((at, title))
    return items


def _published(date: str | None) -> datetime | None:
    try:
        at = parsedate_to_datetime(date or "")
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _chunk(
    series: Mapping[str, Any], rows: list[tuple[datetime, float]], start: datetime, end: datetime, delay: timedelta
) -> Iterator[pl.DataFrame]:
    inside = sorted({t: v for t, v in rows if start <= t < end}.items())
    if inside:
        yield pl.DataFrame(
            [(series["name"], series["key"], t, v, t + delay) for t, v in inside],
            schema=TABLES["signals"].columns,
            orient="row",
        )


def _ms(at: datetime) -> int:
    """Return Unix milliseconds, rounded up."""
    return -((EPOCH - at) // timedelta(milliseconds=1))


def _from_ms(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)
