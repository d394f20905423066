"""When forecasts abstain: expired, stale, out of distribution, uncalibrated, failing; with a reason, never zero."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from lightgbm.basic import LightGBMError

from lake.store import Lake
from models.base import TargetSpec
from models.config import ModelConfig
from models.evaluation.calibrate import Corrections
from models.evaluation.labels import hide_unknown
from models.gas.family import TARGETS, GasFamily
from models.serving import novelty
from models.serving.live import LiveModel, issue
from models.serving.trust import Trust, lost_calibration, stale, tolerance
from tests.models.market import START, fill

CFG = ModelConfig(("ETH", "BTC"), rounds=4)
END = START + timedelta(days=40)
MONTH = timedelta(days=30)
SERIES = [(s.name, "1", h) for s in TARGETS for h in s.horizons_s]


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    lake = fill(Lake(str(tmp_path_factory.mktemp("lake"))), 45)
    known = hide_unknown(GasFamily().build(lake, CFG, START, END), END)
    corrections = Corrections(dict.fromkeys(SERIES, (0.0,) * 5))
    model = LiveModel(GasFamily(), GasFamily().fit(known, CFG), corrections, END)
    return lake, model, {"gas": novelty.learn(known)}


def issued(lake, model, inputs, at, expiry=MONTH, **more):
    return issue(lake, CFG, {"gas": model}, at, Trust(lake, expiry, inputs, **more))


def test_a_healthy_model_speaks(setup):
    lake, model, inputs = setup
    rows = issued(lake, model, inputs, END + timedelta(hours=5))
    assert rows.height == len(SERIES)
    assert not rows["abstain"].any()


def test_an_expired_model_abstains_but_its_numbers_stay_to_be_judged(setup):
    lake, model, inputs = setup
    at = END + timedelta(hours=30)
    rows = issued(lake, model, inputs, at, expiry=timedelta(days=1))
    assert rows["abstain"].all()
    assert rows["reason"].str.contains("expired: 1 d old").all()
    spoken = issued(lake, model, inputs, at)
    assert rows["q50"].equals(spoken["q50"])


def test_a_feed_dead_for_three_hours_silences_short_horizons_only(setup, tmp_path):
    lake, model, inputs = setup
    at = END + timedelta(hours=8)
    dead = Lake(str(tmp_path))
    for name in ("gas", "prices"):
        last = at - timedelta(hours=3) if name == "gas" else at
        dead.write(name, lake.scan(name, as_of=last).collect())
    rows = issued(dead, model, inputs, at)
    silent = dict(rows.filter(pl.col("target") == "gas").select("horizon_s", "abstain").iter_rows())
    assert all(silent[h * 3600] for h in (1, 2, 4, 8))
    assert not any(silent[h * 3600] for h in (12, 24, 48))
    assert rows.filter("abstain")["reason"].str.contains("stale feed: newest row of 1 is 3:00:00 old").all()


def test_a_feed_dead_for_days_leaves_nothing_to_say_and_says_so(setup):
    lake, model, inputs = setup
    rows = issued(lake, model, inputs, END + timedelta(days=9))
    assert rows.height == len(SERIES)
    assert rows["abstain"].all()
    assert rows["mean"].null_count() == rows.height


def test_a_unit_change_silences_every_horizon(setup, tmp_path):
    lake, model, inputs = setup
    at = END + timedelta(hours=8)
    broken = Lake(str(tmp_path))
    late = pl.col("ts") >= at - timedelta(hours=2)
    wei = pl.when(late).then(pl.col("base_fee_gwei") * 1e9).otherwise("base_fee_gwei").alias("base_fee_gwei")
    broken.write("gas", lake.scan("gas").with_columns(wei).collect())
    broken.write("prices", lake.scan("prices").collect())
    rows = issued(broken, model, inputs, at)
    assert rows["abstain"].all()
    assert rows["reason"].str.contains("out of distribution").all()


def test_a_series_out_of_calibration_is_silent_alone(setup):
    lake, model, inputs = setup
    rows = issued(lake, model, inputs, END, lost={("gas", "1", 3600): "lost calibration: 50 %"})
    assert rows.filter("abstain").select("target", "horizon_s").rows() == [("gas", 3600)]


@dataclass(frozen=True)
class Failing:
    version: str = "failing-1"

    def forecasts(self, panel):
        raise LightGBMError("the number of features in data is not the same as it was in training data")


def test_a_failing_model_abstains_with_what_it_said(setup):
    lake, model, inputs = setup
    rows = issued(lake, LiveModel(model.family, Failing(), model.corrections, END), inputs, END)
    assert rows["abstain"].all()
    assert rows["reason"].str.contains("number of features").all()
    assert rows["mean"].null_count() == rows.height


def test_tolerance_grows_with_the_horizon_and_a_fresh_feed_is_never_stale():
    hours = [1, 2, 4, 8, 12, 24, 48]
    allowed = [tolerance(h * 3600) for h in hours]
    assert allowed == sorted(allowed)
    for h, limit in zip(hours, allowed, strict=True):
        assert stale({"A": END - limit}, "A", h * 3600, END) is None
        assert stale({"A": END - limit - timedelta(seconds=1)}, "A", h * 3600, END) is not None
    assert "of B" in (stale({"A": END, "B": END - timedelta(days=1)}, "A|B", 3600, END) or "")


def sequence(n, width, horizon_h=1, seed=1, abstain=False):
    rng = np.random.default_rng(seed)
    ts = [START + timedelta(hours=i) for i in range(n)]
    key = {"target": "x", "key": "k", "issued_at": ts, "horizon_s": horizon_h * 3600}
    quantiles = {f"q{q:02d}": width * z for q, z in ((5, -1.645), (25, -0.674), (50, 0.0), (75, 0.674), (95, 1.645))}
    rows = pl.DataFrame({**key, **quantiles, "mean": 0.0, "abstain": abstain})
    utc = pl.col("issued_at").cast(pl.Datetime("us", "UTC"))
    outcomes = pl.DataFrame({**key, "y": rng.standard_normal(n)})
    return rows.with_columns(utc), outcomes.with_columns(utc)


SPECS = (TargetSpec("x", (3600, 24 * 3600)),)


@pytest.mark.parametrize(("width", "lost"), [(1.0, False), (0.5, True), (3.0, True)])
def test_calibration_is_lost_where_luck_does_not_explain_it(width, lost):
    for seed in range(5):
        assert bool(lost_calibration(*sequence(672, width, seed=seed), SPECS)) == lost


def test_a_little_too_wide_is_no_reason_to_fall_back():
    assert not lost_calibration(*sequence(672, 1.2), SPECS)  # holds 95 %


def test_overlapping_outcomes_count_once_and_few_are_not_judged():
    assert not lost_calibration(*sequence(15, 0.01), SPECS)
    assert not lost_calibration(*sequence(300, 0.01, horizon_h=24), SPECS)  # twelve days are twelve outcomes
    assert lost_calibration(*sequence(672, 0.01, horizon_h=24), SPECS)


def test_rows_that_abstain_are_judged_too_so_that_trust_can_return():
    assert lost_calibration(*sequence(672, 0.5, abstain=True), SPECS)
    assert not lost_calibration(*sequence(672, 1.0, abstain=True), SPECS)
