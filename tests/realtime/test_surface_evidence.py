"""The surface decides only after weeks in which it was cheaper; without proof the rule is hourly gas_band exactly."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from policy.comparison import resolved, surface_evidence
from policy.comparison.surface_evidence import mirrored_world, proven_weeks, stake, week_costs, weights_at
from policy.realtime.looks import LOOKS
from policy.simulation.block_kernel import NO_TABLE
from policy.simulation.planner import prepare
from tests.policy.conftest import basket
from tests.realtime.conftest import END
from tests.realtime.test_block_ledger import config

MIX = LOOKS["surface_mix_5m"]


@pytest.fixture(scope="module")
def scene(fine_lake, fine_history):
    """The field, a portfolio's case, and what runs a look on it."""
    field = resolved.field_of(fine_lake, fine_history, config("5m", ("gas_band", "surface_mix_5m")))
    case = prepare(fine_history, basket(2, "soft", nav=3e7, end=END))
    tables, surfaces = resolved.gas_tables(case, field), resolved.surfaces_of(case, field)
    return field, case, partial(resolved.look_at, case, fine_history.week(), tables, surfaces)


def test_without_proof_it_is_hourly_gas_band(scene):
    field, _, run = scene
    none = replace(field, state=np.full_like(field.state, NO_TABLE))
    mixed, hourly = run(none, MIX), run(none, LOOKS["gas_band"])
    assert mixed.trades == hourly.trades
    assert np.array_equal(mixed.weekly, hourly.weekly)


def test_with_proof_from_the_start_it_is_the_surface(scene):
    field, _, run = scene
    sure = replace(field, state=np.maximum(field.state, 0), window=np.maximum(field.window, 0), minute=0)
    mixed, pure = run(sure, MIX), run(sure, LOOKS["surface_5m"])
    assert mixed.trades == pure.trades > 0
    assert np.array_equal(mixed.weekly, pure.weekly)


@pytest.mark.parametrize("better", [True, False])
def test_weeks_are_decided_by_those_before_them_alone(scene, monkeypatch, better):
    field, case, run = scene
    asked = []

    def told(case_, world, done, edges):
        del case_, world
        asked.append(edges)
        cheap = done is surface_run
        base = np.full(edges.size - 1, 1.0)
        return base - 0.5 if cheap and better else base + (0.5 if cheap else 0.0)

    surface_run = run(field, LOOKS["surface_5m"])
    monkeypatch.setattr(surface_evidence, "week_costs", told)
    monkeypatch.setattr(surface_evidence, "PROVEN", 1.0)  # the market of the tests has few weeks
    on = proven_weeks(case, field, lambda at, look: surface_run if look.surface else run(at, look))
    week = case.history.week()[field.world.hour]
    assert not on[week[0]]  # nothing came before
    assert (on[week[0] + 1 : week[-1] + 1] == better).all()
    assert all(np.array_equal(e, asked[0]) for e in asked)


def test_a_changed_future_changes_no_earlier_week(scene, monkeypatch):
    field, case, run = scene
    monkeypatch.setattr(surface_evidence, "PATHS", 4)
    half = field.state.size // 2
    after = field.world.gas_gwei.copy()
    after[half:] *= 3.0
    other = replace(field, world=replace(field.world, gas_gwei=after))
    week = case.history.week()[field.world.hour]
    looks = (LOOKS["gas_band"], LOOKS["surface_5m"])
    (number, one), (_, two) = (surface_evidence.weekly_costs(case, f, looks, run) for f in (field, other))
    known = number < week[half]
    assert known.any()
    assert np.array_equal(one[:, known][:, :-1], two[:, known][:, :-1])  # the last one ends where gas has changed
    assert not np.array_equal(one, two)


def test_a_stake_grows_with_savings_alone_and_a_change_for_the_worse_takes_it_back():
    rng = np.random.default_rng(4)
    usual = np.full(40, 1.0)
    saving = -0.2 + 0.05 * rng.standard_normal(40)
    assert stake(saving[:0], usual[:0]) == 1.0
    assert stake(saving, usual) > 100.0
    assert stake(-saving, usual) < 1.0
    turned = np.concatenate([saving[:20], -saving[:20]])
    path = [stake(turned[:w], usual[:w]) for w in range(41)]
    assert path[20] == max(path) > 4.0
    assert path[40] < 1.0
    worthless = rng.standard_normal((400, 40))
    assert np.mean([stake(w, usual) > 4.0 for w in worthless]) <= 0.25  # Ville's bound, at any one moment


def test_mirrored_pasts_keep_gas_sizes_and_days_together(scene):
    field, case, _ = scene
    world = field.world
    other = mirrored_world(world, case.columns, 1)
    own = np.log1p(world.returns[:, case.columns])
    changed = np.log1p(other.returns[:, case.columns])
    assert np.allclose(np.abs(changed), np.abs(own))
    assert other.gas_gwei is world.gas_gwei
    sign = np.sign(changed * own)
    assert (np.ptp(np.where(own == 0.0, sign.max(axis=1, keepdims=True), sign), axis=1) == 0.0).all()
    assert {-1.0, 1.0} <= set(np.unique(sign))


def test_a_weeks_cost_is_what_was_paid_and_what_is_left_to_pay(scene):
    field, case, run = scene
    done = run(field, LOOKS["gas_band"])
    first, last = ((s - case.history.first) * field.world.per_hour for s in (case.first, case.last))
    ends = np.array([first, last])
    held = weights_at(case, field.world, done, ends)
    assert np.allclose(held[0], case.portfolio.target)
    assert np.allclose(held.sum(axis=1), 1.0)
    total = week_costs(case, field.world, done, ends)
    assert total.shape == (1,)
    week = case.history.week()[field.world.hour]
    edges = np.append(np.flatnonzero(np.diff(week[first:last], prepend=-1)) + first, last)
    parts = week_costs(case, field.world, done, edges)
    paid = done.weekly[:, :4].sum()
    assert parts.sum() == pytest.approx(paid + (total - done.weekly[week[first], :4].sum())[0], rel=1e-9)
