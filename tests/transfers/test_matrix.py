"""A seeded part of the matrix (the whole: ``make matrix-chains``), and a mutant that its judge must catch."""

from __future__ import annotations

from pathlib import Path

from policy.execution.transfers.machine import look_at_all
from policy.execution.transfers.planning import plan_transfer
from policy.execution.transfers.saga import SagaState as S
from policy.execution.transfers.sending import canonical
from tests.transfers.matrix import FAULTS, KILLS, REORGS, WORLDS, Case, cases, play, run, summary
from tests.transfers.two_chains import CHAINS, KINDS


def test_no_unit_is_lost_doubled_or_unexplained_in_120_seeded_runs():
    outcomes = play(120, seed=7)
    wrong = [f"{o.case}: {o.words}" for o in outcomes if not o.good]
    assert not wrong, summary(outcomes) + "\n" + "\n".join(wrong[:5])
    assert sum(o.state == "settled" for o in outcomes) > 90, summary(outcomes)


def test_the_cases_are_drawn_from_every_kill_fault_world_and_reorganisation():
    drawn = cases(120, seed=7)
    assert {c.kind for c in drawn} == set(KINDS)
    assert {c.kill for c in drawn} == set(KILLS)
    assert {c.fault for c in drawn} == {tuple(f.items()) for f in FAULTS}
    assert {c.world for c in drawn} == set(WORLDS)
    assert {c.reorg for c in drawn} == set(REORGS)
    assert len(set(drawn)) == len(drawn)


def silence_is_absence(lab):
    """A mutant: a departure without a receipt is taken for one that never was, and another is planned."""
    ctx = lab.fresh()
    with ctx.log.lease():
        saga = ctx.log.sagas()[-1]
        sent = saga.live("depart")
        if saga.state is S.SENT and sent is not None and canonical(ctx.ends[CHAINS[0]], sent.tx_hash) is None:
            ctx.log.moved(saga, S.VOID, note="no receipt")
            plan_transfer(ctx, lab.wish(5_000))
        look_at_all(ctx)


def test_a_mutant_that_takes_silence_for_absence_is_caught(tmp_path):
    caught = []
    for n, kill in enumerate(KILLS[:7]):
        case = Case("simulated-mint", kill, (("no receipt A", 6),), "plain", None, (6, 6))
        folders = [Path(tmp_path / f"{n}{who}") for who in "ab"]
        caught.append(run(case, folders[0], silence_is_absence).departures > 1)
        assert run(case, folders[1]).good
    assert any(caught), "the judge must see a second departure"
    assert run(case, tmp_path / "c", silence_is_absence).good is False or not caught[-1]
