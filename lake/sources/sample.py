"""A seeded market simulator: prices, gas, pools and signals that behave like the real ones where it matters.

What a rebalancer lives on is reproduced and tested: heavy-tailed correlated returns with volatility clustering,
gas with a daily and weekly season, persistence and spikes that come with volatility, pools that thin in stress.
There is no drift and no predictable return: a policy that earns one here is wrong.

A market is either a closed span of the past (``simulate``, ``sources``), or one that goes on: ``growing`` gives the
hours of one market of HORIZON hours that are over by now, so that whoever asks later finds the same past and more.

Figures marked [R] are measured on the public hourly record of 2020-11 to 2022-12 (Binance spot bars, Ethereum gas
prices paid, Uniswap v3 USDC/WETH 0.30 %), the same that Foredrift's real-data tests read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.signal import lfilter

from lake.errors import ConfigError
from lake.tables import TABLES
from lake.units import HOUR_S, HOURS_PER_YEAR, to_word

Vector = npt.NDArray[np.float64]
START = datetime(2024, 1, 1, tzinfo=UTC)
HOURS = 13_140  # 18 months: a year to learn from, half a year to be judged on
HORIZON = 87_660  # hours (ten years) of a market that goes on; another number would be another past
_RAW_LIQUIDITY = 10.0**12  # sqrt(1e6 * 1e18): a 6-decimal dollar against an 18-decimal token


@dataclass(frozen=True, slots=True)
class SampleAsset:
    """One asset: first price (USD), yearly volatility, correlation with the common factor, hourly volume, pool depth.

    Volatilities [R]: BTC 0.75, ETH 0.98, LINK 1.26, UNI 1.35, AAVE 1.44, SOL 1.52. Loadings give the pairwise
    correlations of [R] to 0.05: BTC-ETH 0.85, ETH-LINK 0.82, ETH-AAVE 0.78, LINK-UNI 0.75, UNI-SOL 0.62.
    ``volume`` is a typical hour in USD, ``depth_usd`` the one-sided depth to a 1 % move in calm times.
    """

    name: str
    price: float
    vol: float
    loading: float
    volume: float
    depth_usd: float


ASSETS = (
    SampleAsset("BTC", 42_000.0, 0.75, 0.88, 8e7, 2.5e6),
    SampleAsset("ETH", 2_300.0, 0.98, 0.96, 4e7, 3.1e6),  # depth [R]: median 3.1 million USD
    SampleAsset("LINK", 15.0, 1.26, 0.86, 3e6, 6.0e5),
    SampleAsset("UNI", 7.3, 1.35, 0.82, 2e6, 5.0e5),
    SampleAsset("AAVE", 110.0, 1.44, 0.82, 2e6, 4.0e5),
    SampleAsset("SOL", 100.0, 1.52, 0.72, 1e7, 3.0e5),
)


@dataclass(frozen=True, slots=True)
class SampleParams:
    """Everything that shapes a simulated market; change a field to simulate another one.

    Returns. ``tail_df``: Student's t under stochastic volatility; the tail index of hourly returns (Hill's estimator
    at 1 %) then lies between 3.3 and 4.7 ([R] 3.2 to 3.9; Takaishi, arXiv 2009.06874, finds 3) and excess kurtosis
    mostly between 6 and 20 ([R] 10 to 20). Log volatility is the sum of two AR(1), of hours (``vol_fast_*``) and of
    weeks (``vol_slow_*``; half-lives in hours, sd of log volatility): autocorrelations of absolute returns are near
    0.22, 0.12 and 0.07 at 1, 24 and 168 hours ([R] 0.24-0.32, 0.16-0.21, 0.09-0.12).

    Gas. ``gas_gwei``: median ([R] 21.8 gwei). ``gas_season``: log range of the mean over hours of day, cheapest
    at 05-11 h UTC, most expensive at 15-17 h ([R] 0.55 to 0.85 depending on the year; Coin Metrics, 2021: cheap 04 to
    12 UTC and on week-ends). ``gas_season_shift``: hours a year by which the pattern moves. ``gas_weekend``: log
    change on Saturday and Sunday ([R] -0.39, other years less). ``gas_slow_*``, ``gas_fast_*``: AR(1) around it
    ([R] autocorrelation of log gas 0.80-0.86 at 1 h, 0.36-0.42 at 12 h, 0.66-0.71 at 24 h). Spikes: ``gas_spikes`` a
    week in calm times, of exponential log size ``gas_spike_size``, halving in ``gas_spike_h`` hours; their rate
    grows with volatility to the power ``gas_spike_vol``. ``gas_vol``: elasticity to volatility ([R] correlation of log
    gas with log volatility 0.37).

    Pools. ``depth_vol``: elasticity of depth to volatility: twice the volatility takes 30 % ([R] -0.2 on average;
    Kaiko: bitcoin depth within 2 % fell 41 % in the week of 5 November 2022). ``depth_sd``, ``depth_half_life_h``: own
    AR(1) ([R] sd 0.54, autocorrelation 0.80 at 1 h and 0.70 at 24 h). ``volume_vol``: elasticity of volume ([R]
    correlation of log volume with log range 0.83).

    Signals. Fear & greed follows the return of the last 30 days ([R] mean 44, sd 27, day-to-day autocorrelation
    0.97); funding of the BTC perpetual ([R] mean 1.6e-4, sd 2.7e-4 per 8 h, autocorrelation 0.86).
    """

    assets: tuple[SampleAsset, ...] = ASSETS
    tail_df: float = 5.0
    vol_fast_sd: float = 0.36
    vol_fast_half_life_h: float = 6.0
    vol_slow_sd: float = 0.46
    vol_slow_half_life_h: float = 360.0
    gas_gwei: float = 21.8
    gas_season: float = 0.70
    gas_season_shift: float = 0.7
    gas_weekend: float = -0.20
    gas_slow_sd: float = 0.38
    gas_slow_half_life_h: float = 400.0
    gas_fast_sd: float = 0.24
    gas_fast_half_life_h: float = 1.0
    gas_spikes: float = 1.5
    gas_spike_size: float = 0.6
    gas_spike_h: float = 2.0
    gas_spike_vol: float = 2.0
    gas_vol: float = 0.30
    depth_vol: float = -0.5
    depth_sd: float = 0.35
    depth_half_life_h: float = 120.0
    volume_vol: float = 1.0


def pool_of(asset: str) -> str:
    """Return the key under which the simulated pool of ``asset`` against the dollar is stored."""
    return f"sample-{asset}"


def simulate(
    params: SampleParams | None = None, start: datetime = START, hours: int = HOURS, seed: int = 7
) -> dict[str, pl.DataFrame]:
    """Return ``hours`` hours from ``start`` of every table: prices, gas, pool_state, signals.

    The same arguments give the same rows to the last bit. ``start`` is a full hour, UTC. Raises ConfigError otherwise.
    """
    return _simulate(params or SampleParams(), start, hours, seed, hours)


def _simulate(params: SampleParams, start: datetime, hours: int, seed: int, known: int) -> dict[str, pl.DataFrame]:
    """Return the first ``known`` hours of a market of ``hours``: the same rows whatever ``known`` is."""
    if hours < 1 or start.tzinfo is None or start.timestamp() % HOUR_S:
        raise ConfigError(
            f"a sample market needs a start on a full hour with a time zone and hours >= 1, got {start}, {hours}"
        )
    rng = {name: np.random.default_rng([seed, i]) for i, name in enumerate(("vol", "ret", "gas", "pool", "sig"))}
    ts = pl.datetime_range(
        start, start + timedelta(hours=hours - 1), "1h", time_unit="us", time_zone="UTC", eager=True
    ).alias("ts")
    stress = _ar1(rng["vol"], hours, params.vol_fast_half_life_h, params.vol_fast_sd)
    stress += _ar1(rng["vol"], hours, params.vol_slow_half_life_h, params.vol_slow_sd)
    closes, bars = _prices(params, rng["ret"], ts, stress, known)
    return {
        "prices": bars,
        "gas": _gas(params, rng["gas"], ts, stress, known),
        "pool_state": _pools(params, rng["pool"], ts, stress, closes, known),
        "signals": _signals(rng["sig"], ts, closes[:, 0], params.assets[0].name, known),
    }


@dataclass(frozen=True, slots=True)
class SampleSource:
    """One series of a simulated market, as a source."""

    name: str
    table: str
    series: Mapping[str, str | int]
    step_s: int
    market: tuple[SampleParams, datetime, int, int, int]

    def collect(self, start: datetime, end: datetime) -> Iterator[pl.DataFrame]:
        """Yield the rows of ``[start, end)`` in one chunk; outside the simulated time there are none."""
        inside = pl.col("ts").is_between(start, end, closed="left")
        mine = [pl.col(c) == v for c, v in self.series.items()]
        rows = _market(*self.market)[self.table].filter(inside, *mine)
        if rows.height:
            yield rows


def sources(
    params: SampleParams | None = None, start: datetime = START, hours: int = HOURS, seed: int = 7
) -> list[SampleSource]:
    """Return the sources of one simulated market: bars of each asset, gas, each asset's pool, two signals."""
    return _sources((params or SampleParams(), start, hours, seed, hours))


def growing(
    now: datetime, params: SampleParams | None = None, start: datetime = START, seed: int = 7
) -> list[SampleSource]:
    """Return the sources of the market that began at ``start`` and has reached ``now``: every hour that is over.

    Raises ConfigError where ``now`` is beyond its HORIZON or within its first hour.
    """
    known = int((now - start).total_seconds() // HOUR_S)
    if not 1 <= known <= HORIZON:
        end = start + timedelta(hours=HORIZON)
        raise ConfigError(
            f"the sample market lasts from {start:%Y-%m-%d} to {end:%Y-%m-%d}, it is {now:%Y-%m-%d %H:%M}: set another "
            "[sources.sample] start"
        )
    return _sources((params or SampleParams(), start, HORIZON, seed, known))


def _sources(market: tuple[SampleParams, datetime, int, int, int]) -> list[SampleSource]:
    params = market[0]
    made = [
        SampleSource(
            f"sample:{a.name}", "prices", {"source": "sample", "asset": a.name, "step": HOUR_S}, HOUR_S, market
        )
        for a in params.assets
    ]
    made.append(SampleSource("sample:gas", "gas", {"chain_id": 1}, HOUR_S, market))
    made += [
        SampleSource(f"sample:pool:{a.name}", "pool_state", {"chain_id": 1, "pool": pool_of(a.name)}, HOUR_S, market)
        for a in params.assets
    ]
    for name, key in (("fear_greed", "market"), ("funding_8h_mean", params.assets[0].name)):
        made.append(SampleSource(f"sample:{name}", "signals", {"name": name, "key": key}, 24 * HOUR_S, market))
    return made


@lru_cache(maxsize=2)
def _market(params: SampleParams, start: datetime, hours: int, seed: int, known: int) -> dict[str, pl.DataFrame]:
    return _simulate(params, start, hours, seed, known)


def _ar1(rng: np.random.Generator, n: int, half_life_h: float, sd: float) -> Vector:
    """Return a stationary Gaussian AR(1) of the given half-life and standard deviation."""
    rho = 0.5 ** (1 / half_life_h)
    shocks = rng.standard_normal(n) * np.sqrt(1 - rho**2)
    shocks[0] = rng.standard_normal()
    return np.asarray(lfilter([1.0], [1.0, -rho], shocks) * sd, dtype=np.float64)


def _prices(
    params: SampleParams, rng: np.random.Generator, ts: pl.Series, stress: Vector, known: int
) -> tuple[Vector, pl.DataFrame]:
    """Return closes (hours, assets) and the bars of the first ``known`` hours.

    High and low are the exact extremes of a Brownian bridge.
    """
    n, k = ts.len(), len(params.assets)
    loading = np.array([a.loading for a in params.assets])
    hourly = np.array([a.vol for a in params.assets]) / np.sqrt(HOURS_PER_YEAR)
    unit = np.sqrt((params.tail_df - 2) / params.tail_df)
    common = rng.standard_t(params.tail_df, (n, 1)) * unit
    own = rng.standard_t(params.tail_df, (n, k)) * unit
    level = np.exp(stress - params.vol_fast_sd**2 - params.vol_slow_sd**2)[:, None]  # E[level**2] = 1
    sigma = hourly * level
    moves = sigma * (loading * common + np.sqrt(1 - loading**2) * own) - sigma**2 / 2
    close = np.array([a.price for a in params.assets]) * np.exp(np.cumsum(moves, axis=0))
    opened = close / np.exp(moves)
    spread = 2 * sigma**2 * -np.log(rng.uniform(size=(2, n, k)))
    high = opened * np.exp((moves + np.sqrt(moves**2 + spread[0])) / 2)
    low = opened * np.exp((moves - np.sqrt(moves**2 + spread[1])) / 2)
    busy = params.volume_vol * stress[:, None] + 0.3 * np.abs(moves) / sigma + 0.4 * rng.standard_normal((n, k))
    volume = np.array([a.volume for a in params.assets]) * np.exp(busy - 0.4) / close
    frames = [
        pl.DataFrame(
            {"ts": ts[:known], "open": opened[:known, i], "high": high[:known, i], "low": low[:known, i],
             "close": close[:known, i], "volume": volume[:known, i]}
        ).with_columns(source=pl.lit("sample"), asset=pl.lit(a.name), step=pl.lit(HOUR_S, pl.Int64))
        for i, a in enumerate(params.assets)
    ]  # fmt: skip
    return close, _fit("prices", pl.concat(frames), 1)


def _season(params: SampleParams, ts: pl.Series) -> Vector:
    """Return the log season of gas: two daily harmonics scaled to the asked range, a week-end, a slow shift."""
    hour = ts.dt.hour().to_numpy().astype(np.float64)
    years = np.arange(ts.len()) / HOURS_PER_YEAR

    def shape(at: Vector) -> Vector:
        return np.asarray(0.28 * np.cos((at - 17) * np.pi / 12) + 0.12 * np.cos((at - 16) * np.pi / 6))

    span = np.ptp(shape(np.arange(0, 24, 0.25)))
    weekend = ts.dt.weekday().to_numpy() >= 6
    return params.gas_season / span * shape(hour - params.gas_season_shift * years) + params.gas_weekend * weekend


def _gas(params: SampleParams, rng: np.random.Generator, ts: pl.Series, stress: Vector, known: int) -> pl.DataFrame:
    n = ts.len()
    log = _season(params, ts) + params.gas_vol * stress
    log += _ar1(rng, n, params.gas_slow_half_life_h, params.gas_slow_sd)
    log += _ar1(rng, n, params.gas_fast_half_life_h, params.gas_fast_sd)
    rate = params.gas_spikes / 168 * np.exp(params.gas_spike_vol * stress - params.gas_spike_vol**2 * stress.var() / 2)
    hits = (rng.uniform(size=n) < rate) * rng.exponential(params.gas_spike_size, n)
    log += lfilter([1.0], [1.0, -(0.5 ** (1 / params.gas_spike_h))], hits)
    used = np.clip(0.5 + 0.15 * np.diff(log, prepend=log[:1]) + 0.03 * rng.standard_normal(n), 0.0, 1.0)
    frame = pl.DataFrame(
        {
            "ts": ts,
            "base_fee_gwei": params.gas_gwei * np.exp(log),
            "priority_fee_gwei": 1.5 * np.exp(0.3 * rng.standard_normal(n)),
            "gas_used_ratio": used,
            "block_number": 18_900_000 + 300 * np.arange(n, dtype=np.int64),  # 12 s a block
        }
    )
    return _fit("gas", frame.head(known).with_columns(chain_id=pl.lit(1, pl.Int64)), 1)


def _pools(
    params: SampleParams, rng: np.random.Generator, ts: pl.Series, stress: Vector, closes: Vector, known: int
) -> pl.DataFrame:
    """Return the pools. In-range liquidity follows depth: ``depth = L (sqrt(1.01) - 1) sqrt(price)`` (Uniswap v3)."""
    frames = []
    for i, asset in enumerate(params.assets):
        n, price = ts.len(), closes[:, i]
        own = _ar1(rng, n, params.depth_half_life_h, params.depth_sd) + 0.1 * rng.standard_normal(n)
        depth = asset.depth_usd * np.exp(params.depth_vol * stress + own)
        raw = depth / ((np.sqrt(1.01) - 1) * np.sqrt(price)) * _RAW_LIQUIDITY
        volume = 0.02 * asset.volume * np.exp(params.volume_vol * stress + 0.6 * rng.standard_normal(n))
        frames.append(
            pl.DataFrame(
                {
                    "ts": ts[:known],
                    "liquidity_raw": pl.Series([to_word(int(v)) for v in raw[:known].tolist()], dtype=pl.Binary),
                    "price": price[:known],
                    "depth_1pct_usd": depth[:known],
                    "volume_usd": volume[:known],
                }
            ).with_columns(
                pool=pl.lit(pool_of(asset.name)), fee_pips=pl.lit(3000, pl.Int64), chain_id=pl.lit(1, pl.Int64)
            )
        )
    return _fit("pool_state", pl.concat(frames), 1)


def _signals(rng: np.random.Generator, ts: pl.Series, close: Vector, asset: str, known: int) -> pl.DataFrame:
    """Return daily fear & greed and funding: noisy functions of the month's return of the first asset.

    A market that goes on (``known`` less than its hours) shows the days that are over.
    """
    midnight = np.flatnonzero(ts.dt.hour().to_numpy() == 0)
    past = np.maximum(midnight - 720, 0)
    month = np.log(close[midnight] / close[past]) if midnight.size else np.zeros(0)
    mood = month / 0.22 + _ar1(rng, max(midnight.size, 1), 10.0, 0.6)[: midnight.size]
    greed = np.clip(100 / (1 + np.exp(0.3 - 1.1 * mood)), 5, 95).round()
    funding = 1.2e-4 + 1.5e-4 * mood + _ar1(rng, max(midnight.size, 1), 3.0, 1.2e-4)[: midnight.size]
    days = ts.gather(midnight)
    frames = [
        pl.DataFrame({"ts": days, "value": value}).with_columns(name=pl.lit(name), key=pl.lit(key))
        for name, key, value in (("fear_greed", "market", greed), ("funding_8h_mean", asset, funding))
    ]
    over = pl.concat(frames)
    if known < ts.len():
        over = over.filter(pl.col("ts") + timedelta(days=1) <= ts[0] + timedelta(hours=known))
    return _fit("signals", over, 24)


def _fit(name: str, frame: pl.DataFrame, hours: int) -> pl.DataFrame:
    """Return ``frame`` with ``available_at`` and every column of the table, in its order."""
    spec = TABLES[name]
    frame = frame.with_columns(available_at=pl.col("ts") + timedelta(hours=hours))
    return frame.select(
        pl.col(c) if c in frame.columns else pl.lit(None, dtype).alias(c) for c, dtype in spec.columns.items()
    )
