"""What a project's own record says of its surfaces: whole weeks, walk-forward, judged once, silent where they lose."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from lake.store import Lake
from pipelines.deployments import deployment
from pipelines.stages.surface import publish_surface, surface_state
from pipelines.vault_setup import surface_proof
from pipelines.vault_setup.surface_proof import INSTEAD, monday_of, proof_at
from pipelines.wiring import lake_of
from policy.comparison import resolved, surface_evidence
from policy.realtime import proof as proofs
from policy.realtime.surface import FAST, LEAST_DAYS, SLOW, GasStates
from tests.pipelines.market import END, START, project

AT = END - timedelta(hours=6)
SURFACES = resolved.surfaces_of


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return deployment(project(tmp_path_factory.mktemp("proof")))


@pytest.fixture(autouse=True)
def few_pasts(monkeypatch):
    monkeypatch.setattr(surface_evidence, "PATHS", 2)


@pytest.fixture(scope="module")
def first(own):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surface_evidence, "PATHS", 2)
        return proof_at(own, lake_of(own), AT)


def test_it_counts_whole_weeks_from_when_gas_could_be_learnt(own, first):
    begin = START + timedelta(days=LEAST_DAYS + 7)  # a Monday, when the first hour has been known for seven days
    assert first.weeks == (monday_of(AT) - begin).days // 7 > 3
    assert first.until_s == int(monday_of(AT).timestamp()) <= AT.timestamp()
    assert set(first.stakes) == set(first.saved) == set(INSTEAD)
    assert all(s > 0.0 for s in first.stakes.values())


def test_the_same_week_is_judged_once_and_another_portfolio_anew(own, first, monkeypatch):
    lake = lake_of(own)

    def asked(*_):
        raise ConnectionError("simulated anew")

    monkeypatch.setattr(surface_proof, "simulated", asked)
    assert proof_at(own, lake, AT + timedelta(hours=3), first) is first
    richer = replace(own, portfolio=own.portfolio.model_copy(update={"nav_usd": 2.0 * own.portfolio.nav_usd}))
    for other, at in ((richer, AT), (own, AT - timedelta(days=7))):
        with pytest.raises(ConnectionError):
            proof_at(other, lake, at, first)


def test_nothing_after_the_last_monday_moves_it(own, first, tmp_path):
    whole, until = lake_of(own), monday_of(AT)
    cut = Lake(str(tmp_path / "lake"))
    for name in ("prices", "gas", "pool_state"):
        cut.write(name, whole.scan(name, as_of=until).collect())
    assert proof_at(own, cut, AT) == first


@pytest.mark.parametrize("days", [0, 6])
def test_too_short_a_record_proves_nothing_and_is_no_error(own, tmp_path, days):
    lake = Lake(str(tmp_path / "lake"))
    if days:
        lake.write("gas", lake_of(own).scan("gas").filter(pl.col("ts") >= AT - timedelta(days=days)).collect())
    found = proof_at(own, lake, AT)
    assert (found.weeks, found.stakes) == (0, {})
    assert "0 whole weeks" in found.refused(AT.timestamp())


def restless(case, field):
    """Surfaces that would pay any gas for any deviation: they cost far more than waiting."""
    return [replace(s, reserve=np.full_like(s.reserve, 1.0), back=np.zeros_like(s.back)) for s in SURFACES(case, field)]


def test_a_losing_surface_is_silenced_and_the_closed_form_decides(own, monkeypatch):
    monkeypatch.setattr(resolved, "surfaces_of", restless)
    made = publish_surface(own, lake_of(own), AT)
    proof = made["evidence"]
    assert max(proof["stakes"].values()) < 1.0
    assert max(proof["saved"].values()) < -0.5
    assert not proof["decides"]
    state = surface_state(own, lake_of(own), AT)
    assert "not proven" in state["refused"]
    assert state["evidence"] == proof


def test_a_proven_one_decides_and_its_evidence_is_shown(own, monkeypatch, first):
    monkeypatch.setattr(surface_proof, "simulated", lambda *_: replace(first, stakes=dict.fromkeys(INSTEAD, 4.1)))
    other = replace(own, name="proven")
    made = publish_surface(other, lake_of(own), AT)
    state = surface_state(other, lake_of(own), AT)
    assert state["hash"] == made["hash"]
    assert state["evidence"]["hash"] == made["evidence"]["hash"]
    monkeypatch.setattr(proofs, "PROVEN", 4.2)
    assert "4.2 is asked" in surface_state(other, lake_of(own), AT)["refused"]


def test_a_change_of_regime_takes_the_surface_out_until_it_is_learnt_again(own, tmp_path):
    """Gas rises tenfold: the surfaces of before are refused, and what they would have cost counts in no week."""
    turn = AT - timedelta(days=16)
    lake = Lake(str(tmp_path / "lake"))
    scale = pl.when(pl.col("ts") >= turn).then(10.0).otherwise(1.0)
    lake.write("gas", lake_of(own).scan("gas").with_columns(pl.col("base_fee_gwei") * scale).collect())
    for name in ("prices", "pool_state"):
        lake.write(name, lake_of(own).scan(name).collect())
    seen = {}

    def kept(case, field):
        seen["field"] = field
        return SURFACES(case, field)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resolved, "surfaces_of", kept)
        proof_at(own, lake, AT)
    field = seen["field"]
    at_s = field.world.start_s + np.arange(field.state.size) * field.world.step_s
    calm = at_s < turn.timestamp()
    moved = (at_s > turn.timestamp() + 3 * 86_400) & (at_s < turn.timestamp() + 6 * 86_400)
    assert (field.state[calm] >= 0).mean() > 0.9
    assert moved.any()
    assert (field.state[moved] < 0).all()
    told = publish_surface(replace(own, name="moved"), lake, turn + timedelta(days=3))
    after = surface_state(replace(own, name="moved"), lake, turn + timedelta(days=3, hours=1))
    assert "times the level" in after["refused"]
    assert told["level_gwei"] > 0.0


def test_states_seen_every_five_minutes_are_those_of_the_same_chains():
    """The coarse field of a finer one keeps its chains and sees the price of its own next moment."""
    rng = np.random.default_rng(1)
    world = resolved.BlockWorld(
        12, 1_700_000_000 - 1_700_000_000 % 3600, np.zeros((7200 * 8, 1)), np.exp(rng.normal(3.0, 0.3, 7200 * 8)),
        np.exp(rng.normal(3.0, 0.3, 7200 * 8)), np.arange(7200 * 8) // 300, (), True,
    )  # fmt: skip
    found = resolved.states_of(world)
    field = resolved.Field(
        world, 6, 1.0, 0.1, np.zeros(world.hour.size), found.chains, found.built, found.window, found.state
    )
    coarse = resolved.coarse_of(field)
    assert coarse.world.step_s == resolved.PROOF_S
    assert coarse.chains is field.chains
    assert np.array_equal(coarse.window, field.window[::25])
    states = field.chains[0]
    assert isinstance(states, GasStates)
    assert ((coarse.state >= -1) & (coarse.state < SLOW * FAST)).all()
    gas = np.log(coarse.world.gas_gwei)
    ahead = np.minimum(np.arange(gas.size) + 1, gas.size - 1)
    before = np.concatenate([np.log(coarse.world.past_gwei), gas])
    slow = resolved.trailing_log(before, 12)[coarse.world.past_gwei.size :]
    own = np.where(coarse.window == 0, states.of(gas[ahead], slow[ahead]), coarse.state)
    assert np.array_equal(coarse.state, own)
    assert np.allclose(coarse.gas_at, (gas - 1.0) / 0.1)
