"""Speed against a peer in the same run: features against pandas, training against bare LightGBM, live latency."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import lightgbm as lgb
import numpy as np
import pandas as pd
import polars as pl
import pytest

from features import gas as gas_features
from features.bars import Bars, times
from features.returns import stress
from lake.store import Lake
from models.boosting.gbm import PARAMS, fit_quantiles, predict
from models.config import ModelConfig
from models.evaluation.labels import hide_unknown
from models.forecast_schema import QUANTILES
from models.gas.family import GasFamily
from models.serving.live import Corrections, LiveModel, issue, recent
from tests.models.market import START, fill

ASSETS = 5


def market(hours: int) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    ts = times(START, np.arange(hours)).astype("datetime64[us]")
    parts = []
    for i in range(ASSETS):
        close = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal(hours)))
        x = 3 + np.cumsum(0.02 * rng.standard_normal(hours))
        volume = np.exp(rng.standard_normal(hours))
        parts.append(
            pl.DataFrame(
                {"ts": ts, "close": close, "high": close * 1.01, "low": close * 0.99, "volume": volume, "x": x}
            ).with_columns(pl.lit(f"A{i}").alias("asset"))
        )
    return pl.concat(parts)


def ours(frame: pl.DataFrame) -> list[dict[str, np.ndarray]]:
    names = tuple(f"A{i}" for i in range(ASSETS))
    hours = frame.height // ASSETS
    wide = [frame[c].to_numpy().reshape(ASSETS, hours).T.copy() for c in ("close", "high", "low", "volume", "x")]
    close, high, low, volume, x = wide
    bars = Bars(names, START, 3_600, close, high, low, volume, np.isfinite(close))
    rows, out = np.arange(hours), []
    for k, name in enumerate(names):
        price = gas_features.Price(x[:, k : k + 1], bars.hours)
        found = {
            **gas_features.level(price, rows),
            **gas_features.ahead(price, rows, (12,), gas_features.seasons(price, rows)),
        }
        out.append(stress("s", bars, name, rows) | {n: v[:, 0] for n, v in found.items()})
    return out


def in_pandas(frame: pd.DataFrame, season: Callable[..., pd.Series]) -> list[pd.DataFrame]:
    """The same features in pandas; ``season`` is how the decayed season is written."""
    out = []
    for _, g in frame.groupby("asset"):
        g = g.set_index("ts")
        f = pd.DataFrame(index=g.index)
        r = np.log(g["close"]).diff()
        for k in (1, 4, 24):
            f[f"s_rv{k}"] = 0.5 * np.log((r**2).rolling(k, min_periods=1).mean() + 1e-10)
        f["s_range3"] = np.log(np.log(g["high"] / g["low"]).rolling(3, min_periods=1).mean() + 1e-6)
        for k in (1, 24):
            f[f"s_ret{k}"] = np.log(g["close"]).diff(k)
        v = np.log1p(g["volume"])
        week = v.rolling(168, min_periods=24).mean()
        f["s_volume1"], f["s_volume6"] = v - week, v.rolling(6, min_periods=1).mean() - week
        x = g["x"]
        for k in (3, 6, 12, 24):
            f[f"over_ewm{k}"] = x - x.ewm(span=k).mean()
        for k in (24, 72, 168, 336):
            f[f"over_mean{k}"] = x - x.rolling(k, min_periods=k // 2).mean()
        for k in (6, 24, 168):
            f[f"over_low{k}"] = x - x.rolling(k, min_periods=k // 2).min()
            f[f"under_high{k}"] = x - x.rolling(k, min_periods=k // 2).max()
            f[f"spread{k}"] = np.log(x.diff().rolling(k, min_periods=k // 2).std() + 1e-3)
        for k in (1, 2, 3, 6, 12, 24):
            f[f"change{k}"] = x - x.shift(k)
        f["hour"], f["weekday"] = x.index.hour.astype(float), x.index.day_of_week.astype(float)
        of_day = x - x.rolling(24, min_periods=12).mean()
        of_week = x - x.rolling(168, min_periods=24).mean()
        slot = x.index.day_of_week * 24 + x.index.hour
        s = {
            "season": season(of_day, x.index.hour, 24, 28, 10.0),
            "season_fast": season(of_day, x.index.hour, 24, 28, 4.0),
            "season_week": season(of_week, slot, 168, 5, 2.0),
        }
        f["t12_day1"], f["t12_day2"] = x.shift(12) - x, x.shift(36) - x
        f["t12_day3mean"] = pd.concat([x.shift(12), x.shift(36), x.shift(60)], axis=1).mean(axis=1) - x
        f["t12_week1"] = x.shift(156) - x
        for name, lag in (("season", 12), ("season_fast", 12), ("season_week", 156)):
            f[f"t12_{name}"] = s[name].shift(lag) - s[name]
        later = x.index + pd.Timedelta(hours=12)
        f["t12_hour"], f["t12_weekday"], f["t12_horizon"] = (
            later.hour.astype(float),
            later.day_of_week.astype(float),
            12.0,
        )
        f["t12_low_day1"] = x.rolling(12, min_periods=6).min().shift(12) - x
        f["t12_low_season"] = s["season"].rolling(12, min_periods=6).min().shift(12) - s["season"]
        out.append(f)
    return out


def by_group(value: pd.Series, slot: pd.Index, period: int, count: int, half_life: float) -> pd.Series:
    """The season as it is commonly written: group by hour, roll, apply."""
    weights = 0.5 ** (np.arange(count) / half_life)

    def mean(window: np.ndarray) -> float:
        w = weights[: len(window)][::-1]
        known = np.isfinite(window)
        return float((w[known] * window[known]).sum() / (1.0 + w[known].sum()))

    return value.groupby(np.asarray(slot)).transform(lambda v: v.rolling(count, min_periods=0).apply(mean, raw=True))


def by_shift(value: pd.Series, slot: pd.Index, period: int, count: int, half_life: float) -> pd.Series:
    """The season without any loop over rows: what a careful pandas author would write."""
    known, filled = value.notna().astype(float), value.fillna(0.0)
    lags = [(k * period, 0.5 ** (k / half_life)) for k in range(count)]
    total = sum(filled.shift(lag, fill_value=0.0) * w for lag, w in lags)
    return total / (1.0 + sum(known.shift(lag, fill_value=0.0) * w for lag, w in lags))


@pytest.mark.slow
def test_features_are_ten_times_faster_than_in_pandas(pace, capsys):
    hours = pace.pick(18_000, 1_500)
    frame = market(hours)
    pandas_frame = pd.DataFrame({c: frame[c].to_numpy() for c in frame.columns if c != "ts"})
    pandas_frame["ts"] = pd.DatetimeIndex(frame["ts"].to_numpy(), tz="UTC")
    mine = ours(frame)
    ratios = {}
    fast = pace.seconds(lambda: ours(frame), 3, time.process_time)  # both run on one core: another job costs neither
    for name, season in (("by group and apply", by_group), ("by shifts", by_shift)):
        found: list[list[pd.DataFrame]] = []
        work = partial(lambda s, out: out.append(in_pandas(pandas_frame, s)), season, found)
        ratios[name] = pace.seconds(work, 3, time.process_time) / fast
        theirs = found[0]
        for column in mine[0]:
            a, b = mine[0][column][600:], theirs[0][column].to_numpy()[600:]
            np.testing.assert_allclose(a, b, atol=1e-6, err_msg=column)
    if pace.timed:
        with capsys.disabled():
            text = ", ".join(f"pandas with season {name} {r:.1f} times that" for name, r in ratios.items())
            print(f"\nfeatures, {ASSETS} assets x {hours} h: {fast:.3f} s; {text}")
        assert ratios["by group and apply"] >= 10
        assert ratios["by shifts"] >= 1


@pytest.mark.slow
def test_training_costs_little_more_than_bare_lightgbm(pace, capsys):
    rng = np.random.default_rng(1)
    rows = pace.pick(20_000, 1_000)
    x = rng.standard_normal((rows, 50))
    y = x[:, 0] + 0.5 * rng.standard_normal(rows)
    trained: dict[str, list[lgb.Booster]] = {}

    def bare() -> None:
        settings = {**PARAMS, "objective": "quantile", "seed": 7}
        data = lgb.Dataset(x, label=y, params={"feature_pre_filter": False, "num_threads": 1, "verbose": -1})
        trained["bare"] = [lgb.train({**settings, "alpha": level}, data, num_boost_round=30) for level in QUANTILES]

    def own() -> None:
        trained["own"] = fit_quantiles(x, y, QUANTILES, 30, 7)

    plain_s, own_s = pace.seconds(bare, tries=3), pace.seconds(own, tries=3)
    np.testing.assert_array_equal(predict(trained["own"], x[:50]), predict(trained["bare"], x[:50]))
    if pace.timed:
        ratio = own_s / plain_s
        with capsys.disabled():
            print(f"\n5 quantiles on {rows:,} x 50: {own_s:.2f} s, bare lightgbm.train {plain_s:.2f} s, {ratio:.2f}")
        assert ratio <= 1.3


def test_a_live_gas_decision_takes_milliseconds(pace, tmp_path, capsys):
    lake = fill(Lake(str(tmp_path)), 60)
    cfg = ModelConfig(("ETH", "BTC"), rounds=pace.pick(120, 8))
    family, at = GasFamily(), START + timedelta(days=60)
    panel = family.build(lake, cfg, START, at)
    live = {"gas": LiveModel(family, family.fit(hide_unknown(panel, at), cfg), Corrections({}), at)}
    view = recent(lake, at)
    assert issue(view, cfg, live, at).height == 10
    took = pace.seconds(lambda: issue(view, cfg, live, at), tries=15)
    if pace.timed:
        with capsys.disabled():
            print(f"\nlive gas forecast, 10 rows, features included: {1e3 * took:.1f} ms")
        assert took < 0.1  # 20 ms is the aim on an idle machine; a busy one is several times slower
