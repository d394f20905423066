"""Novel inputs: the dissimilarity index against brute force, and a unit change that must be noticed."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lake.errors import ModelError
from lake.store import Lake
from models.config import ModelConfig
from models.gas.family import GasFamily
from models.serving import novelty
from tests.models.market import START, fill

CFG = ModelConfig(("ETH", "BTC"), rounds=5)


def panel(n=600, seed=0, **scale):
    rng = np.random.default_rng(seed)
    ts = [START + timedelta(hours=i) for i in range(n)]
    columns = {name: rng.standard_normal(n) * s for name, s in scale.items()}
    return pl.DataFrame({"key": "k", "ts": ts, **columns})


@settings(max_examples=30, deadline=None)
@given(
    arrays(np.float64, (5, 4), elements=st.one_of(st.floats(-50, 50), st.just(np.nan))),
    arrays(np.float64, (3, 4), elements=st.one_of(st.floats(-50, 50), st.just(np.nan))),
)
def test_distances_are_root_mean_squares_over_what_both_rows_know(a, b):
    found = novelty.distances(a, b)
    for i, row in enumerate(a):
        for j, other in enumerate(b):
            both = np.isfinite(row) & np.isfinite(other)
            brute = np.sqrt(np.mean((row[both] - other[both]) ** 2)) if both.any() else np.inf
            assert found[i, j] == pytest.approx(brute, abs=1e-5)


def test_training_rows_are_near_and_later_ones_of_the_same_kind_are_trusted():
    inputs = novelty.learn(panel(a=1.0, b=5.0, c=0.01))["single"]
    later = panel(seed=1, a=1.0, b=5.0, c=0.01)
    assert sum(r is not None for r in inputs.reasons(later)) <= 3
    assert inputs.index(later).mean() < 1.0


@pytest.mark.parametrize("factor", [1e3, 1e9])
def test_a_feature_in_other_units_is_novel_and_named(factor):
    known = panel(a=1.0, b=5.0, c=0.01).with_columns(pl.col("c") + 0.05)
    inputs = novelty.learn(known)["single"]
    reasons = inputs.reasons(known.with_columns(pl.col("c") * factor))
    assert all(r is not None and "out of distribution: c" in r for r in reasons)


def test_what_is_merely_shifted_is_seen_by_its_distance():
    known = panel(a=1.0, b=5.0)
    inputs = novelty.learn(known)["single"]
    moved = known.with_columns(pl.col("a") + 15.0, pl.col("b") + 75.0)
    assert all(r is not None and "dissimilarity" in r for r in inputs.reasons(moved))


def test_a_row_of_which_nothing_is_known_is_novel():
    inputs = novelty.learn(panel(a=1.0, b=1.0))["single"]
    blank = panel(n=1, a=1.0, b=1.0).with_columns(a=pl.lit(None, pl.Float64), b=pl.lit(None, pl.Float64))
    assert inputs.reasons(blank)[0] is not None


def test_a_gas_feed_that_turns_from_gwei_to_wei_is_noticed_and_the_feed_before_it_is_not(tmp_path):
    lake = fill(Lake(str(tmp_path / "a")), 60)
    cut = START + timedelta(days=50)
    inputs = novelty.learn(GasFamily().build(lake, CFG, START, cut))["single"]
    at = START + timedelta(days=58)
    usual = GasFamily().build(lake, CFG, cut, at)
    assert sum(r is not None for r in inputs.reasons(usual)) <= 0.02 * usual.height
    wei = (
        pl.when(pl.col("ts") >= at - timedelta(hours=3)).then(pl.col("base_fee_gwei") * 1e9).otherwise("base_fee_gwei")
    )
    broken = Lake(str(tmp_path / "b"))
    broken.write("gas", lake.scan("gas").with_columns(wei.alias("base_fee_gwei")).collect())
    broken.write("prices", lake.scan("prices").collect())
    now = GasFamily().build(broken, CFG, at, at + timedelta(hours=1))
    assert all(r is not None for r in inputs.reasons(now))


def test_it_survives_a_restart_and_refuses_what_is_torn(tmp_path):
    known = novelty.learn(panel(a=1.0, b=5.0))
    novelty.save(known, tmp_path)
    again = novelty.load(tmp_path)
    fresh = panel(seed=3, a=1.0, b=5.0)
    np.testing.assert_allclose(again["single"].index(fresh), known["single"].index(fresh), rtol=1e-3)
    whole = (tmp_path / novelty.FILE).read_bytes()
    (tmp_path / novelty.FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="no training inputs"):
        novelty.load(tmp_path)


def test_a_missing_feature_is_named():
    inputs = novelty.learn(panel(a=1.0, b=1.0))["single"]
    with pytest.raises(ModelError, match="'b'"):
        inputs.reasons(panel(n=2, a=1.0))
