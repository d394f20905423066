"""Promotion: a challenger has to win on pinball, must not lose on policy cost, and has to be calibrated."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST

from lake.errors import ModelError
from models.base import TargetSpec
from models.evaluation.scores import pinball
from models.forecast_schema import QUANTILE_COLUMNS, QUANTILES
from models.registry.promotion import COST_MARGIN, Figure, best_baseline, coverage, judge, skill_over
from models.registry.registry import Registry
from tests.models.market import START

SPECS = (TargetSpec("x", (3600,)),)
Z = np.array([-1.645, -0.674, 0.0, 0.674, 1.645])
EQUAL = Figure(1.0, 0.99, 1.0, 8)


def market(weeks=10, seed=0):
    rng = np.random.default_rng(seed)
    n = weeks * 168
    signal, noise = rng.standard_normal(n), rng.standard_normal(n)
    ts = [START + timedelta(hours=i) for i in range(n)]
    key = pl.DataFrame({"target": "x", "key": "k", "issued_at": ts, "horizon_s": [3600] * n}).with_columns(
        pl.col("issued_at").cast(pl.Datetime("us", "UTC"))
    )
    return key, signal, signal + noise


def forecast(key, centre, width):
    q = centre[:, None] + width * Z
    columns = [pl.Series(c, q[:, k]) for k, c in enumerate(QUANTILE_COLUMNS)]
    return key.with_columns(*columns, mean=pl.Series(centre), abstain=pl.lit(value=False))


KEY, SIGNAL, Y = market()
OUTCOMES = KEY.with_columns(y=pl.Series(Y))
GOOD = forecast(KEY, SIGNAL, 1.0)
PLAIN = forecast(KEY, np.zeros(len(Y)), np.sqrt(2.0))


def never(mine, reference):
    raise AssertionError("the most expensive test was run on a challenger that had failed already")


def test_skill_is_the_fall_of_pinball_and_nothing_against_itself():
    found = skill_over(GOOD, PLAIN, OUTCOMES, SPECS)
    a = pinball(Y, GOOD.select(QUANTILE_COLUMNS).to_numpy(), QUANTILES).sum()
    b = pinball(Y, PLAIN.select(QUANTILE_COLUMNS).to_numpy(), QUANTILES).sum()
    assert found.value == pytest.approx(1 - a / b)
    assert found.low < found.value < found.high
    same = skill_over(GOOD, GOOD, OUTCOMES, SPECS)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_every_series_counts_alike_whatever_its_unit():
    def both(factor):
        other = pl.col(["q05", "q25", "q50", "q75", "q95", "mean"]) * factor
        parts = [(f, f.with_columns(other, key=pl.lit("big"))) for f in (PLAIN, GOOD)]
        outcomes = pl.concat([OUTCOMES, OUTCOMES.with_columns(pl.col("y") * factor, key=pl.lit("big"))])
        mine = pl.concat([parts[0][0], parts[1][1]])  # no skill on one series, skill on the other
        return skill_over(mine, pl.concat(parts[0]), outcomes, SPECS).value

    assert both(1.0) == pytest.approx(both(1e6))


def test_a_better_challenger_that_costs_no_more_is_promoted():
    found = judge(GOOD, PLAIN, OUTCOMES, SPECS, "plain", lambda *_: EQUAL)
    assert found.promote
    assert "better on pinball than plain" in found.reason


def test_a_challenger_that_wins_on_pinball_and_loses_on_policy_cost_is_not_promoted():
    assert skill_over(GOOD, PLAIN, OUTCOMES, SPECS).low > 0
    dear = Figure(1.03, 1.01, 1.05, 8)
    found = judge(GOOD, PLAIN, OUTCOMES, SPECS, "plain", lambda *_: dear)
    assert not found.promote
    assert "policy cost 1.0300" in found.reason
    assert found.cost == dear


def test_the_upper_end_of_the_cost_interval_decides():
    edge = 1 + COST_MARGIN
    for high, promoted in ((edge, True), (edge + 1e-6, False), (float("nan"), False)):
        found = judge(GOOD, PLAIN, OUTCOMES, SPECS, "plain", lambda *_, h=high: Figure(1.0, 0.9, h, 8))
        assert found.promote is promoted


def test_a_challenger_without_skill_is_not_promoted_and_costs_are_not_run():
    found = judge(PLAIN, PLAIN, OUTCOMES, SPECS, "plain", never)
    assert not found.promote
    assert "not better on pinball" in found.reason


def test_a_challenger_that_claims_too_much_is_not_promoted():
    sharp = forecast(KEY, SIGNAL, 0.7)
    assert skill_over(sharp, PLAIN, OUTCOMES, SPECS).low > 0
    found = judge(sharp, PLAIN, OUTCOMES, SPECS, "plain", never)
    assert not found.promote
    assert "90 % intervals of x hold 7" in found.reason


def test_two_weeks_prove_nothing():
    short = KEY["issued_at"] < START + timedelta(weeks=2)
    found = judge(GOOD.filter(short), PLAIN, OUTCOMES, SPECS, "plain", never)
    assert not found.promote
    assert "are required" in found.reason


def test_the_best_baseline_has_the_least_loss():
    half = forecast(KEY, SIGNAL / 2, 1.2)
    assert best_baseline({"a": PLAIN, "b": GOOD, "c": half}, OUTCOMES, SPECS) == "b"
    assert best_baseline({"a": PLAIN, "c": half}, OUTCOMES, SPECS) == "c"
    assert best_baseline({}, OUTCOMES, SPECS) is None


def test_coverage_counts_outcomes_inside():
    found = coverage(GOOD, OUTCOMES, SPECS)["x"]
    inside = (np.abs(Y - SIGNAL) <= 1.645).mean()
    assert found.value == pytest.approx(inside)
    assert found.low <= found.value <= found.high


def test_a_decision_can_be_kept_as_text():
    import json

    plain = judge(GOOD, PLAIN, OUTCOMES, SPECS, "plain", lambda *_: EQUAL).plain()
    assert json.loads(json.dumps(plain))["decision"] == "promoted"


class Failing:
    """A registry's client that always answers with one error."""

    def __init__(self, code: int) -> None:
        self.code = code

    def __getattr__(self, name):
        def answer(*args, **kwargs):
            raise MlflowException("the database went away", self.code)

        return answer


def test_a_registry_that_does_not_answer_is_no_empty_one(tmp_path):
    for code in (RESOURCE_DOES_NOT_EXIST, INVALID_PARAMETER_VALUE):
        empty = Registry(Failing(code), tmp_path)
        assert empty.champion("returns") is None
        assert empty.versions("returns") == []
    lost = Registry(Failing(INTERNAL_ERROR), tmp_path)
    for ask in (lost.champion, lost.versions):
        with pytest.raises(ModelError, match=r"does not answer \(the database went away\)"):
            ask("returns")
