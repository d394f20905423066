import itertools
from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from models.base import label
from models.config import ModelConfig
from models.evaluation.splits import folds, prediction_rows, training_rows

FIRST = datetime(2022, 1, 1, tzinfo=UTC)


def config(**given) -> ModelConfig:
    return ModelConfig(("ETH", "BTC"), **given)


@given(
    st.integers(1, 30),
    st.integers(0, 40),
    st.integers(30, 200),
    st.integers(1, 90),
    st.integers(0, 48),
    st.sampled_from([None, 30, 90]),
)
def test_folds_cover_the_range_once_and_never_overlap(refit, warmup, after, days, embargo, window):
    cfg = config(refit_every_days=refit, warmup_days=warmup, embargo_h=embargo, train_window_days=window)
    start = FIRST + timedelta(days=after)
    end = start + timedelta(days=days)
    plan = folds(cfg, start, end, FIRST)
    for a, b in itertools.pairwise(plan):
        assert a.end == b.start
    for fold in plan:
        assert fold.known_at == fold.start - timedelta(hours=embargo)
        assert fold.start < fold.end
        assert fold.train_start is None or fold.known_at - fold.train_start == timedelta(days=window)
    if plan:
        assert plan[-1].end == end
    if after >= refit + cfg.min_train_days + 3:
        assert plan[0].start <= start


@given(st.integers(0, 20), st.integers(40, 60))
def test_the_fold_of_an_hour_does_not_depend_on_the_range_asked_for(shift, after):
    cfg = config(warmup_days=0)
    end = FIRST + timedelta(days=150)
    one = {f.start for f in folds(cfg, FIRST + timedelta(days=after), end, FIRST)}
    two = {f.start for f in folds(cfg, FIRST + timedelta(days=after + shift), end, FIRST)}
    assert two <= one


def test_training_never_sees_a_label_that_completes_after_the_fold_begins():
    ts = pl.datetime_range(FIRST, FIRST + timedelta(days=60), "1h", time_unit="us", time_zone="UTC", eager=True)
    hours = [1, 24]
    panel = pl.DataFrame({"key": ["1"] * len(ts), "ts": ts}).with_columns(
        (pl.col("ts") + timedelta(hours=h)).dt.epoch("us").cast(pl.Float64).alias(label("gas", h * 3600)) for h in hours
    )  # a label says when it completes
    cfg = config(embargo_h=3)
    for fold in folds(cfg, FIRST + timedelta(days=40), FIRST + timedelta(days=60), FIRST):
        known = training_rows(panel, fold)
        limit = (fold.start - timedelta(hours=3)).timestamp() * 1e6
        for h in hours:
            values = known[label("gas", h * 3600)].drop_nulls()
            assert values.max() == limit
        ahead = prediction_rows(panel, fold)
        assert ahead["ts"].min() == fold.start
        assert ahead["ts"].max() < fold.end


def test_a_rolling_window_drops_old_rows():
    ts = pl.datetime_range(FIRST, FIRST + timedelta(days=100), "1h", time_unit="us", time_zone="UTC", eager=True)
    panel = pl.DataFrame({"key": ["1"] * len(ts), "ts": ts, label("gas", 3600): 1.0})
    cfg = config(train_window_days=30)
    fold = folds(cfg, FIRST + timedelta(days=80), FIRST + timedelta(days=90), FIRST)[-1]
    assert training_rows(panel, fold)["ts"].min() == fold.train_start
