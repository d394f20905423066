"""The bounds: exact against enumeration, and not beaten by what they bound."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from policy.simulation.planner import prepare
from policy.simulation.simulator import simulate
from policy.strategies.foresight import Clairvoyant, ForesightGas, cheapest_times, make_clairvoyant, make_foresight_gas
from policy.strategies.reactive import GAS_BAND, REACTIVE
from policy.strategies.registry import CompareConfig, Workshop
from tests.policy.conftest import START, basket

TO_TARGET = [p for p in REACTIVE if p.name.startswith(("hold", "calendar", "threshold"))]


def total(case, schedule) -> float:
    week = np.zeros(len(case.history.ts), dtype=np.int64)
    columns = 4 if case.portfolio.scenario == "soft" else 3
    return float(simulate(case, schedule, week, log=False).weekly[:, :columns].sum())


def enumerate_all(returns, target, gas, fee, impact, half_gamma, tolerance) -> float:
    best = np.inf
    steps = returns.shape[0]
    for trades in product([False, True], repeat=steps):
        x, cost, broken = np.zeros(target.size), 0.0, False
        for t in range(steps):
            if trades[t]:
                cost += gas[t] + float(0.5 * fee @ np.abs(x) + impact[t] @ x**2)
                x = np.zeros(target.size)
            broken |= bool((np.abs(x) > tolerance).any())
            portfolio = float((target + x) @ returns[t])
            cost += half_gamma * float(x @ returns[t]) ** 2
            x = (target + x) * (1 + returns[t]) / (1 + portfolio) - target
        if not broken:
            best = min(best, cost)
    return best


@pytest.mark.parametrize("tolerance", [np.inf, 0.03])
@pytest.mark.parametrize("seed", range(6))
def test_clairvoyant_equals_enumeration(seed, tolerance):
    rng = np.random.default_rng(seed)
    n, steps = 3, 10
    target = rng.dirichlet(np.full(n, 5.0))
    inputs = (
        0.05 * rng.standard_normal((steps, n)), target, 1e-4 * np.exp(rng.standard_normal(steps)), np.full(n, 1e-3),
        np.full((steps, n), 1e-4), 0.0 if tolerance < 1 else 1.5, np.full(n, tolerance),
    )  # fmt: skip
    found = cheapest_times(*inputs, np.inf, np.zeros(steps, dtype=np.bool_))
    assert found == pytest.approx(enumerate_all(*inputs), rel=1e-12)


@pytest.mark.parametrize("scenario", ["soft", "hard"])
@pytest.mark.parametrize("nav", [1e5, 1e7])
def test_no_rule_that_trades_to_target_beats_the_clairvoyant(history, scenario, nav):
    case = prepare(history, basket(4, scenario, nav))
    bound = total(case, Clairvoyant().levels_over(case))
    for planner in TO_TARGET:
        schedule = planner.levels_over(case)
        if scenario == "hard" and not schedule.must:
            continue  # may leave the mandate, so it is not admissible
        assert bound <= total(case, schedule) * (1 + 1e-9), planner.name


def test_clairvoyant_keeps_the_hard_mandate(history):
    case = prepare(history, basket(4, "hard", tolerance=0.02))
    run = simulate(case, Clairvoyant().levels_over(case), np.zeros(len(history.ts), dtype=np.int64), log=False)
    assert run.violations == 0


def test_foresight_beats_the_band_over_a_panel_and_keeps_the_hard_mandate(history):
    for scenario in ("soft", "hard"):
        own, base = 0.0, 0.0
        for n, nav, shift in ((2, 1e5, 1.0), (3, 1e5, 0.5), (4, 1e5, 1.5), (5, 1e5, 2.0)):
            target = np.arange(1.0, n + 1.0) ** shift
            portfolio = replace(basket(n, scenario, nav), target=target / target.sum())
            case = prepare(history, portfolio)
            plan = ForesightGas().levels_over(case)
            own, base = own + total(case, plan), base + total(case, GAS_BAND.levels_over(case))
            run = simulate(case, plan, np.zeros(len(history.ts), dtype=np.int64), log=False)
            assert run.violations == 0
        assert own < base


@pytest.mark.parametrize("scenario", ["soft", "hard"])
@pytest.mark.parametrize("nav", [1e5, 1e7])
def test_no_policy_of_a_comparison_beats_its_bounds(history, market_lake, end, scenario, nav):
    config = CompareConfig(START, end, skill=0.7)
    workshop = Workshop(history, market_lake, config)
    predictive = workshop.predictive
    gas, everything = (make(workshop) for make in (make_foresight_gas, make_clairvoyant))
    assert gas.predictive is predictive  # made once for all three
    for n in (2, 3, 5):
        case = prepare(history, basket(n, scenario, nav))
        found = [total(case, p.levels_over(case)) for p in (GAS_BAND, predictive, gas, everything)]
        assert found[2] <= min(found[:2])
        assert found[3] <= min(found[:3])
        for planner in REACTIVE:
            schedule = planner.levels_over(case)
            if scenario == "soft" or schedule.must:
                assert found[3] <= total(case, schedule) * (1 + 1e-9), planner.name
