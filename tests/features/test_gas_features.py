from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import calendar, gas
from features.bars import averaged, on_grid, read_bars
from features.panel import feature_columns, hour_of, whole_hour
from features.records import microseconds, moment
from features.returns import STRESS_LOOKBACK_H, stress
from features.windows import carried
from lake.store import Lake

T0 = datetime(2024, 2, 26, 5, tzinfo=UTC)  # across a leap day
HOURS = int(T0.timestamp()) // 3600


def price(x: np.ndarray) -> gas.Price:
    return gas.Price(np.asarray(x, dtype=float)[:, None], HOURS + np.arange(len(x)))


def walk(n: int = 24 * 60, seed: int = 0) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).standard_normal(n)) * 0.05 + 3


def described(p: gas.Price, *horizons: int, rows: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """All features (n,) by name."""
    rows = np.arange(len(p.x)) if rows is None else rows
    seasons = gas.seasons(p, rows)
    found = {**gas.level(p, rows), **gas.classical(p, rows, (1, 24, 48))}
    found |= {f"s_{name}": seasons.at(name, rows) for name in ("day", "fast", "week")}
    found |= gas.ahead(p, rows, horizons, seasons)
    return {name: x[:, 0] for name, x in found.items()}


@given(st.lists(st.one_of(st.none(), st.floats(-3, 3)), min_size=1, max_size=60), st.integers(1, 7), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_a_season_is_the_weighted_sum_over_earlier_periods(values, period, count):
    x = np.array([np.nan if v is None else v for v in values])[:, None]
    found = gas.season(x, np.arange(len(x)), period, count, 2.0, prior=1.5)[:, 0]
    for t, value in enumerate(found):
        lags = [(k, t - k * period) for k in range(count) if t - k * period >= 0 and values[t - k * period] is not None]
        total = sum(0.5 ** (k / 2) * values[i] for k, i in lags)
        assert value == pytest.approx(total / (1.5 + sum(0.5 ** (k / 2) for k, _ in lags)), abs=1e-12)


@pytest.mark.parametrize("h", [1, 4, 12, 24, 48])
def test_target_features_read_the_right_hours(h):
    x = walk()
    f = described(price(x), h)
    ts = [T0 + timedelta(hours=i) for i in range(len(x))]
    days = -(-h // 24) * 24
    for t in (1200, 1311):
        assert f[f"t{h}_day1"][t] == pytest.approx(x[t + h - days] - x[t])
        assert f[f"t{h}_day3mean"][t] == pytest.approx(np.mean([x[t + h - days - 24 * k] for k in range(3)]) - x[t])
        assert f[f"t{h}_week1"][t] == pytest.approx(x[t + h - 168] - x[t])
        assert f[f"t{h}_season"][t] == pytest.approx(f["s_day"][t + h - days] - f["s_day"][t])
        assert f[f"t{h}_season_week"][t] == pytest.approx(f["s_week"][t + h - 168] - f["s_week"][t])
        assert f[f"t{h}_hour"][t] == (ts[t] + timedelta(hours=h)).hour
        assert f[f"t{h}_weekday"][t] == (ts[t] + timedelta(hours=h)).weekday()
        window = min(h, 24)
        assert f[f"t{h}_low_day1"][t] == pytest.approx(min(x[t + k - 24] for k in range(1, window + 1)) - x[t])


@pytest.mark.parametrize("hole", [False, True])
def test_a_window_of_the_longest_look_back_gives_the_same_features_to_the_bit(hole):
    x = walk(24 * 90)
    if hole:
        x[np.arange(len(x)) % 31 < 2] = np.nan
    t = 24 * 89
    whole = described(price(x), 1, 12, 48)
    low = t - gas.LOOKBACK_H
    part = gas.Price(x[low : t + 1, None], HOURS + np.arange(low, t + 1))
    one = described(part, 1, 12, 48, rows=np.array([gas.LOOKBACK_H]))
    assert set(one) == set(whole)
    for name, value in one.items():
        np.testing.assert_array_equal(value[0], whole[name][t], err_msg=name)


@given(st.integers(0, 24 * 50))
@settings(max_examples=20, deadline=None)
def test_no_gas_feature_changes_when_later_prices_do(cut):
    x = walk(24 * 52)
    other = np.where(np.arange(len(x)) > cut, x + 5, x)
    before, after = described(price(x), 12, 48), described(price(other), 12, 48)
    for name, values in before.items():
        np.testing.assert_array_equal(values[: cut + 1], after[name][: cut + 1], err_msg=name)
    assert not np.array_equal(before["s_day"], after["s_day"])


def test_features_of_a_constant_price_say_nothing_moves():
    late = described(price(np.full(24 * 60, 3.0)), 24)
    for name, values in late.items():
        if name.startswith(("over_", "under_", "change", "t24_day", "t24_week1", "t24_season", "t24_low")):
            assert np.abs(values[-10:]).max() < 1e-9, name


def test_a_pure_daily_season_is_found():
    hours = HOURS + np.arange(24 * 60)
    x = 3 + 0.4 * np.cos(calendar.hour(hours) * (2 * np.pi / 24))
    f = described(price(x), 12)
    later = 3 + 0.4 * np.cos(2 * np.pi * ((hours[-1] + 12) % 24) / 24)
    assert f["t12_day1"][-1] == pytest.approx(later - x[-1])
    assert f["t12_season"][-1] == pytest.approx(later - x[-1], rel=0.15)


def test_the_calendar_agrees_with_the_standard_library():
    moments = [T0 + timedelta(hours=i) for i in range(24 * 14)]
    hours = HOURS + np.arange(len(moments))
    assert calendar.hour(hours).tolist() == [t.hour for t in moments]
    assert calendar.weekday(hours).tolist() == [t.weekday() for t in moments]


def test_rows_are_known_at_the_first_full_hour_after_them():
    times = [T0, T0 + timedelta(microseconds=1), T0 + timedelta(minutes=59, seconds=59), T0 + timedelta(hours=1)]
    found = hour_of(np.array([microseconds(t) for t in times]))
    assert [moment(m) - T0 for m in found.tolist()] == [timedelta(0), *[timedelta(hours=1)] * 3]


def test_rows_of_one_hour_are_averaged():
    at = np.array([microseconds(T0 - timedelta(minutes=m)) for m in (0, 20, 70, 300)])
    row = on_grid(hour_of(at), T0 - timedelta(hours=2), 3)
    assert row.tolist() == [2, 2, 1, -1]
    found = averaged(row, 3, np.array([1.0, 2.0, 5.0, 9.0]))
    np.testing.assert_array_equal(found[:, 0], [np.nan, 5.0, 1.5])
    np.testing.assert_array_equal(averaged(row, 3, np.array([1.0, np.nan, np.nan, 9.0]))[:, 0], [np.nan, np.nan, 1.0])
    assert whole_hour(T0 - timedelta(minutes=1)) == whole_hour(T0) == T0


def test_values_are_carried_at_most_the_limit():
    x = np.array([[np.nan], [1.0], *[[np.nan]] * 5, [2.0]])
    np.testing.assert_array_equal(carried(x, 3)[:, 0], [np.nan, 1, 1, 1, 1, np.nan, np.nan, 2])


def test_stress_is_null_tolerant_and_measures_magnitude(lake: Lake):
    n = 24 * 30
    rng = np.random.default_rng(3)
    ts = pl.datetime_range(T0, T0 + timedelta(hours=n - 1), "1h", time_unit="us", eager=True)
    lake.write(
        "prices",
        pl.DataFrame({"ts": ts, "close": 100 * np.exp(np.cumsum(rng.standard_normal(n) * 0.01))}).with_columns(
            pl.lit("s").alias("source"), pl.lit("ETH").alias("asset"), pl.lit(3600, pl.Int64).alias("step"),
            (pl.col("ts") + timedelta(hours=1)).alias("available_at"),
        ),
    )  # fmt: skip
    bars = read_bars(lake, ["ETH", "NONE"], T0 + timedelta(hours=1), T0 + timedelta(hours=n + 1))
    rows = np.arange(n)
    eth, none = stress("native", bars, "ETH", rows), stress("market", bars, "NONE", rows)
    assert eth["native_rv24"][-100:].mean() == pytest.approx(np.log(0.01), abs=0.2)
    assert np.isnan(eth["native_volume1"]).all()
    assert all(np.isnan(x).all() for x in none.values())
    tail = read_bars(lake, ["ETH"], T0 + timedelta(hours=n - STRESS_LOOKBACK_H), T0 + timedelta(hours=n + 1))
    for name, values in stress("native", tail, "ETH", np.array([STRESS_LOOKBACK_H])).items():
        np.testing.assert_array_equal(values[0], eth[name][-1], err_msg=name)


def test_feature_columns_leave_out_keys_labels_and_helpers():
    frame = pl.DataFrame({"key": [], "ts": [], "a": [], "y|gas|3600": [], "b|now_gwei": []})
    assert feature_columns(frame) == ["a"]
