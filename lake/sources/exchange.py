"""Bars from any exchange that ccxt speaks to: paged, rate limited, finished bars only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import polars as pl

from lake.errors import ConfigError, SourceError, SourceUnavailable
from lake.tables import TABLES

PAGE = 1_000  # bars a request: Binance's maximum; an exchange that gives fewer is simply asked more often
TIMEOUT_S = 20.0
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the present moment."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class ExchangeSource:
    """Bars of one market as prices of ``asset``, in the market's quote currency.

    ``client`` is a ccxt exchange (see :func:`client`), ``symbol`` its market, for example ``BTC/USDT``.
    """

    asset: str
    symbol: str
    step_s: int
    client: Any = field(repr=False)
    clock: Clock = utc_now

    @property
    def name(self) -> str:
        """For example ``exchange:binance:BTC``."""
        return f"exchange:{self.client.id}:{self.asset}"

    @property
    def table(self) -> str:
        """Always prices."""
        return "prices"

    @property
    def series(self) -> Mapping[str, str | int]:
        """The exchange, the asset and the bar length."""
        return {"source": str(self.client.id), "asset": self.asset, "step": self.step_s}

    def collect(self, start: datetime, end: datetime) -> Iterator[pl.DataFrame]:
        """Yield finished bars with ``start <= open time < end``, a page at a time, oldest first.

        A bar is finished when its end has passed. Bars that break the rules of the table (no close, high below low)
        are left out and so show up as gaps. Raises SourceUnavailable on time-outs, rate limits and broken answers,
        SourceError when the exchange does not know the market or the step.
        """
        frame_name, step = self._timeframe(), timedelta(seconds=self.step_s)
        at = start
        while at < end and at + step <= self.clock():
            bars = self._page(frame_name, at)
            fresh = bars.filter(pl.col("ts").is_between(at, end, closed="left"), pl.col("available_at") <= self.clock())
            if fresh.height:
                yield fresh
            last = bars.filter(pl.col("ts") >= at)["ts"].max()
            # nothing from here on: step over a page of silence, an exchange may have been closed that long
            at = last + step if isinstance(last, datetime) else at + PAGE * step

    def _timeframe(self) -> str:
        offered = self.client.timeframes or {}
        for name in offered:
            if self.client.parse_timeframe(name) == self.step_s:
                return str(name)
        raise SourceError(f"{self.client.id} has no bars of {self.step_s} s; it offers {', '.join(offered) or 'none'}")

    def _page(self, timeframe: str, at: datetime) -> pl.DataFrame:
        """Return one page of bars that fit the table, sorted."""
        since = int(at.timestamp() * 1000)
        rows = _ask(self.client, lambda: self.client.fetch_ohlcv(self.symbol, timeframe, since, PAGE))
        if not all(
            isinstance(r, list) and len(r) >= 6 and all(isinstance(v, int | float) for v in r[:5]) for r in rows
        ):
            raise SourceUnavailable(f"{self.client.id}: the bars of {self.symbol} came back broken")
        values = {c: [_number(r[i]) for r in rows] for i, c in enumerate(("open", "high", "low", "close", "volume"), 1)}
        spec = TABLES["prices"]
        frame = pl.DataFrame(
            {"ts": [int(r[0]) * 1000 for r in rows], **values},
            schema={"ts": pl.Int64, **dict.fromkeys(values, pl.Float64)},
        ).with_columns(
            pl.col("ts").cast(spec.columns["ts"]),
            source=pl.lit(str(self.client.id)),
            asset=pl.lit(self.asset),
            step=pl.lit(self.step_s, pl.Int64),
        )
        frame = frame.with_columns(available_at=pl.col("ts") + timedelta(seconds=self.step_s))
        good, _ = spec.schema.filter(frame.select(list(spec.columns)).unique(spec.key, keep="last"))
        return good.sort("ts")


def client(exchange: str, url: str | None = None, timeout_s: float = TIMEOUT_S, derivatives: bool = False) -> Any:
    """Return a rate-limited ccxt exchange without keys; ``url`` replaces scheme and host of every endpoint.

    ``derivatives`` loads futures markets instead of spot ones, where an exchange has both. Raises ConfigError when
    ccxt is not installed or does not know the exchange.
    """
    try:
        import ccxt  # large: two seconds of start-up that only this source pays
    except ImportError as error:
        raise ConfigError("exchange bars need the package ccxt: install foredrift[exchange]") from error
    if exchange not in ccxt.exchanges:
        raise ConfigError(f"ccxt knows no exchange {exchange!r}; known are for example binance, kraken, coinbase, okx")
    markets = ["linear", "inverse"] if derivatives else ["spot"]
    made = getattr(ccxt, exchange)(
        {"enableRateLimit": True, "timeout": int(timeout_s * 1000), "options": {"fetchMarkets": {"types": markets}}}
    )
    made.enableLastJsonResponse = True  # tells a cut-off answer from an empty one
    made.enableLastResponseHeaders = True  # carries Retry-After
    if url is not None:
        made.urls["api"] = _moved(made.urls["api"], url.rstrip("/"))
    return made


def sources(exchange: str, symbols: Mapping[str, str], step_s: int, url: str | None = None) -> list[ExchangeSource]:
    """Return one source for each ``asset -> market``, sharing one client and so one rate limit."""
    shared = client(exchange, url)
    return [ExchangeSource(asset, symbol, step_s, shared) for asset, symbol in symbols.items()]


def _ask(exchange: Any, call: Callable[[], list[list[Any]]]) -> list[list[Any]]:
    """Return the answer of one ccxt call, its errors turned into ours."""
    import ccxt  # loaded already with the client

    try:
        rows = call()
    except (ccxt.BadSymbol, ccxt.BadRequest, ccxt.AuthenticationError, ccxt.NotSupported) as error:
        raise SourceError(f"{exchange.id} refused: {error}") from error
    except (ccxt.NetworkError, ccxt.BadResponse, ccxt.OnMaintenance) as error:
        headers = {k.lower(): v for k, v in (exchange.last_response_headers or {}).items()}
        wait = str(headers.get("retry-after", ""))
        raise SourceUnavailable(
            f"{exchange.id} did not answer: {error}", float(wait) if wait.isdecimal() else None
        ) from error
    except ccxt.BaseError as error:
        raise SourceError(f"{exchange.id} refused: {error}") from error
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        # ccxt hands text that is no JSON on to its parser, which fails in one of these ways
        raise SourceUnavailable(f"{exchange.id}: broken answer ({type(error).__name__}: {error})") from error
    if not isinstance(exchange.last_json_response, dict | list):  # or reads it as no bars at all
        raise SourceUnavailable(f"{exchange.id}: the answer was no JSON, it may have been cut off")
    return rows


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _moved(urls: Any, base: str) -> Any:
    if isinstance(urls, dict):
        return {k: _moved(v, base) for k, v in urls.items()}
    return base + urlsplit(urls).path if isinstance(urls, str) else urls
