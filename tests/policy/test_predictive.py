"""The predictive policy: collapse without skill, one code path, nothing from the future, trust that grows with it."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lake.errors import ConfigError, ExecutionError
from lake.store import Lake
from policy.base import Forecast
from policy.costs import DEFAULT_FEE
from policy.explain import explain
from policy.memory import PolicyMemory, forecasts_from, forecasts_json, state_from, state_json
from policy.simulation.history import load
from policy.simulation.panel import Cell, portfolios
from policy.simulation.planner import Latest, prepare
from policy.simulation.simulator import simulate
from policy.solvers.dynamic_program import solve
from policy.strategies import experts, gas_tilt, lessons, programme, remembered
from policy.strategies import gas_outlook as dial
from policy.strategies.gas_outlook import (
    HORIZONS_H,
    Outlook,
    dialled,
    earnings,
    fresh,
    of_values,
    recorded,
    shares,
    slow_states,
)
from policy.strategies.gas_process import fit, hours_of_week, walk, windows
from policy.strategies.gas_tilt import MINIMA_H
from policy.strategies.planner_policy import RulePolicy
from policy.strategies.predictive import Predictive
from policy.strategies.programme import split
from policy.strategies.reactive import GAS_BAND, GAS_BAND_EXIT, GAS_TILT
from policy.strategies.registry import CompareConfig, Workshop, memory_at, recall
from tests.policy.conftest import START, basket, fill, frames


@pytest.fixture(scope="module")
def seen(history):
    """Forecasts that are half truth: some skill."""
    return dialled(history, 0.6, 1)


def outlook(history, values, minima=None) -> Outlook:
    return of_values(history, values, windows(history), least(history) if minima is None else minima)


def least(history):
    """Minima of some skill, too."""
    return dial.dialled_minima(history, 0.6, 1)


def make(history, lake, config) -> Predictive:
    return Workshop(history, lake, config).predictive


@pytest.fixture(scope="module")
def policy(history, seen):
    return convinced(Predictive(history, outlook(history, seen)))


def convinced(policy: Predictive) -> Predictive:
    """Return ``policy`` with every kind of the tests taken as learnt: the last member alone in all windows."""
    lessons = {}
    for scenario in ("soft", "hard"):
        for nav in (1e5, 1e6, 1e7, 1e8):
            for n in (4, 5):
                p = basket(n, scenario, nav)
                weights = np.zeros((len(policy.outlook.windows), experts.width(scenario)))
                weights[:, -1] = 1.0
                lessons[experts.kind_of(p, np.full(n, DEFAULT_FEE))] = weights
    return policy.taught(lessons)


def slow(history, values, own):
    return slow_states(history, values, own, shares(history, values, own))


def said(history, values, step):
    """The forecasts of a moment as rows handed over: the values of that step."""
    at, out = history.when(step), {}
    for i, h in enumerate(HORIZONS_H):
        gwei = float(np.exp(values[step, i]))
        out["gas", "1", h * 3600] = Forecast("gas", "1", at, h * 3600, (gwei,) * 5, gwei, "v")
    for h, value in zip(MINIMA_H, least(history)[step], strict=True):
        gwei = float(np.exp(value))
        out["gas_min", "1", h * 3600] = Forecast("gas_min", "1", at, h * 3600, (gwei,) * 5, gwei, "v")
    return out


def view(at, *, abstain: bool = False):
    row = Forecast("gas", "1", at, 3600, (1, 2, 3, 4, 5), 3.0, "v", abstain, "stale" if abstain else None)
    return {("gas", "1", 3600): row}


def same(a, b) -> bool:
    names = ("outer", "inner", "cap", "resume", "exit_parts")
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in names)


def stronger(scenario):
    return {"soft": GAS_TILT, "hard": GAS_BAND_EXIT}[scenario]


@pytest.mark.parametrize("scenario", ["soft", "hard"])
def test_without_forecasts_it_is_the_stronger_reactive_rule(history, market_lake, end, scenario):
    case = prepare(history, basket(4, scenario))
    made = make(history, market_lake, CompareConfig(START, end))
    part = slice(case.first, case.last)
    plan, rule = made.levels_over(case), stronger(scenario).levels_over(case)
    for name in ("outer", "inner", "cap", "resume", "exit_parts"):
        assert np.array_equal(getattr(plan, name)[part], getattr(rule, name)[part]), name
    large = prepare(history, basket(4, scenario, 1e7))
    assert same(made.levels_over(large), GAS_BAND.levels_over(large)) == (scenario == "hard")


@pytest.mark.parametrize("scenario", ["soft", "hard"])
def test_without_skill_the_cost_is_that_of_the_gas_process_alone(history, market_lake, end, scenario):
    case = prepare(history, basket(4, scenario, 1e5))
    made = make(history, market_lake, CompareConfig(START, end, skill=0.0))
    alone = Predictive(history, dial.of_process(history, windows(history)))
    week = np.zeros(len(history.ts), dtype=np.int64)
    own, base = (simulate(case, p.levels_over(case), week, log=False).weekly.sum(axis=0) for p in (made, alone))
    assert own[:4].sum() == pytest.approx(base[:4].sum(), rel=3e-3)


def test_what_is_taken_of_the_forecasts_grows_with_skill(history, market_lake, end):
    found = [make(history, market_lake, CompareConfig(START, end, skill=s)).outlook for s in (0.0, 0.3, 0.6, 1.0)]
    for taken in ([o.shares.mean() for o in found], [o.least_shares.mean() for o in found]):
        assert taken[0] < 0.06
        assert taken[-1] > 0.5
        assert all(a <= b + 0.02 for a, b in zip(taken[:-1], taken[1:], strict=True)), taken


@pytest.mark.parametrize("scenario", ["soft", "hard"])
@pytest.mark.parametrize("nav", [1e5, 1e7])
def test_one_decision_equals_the_panels(history, policy, seen, scenario, nav):
    case = prepare(history, basket(4, scenario, nav))
    plan = policy.levels_over(case)
    acted = 0
    for step in range(case.first + 3, case.last, 211):
        levels = policy.levels_at(case.state(step, case.portfolio.target), said(history, seen, step))
        assert levels.exit_part == pytest.approx(plan.exit_parts[step])
        assert levels.outer == pytest.approx(plan.outer[step], rel=1e-9)
        assert levels.inner == pytest.approx(plan.inner[step], rel=1e-9, abs=1e-12)
        assert levels.cap == pytest.approx(plan.cap[step], rel=1e-9)
        assert levels.resume == pytest.approx(plan.resume[step], rel=1e-9)
        acted += levels.outer != GAS_BAND.levels_over(case).outer[step]
    assert acted > 0


def test_a_decision_solves_its_own_week_only(history, policy, seen, monkeypatch):
    case = prepare(history, basket(5, "hard", 1e6))
    step = case.last - 50
    x = np.array([0.06, -0.03, -0.01, -0.01, -0.01])
    state = case.state(step, case.portfolio.target + x)
    rule = RulePolicy(policy)
    solved = []
    for module in (programme, remembered):
        monkeypatch.setattr(module, "solve", lambda *terms: solved.append(terms) or solve(*terms))
    decision = rule.decide(state, said(history, seen, step))
    assert len(solved) == 1
    replace(policy, latest=Latest()).levels_over(case)
    assert len(solved) - 1 == sum(w.first < case.last and w.last > case.first for w in policy.outlook.windows) > 1
    text = explain(state, decision)
    assert f"{decision.cost_usd:,.2f} USD" in text
    assert decision.why in text


@pytest.mark.parametrize("scenario", ["soft", "hard"])
def test_nothing_depends_on_what_comes_after(history, seen, scenario):
    cut = history.first + 400
    rng = np.random.default_rng(5)
    gas, returns = history.gas_gwei.copy(), history.returns.copy()
    gas[cut + 1 :] *= np.exp(rng.standard_normal(gas.size - cut - 1))
    returns[cut:] += 0.02 * rng.standard_normal(returns[cut:].shape)
    later = seen.copy()
    later[cut + 1 :] += rng.standard_normal(later[cut + 1 :].shape)
    other = replace(history, gas_gwei=gas, returns=returns)
    minima = least(history)
    later_minima = minima.copy()
    later_minima[cut + 1 :] += rng.standard_normal(later_minima[cut + 1 :].shape)
    plans = []
    for h, values, lows in ((history, seen, minima), (other, later, later_minima)):
        planned = Predictive(h, outlook(h, values, lows))
        case = prepare(h, basket(4, scenario, 1e5))
        plans.append(planned.levels_over(case))
        weights = planned.lesson(case)
        windows_before = sum(w.first <= cut for w in planned.outlook.windows)
        plans.append(weights[:windows_before])
    assert np.array_equal(plans.pop(3), plans.pop(1))
    for name in ("outer", "inner", "cap", "resume", "exit_parts"):
        assert np.array_equal(getattr(plans[0], name)[: cut + 1], getattr(plans[1], name)[: cut + 1]), name


def test_silent_forecasts_leave_the_decision_to_the_reactive_rule_it_has_learnt(history, seen):
    case = prepare(history, basket(4))
    kind = experts.kind_of(case.portfolio, case.fee)
    own = outlook(history, seen)
    step = case.last - 5
    state = case.state(step, case.portfolio.target)
    gas_only = {k: f for k, f in said(history, seen, step).items() if k[0] == "gas"}
    for weights, rule in ((np.eye(4)[3] + np.eye(4)[0], GAS_TILT), (np.eye(4)[3], GAS_BAND)):
        policy = Predictive(history, own).taught({kind: np.tile(weights, (len(own.windows), 1))})
        base = recall(memory_at(rule, case.portfolio, history, step)).levels_at(state, {})
        for forecasts, reason in (
            ({}, "no gas forecast"), (view(state.ts, abstain=True), "abstain (stale)"),
            (gas_only, "forecasts of the least gas to come are missing"),
        ):  # fmt: skip
            levels = policy.levels_at(state, forecasts)
            assert levels.outer == pytest.approx(base.outer, rel=1e-12)
            assert levels.inner == pytest.approx(base.inner, rel=1e-12)
            assert reason in levels.why
            assert f"{rule.name} decides" in levels.why


def test_the_tilt_of_a_step_is_what_a_decision_computes_from_what_it_is_handed(history, seen):
    own = outlook(history, seen)
    case = prepare(history, basket(4))
    for step in range(case.first, case.last, 97):
        state = case.state(step, case.portfolio.target)
        minima = gas_tilt.handed_minima(said(history, seen, step))
        number = next(i for i, w in enumerate(own.windows) if w.first <= step < w.last)
        lows = gas_tilt.leant_minima(own.least[step], minima, own.least_shares[number])
        found = gas_tilt.dearness(state, lows, own.tilt.means[step])
        assert found == pytest.approx((own.tilt.relative[step], own.tilt.dear[step]), abs=1e-9)
    part = slice(case.first, case.last)
    assert abs(own.tilt.dear[part].mean()) < 0.3  # about its own mean: the mean trigger stays the band's
    truth = gas_tilt.true_minima(history)
    step = case.first + 7
    assert truth[step] == pytest.approx([np.log(history.gas_gwei[step + 1 : step + 1 + h]).min() for h in MINIMA_H])


def test_the_hard_trigger_never_exceeds_the_tolerance(history, policy):
    case = prepare(history, basket(4, "hard"))
    plan = policy.levels_over(case)
    assert (plan.outer <= 1.0).all()
    assert (plan.inner <= plan.outer).all()
    run = simulate(case, plan, np.zeros(len(history.ts), dtype=np.int64), log=False)
    assert run.violations == 0


def test_recorded_forecasts_are_read_as_of_and_go_stale(history, tmp_path):
    at = history.when(history.first + 10)
    row = {
        "target": "gas", "key": "1", "issued_at": at, "horizon_s": 4 * 3600, "q05": 10.0, "q25": 15.0, "q50": 20.0,
        "q75": 25.0, "q95": 30.0, "mean": 20.0, "model_version": "v", "abstain": False, "reason": None,
        "available_at": at,
    }  # fmt: skip
    silent = row | {"issued_at": at + timedelta(hours=3), "available_at": at + timedelta(hours=3)}
    silent |= dict.fromkeys(("q05", "q25", "q50", "q75", "q95", "mean")) | {"abstain": True, "reason": "drift"}
    lake = Lake(str(tmp_path / "lake"))
    schema = lake.scan("forecasts").collect_schema()
    lake.write("forecasts", pl.DataFrame([row, silent], schema=schema))
    values = recorded(history, lake, 1)[:, HORIZONS_H.index(4)]
    first = history.first + 10
    assert np.isnan(values[first - 1])
    assert values[first : first + 3] == pytest.approx(np.log(20.0))
    assert np.isnan(values[first + 3 :]).all()


def test_trust_needs_outcomes_and_vanishes_with_the_forecast(history, seen):
    def trusts(values):
        return np.where(fresh(values), earnings(history, values), 0.0)

    trust = trusts(seen)
    assert (trust[: dial.LEAST_H] == 0.0).all()
    gone = seen.copy()
    gone[-1] = np.nan
    assert trusts(gone)[-1] == 0.0


def test_large_trades_are_split_only_when_impact_asks_for_it(history, policy):
    small, large = (prepare(history, basket(4, "soft", nav)) for nav in (1e5, 1e8))
    everywhere = np.ones(len(history.ts))
    assert not np.isfinite(policy.levels_over(small).cap).any()
    assert np.isfinite(policy.levels_over(large).cap).any()
    plan = split(large, GAS_BAND.levels_over(large), everywhere)
    run = simulate(large, plan, np.zeros(len(history.ts), dtype=np.int64), log=False)
    whole = replace(plan, cap=np.full_like(plan.cap, np.inf), resume=np.full_like(plan.cap, np.inf))
    at_once = simulate(large, whole, np.zeros(len(history.ts), dtype=np.int64), log=False)
    assert run.bp_a_year(2) <= at_once.bp_a_year(2)


def test_the_chain_recovers_a_planted_season():
    rng = np.random.default_rng(2)
    hour = np.arange(24 * 90) % 168
    season = 0.4 * np.sin(2 * np.pi * hour / 24)
    noise = np.zeros(hour.size)
    for t in range(1, hour.size):
        noise[t] = 0.97 * noise[t - 1] + 0.05 * rng.standard_normal()
    found = fit(season + noise + 0.1 * rng.standard_normal(hour.size), hour)
    truth = 0.4 * np.sin(2 * np.pi * np.arange(168) / 24)
    assert np.corrcoef(found.log_profile, truth)[0, 1] > 0.97
    assert np.abs(found.log_profile - truth).max() < 0.15
    assert found.chain.white.mean() == pytest.approx(1.0, abs=0.1)


def test_a_walk_is_a_transition_that_reverts():
    nodes = np.linspace(-1.0, 1.0, 5)
    move = walk(nodes, 0.97, 0.5)
    assert move.sum(axis=1) == pytest.approx(np.ones(5))
    assert (move >= 0.0).all()
    assert abs(move[-1] @ nodes) < nodes[-1]
    assert hours_of_week(np.array([4 * 86_400_000_000], dtype=np.int64))[0] == 0  # 1970-01-05 was a Monday


def test_a_higher_skill_brings_the_gas_state_nearer_to_the_gas_that_comes(history):
    own = windows(history)
    log_gas = np.log(history.gas_gwei)
    steps = np.arange(log_gas.size)
    truth = np.column_stack([log_gas[np.minimum(steps + h, log_gas.size - 1)] for h in HORIZONS_H])
    part = slice(own[2].first, log_gas.size - HORIZONS_H[-1])
    wanted = np.concatenate([dial.fitted_states(history, truth, w) for w in own])[part.start - own[0].first :]
    wanted = wanted[: part.stop - part.start]
    missed = [
        np.mean((slow(history, dialled(history, s, 1), own)[part] - wanted) ** 2) for s in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    assert all(b <= a * 1.01 for a, b in zip(missed[:-1], missed[1:], strict=True))
    assert missed[-1] < 0.2 * missed[0]


@pytest.mark.slow
def test_the_skill_dial_pays_where_waiting_is_worth_most(tmp_path):
    """Common random numbers: the same baskets, prices and noise at each turn of the dial."""
    lake = fill(tmp_path / "lake", frames(hours=24 * 150))
    last = START + timedelta(hours=24 * 110 - 1)
    long = load(lake, START, last)
    panel = portfolios(long, 16, 7, START, last, [Cell("hard", "hard", 1e5, 1, tolerances=(0.02,))])
    cases = [prepare(long, p) for p in panel]
    week = np.zeros(len(long.ts), dtype=np.int64)

    def cost(rule):
        """Return what the rule costs on mirrored pasts: the luck of trends would hide what a right forecast saves."""
        total = 0.0
        for i, c in enumerate(cases):
            plan = rule.levels_over(c)
            for draw in range(8):
                path = experts.mirrored(c, 1_000 + i * 8 + draw)
                run = simulate(path, plan, week, log=False, path=True)
                total += run.weekly[:, :3].sum() + experts.cost_to_go(path, run.path[c.last - 1], c.last - 1)
        return total

    kind = experts.kind_of(panel[0], panel[0].swap_fee)
    costs = []
    for turn in (0.0, 0.5, 1.0):
        made = make(long, lake, CompareConfig(START, last, skill=turn))
        costs.append(cost(made.taught({kind: made.learn(kind)})))
    assert costs[0] < 0.97 * cost(GAS_BAND_EXIT)  # what the gas process alone is worth
    falls = [b / a for a, b in zip(costs[:-1], costs[1:], strict=True)]
    assert max(falls) < 1.0, falls
    assert costs[2] < 0.99 * costs[0], falls


@pytest.mark.parametrize("scenario", ["soft", "hard"])
def test_what_the_forecasts_say_changes_the_levels(history, policy, seen, scenario):
    """The forecasts handed over decide, not some the policy read elsewhere."""
    case = prepare(history, basket(4, scenario, 1e5))
    changed = asked = 0
    for step in range(case.first + 3, case.last, 97):
        state, handed = case.state(step, case.portfolio.target), said(history, seen, step)
        memory = policy.memory(case.portfolio, step)
        known = memory.values and memory.number("earned") > 0.1
        if not known or (scenario == "hard" and memory.number("share") <= 0.05):
            continue
        low, high = (
            {k: replace(f, quantiles=(f.mean * by,) * 5, mean=f.mean * by) for k, f in handed.items()}
            for by in (0.3, 3.0)
        )
        rule = recall(memory)
        levels = [rule.levels_at(state, forecasts) for forecasts in (low, handed, high)]
        asked += 1
        changed += len({(found.outer, found.inner) for found in levels}) > 1
    assert asked > 3
    assert changed > 0.8 * asked


@pytest.mark.parametrize("scenario", ["soft", "hard"])
def test_a_decision_depends_on_what_it_is_handed_alone(history, policy, seen, scenario, monkeypatch):
    """State, forecasts and memory survive as plain data; no history, no lake and no lesson is looked at again."""
    case = prepare(history, basket(4, scenario, 1e6))
    for step in range(case.first + 3, case.last, 311):
        memory = policy.memory(case.portfolio, step)
        state, forecasts = case.state(step, case.portfolio.target), said(history, seen, step)
        direct = RulePolicy(policy).decide(state, forecasts)
        text = json.dumps([memory.to_json(), state_json(state), forecasts_json(forecasts)], allow_nan=False)
        kept, was, rows = json.loads(text)
        again = PolicyMemory.from_json(kept)
        assert again.digest == memory.digest
        decision = RulePolicy(recall(again), again).decide(state_from(was), forecasts_from(rows))
        assert np.array_equal(decision.weights, direct.weights)
        assert (decision.action, decision.why) == (direct.action, direct.why)


def test_the_memory_of_another_policy_is_refused(history):
    case = prepare(history, basket(4))
    with pytest.raises(ExecutionError, match="gas_band, not of predictive"):
        remembered.Remembered(memory_at(GAS_BAND, case.portfolio, history, case.first))
    with pytest.raises(ConfigError, match="no policy 'mine'"):
        recall(PolicyMemory("mine", START))


def test_lessons_are_kept_by_kind_market_and_code(history, seen, tmp_path, monkeypatch):
    lake = Lake(str(tmp_path))
    policy = Predictive(history, outlook(history, seen))
    kinds = [experts.kind_of(basket(4, "hard", nav), np.full(4, DEFAULT_FEE)) for nav in (1e5, 1e6)]
    assert lessons.recall_lessons(lake, policy, kinds) == {}
    rng = np.random.default_rng(1)
    learnt = {kind: rng.random((len(policy.outlook.windows), experts.width("hard"))) for kind in kinds[:1]}
    lessons.keep_lessons(lake, policy, learnt)
    lessons.keep_lessons(lake, policy, learnt)
    found = lessons.recall_lessons(lake, policy, kinds)
    assert list(found) == kinds[:1]
    assert np.array_equal(found[kinds[0]], learnt[kinds[0]])
    other = history.gas_gwei.copy()
    other[history.gas_known + 5] *= 1.5
    assert lessons.recall_lessons(lake, Predictive(replace(history, gas_gwei=other), policy.outlook), kinds) == {}
    gone = np.ones((len(history.ts), len(history.assets)), dtype=np.bool_)
    gone[history.gas_known + 5] = False  # a bar that was missed, its close carried
    assert lessons.recall_lessons(lake, Predictive(replace(history, moved=gone), policy.outlook), kinds) == {}
    monkeypatch.setattr(lessons, "code_digest", lambda: "other code")
    assert lessons.recall_lessons(lake, policy, kinds) == {}


def test_the_code_a_lesson_is_of_is_all_that_learning_imports():
    """What is left out holds records, storage and what is decided with a lesson: it changes no weight."""
    root, todo, seen = Path(__file__).resolve().parents[2], ["policy.strategies.predictive"], set()
    while todo:
        name = todo.pop()
        file = root / (name.replace(".", "/") + ".py")
        if name in seen or not name.startswith("policy.") or not file.is_file():
            continue
        seen.add(name)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                todo += [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
    assert seen - set(lessons.CODE) == {"policy.base", "policy.memory", "policy.strategies.remembered"}


def test_a_longer_history_stands_on_the_same_lessons(history, seen):
    """What is known at a window's first step does not depend on how far the history goes on."""
    cut = policy_windows = windows(history)[-2].last
    short = replace(
        history, ts=history.ts[:cut], close=history.close[:cut], gas_gwei=history.gas_gwei[:cut],
        native_usd=history.native_usd[:cut], depth_usd=history.depth_usd[:cut], recent_gwei=history.recent_gwei[:cut],
        tradable=history.tradable[:cut], day=history.day[:cut], returns=history.returns[:cut],
        median_gwei=history.median_gwei[:cut], median_depth_usd=history.median_depth_usd[:cut],
        moved=None if history.moved is None else history.moved[:cut],
    )  # fmt: skip
    assert policy_windows
    long, cut_off = (
        lessons.market_digests(Predictive(h, outlook(h, seen[: len(h.ts)], least(history)[: len(h.ts)])))
        for h in (history, short)
    )
    assert cut_off == long[: len(cut_off)]
    assert len(set(long)) == len(long)
