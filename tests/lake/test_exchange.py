"""Bars through ccxt against a local server: paging, faults, holes, the running bar."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("ccxt", reason="exchange bars need the extra `exchange`")

from lake.errors import ConfigError, SourceError, SourceUnavailable
from lake.ingest import run
from lake.sources.base import Gap
from lake.sources.exchange import ExchangeSource, client
from lake.store import Lake
from tests.lake.exchange_server import Market, serve

T0 = datetime(2022, 1, 1, tzinfo=UTC)
H = timedelta(hours=1)
PATIENCE_S = 60.0


@pytest.fixture
def market() -> Iterator[Market]:
    with serve(Market(int(T0.timestamp() * 1000), 300)) as running:
        yield running


def bars(market: Market, now_h: float = 299.5, step_s: int = 3600, symbol: str = "BTC/USDT") -> ExchangeSource:
    ccxt = client("binance", market.url, timeout_s=PATIENCE_S)
    ccxt.rateLimit = 1
    return ExchangeSource("BTC", symbol, step_s, ccxt, lambda: T0 + now_h * H)


def collect(lake: Lake, source: ExchangeSource, last_h: int = 400, waits: list[float] | None = None):
    return run(lake, source, T0, T0 + last_h * H, now=source.clock(), pause=(waits if waits is not None else []).append)


def test_every_finished_bar_is_stored_and_the_running_one_is_not(lake: Lake, market: Market) -> None:
    market.cap = 100
    report = collect(lake, bars(market))
    got = lake.scan("prices").sort("ts").collect()
    assert report.added == got.height == 299  # bar 299 ends half an hour from now
    assert got["ts"].to_list() == [T0 + h * H for h in range(299)]
    assert (got["available_at"] - got["ts"]).unique().to_list() == [H]
    assert got.row(3, named=True) | {"ts": 0, "available_at": 0} == {
        "source": "binance", "asset": "BTC", "step": 3600, "ts": 0, "open": 103.0, "high": 105.0, "low": 102.0,
        "close": 104.0, "volume": 13.0, "available_at": 0,
    }  # fmt: skip
    assert report.freshness == T0 + 299 * H
    assert report.gaps == ()
    assert collect(lake, bars(market, 300.0)).added == 1  # now it is finished


def test_it_goes_on_where_the_lake_ends(lake: Lake, market: Market) -> None:
    collect(lake, bars(market), 100)
    before = market.requests
    assert collect(lake, bars(market), 200).added == 100
    assert market.requests == before + 1


@pytest.mark.parametrize("fault", ["429", "truncated", "503"])
def test_a_fault_costs_a_retry_and_no_row(lake: Lake, market: Market, fault: str) -> None:
    market.cap, market.faults = 100, {1: fault}
    waits: list[float] = []
    report = collect(lake, bars(market), 300, waits)
    assert (report.added, report.retries, len(waits)) == (299, 1, 1)
    if fault == "429":
        assert waits == [3.0]


def test_an_answer_that_does_not_come_costs_a_retry_and_no_row(lake: Lake, market: Market) -> None:
    """The first page is never answered; only there is the client impatient, so a slow machine changes nothing."""
    market.faults = {0: "timeout"}
    source, waits = bars(market), []
    source.client.load_markets()
    source.client.timeout = 200

    def pause(seconds: float) -> None:
        waits.append(seconds)
        market.gone.set()
        source.client.timeout = int(PATIENCE_S * 1_000)

    report = run(lake, source, T0, T0 + 400 * H, now=source.clock(), pause=pause)
    assert (report.added, report.retries, len(waits)) == (299, 1, 1)


def test_a_server_that_stays_down_ends_with_the_reason(lake: Lake, market: Market) -> None:
    market.faults = dict.fromkeys(range(100), "503")
    with pytest.raises(SourceUnavailable, match="binance"):
        collect(lake, bars(market))


def test_holes_are_reported_however_long(lake: Lake, market: Market) -> None:
    market.holes = {5, 6, *range(50, 200)}
    market.cap = 40
    report = collect(lake, bars(market), 300)
    key = "binance/BTC/3600"
    assert report.gaps == (Gap(key, T0 + 5 * H, T0 + 7 * H), Gap(key, T0 + 50 * H, T0 + 200 * H))
    assert report.added == 299 - 152


def test_unknown_market_step_and_exchange_are_named(lake: Lake, market: Market) -> None:
    with pytest.raises(SourceError, match="NOPE/USDT"):
        collect(lake, bars(market, symbol="NOPE/USDT"))
    with pytest.raises(SourceError, match=r"no bars of 77 s; it offers .*1h"):
        collect(lake, bars(market, step_s=77))
    with pytest.raises(ConfigError, match="knows no exchange"):
        client("no_such_exchange")
