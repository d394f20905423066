"""A forest answers as LightGBM does, to the bit, whatever is missing, zero or beyond anything seen."""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import ModelError
from models.boosting.forest import Forest

SPECIAL = (np.nan, 0.0, -0.0, 1e-36, -1e-36, 2e-35, np.inf, -np.inf, 1e300)


def spoilt(rng, n, k, share):
    """Features with repeated values, so that thresholds are hit exactly, and a share of special ones."""
    x = np.round(rng.standard_normal((n, k)), 1)
    x[rng.random((n, k)) < share] = rng.choice(SPECIAL)
    return x


def grown(rng, x, rounds, **params):
    known = np.where(np.isfinite(x), np.clip(x, -5, 5), 0.0)
    y = known @ rng.standard_normal(x.shape[1]) + np.isnan(x).sum(axis=1) + rng.standard_normal(len(x))
    settings = {"num_leaves": 9, "min_data_in_leaf": 3, "verbose": -1, "num_threads": 1, **params}
    if settings.get("objective") == "gamma":
        y = np.exp(y / 4)
    return lgb.train(settings, lgb.Dataset(x, label=y, params=settings), num_boost_round=rounds)


@given(st.integers(0, 10_000), st.floats(0, 0.5), st.booleans(), st.booleans(), st.sampled_from(["quantile", "gamma"]))
@settings(max_examples=60, deadline=None)
def test_it_equals_lightgbm_to_the_bit(seed, share, use_missing, zero_as_missing, objective):
    rng = np.random.default_rng(seed)
    x = spoilt(rng, 150, 4, share)
    kind = {"use_missing": use_missing, "zero_as_missing": zero_as_missing, "objective": objective}
    boosters = [grown(rng, x, rounds, **kind) for rounds in (1, 7, 12)]
    ahead = np.concatenate([x[:40], spoilt(rng, 60, 4, 0.3), [[v] * 4 for v in SPECIAL]])
    wanted = np.column_stack([b.predict(ahead, raw_score=True, num_threads=1) for b in boosters])
    np.testing.assert_array_equal(Forest.of(boosters).predict(ahead), wanted)


def test_it_equals_lightgbm_for_any_single_number_near_a_threshold():
    rng = np.random.default_rng(3)
    x = np.round(rng.standard_normal((200, 1)), 1)
    booster = grown(rng, x, 5, objective="quantile")
    forest = Forest.of([booster])
    edges = np.unique(forest.threshold)
    near = np.concatenate([np.nextafter(edges, -np.inf), edges, np.nextafter(edges, np.inf)])[:, None]
    np.testing.assert_array_equal(forest.predict(near)[:, 0], booster.predict(near, num_threads=1))


def test_trees_that_never_split_and_no_boosters_at_all():
    x = np.zeros((30, 2))
    booster = lgb.train({"objective": "quantile", "verbose": -1}, lgb.Dataset(x, label=np.arange(30.0)), 3)
    np.testing.assert_array_equal(Forest.of([booster, booster]).predict(x)[:, 1], booster.predict(x))
    assert Forest.of([]).predict(np.empty((3, 0))).shape == (3, 0)


def test_a_matrix_of_another_width_is_refused_and_so_is_a_forest_of_two():
    rng = np.random.default_rng(0)
    two, three = (grown(rng, spoilt(rng, 50, k, 0.1), 2, objective="quantile") for k in (2, 3))
    with pytest.raises(ModelError, match="2 features, 3 were given"):
        Forest.of([two]).predict(np.zeros((1, 3)))
    with pytest.raises(ModelError, match="same features"):
        Forest.of([two, three])


def test_categories_are_refused():
    x = np.repeat(np.arange(6.0), 40)[:, None]
    params = {"objective": "quantile", "verbose": -1, "min_data_in_leaf": 3, "min_data_per_group": 3, "cat_smooth": 0.1}
    data = lgb.Dataset(x, label=(x[:, 0] % 2) + np.arange(240) / 1e3, categorical_feature=[0], params=params)
    with pytest.raises(ModelError, match="categories"):
        Forest.of([lgb.train(params, data, 3)])
