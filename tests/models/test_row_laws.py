"""Laws of forecast rows as arrays, of a shrunk mean, and of the corrections against a plain second writing of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import ModelError
from models.boosting.forest import Forest
from models.drift.mean import BLOCKS, Location, fit_location
from models.evaluation import calibrate as calibration
from models.evaluation.calibrate import Corrections, calibrate
from models.evaluation.labels import hide_unknown, label_columns, melt, parse_label
from models.forecast_rows import ForecastArrays, RowBuffer, joined
from models.forecast_schema import FORECAST_COLUMNS, QUANTILES

AT = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()) * 10**6
numbers = st.floats(-1e6, 1e6) | st.just(float("nan"))
Row = tuple[str, str, int, list[float], float, str | None]
rows = st.lists(
    st.tuples(
        st.sampled_from(["gas", "drift"]), st.sampled_from(["ETH", "BTC", "a|b"]), st.sampled_from([3_600, 86_400]),
        st.lists(numbers, min_size=5, max_size=5), numbers, st.none() | st.text(min_size=1, max_size=8),
    ),
    max_size=8,
)  # fmt: skip


def arrays(given_rows: list[Row]) -> ForecastArrays:
    n = len(given_rows)
    columns = list(zip(*given_rows, strict=True)) if given_rows else [[]] * 6
    return ForecastArrays(
        np.array(columns[0], dtype=object), np.array(columns[1], dtype=object),
        AT + 10**6 * np.arange(n, dtype=np.int64), np.array(columns[2], dtype=np.int64),
        np.array(columns[3], dtype=np.float64).reshape(n, 5), np.array(columns[4], dtype=np.float64),
        np.array(["v1"] * n, dtype=object), np.array(columns[5], dtype=object),
    )  # fmt: skip


def same(a: ForecastArrays, b: ForecastArrays) -> bool:
    texts = all(getattr(a, n).tolist() == getattr(b, n).tolist() for n in ("target", "key", "version", "reason"))
    ints = np.array_equal(a.issued_at, b.issued_at) and np.array_equal(a.horizon_s, b.horizon_s)
    floats = all(np.array_equal(getattr(a, n), getattr(b, n), equal_nan=True) for n in ("quantiles", "mean"))
    return texts and ints and floats


@given(made=rows)
def test_rows_are_the_same_as_arrays_and_as_a_frame(made):
    held = arrays(made)
    frame = held.frame()
    assert frame.columns == list(FORECAST_COLUMNS)
    assert same(ForecastArrays.of(frame), held)
    assert held.height == frame.height == len(made)
    assert held.series == [(t, k, h) for t, k, h, *_ in made]
    assert frame["abstain"].to_list() == [reason is not None for *_, reason in made]
    assert not frame.select(pl.col("mean").is_nan().any()).item()


@given(made=rows, data=st.data())
def test_what_is_parted_and_joined_again_is_what_it_was(made, data):
    held = arrays(made)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(made), max_size=len(made))), dtype=bool)
    kept, left = held.where(keep), held.where(~keep)
    assert kept.height + left.height == held.height
    order = np.concatenate([np.flatnonzero(keep), np.flatnonzero(~keep)])
    back = joined([kept, left])
    assert back.mean.tolist() == pytest.approx(held.mean[order].tolist(), nan_ok=True)
    assert joined([]).height == 0
    assert same(joined([held]), held)


@given(reasons=st.lists(st.text(min_size=1, max_size=8), max_size=5))
def test_a_silent_row_has_a_reason_and_no_number(reasons):
    series = [("gas", f"k{i}", 3_600) for i in range(len(reasons))]
    frame = ForecastArrays.silent(series, AT, "v1", reasons).frame()
    assert frame["abstain"].all()
    assert frame["reason"].to_list() == reasons
    assert frame.select("q05", "q50", "q95", "mean").null_count().sum_horizontal().sum() == 4 * len(reasons)


@given(made=rows)
def test_a_buffer_leaves_out_what_is_unknown_and_crosses_no_quantiles(made):
    buffer = RowBuffer("v2")
    for i, (target, key, horizon, quantiles, mean, _) in enumerate(made):
        bare = i % 3 == 2
        buffer.add(
            np.array([key], dtype=object), np.array([AT], dtype=np.int64), target, horizon, np.array([mean]),
            None if bare else np.array([quantiles]),
        )  # fmt: skip
    found = buffer.forecasts()
    known = [r for i, r in enumerate(made) if np.isfinite(r[4]) and (i % 3 == 2 or np.isfinite(np.array(r[3])).all())]
    assert found.series == [(t, k, h) for t, k, h, *_ in known]
    assert (np.diff(found.quantiles, axis=1)[np.isfinite(found.quantiles).all(axis=1)] >= 0).all()
    assert set(found.version.tolist()) <= {"v2"}
    assert all(r is None for r in found.reason)


@settings(max_examples=15)
@given(horizons=st.lists(st.sampled_from([1, 6, 24]), unique=True, min_size=1), cut=st.integers(0, 60))
def test_a_label_is_hidden_until_its_horizon_has_passed_and_melts_to_the_rest(horizons, cut):
    start = datetime(2024, 1, 1, tzinfo=UTC)
    ts = [start + timedelta(hours=i) for i in range(48)]
    panel = pl.DataFrame({"ts": ts, "key": "ETH"}, schema_overrides={"ts": pl.Datetime("us", "UTC")}).with_columns(
        *(pl.Series(f"y|gas|{h * 3_600}", np.arange(48.0) + h) for h in horizons)
    )
    assert [parse_label(c) for c in label_columns(panel)] == [("gas", h * 3_600) for h in horizons]
    known_at = start + timedelta(hours=cut)
    rest = melt(hide_unknown(panel, known_at))
    for h in horizons:
        own = rest.filter(horizon_s=h * 3_600)
        expected = [t for t in ts if t + timedelta(hours=h) <= known_at]
        assert own["issued_at"].to_list() == expected
        assert own["y"].to_list() == [float(i + h) for i in range(len(expected))]


def test_a_mean_is_trusted_only_where_it_was_worth_something_out_of_sample():
    rng = np.random.default_rng(5)
    n = 400 * BLOCKS
    x, hour = rng.standard_normal((n, 3)), np.arange(n)
    beta = np.array([0.4, 0.0, -0.2])
    good = fit_location(x, x @ beta + rng.standard_normal(n), hour, 1)
    assert 0.8 < good.trust <= 1.0
    assert good.beta == pytest.approx(beta, abs=0.05)
    noise = [fit_location(x, rng.standard_normal(n), hour, 1).trust for _ in range(12)]
    assert np.mean(np.array(noise) > 0) <= 0.35
    assert max(noise) < 0.8
    unknown = x.copy()
    unknown[:, 1] = np.nan
    assert good.mean(unknown) == pytest.approx(good.trust * (x[:, [0, 2]] @ good.beta[[0, 2]]))
    assert Location.of(good.plain()) == Location(pytest.approx(good.beta), good.trust)


def test_a_short_past_has_no_mean_and_outcomes_inside_the_horizon_are_not_learnt_from():
    rng = np.random.default_rng(6)
    short = fit_location(rng.standard_normal((999, 2)), rng.standard_normal(999), np.arange(999), 1)
    assert (short.trust, short.mean(np.ones((4, 2))).tolist()) == (0.0, [0.0] * 4)
    n = 200 * BLOCKS
    x, z = rng.standard_normal((n, 1)), rng.standard_normal(n)
    assert fit_location(x, x[:, 0] + z, np.arange(n), n).trust == 0.0


def naive(ts: np.ndarray, due: int, q: np.ndarray, width: np.ndarray, y: np.ndarray, tau: float) -> list[float]:
    """Plain split conformal of the last WINDOW scores, averaged with no correction at all by their past losses."""
    steps = np.asarray(calibration.STEPS) / np.sqrt(max(due / float(np.median(np.diff(ts))), 1.0))
    rate = calibration._RATE if 0.1 < tau < 0.9 else calibration._RATE_OUTER
    levels, losses = [tau] * len(steps), np.zeros(len(steps) + 1)
    issued: list[list[float]] = []
    scores: list[float] = []
    out: list[float] = []
    done = 0
    for i in range(len(ts)):
        while done < i and ts[done] + due <= ts[i]:
            j, done = done, done + 1
            if not np.isfinite(y[j]):
                continue
            for e, said in enumerate(issued[j]):
                gap = (y[j] - said) / width[j]
                losses[e] = calibration._FORGET * losses[e] + max(tau * gap, (tau - 1) * gap)
                if e < len(steps):
                    levels[e] = float(np.clip(levels[e] + steps[e] * (tau - (y[j] <= said)), -0.2, 1.2))
            scores.append((y[j] - q[j]) / width[j])
        held = sorted(scores[-calibration.WINDOW :])
        said_now = []
        for level in levels:
            if len(held) < calibration.MIN_SCORES:
                said_now.append(q[i])
                continue
            n = len(held)
            at = level * (n + 1) - 1
            middle = held[n // 2]
            if at <= 0:
                value = held[0] + at / n * (middle - held[0])
            elif at >= n - 1:
                value = held[-1] + (at - (n - 1)) / n * (held[-1] - middle)
            else:
                value = float(np.interp(at, np.arange(n), held))
            said_now.append(q[i] + width[i] * value)
        issued.append([*said_now, q[i]])
        weight = np.exp(-rate * (losses - losses.min()))
        out.append(float(weight @ np.array(issued[-1]) / weight.sum()))
    return out


@pytest.mark.parametrize(("due_h", "seed"), [(1, 0), (6, 1), (24, 2)])
def test_corrections_are_those_of_a_plain_second_writing(due_h, seed):
    rng = np.random.default_rng(seed)
    n = 260
    ts = np.arange(n) * 3_600
    centre = rng.standard_normal(n).cumsum() * 0.1
    q = centre[:, None] + 0.5 * np.array([-1.6, -0.7, 0.0, 0.7, 1.6])
    y = centre + 0.3 + rng.standard_normal(n)
    y[rng.random(n) < 0.1] = np.nan
    width = q[:, -1] - q[:, 0]
    expected = np.sort([naive(ts, due_h * 3_600, q[:, k], width, y, t) for k, t in enumerate(QUANTILES)], axis=0).T
    assert calibrate(ts, due_h * 3_600, q, y) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(known=st.integers(0, 40))
def test_an_outcome_not_known_yet_changes_nothing_that_was_issued(known):
    rng = np.random.default_rng(3)
    n, due = 140, 6 * 3_600
    ts = np.arange(n) * 3_600
    q = np.tile(np.array([-1.0, -0.5, 0.0, 0.5, 1.0]), (n, 1))
    y = rng.standard_normal(n) + 1.0
    cut = 90 + known
    other = y.copy()
    other[cut:] = 50.0
    first, second = calibrate(ts, due, q, y), calibrate(ts, due, q, other)
    assert np.array_equal(first[: cut + 6], second[: cut + 6])
    assert (np.diff(first, axis=1) >= 0).all()


def test_corrections_without_an_offset_leave_rows_as_they_are():
    held = arrays([("gas", "ETH", 3_600, [1.0, 2.0, 3.0, 4.0, 5.0], 3.0, None)])
    assert Corrections({}).apply(held, ()) is held
    assert Corrections({("gas", "ETH", 3_600): (1.0,) * 5}).apply(held, ()) is held, "a target nobody corrects"


def test_boosters_that_do_not_fit_one_forest_are_refused():
    import lightgbm as lgb

    rng = np.random.default_rng(0)

    def grown(width: int, **more: object) -> lgb.Booster:
        data = lgb.Dataset(rng.integers(0, 5, (200, width)).astype(float), rng.standard_normal(200), **more)
        return lgb.train({"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5, "min_data_per_group": 1}, data, 3)

    with pytest.raises(ModelError, match=r"boosters of one forest need the same features, these have \[2, 3\]"):
        Forest.of([grown(2), grown(3)])
    with pytest.raises(ModelError, match="splits on categories, which a forest does not know; train on numbers"):
        Forest.of([grown(2, categorical_feature=[0, 1])])
    forest = Forest.of([grown(2), grown(2)])
    with pytest.raises(ModelError, match="was trained on 2 features, 3 were given"):
        forest.predict(np.zeros((1, 3)))
    x = rng.standard_normal((50, 2)) * 3
    assert np.array_equal(forest.predict(x), np.column_stack([b.predict(x) for b in forest.boosters]))
