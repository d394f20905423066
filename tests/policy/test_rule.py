from datetime import timedelta

import numpy as np
import pytest

from policy.simulation.history import load
from policy.simulation.planner import prepare
from policy.strategies.planner_policy import RulePolicy
from policy.strategies.reactive import REACTIVE, Bands
from tests.policy.conftest import START, basket, fill, frames

GAS_BAND = RulePolicy(Bands("gas_band", constant=False))


def at(history, push, nav=1e6, scenario="soft"):
    case = prepare(history, basket(4, scenario, nav=nav, tolerance=0.03))
    return case.state(case.first + 10, case.portfolio.target + push * np.array([1.0, -0.5, -0.5, 0.0]))


def test_a_decision_says_what_it_weighed(history):
    wait, trade = (GAS_BAND.decide(at(history, push), {}) for push in (0.005, 0.15))
    assert (wait.action, trade.action) == ("wait", "trade")
    assert wait.value_of_waiting_usd == pytest.approx(max(wait.cost_usd - wait.benefit_usd, 0.0))
    assert wait.value_of_waiting_usd > 0
    assert trade.benefit_usd > trade.cost_usd > 0
    assert trade.value_of_waiting_usd == 0.0
    for decision in (wait, trade):
        assert decision.action in decision.why
        assert "gwei" in decision.why
        assert decision.details["distance"] > 0


def test_benefit_meets_cost_at_the_trigger_of_two_assets(history):
    """With one swap and usual gas the band's own condition: worth as much as it costs, to the overshoot."""
    case = prepare(history, basket(2, nav=2e5))
    step = case.first + 10
    for push in np.linspace(0.02, 0.2, 400):
        state = case.state(step, case.portfolio.target + push * np.array([1.0, -1.0]))
        decision = GAS_BAND.decide(state, {})
        if decision.action == "trade":
            break
    ratio = state.market.gas_gwei / state.market.usual_gwei
    if 0.8 < ratio < 1.25:
        assert decision.benefit_usd == pytest.approx(decision.cost_usd, rel=0.25)
    assert decision.action == "trade"


def test_forced_is_named(history):
    assert GAS_BAND.decide(at(history, 0.05, scenario="hard"), {}).action == "forced"


@pytest.mark.parametrize("scenario", ["soft", "hard"])
def test_levels_do_not_depend_on_the_future(tmp_path, history, end, scenario):
    import polars as pl

    cut = START + timedelta(days=15)
    tables = {
        name: rows.with_columns(
            pl.when(pl.col("available_at") > cut).then(pl.col(c) * 2.5).otherwise(pl.col(c)).alias(c)
            for c in rows.columns
            if c in ("close", "open", "high", "low", "base_fee_gwei", "depth_1pct_usd")
        )
        for name, rows in frames().items()
    }
    other = load(fill(tmp_path, tables), START, end)
    known = history.step_of(cut) + 1
    portfolio = basket(4, scenario, nav=1e5)
    for rule in REACTIVE:
        a, b = rule.levels_over(prepare(history, portfolio)), rule.levels_over(prepare(other, portfolio))
        for name in ("outer", "inner", "resume", "cap"):
            assert np.array_equal(getattr(a, name)[:known], getattr(b, name)[:known]), (rule.name, name)
