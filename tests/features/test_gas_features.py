from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import calendar, gas
from features.panel import decision_grid, feature_columns, hour_of, on_grid, to_hours
from features.returns import stress, stress_panel

T0 = datetime(2024, 2, 26, 5, tzinfo=UTC)  # across a leap day


def series(n: int = 24 * 60, seed: int = 0) -> pl.DataFrame:
    x = np.cumsum(np.random.default_rng(seed).standard_normal(n)) * 0.05 + 3
    return decision_grid(T0, T0 + timedelta(hours=n)).collect().with_columns(pl.Series("x", x))


@given(st.lists(st.one_of(st.none(), st.floats(-3, 3)), min_size=1, max_size=60), st.integers(1, 7), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_decayed_is_the_weighted_sum_over_earlier_periods(values, period, count):
    frame = pl.DataFrame({"v": values}, schema={"v": pl.Float64})
    found = frame.select(gas.decayed(pl.col("v"), period, count, 2.0, prior=1.5))["v"].to_list()
    for t, value in enumerate(found):
        lags = [(k, t - k * period) for k in range(count) if t - k * period >= 0 and values[t - k * period] is not None]
        total = sum(0.5 ** (k / 2) * values[i] for k, i in lags)
        assert value == pytest.approx(total / (1.5 + sum(0.5 ** (k / 2) for k, _ in lags)), abs=1e-12)


@pytest.mark.parametrize("h", [1, 4, 12, 24, 48])
def test_target_features_read_the_right_hours(h):
    frame = series()
    for step in (gas.seasons(), gas.ahead(h)):
        frame = frame.with_columns(step)
    x, ts = frame["x"].to_numpy(), frame["ts"].to_list()
    days = -(-h // 24) * 24
    for t in (1200, 1311):
        row = frame.row(t, named=True)
        assert row[f"t{h}_day1"] == pytest.approx(x[t + h - days] - x[t])
        assert row[f"t{h}_week1"] == pytest.approx(x[t + h - 168] - x[t])
        assert row[f"t{h}_season"] == pytest.approx(frame["s_day"][t + h - days] - frame["s_day"][t])
        assert row[f"t{h}_hour"] == (ts[t] + timedelta(hours=h)).hour
        assert row[f"t{h}_weekday"] == (ts[t] + timedelta(hours=h)).weekday()
        window = min(h, 24)
        assert row[f"t{h}_low_day1"] == pytest.approx(min(x[t + k - 24] for k in range(1, window + 1)) - x[t])


@given(st.integers(0, 24 * 50))
@settings(max_examples=20, deadline=None)
def test_no_gas_feature_changes_when_later_prices_do(cut):
    frame = series(24 * 52)
    other = frame.with_columns(
        pl.when(pl.int_range(pl.len()) > cut).then(pl.col("x") + 5).otherwise(pl.col("x")).alias("x")
    )

    def build(f: pl.DataFrame) -> pl.DataFrame:
        for step in (gas.seasons(), *gas.classical_seasons()):
            f = f.with_columns(step)
        return f.select(*gas.level(), *gas.ahead(12), *gas.ahead(48), *gas.classical((1, 24, 48)))

    assert build(frame).head(cut + 1).equals(build(other).head(cut + 1))


def test_features_of_a_constant_price_say_nothing_moves():
    frame = series().with_columns(x=pl.lit(3.0)).with_columns(gas.seasons())
    late = frame.select(*gas.level(), *gas.ahead(24)).tail(10)
    for column in late.columns:
        if column.startswith(("over_", "under_", "change", "t24_day", "t24_week1", "t24_season", "t24_low")):
            assert late[column].abs().max() < 1e-9, column


def test_a_pure_daily_season_is_found():
    frame = series().with_columns(x=3 + 0.4 * (calendar.hour() * (2 * np.pi / 24)).cos()).with_columns(gas.seasons())
    row = frame.select(*gas.ahead(12)).tail(1).row(0, named=True)
    now = frame["x"][-1]
    later = 3 + 0.4 * np.cos(2 * np.pi * ((frame["ts"][-1].hour + 12) % 24) / 24)
    assert row["t12_day1"] == pytest.approx(later - now)
    assert row["t12_season"] == pytest.approx(later - now, rel=0.15)


def test_hour_of_week_does_not_overflow():
    frame = decision_grid(T0, T0 + timedelta(days=14)).collect().select("ts", w=calendar.hour_of_week())
    assert frame["w"].to_list() == [t.weekday() * 24 + t.hour for t in frame["ts"]]
    assert frame["w"].max() == 167


def test_rows_are_known_at_the_first_full_hour_after_them():
    times = [T0, T0 + timedelta(microseconds=1), T0 + timedelta(minutes=59, seconds=59), T0 + timedelta(hours=1)]
    frame = pl.DataFrame({"available_at": times}).select(hour_of())
    assert [t - T0 for t in frame.to_series()] == [timedelta(0), *[timedelta(hours=1)] * 3]


def test_grid_carries_at_most_the_limit():
    rows = pl.LazyFrame({"available_at": [T0, T0 + timedelta(hours=10)], "v": [1.0, 2.0]})
    grid = on_grid(decision_grid(T0, T0 + timedelta(hours=12)), to_hours(rows, ["v"]), ["v"], carry_h=3).collect()
    assert grid["v"].to_list() == [1.0] * 4 + [None] * 6 + [2.0] * 2


def test_stress_is_null_tolerant_and_measures_magnitude():
    n = 24 * 30
    rng = np.random.default_rng(3)
    ts = decision_grid(T0, T0 + timedelta(hours=n)).collect()["ts"]
    prices = pl.DataFrame({"ts": ts, "close": 100 * np.exp(np.cumsum(rng.standard_normal(n) * 0.01))}).with_columns(
        pl.lit("s").alias("source"), pl.lit("ETH").alias("asset"), pl.lit(3600, pl.Int64).alias("step"),
        (pl.col("ts") + timedelta(hours=1)).alias("available_at"),
        *(pl.lit(None, pl.Float64).alias(c) for c in ("high", "low", "volume")),
    )  # fmt: skip
    span = (T0 + timedelta(hours=1), T0 + timedelta(hours=n + 1))
    panel = stress_panel(prices.lazy(), (("native", "ETH"), ("market", "NONE")), span, 3600).collect()
    assert panel["native_rv24"].tail(100).mean() == pytest.approx(np.log(0.01), abs=0.2)
    assert panel["native_volume1"].null_count() == n
    assert panel["market_rv24"].null_count() == 0 or panel["market_ret1"].null_count() == n
    assert len(stress("a")) == len([c for c in panel.columns if c.startswith("native_")])


def test_feature_columns_leave_out_keys_labels_and_helpers():
    frame = pl.DataFrame({"key": [], "ts": [], "a": [], "y|gas|3600": [], "b|now_gwei": []})
    assert feature_columns(frame) == ["a"]
