"""Every window against its plain definition, and the law all features stand on: a row is the same asked alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.bars import averaged, dense, on_grid, summed, times
from features.panel import Columns, flat, hour_of, hours_between, stacked, whole_hour
from features.windows import (
    carried,
    decayed,
    highest,
    lag,
    lags,
    lowest,
    mean,
    mean_known,
    median,
    memory_h,
    since,
    spread,
    weighted,
)
from lake.errors import ModelError

HOUR_US = 3_600_000_000
T0 = datetime(2024, 1, 1, tzinfo=UTC)


def series(n: int, keys: int, seed: int, holes: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, keys))
    x[rng.random((n, keys)) < holes] = np.nan
    return x


inputs = st.builds(series, st.integers(1, 80), st.integers(1, 3), st.integers(0, 999), st.sampled_from([0.0, 0.2, 0.9]))
Plain = Callable[[np.ndarray], float]
PLAIN: dict[str, tuple[Callable, Plain, int]] = {
    "mean": (mean, np.mean, 1),
    "lowest": (lowest, np.min, 1),
    "highest": (highest, np.max, 1),
    "median": (median, np.median, 1),
    "spread": (spread, lambda v: np.std(v, ddof=1), 2),
}


@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("name", PLAIN)
@given(x=inputs, hours=st.integers(1, 30), least=st.integers(1, 5))
def test_a_window_is_its_plain_definition_over_what_is_known(name, x, hours, least):
    window, plain, fewest = PLAIN[name]
    rows = np.arange(len(x))
    found = window(x, rows, hours, max(least, fewest))
    for i in rows:
        for k in range(x.shape[1]):
            part = x[max(i - hours + 1, 0) : i + 1, k]
            part = part[~np.isnan(part)]
            if len(part) < max(least, fewest):
                assert np.isnan(found[i, k])
            else:
                assert found[i, k] == pytest.approx(plain(part), rel=1e-9, abs=1e-12)


ALONE: dict[str, Callable] = {
    "mean": lambda x, rows: mean(x, rows, 24),
    "decayed": lambda x, rows: decayed(x, rows, 4.0),
    "lowest": lambda x, rows: lowest(x, rows, 24),
    "highest": lambda x, rows: highest(x, rows, 24),
    "median": lambda x, rows: median(x, rows, 24),
    "spread": lambda x, rows: spread(x, rows, 24),
    "lag": lambda x, rows: lag(x, rows, 5),
    "weighted": lambda x, rows: weighted(x, rows, np.array([3.0, 2.0, 1.0]), step=7, prior=1.0),
}


@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("name", ALONE)
@given(x=inputs, data=st.data())
def test_a_row_asked_alone_equals_the_batch_to_the_bit_and_nothing_later_counts(name, x, data):
    window = ALONE[name]
    batch = window(x, np.arange(len(x)))
    row = data.draw(st.integers(0, len(x) - 1))
    alone = window(x, np.array([row]))[0]
    assert np.array_equal(alone, batch[row], equal_nan=True)
    later = x.copy()
    later[row + 1 :] = 1e9
    assert np.array_equal(window(later, np.array([row]))[0], alone, equal_nan=True)


@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("name", ["mean", "decayed", "lowest", "highest", "median", "spread"])
@given(x=inputs, before=st.integers(1, 40))
def test_rows_before_the_window_change_nothing(name, x, before):
    window = ALONE[name]
    row = len(x) - 1
    reach = max(24, 2 * 12, memory_h(4.0))
    older = np.concatenate([np.full((before, x.shape[1]), 7.0), x])
    if row >= reach:
        assert np.array_equal(window(older, np.array([row + before])), window(x, np.array([row])), equal_nan=True)


@given(x=inputs, prior=st.floats(0.0, 10.0))
def test_a_prior_pulls_towards_zero(x, prior):
    rows = np.arange(len(x))
    weights = np.ones(5)
    plain, pulled = weighted(x, rows, weights), weighted(x, rows, weights, prior=prior)
    known = ~np.isnan(plain)
    assert (np.abs(pulled[known]) <= np.abs(plain[known]) + 1e-12).all()
    assert np.array_equal(np.isnan(pulled), np.isnan(plain))


@given(x=inputs, limit=st.integers(0, 10))
def test_a_value_is_carried_so_far_and_no_further(x, limit):
    found = carried(x, limit)
    for k in range(x.shape[1]):
        age, last = limit + 1, np.nan
        for t in range(len(x)):
            age, last = (0, x[t, k]) if not np.isnan(x[t, k]) else (age + 1, last)
            expected = last if age <= limit else np.nan
            assert found[t, k] == expected or (np.isnan(found[t, k]) and np.isnan(expected))


@given(x=inputs, hours=st.lists(st.integers(0, 20), min_size=1, max_size=4))
def test_several_lags_are_each_one_of_them(x, hours):
    rows = np.arange(len(x))
    found = lags(x, rows, np.array(hours))
    for h, one in zip(hours, found, strict=True):
        assert np.array_equal(one, lag(x, rows, h), equal_nan=True)


@given(x=inputs)
def test_the_mean_over_keys_counts_what_is_known(x):
    found = mean_known(x)[:, 0]
    for i, row in enumerate(x):
        known = row[~np.isnan(row)]
        assert found[i] == pytest.approx(known.mean()) if len(known) else np.isnan(found[i])


def test_rows_back_to_a_look_back():
    assert since(np.array([5, 9]), 3).tolist() == [2, 3, 4, 5, 6, 7, 8, 9]
    assert since(np.array([1]), 3).tolist() == [0, 1]


@given(minutes=st.lists(st.integers(-300, 3_000), max_size=30), count=st.integers(0, 40))
def test_only_times_on_the_grid_get_a_row(minutes, count):
    at = np.array([round(T0.timestamp()) * 1_000_000 + m * 60_000_000 for m in minutes], dtype=np.int64)
    for m, row in zip(minutes, on_grid(at, T0, count), strict=True):
        assert row == (m // 60 if m % 60 == 0 and 0 <= m // 60 < count else -1)


@given(rows=st.lists(st.tuples(st.integers(-1, 5), st.integers(-1, 2), st.floats(-10, 10)), max_size=30))
def test_of_several_values_at_one_place_the_last_stands_and_sums_add_all(rows):
    row, column = (np.array([r[i] for r in rows], dtype=np.int64) for i in (0, 1))
    value = np.array([r[2] for r in rows], dtype=np.float64)
    (last,), total = dense(row, column, (6, 3), [value]), summed(row, column, (6, 3), value)
    for i in range(6):
        for k in range(3):
            own = [v for r, c, v in rows if (r, c) == (i, k)]
            assert last[i, k] == own[-1] if own else np.isnan(last[i, k])
            assert total[i, k] == pytest.approx(sum(own), abs=1e-9) if own else np.isnan(total[i, k])


@given(rows=st.lists(st.tuples(st.integers(-1, 5), st.floats(-10, 10) | st.just(float("nan"))), max_size=30))
def test_averages_of_an_hour_leave_out_what_is_unknown(rows):
    row = np.array([r[0] for r in rows], dtype=np.int64)
    found = averaged(row, 6, np.array([r[1] for r in rows], dtype=np.float64))[:, 0]
    for i in range(6):
        own = [v for r, v in rows if r == i and not np.isnan(v)]
        assert found[i] == pytest.approx(np.mean(own), abs=1e-9) if own else np.isnan(found[i])


@given(seconds=st.integers(0, 10**6))
def test_a_row_is_known_at_the_first_full_hour_after_it(seconds):
    moment = T0 + timedelta(seconds=seconds)
    up = whole_hour(moment)
    assert 0 <= (up - moment).total_seconds() < 3_600
    assert hour_of(np.array([round(moment.timestamp()) * 1_000_000]))[0] == round(up.timestamp()) * 1_000_000
    assert hours_between(T0, up) == -(-seconds // 3_600)
    assert hours_between(up, T0 - timedelta(hours=1)) == 0


def test_columns_are_joined_filtered_and_missed_by_name():
    above = flat(["a", "b"], times(T0, np.arange(2)), {"x": np.array([[1.0, 2.0], [3.0, 4.0]])})
    below = flat(["c"], times(T0, np.arange(1)), {"y": np.array([[5.0]])})
    both = stacked(above, below)
    assert both.key.tolist() == ["a", "b", "a", "b", "c"]
    assert both.ts.tolist() == [*times(T0, np.array([0, 0, 1, 1])), *times(T0, np.array([0]))]
    assert np.array_equal(both.column("x"), [1.0, 2.0, 3.0, 4.0, np.nan], equal_nan=True)
    kept = both.filter(both.key == "c")
    assert (kept.height, kept.column("y").tolist()) == (1, [5.0])
    assert kept.extended({"z": np.array([9.0])}).matrix(["y", "z"]).tolist() == [[5.0, 9.0]]
    assert Columns.of(both.frame()).matrix(["y"])[-1, 0] == 5.0
    for columns in (both, Columns.of(both.frame())):
        with pytest.raises(ModelError, match=r"lacks features the model was trained on: \['nope'\]"):
            columns.matrix(["x", "nope"])
    assert flat(["a|b", "a"], times(T0, np.arange(1)), {}).pairs().tolist() == [True, False]
