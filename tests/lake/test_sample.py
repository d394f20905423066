"""The simulated market has the statistics it claims, for several seeds, and is the same every time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lake.errors import ConfigError
from lake.ingest import run
from lake.sources.sample import HORIZON, HOURS, START, SampleParams, growing, pool_of, simulate, sources
from lake.store import Lake, check, frame_digest
from lake.tables import TABLES, table
from lake.units import from_word

SEEDS = (7, 1, 2, 3)


@pytest.fixture(scope="module", params=SEEDS)
def market(request: pytest.FixtureRequest) -> dict[str, pl.DataFrame]:
    return simulate(seed=request.param)


def acf(x: np.ndarray, lag: int) -> float:
    x = x - x.mean()
    return float((x[:-lag] * x[lag:]).mean() / (x * x).mean())


def returns(market: dict[str, pl.DataFrame]) -> np.ndarray:
    wide = market["prices"].pivot(on="asset", index="ts", values="close").sort("ts")
    return np.diff(np.log(wide.drop("ts").to_numpy()), axis=0)


def test_returns_are_heavy_tailed_clustered_and_unpredictable(market: dict[str, pl.DataFrame]) -> None:
    r = returns(market)
    for x in r.T:
        assert 3 < ((x - x.mean()) ** 4).mean() / x.var() ** 2 - 3 < 80
        tail = np.sort(np.abs(x))[::-1][: len(x) // 100 + 1]
        assert 2.5 < 1 / np.mean(np.log(tail[:-1] / tail[-1])) < 5.5  # Hill
        assert 0.12 < acf(np.abs(x), 1) < 0.40
        assert 0.04 < acf(np.abs(x), 24) < 0.30
        assert acf(x**2, 1) > 0.03
        assert abs(acf(x, 1)) < 0.04
        assert abs(x.mean()) < 3 * x.std() / np.sqrt(len(x)) + x.var()


def test_volatilities_and_correlations(market: dict[str, pl.DataFrame]) -> None:
    r = returns(market)
    vol = r.std(axis=0) * np.sqrt(8766)
    for got, asset in zip(vol, SampleParams().assets, strict=True):
        assert 0.6 < got / asset.vol < 1.6
    corr = np.corrcoef(r.T)
    assert corr[0, 1] == pytest.approx(0.85, abs=0.05)  # BTC-ETH
    assert corr[1, 2] == pytest.approx(0.82, abs=0.05)  # ETH-LINK
    assert corr[3, 5] == pytest.approx(0.62, abs=0.08)  # UNI-SOL


def test_gas_has_season_persistence_spikes_and_pays_to_wait(market: dict[str, pl.DataFrame]) -> None:
    gas = market["gas"]
    log = np.log(gas["base_fee_gwei"].to_numpy())
    hour = gas["ts"].dt.hour().to_numpy()
    mean = np.array([log[hour == h].mean() for h in range(24)])
    assert 0.55 < np.ptp(mean) < 0.85
    assert 5 <= mean.argmin() <= 11
    assert 14 <= mean.argmax() <= 18
    assert 0.80 < acf(log, 1) < 0.90
    assert 0.25 < acf(log, 12) < 0.50
    assert 0.55 < acf(log, 24) < 0.80
    ahead = np.array([np.exp(log[i + 1 : i + 25].min() - log[i]) for i in range(len(log) - 25)])
    assert 0.55 < ahead.mean() < 0.75
    assert 8 < np.median(np.exp(log)) < 50
    weekend = gas["ts"].dt.weekday().to_numpy() >= 6
    assert log[weekend].mean() < log[~weekend].mean() - 0.05
    jumps = np.diff(log)
    assert ((jumps - jumps.mean()) ** 4).mean() / jumps.var() ** 2 > 3.5  # spikes: more than Gaussian
    assert jumps.max() > 1


def test_stress_thins_pools_and_raises_gas_and_volume(market: dict[str, pl.DataFrame]) -> None:
    eth = market["prices"].filter(pl.col("asset") == "ETH").sort("ts")
    vol = np.log(np.log(eth["high"] / eth["low"]).rolling_mean(24)[24:].to_numpy())
    pool = market["pool_state"].filter(pl.col("pool") == pool_of("ETH")).sort("ts")
    assert -0.7 < np.corrcoef(np.log(pool["depth_1pct_usd"][24:].to_numpy()), vol)[0, 1] < -0.1
    assert 0.0 < np.corrcoef(np.log(market["gas"]["base_fee_gwei"][24:].to_numpy()), vol)[0, 1] < 0.7
    assert np.corrcoef(np.log((eth["volume"] * eth["close"])[24:].to_numpy()), vol)[0, 1] > 0.3


def test_pool_liquidity_is_what_gives_its_depth() -> None:
    pool = simulate(hours=50)["pool_state"].filter(pl.col("pool") == pool_of("ETH"))
    for word, price, depth in pool.select("liquidity_raw", "price", "depth_1pct_usd").iter_rows():
        dollars = from_word(word) / 1e12 * ((1.01 * price) ** 0.5 - price**0.5)
        assert dollars == pytest.approx(depth, rel=1e-9)


def test_every_row_fits_its_table_and_bars_join(market: dict[str, pl.DataFrame]) -> None:
    for name, frame in market.items():
        assert check(table(name), frame).height == frame.height
        assert frame.columns == list(TABLES[name].columns)
        assert frame.select(table(name).key).is_unique().all()
    joined = (
        market["prices"]
        .sort("asset", "ts")
        .with_columns(last=pl.col("close").shift(1).over("asset"))
        .drop_nulls("last")
    )
    assert np.allclose(joined["open"], joined["last"], rtol=1e-12)
    assert market["prices"].height == 6 * HOURS


def test_same_seed_same_market_other_seed_another() -> None:
    one, two, other = (simulate(hours=500, seed=s) for s in (5, 5, 6))
    assert {n: frame_digest(f) for n, f in one.items()} == {n: frame_digest(f) for n, f in two.items()}
    assert all(frame_digest(one[n]) != frame_digest(other[n]) for n in one)


def test_parameters_do_what_they_say() -> None:
    calm = simulate(SampleParams(gas_season=0.0, gas_weekend=0.0), hours=3000)["gas"]
    hourly = calm.group_by(pl.col("ts").dt.hour()).agg(pl.col("base_fee_gwei").log().mean())["base_fee_gwei"]
    assert hourly.max() - hourly.min() < 0.15
    spiky = simulate(SampleParams(gas_spikes=20.0), hours=3000)["gas"]["base_fee_gwei"].log().diff()
    assert (
        spiky.kurtosis()
        > simulate(SampleParams(gas_spikes=0.0), hours=3000)["gas"]["base_fee_gwei"].log().diff().kurtosis()
    )


@pytest.mark.parametrize("start", [datetime(2024, 1, 1), datetime(2024, 1, 1, 0, 30, tzinfo=UTC)])
def test_a_start_off_the_grid_is_refused(start: datetime) -> None:
    with pytest.raises(ConfigError, match="full hour"):
        simulate(start=start)


def test_sources_bring_the_whole_market_into_a_lake(lake: Lake) -> None:
    end = START + timedelta(hours=200)
    for source in sources(hours=200):
        assert not run(lake, source, START, end, now=end).gaps
    market = simulate(hours=200)
    for name, frame in market.items():
        assert lake.digest(name) == lake.digest(name, frame)


@pytest.mark.parametrize("seed", [7, 8])
def test_a_market_that_goes_on_has_the_same_past_whenever_it_is_asked(seed):
    def rows(now):
        made = growing(now, seed=seed)
        return {s.name: pl.concat(s.collect(START, now + timedelta(days=9))) for s in made}

    early, late = (rows(START + timedelta(hours=h, minutes=5)) for h in (1_003, 1_441))
    for name, past in early.items():
        assert_frame_equal(past, late[name].head(past.height), check_exact=True)
        assert past.height < late[name].height
        step = timedelta(hours=24 if past["available_at"][0] - past["ts"][0] > timedelta(hours=1) else 1)
        over = START + timedelta(hours=1_003, minutes=5)
        assert past["available_at"].max() <= over < past["available_at"].max() + step + timedelta(hours=1)


def test_beyond_its_horizon_or_before_its_start_a_market_that_goes_on_is_refused_in_words():
    for now in (START + timedelta(hours=HORIZON + 1), START):
        with pytest.raises(ConfigError, match="set another"):
            growing(now)
