"""Nothing bricks a vault: a seeded sample of the cases of ``brick_matrix`` (``make matrix``: all), and their parts."""

from __future__ import annotations

import errno
import os
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from policy.base import Forecast
from policy.execution.base import OtherVault
from policy.execution.checks import guards
from policy.execution.checks.guards import OracleEvidence, RoundAnswer
from policy.execution.context import Limits
from policy.execution.engine import dry, step
from policy.execution.records.journal import Journal
from policy.execution.recovery import recover
from policy.execution.state_builder import OffchainView
from policy.execution.vaults.simulated.adapter import SimulatedVault
from policy.execution.vaults.simulated.chain import SimSigner
from tests.execution import simlab
from tests.execution.brick_matrix import OTHER, Bench, Killed, cases, chain, context, judged, spec, stopper
from tests.execution.simlab import START, WETH

ALL = list(cases())
KINDS = list(dict.fromkeys(kind for kind, _, _ in ALL))
RNG = random.Random(20)  # noqa: S311 - a sample, no secret
SAMPLE = [case for kind in KINDS for case in RNG.sample([c for c in ALL if c[0] == kind], 2 if kind != KINDS[1] else 6)]


@pytest.mark.parametrize(("kind", "name", "disturb"), SAMPLE, ids=[f"{k}: {n}" for k, n, _ in SAMPLE])
def test_nothing_doubled_lost_or_bricked(tmp_path, kind, name, disturb):
    assert judged(tmp_path, disturb) == [], (kind, name)


def test_another_vaults_plan_is_never_recovered_here(tmp_path):
    sim = chain()
    with pytest.raises(Killed):
        step(context(tmp_path, sim, checkpoint=stopper("journal_signed")))
    for more in ({"vault_address": OTHER, "spec": replace(spec(), address=OTHER)}, {"chain_id": 5}):
        ctx = context(tmp_path, sim, **more)
        with ctx.journal.lease(), pytest.raises(OtherVault, match="configure its own vault"):
            recover(ctx)
    assert context(tmp_path, sim).journal.last().state == "signed"
    assert step(context(tmp_path, sim)).recovered == "landed"


def test_an_adapter_judges_no_plan_of_another_vault(tmp_path):
    sim = chain()
    plan = step(dry(context(tmp_path, sim))).plan
    other = SimulatedVault(replace(spec(), address=OTHER), sim)
    with pytest.raises(OtherVault, match=OTHER):
        other.recover(plan, [])


def test_the_address_may_be_written_in_any_case(tmp_path):
    sim = chain()
    assert step(context(tmp_path, sim)).outcome == "traded"
    assert step(context(tmp_path, sim, vault_address=simlab.VAULT.upper().replace("X", "x"))).outcome == "done"


def test_a_keeper_that_was_replaced_leaves_no_gap_in_the_new_ones_nonces(tmp_path):
    sim = chain()
    assert step(context(tmp_path, sim)).outcome == "traded"
    new = "0x00000000000000000000000000000000000000dd"
    the_spec = replace(spec(), keeper=new)
    sim._execute = simlab.executor(the_spec)
    sim.blocks[-1] = replace(sim.blocks[-1], wei={new: 10 * simlab.ETHER})
    Bench(tmp_path, sim).drift()
    report = step(context(tmp_path, sim, spec=the_spec, sender=new, signer=SimSigner(new)))
    assert report.outcome == "traded"
    assert report.attempts[0]["account_nonce"] == 0


@pytest.mark.parametrize("age", [-(10**6), -7_200, -121, -120, -16, -15, 0, 119, 120, 121, 7_200])
def test_the_clock_may_differ_from_the_chain_by_two_minutes_either_way(age):
    snapshot = SimulatedVault(spec(), chain()).snapshot()
    now = datetime.fromtimestamp(START + age, UTC)
    found = {v.check for v in guards.chain(snapshot, 31_337, now, 120) if not v.ok}
    assert found == (set() if -120 <= age <= 120 else {"clock"} if age < 0 else {"node_behind"})


@pytest.mark.parametrize("ahead", [-3_600, 0, 15, 16, 3_600, 10**7])
def test_data_and_forecasts_dated_after_now_are_refused(tmp_path, ahead):
    sim = chain()
    at = datetime.fromtimestamp(START + ahead, UTC)
    quantiles = (0.0, 0.0, 0.0, 0.0, 0.0)
    forecast = Forecast("gas", "1", at, 3_600, quantiles, 0.0, "m")
    seen = {
        "data_future": OffchainView({}, simlab.COVARIANCE, 2_000.0, at),
        "forecast_future": OffchainView({("gas", "1", 3_600): forecast}, simlab.COVARIANCE, 2_000.0, sim_time(sim)),
    }
    for check, view in seen.items():
        report = step(dry(context(tmp_path, sim, view=lambda s, v=view: v)))
        failed = {v.check for v in report.verdicts if not v.ok}
        assert (check in failed) == (ahead > 15)
        assert report.outcome == ("refused" if ahead > 15 else "planned")


def sim_time(sim) -> datetime:
    return datetime.fromtimestamp(sim.head().time, UTC) - timedelta(minutes=5)


def test_a_round_dated_after_the_block_is_refused():
    rounds = {WETH.address: [RoundAnswer(1, 5, 0, START + 1, 1), RoundAnswer(2, 6, 0, START, 2)]}
    found = guards.oracles(SimulatedVault(spec(), chain()).snapshot(), {}, OracleEvidence(rounds=rounds))
    assert "oracle_time" in {v.check for v in found if not v.ok}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("nth", range(1, 13))
def test_a_disk_that_fails_at_any_write_is_one_line_and_nothing_is_doubled(tmp_path, monkeypatch, nth, code):
    sim, calls, real = chain(), iter(range(1, 10**6)), os.fsync

    def failing(handle):
        if next(calls) == nth:
            raise OSError(code, os.strerror(code))
        real(handle)

    monkeypatch.setattr(os, "fsync", failing)
    report = step(context(tmp_path, sim))
    if report.outcome not in {"traded", "done"}:
        reason = next(v.reason for v in report.verdicts if v.check == "disk")
        assert os.strerror(code) in reason
        assert "run again" in reason
        assert "\n" not in reason
        assert (report.outcome == "pending") == ("looked up" in reason)
    for _ in range(3):
        sim.mine()
    for _ in range(2):
        assert step(context(tmp_path, sim)).outcome in {"traded", "done"}
    assert sim.executions == sim.world.clock.nonce == 1


def test_a_journal_held_by_another_name_is_busy(tmp_path):
    journal = Journal(tmp_path / "journal")
    (tmp_path / "journal").touch()
    os.link(tmp_path / "journal", tmp_path / "hard")
    (tmp_path / "soft").symlink_to(tmp_path / "journal")
    sim = chain()
    with journal.lease():
        for name in ("hard", "soft"):
            report = step(context(tmp_path, sim, journal=Journal(tmp_path / name)))
            assert [v.check for v in report.verdicts] == ["vault_busy"]
    assert step(context(tmp_path, sim, journal=Journal(tmp_path / "hard"))).outcome == "traded"


def test_a_plan_signed_by_the_keeper_of_before_is_not_replaced_by_the_new_one(tmp_path):
    sim = chain()
    with pytest.raises(Killed):
        step(context(tmp_path, sim, checkpoint=stopper("journal_sent")))
    new = "0x00000000000000000000000000000000000000dd"
    ctx = context(tmp_path, sim, sender=new, signer=SimSigner(new), limits=Limits(watch_blocks=6))
    report = step(replace(ctx, wait=lambda head: sim.mine(include=False)))
    assert report.outcome == "pending"
    assert len(report.attempts) == 1
