"""Recorded decisions taken again from their records alone: every policy, random portfolios, to the last bit."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest

from lake.errors import DataError
from policy.costs import DEFAULT_FEE
from policy.execution.records.audit import Audit
from policy.memory import forecasts_json, state_json
from policy.names import LIVE_NAMES
from policy.simulation.history import load
from policy.simulation.planner import prepare
from policy.strategies import experts
from policy.strategies.gas_outlook import HORIZONS_H, dialled, of_values
from policy.strategies.gas_process import windows
from policy.strategies.planner_policy import RulePolicy
from policy.strategies.predictive import Predictive
from policy.strategies.reactive import REACTIVE
from policy.strategies.registry import memory_at, recall
from policy.strategies.replay import replay
from tests.policy.conftest import START, basket, fill, frames
from tests.policy.test_predictive import least, said

DECISIONS = 200


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Records of 200 decisions as the audit keeps them, read back from its file."""
    folder = tmp_path_factory.mktemp("replay")
    history = load(fill(folder / "lake", frames()), START, START + timedelta(days=25))
    values = dialled(history, 0.7, 1)
    predictive = Predictive(history, of_values(history, values, windows(history), least(history)))
    lessons = {}
    for scenario in ("soft", "hard"):
        for nav in (1e5, 1e7):
            weights = np.full((len(predictive.outlook.windows), experts.width(scenario)), 0.2)
            lessons[experts.kind_of(basket(4, scenario, nav), np.full(4, DEFAULT_FEE))] = weights
    planners = [*REACTIVE, predictive.taught(lessons)]
    assert {p.name for p in planners} == set(LIVE_NAMES)
    cases = {(s, nav): prepare(history, basket(4, s, nav)) for s in ("soft", "hard") for nav in (1e5, 1e7)}
    rng, audit = np.random.default_rng(4), Audit(folder / "audit.jsonl")
    for number in range(DECISIONS):
        case = list(cases.values())[number % 4]
        planner = planners[-1] if number % 2 else planners[number // 2 % len(REACTIVE)]
        step = int(rng.integers(case.first, case.last))
        off = case.portfolio.target * np.exp(rng.choice([0.02, 0.1, 0.4]) * rng.standard_normal(4))
        state, forecasts = case.state(step, off / off.sum()), said(history, values, step)
        memory = memory_at(planner, case.portfolio, history, step)
        decision = RulePolicy(recall(memory), memory).decide(state, forecasts)
        audit.append(
            "decision",
            {
                "decision_id": f"d{number}", "action": decision.action, "decided": [float(w) for w in decision.weights],
                "state": state_json(state), "forecasts": forecasts_json(forecasts), "memory": memory.to_json(),
                "memory_digest": memory.digest,
            },
        )  # fmt: skip
    return [line.body for line in Audit(folder / "audit.jsonl").records()]


def test_two_hundred_decisions_come_out_the_same(records):
    found = [replay(r) for r in records]
    assert len(found) == DECISIONS
    assert [f.decision_id for f in found if f.differs] == []
    assert {r["action"] for r in records} >= {"trade", "wait", "forced"}


def test_a_record_that_was_changed_comes_out_different(records):
    trade = next(r for r in records if r["action"] == "trade" and r["memory"]["policy"] == "predictive")
    other = json.loads(json.dumps(trade))
    other["decided"][0] += 1e-12
    assert replay(other).differs == ("weights",)
    other = json.loads(json.dumps(trade))
    other["memory"]["values"]["earned"] *= 0.5
    assert "memory" in replay(other).differs


def test_an_older_record_says_what_it_lacks():
    with pytest.raises(DataError, match="its record has no state, memory, decided"):
        replay({"decision_id": "d", "forecasts": [], "action": "wait"})


def test_horizons_of_the_records_are_those_of_the_forecasts(records):
    assert {f["horizon_s"] // 3600 for f in records[0]["forecasts"]} == set(HORIZONS_H)
