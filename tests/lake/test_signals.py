"""Signals over HTTP, answered by a transport in memory in the services' documented formats."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from lake.errors import SourceError, SourceUnavailable
from lake.ingest import run
from lake.sources.http import client
from lake.sources.signals import FearGreedSource, FundingSource, HeadlineSource, headlines, vader
from lake.store import Lake

T0 = datetime(2022, 1, 1, tzinfo=UTC)
D, H = timedelta(days=1), timedelta(hours=1)
Answer = Callable[[httpx.Request], httpx.Response]


def http(answer: Answer) -> httpx.Client:
    return client(httpx.MockTransport(answer))


def fear_greed(request: httpx.Request) -> httpx.Response:
    assert int(request.url.params["limit"]) > 1000
    data = [
        {"value": str(10 + i), "value_classification": "Fear", "timestamp": str(int((T0 + i * D).timestamp()))}
        for i in range(9, -1, -1)
    ]
    data[0]["time_until_update"] = "68499"
    return httpx.Response(200, json={"name": "Fear and Greed Index", "data": data, "metadata": {"error": None}})


def funding(request: httpx.Request) -> httpx.Response:
    first, last, limit = (int(request.url.params[k]) for k in ("startTime", "endTime", "limit"))
    every = [int((T0 + i * 8 * H).timestamp() * 1000) + 3 for i in range(2500)]  # Binance stamps a few ms late
    rows = [
        {"symbol": "BTCUSDT", "fundingTime": t, "fundingRate": "0.00010000", "markPrice": ""}
        for t in every
        if first <= t <= last
    ]
    return httpx.Response(200, json=rows[:limit])


def feed(*items: tuple[datetime, str]) -> str:
    body = "".join(f"<item><title>{t}</title><pubDate>{format_datetime(at)}</pubDate></item>" for at, t in items)
    return f'<?xml version="1.0"?><rss version="2.0"><channel><title>News</title>{body}</channel></rss>'


def test_fear_and_greed_takes_the_days_asked_for(lake: Lake) -> None:
    report = run(lake, FearGreedSource(http=http(fear_greed)), T0 + 2 * D, T0 + 6 * D, now=T0 + 6 * D)
    got = lake.scan("signals").sort("ts").collect()
    assert got["value"].to_list() == [12.0, 13.0, 14.0, 15.0]
    assert (got["available_at"] > got["ts"]).all()
    assert (report.added, report.gaps) == (4, ())


def test_funding_is_paged_without_loss(lake: Lake) -> None:
    source = FundingSource("BTC", "BTCUSDT", http=http(funding))
    run(lake, source, T0, T0 + 2500 * 8 * H, now=T0 + 900 * D)
    got = lake.scan("signals").collect()
    assert got.height == 2500
    assert set(got["key"]) == {"BTC"}
    assert set(got["name"]) == {"funding_8h"}  # a charge, not the mean of a day
    assert run(lake, source, T0, T0 + 2500 * 8 * H).added == 0


def test_headlines_are_scored_and_averaged_by_moment(lake: Lake) -> None:
    good, bad = "Great rally makes investors happy", "Terrible crash destroys savings in awful fraud"
    text = feed((T0 + H, good), (T0 + H, bad), (T0 + 2 * H, good))
    source = HeadlineSource(
        ("https://one.example/rss", "https://two.example/rss"),
        http(lambda r: httpx.Response(200 if r.url.host == "one.example" else 404, text=text)),
    )
    run(lake, source, T0, T0 + D)
    got = lake.scan("signals").sort("ts").collect()
    score = vader()
    assert score(good) > 0.5 > -0.5 > score(bad)
    assert got["value"].to_list() == pytest.approx([(score(good) + score(bad)) / 2, score(good)])
    assert set(got["name"]) == {"sentiment_vader"}


def test_headline_items_without_time_or_title_are_left_out() -> None:
    text = feed((T0, "Fine")).replace(
        "</channel>",
        "<item><title>No date</title></item><item><pubDate>rubbish</pubDate><title>x</title></item></channel>",
    )
    assert headlines(text) == [(T0, "Fine")]
    with pytest.raises(SourceUnavailable, match="broken XML"):
        headlines(text[:80])
    with pytest.raises(SourceError, match="document type"):
        headlines('<!DOCTYPE r [<!ENTITY a "b">]><rss>&a;</rss>')


def test_all_feeds_failing_is_a_failure() -> None:
    source = HeadlineSource(("https://one.example/rss",), http(lambda r: httpx.Response(503)), score=len)
    with pytest.raises(SourceUnavailable):
        list(source.collect(T0, T0 + D))


def refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("slow", request=request)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (lambda r: httpx.Response(429, headers={"Retry-After": "9"}), SourceUnavailable, "429"),
        (lambda r: httpx.Response(502), SourceUnavailable, "502"),
        (refuse, SourceUnavailable, "did not answer"),
        (lambda r: httpx.Response(200, text='{"data": ['), SourceUnavailable, "broken JSON"),
        (lambda r: httpx.Response(403), SourceError, "403"),
        (lambda r: httpx.Response(200, json={"other": 1}), SourceError, "no longer sends"),
    ],
)
def test_failures_are_sorted_into_passing_and_lasting(answer: Answer, error: type[SourceError], words: str) -> None:
    for source in (FearGreedSource(http=http(answer)), FundingSource("BTC", "BTCUSDT", http=http(answer))):
        with pytest.raises(error, match=words) as caught:
            list(source.collect(T0, T0 + D))
        if "429" in words:
            assert caught.value.retry_after_s == 9
        if error is SourceError:
            assert not isinstance(caught.value, SourceUnavailable)
