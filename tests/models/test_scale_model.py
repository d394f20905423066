"""The scale of moves and their shape: what is put in is found again, and a saved model is the same model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import NotEnoughData
from models.boosting.scale_model import (
    CLIP,
    MIN_ROWS,
    SHAPE_PRIOR,
    ScaleModel,
    Shape,
    design,
    fit_linear,
    fit_scale,
    fit_shape,
)
from models.forecast_schema import QUANTILES


def drawn(n: int, seed: int, slope: float = 0.5):
    """Sizes of moves that grow with the first of three features."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 3))
    base = np.log(0.01) + 0.3 * rng.standard_normal(n)
    size = np.exp(base + slope * x[:, 0]) * rng.gamma(4.0, 0.25, n)
    return x, size, base


@pytest.mark.parametrize("slope", [-0.8, 0.0, 0.5])
def test_the_linear_part_finds_the_slope_that_was_put_in(slope):
    x, size, base = drawn(6_000, 1, slope)
    found = fit_linear(x, size, base)
    per_unit = found.beta[1:] / found.sd
    assert per_unit[0] == pytest.approx(slope, abs=0.05)
    assert np.abs(per_unit[1:]).max() < 0.05
    assert found.beta[0] + found.beta[1:] @ (-found.mean / found.sd) == pytest.approx(0.0, abs=0.1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), factor=st.floats(0.01, 100.0))
def test_a_feature_in_another_unit_changes_nothing(seed, factor):
    x, size, base = drawn(400, seed)
    scaled = x * np.array([factor, 1.0, 1.0])
    one, other = fit_linear(x, size, base), fit_linear(scaled, size, base)
    assert design(scaled, other.mean, other.sd) @ other.beta == pytest.approx(
        design(x, one.mean, one.sd) @ one.beta, rel=1e-4, abs=1e-4
    )


def test_unknown_features_stand_at_their_mean_and_wild_ones_are_clipped():
    x, size, base = drawn(500, 3)
    found = fit_linear(x, size, base)
    rows = design(np.array([[np.nan] * 3, [1e9, -1e9, 0.0]]), found.mean, found.sd)
    assert rows[0].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert rows[1, 1:3].tolist() == [CLIP, -CLIP]


def test_a_feature_that_is_never_known_is_left_out():
    x, size, base = drawn(500, 4)
    x[:, 2] = np.nan
    found = fit_linear(x, size, base)
    assert (found.mean[2], found.sd[2]) == (0.0, 1.0)
    assert np.isfinite(found.beta).all()


def test_a_saved_scale_is_the_same_scale():
    x, size, base = drawn(800, 5)
    size[::7] = np.nan
    made = fit_scale(("a", "b", "c"), x, size, base, rounds=10, seed=1)
    again = ScaleModel.of(json.loads(json.dumps(made.plain())), made.forest.boosters[0])
    assert again.features == ("a", "b", "c")
    assert np.array_equal(again.log_scale(x, base), made.log_scale(x, base))
    assert np.array_equal(fit_scale(("a", "b", "c"), x, size, base, rounds=10, seed=1).beta, made.beta)


def test_the_scale_of_a_larger_base_is_larger_by_the_same_factor():
    x, size, base = drawn(800, 6)
    made = fit_scale(("a", "b", "c"), x, size, base, rounds=6, seed=1)
    assert made.log_scale(x, base + np.log(3.0)) - made.log_scale(x, base) == pytest.approx(np.log(3.0))


@pytest.mark.parametrize("known", [0, MIN_ROWS - 1])
def test_too_few_known_moves_are_an_error_in_words(known):
    x, size, base = drawn(500, 7)
    size[known:] = np.nan
    with pytest.raises(NotEnoughData, match=f"{known} known moves"):
        fit_scale(("a", "b", "c"), x, size, base, rounds=4, seed=1)


def test_the_pooled_shape_is_symmetric_whatever_the_drift():
    z = np.random.default_rng(8).standard_t(4, 4_000) + 0.7
    shape = fit_shape(z, np.array(["a"] * 4_000, dtype=object), 1)
    assert shape.pooled == pytest.approx(-shape.pooled[::-1])
    assert (np.diff(shape.pooled) > 0).all()


@pytest.mark.parametrize("horizon_h", [1, 24])
def test_a_key_counts_as_much_as_its_independent_outcomes(horizon_h):
    rng = np.random.default_rng(9)
    wide, narrow = 3.0 * rng.standard_normal(3_000), 0.5 * rng.standard_normal(3_000)
    keys = np.array(["w"] * 3_000 + ["n"] * 3_000, dtype=object)
    shape = fit_shape(np.concatenate([wide, narrow]), keys, horizon_h)
    trust = 3_000 / horizon_h / (3_000 / horizon_h + SHAPE_PRIOR)
    own = np.quantile(wide, QUANTILES)
    assert shape.keys["w"] == pytest.approx(shape.pooled + trust * (own - shape.pooled))
    rows = shape.rows(np.array(["n", "unheard of", "w"], dtype=object))
    assert np.array_equal(rows[1], shape.pooled)
    assert rows[0][-1] < rows[1][-1] < rows[2][-1]


def test_a_saved_shape_is_the_same_shape_and_unknown_moves_count_for_nothing():
    z = np.random.default_rng(10).standard_normal(300)
    keys = np.array(["a", "b", "c"] * 100, dtype=object)
    holes = np.concatenate([z, np.full(50, np.nan)])
    made = fit_shape(holes, np.concatenate([keys, np.array(["d"] * 50, dtype=object)]), 1)
    assert np.array_equal(made.pooled, fit_shape(z, keys, 1).pooled)
    assert "d" not in made.keys
    again = Shape.of(json.loads(json.dumps(made.plain())))
    assert np.array_equal(again.rows(keys), made.rows(keys))
    with pytest.raises(NotEnoughData, match="too few for quantiles"):
        fit_shape(z[:50], keys[:50], 1)
