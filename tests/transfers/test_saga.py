"""A transfer from plan to settlement: what is written before what, what a fault leaves, what is never done twice."""

from __future__ import annotations

import json

import pytest

from lake.errors import ExecutionError
from policy.execution.transfers.journal import TransferLog, TransfersBusy
from policy.execution.transfers.ledger import count
from policy.execution.transfers.machine import write_down
from policy.execution.transfers.saga import SagaState as S
from tests.transfers.lab import Killed, made
from tests.transfers.two_chains import CHAINS, KINDS

DONE = {S.SETTLED}


def settled(saga) -> bool:
    return saga.state in DONE


def events(lab) -> list[dict]:
    lines = (lab.folder / "transfers.jsonl").read_text().splitlines()
    return [json.loads(line)["body"] for line in lines]


def run(lab, most: int = 60):
    """Look until settled, playing the relayer as soon as it may fill."""
    for _ in range(most):
        saga = lab.look()[-1]
        if settled(saga):
            return saga
        if saga.state is S.FILLABLE:
            lab.world.relay(saga.transfer)
        lab.world.mine()
        assert count(lab.fresh()).mismatch == 0
    raise AssertionError(f"{saga.state} {saga.note} {lab.alarms}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("decimals", [(6, 6), (6, 18), (18, 6)])
def test_a_transfer_departs_is_delivered_and_settles_with_every_unit_explained(tmp_path, kind, decimals):
    lab = made(tmp_path, kind, decimals, fee_pips=100)
    plan = lab.plan(5_000)
    assert plan.verdicts == ()
    saga = run(lab)
    assert (saga.arrived, saga.returned) == (plan.transfer.least, 0)
    assert lab.world.value() == lab.world.start - lab.world.fees()
    assert lab.world.vaults[0].port_transit(1) == 0
    states = [e.get("state", e["event"]) for e in events(lab) if e["event"] != "handed"]
    assert states[:3] == ["planned", "signed", "departed"]
    assert states[-1] == "settled"


def test_what_is_signed_is_on_disk_before_it_is_sent(tmp_path):
    lab = made(tmp_path)
    lab.plan()
    lab.kill = "signed depart"
    with pytest.raises(Killed):
        lab.look()
    assert lab.world.a.public == {}, "nothing was sent"
    written = [e for e in events(lab) if e["event"] == "signed"]
    assert len(written) == 1
    lab.until(settled)
    assert {e["tx_hash"] for e in events(lab) if e["event"] == "signed" and e["leg"] == "depart"} == {
        written[0]["tx_hash"]
    }


def test_an_expired_transfer_comes_home_and_settles(tmp_path):
    lab = made(tmp_path, "simulated-fill", fee_pips=100)
    plan = lab.plan(5_000)
    lab.until(lambda s: s.state is S.FILLABLE)
    for c in lab.world.chains:
        c.mine(skip_s=20_000)
    saga = lab.until(lambda s: s.state is S.REFUND_DUE)
    assert count(lab.fresh()).moving == plan.transfer.amount, "in neither place until the refund is paid"
    assert lab.world.come_home(saga.transfer) == ""
    saga = lab.until(settled)
    assert (saga.arrived, saga.returned, saga.fee) == (0, plan.transfer.amount, 0)
    assert lab.world.value() == lab.world.start


def test_a_departure_that_misses_its_deadline_is_void_only_when_it_can_never_land(tmp_path):
    lab = made(tmp_path)
    lab.faults.left["unsent A"] = 1
    lab.plan()
    lab.look()
    for c in lab.world.chains:
        c.mine(skip_s=2_000)
    assert lab.look()[-1].state is S.SENT, "past the deadline, but in no final block yet"
    saga = lab.until(lambda s: s.state is S.VOID)
    assert "holds no departure" in saga.note
    assert lab.world.value() == lab.world.start


@pytest.mark.parametrize("keep", [True, False])
def test_a_reorganised_departure_is_handed_over_again_not_signed_again(tmp_path, keep):
    lab = made(tmp_path)
    lab.plan()
    lab.until(lambda s: s.state is S.DEPARTED)
    lab.world.a.reorg(2, keep=keep, delay=3)
    lab.until(settled)
    assert len([e for e in events(lab) if e["event"] == "signed" and e["leg"] == "depart"]) <= 2, "bumps share a nonce"
    nonces = {e["account_nonce"] for e in events(lab) if e["event"] == "signed" and e["leg"] == "depart"}
    assert len(nonces) == 1
    assert len(lab.world.a.world.bridges.departed) == 1


def test_a_second_departure_at_another_account_nonce_is_refused_by_the_journal(tmp_path):
    from dataclasses import replace

    lab = made(tmp_path)
    lab.plan()
    saga = lab.look()[-1]
    log = TransferLog(lab.folder / "transfers.jsonl")
    with log.lease(), pytest.raises(ExecutionError, match="could land beside it"):
        log.signed(saga, replace(saga.attempts[0], account_nonce=7, tx_hash="0x7"))


def test_two_runs_at_once_are_refused_and_a_dead_one_leaves_no_lock(tmp_path):
    lab = made(tmp_path)
    first, second = (TransferLog(tmp_path / "transfers.jsonl") for _ in range(2))
    with first.lease(), pytest.raises(TransfersBusy, match="another run holds"), second.lease():
        pass
    lab.plan()
    lab.kill = "sign depart"
    with pytest.raises(Killed):
        lab.look()
    assert lab.look()[-1].state is S.SENT


def test_a_stuck_transfer_is_written_down_by_name_looked_for_and_reopened(tmp_path):
    lab = made(tmp_path)
    lab.plan(2_000)
    lab.world.attesters[0].faults["down"] = 10**6
    lab.until(lambda s: s.state is S.FINAL)
    for c in lab.world.chains:
        c.mine(skip_s=3_000)
    lab.until(lambda s: s.state is S.OVERDUE)
    for c in lab.world.chains:
        c.mine(skip_s=100_000)
    saga = lab.until(lambda s: s.state is S.STUCK)
    assert [a for a, _ in lab.alarms if a in {"overdue", "stuck"}] == ["overdue", "stuck"]
    ctx = lab.fresh()
    with ctx.log.lease():
        with pytest.raises(ExecutionError, match="named person with a reason"):
            write_down(ctx, saga, " ", "lost")
        saga = write_down(ctx, saga, "A. Treasurer", "the service froze it")
    assert (saga.state, saga.person) == (S.WRITTEN_DOWN, "A. Treasurer")
    assert "route_closed" in {v.check for v in lab.plan().verdicts}
    lab.world.attesters[0].faults["down"] = 0
    bridge, transfer = lab.world.bridge(), saga.transfer
    lab.world.send(1, bridge.deliver(transfer, bridge.find(transfer)), sender="0x" + "00" * 19 + "cc")
    lab.world.mine()
    assert lab.until(settled).arrived == transfer.least


def test_a_delivery_that_runs_out_of_gas_is_simulated_anew_and_after_two_a_person_decides(tmp_path):
    lab = made(tmp_path, least_delivery_gas=60_000)
    lab.plan()
    lab.until(lambda s: s.state is S.DEPARTED)
    lab.faults.left["low gas"] = 1
    saga = lab.until(settled)
    assert [a.failed for a in saga.of("deliver")] == [True, False]
    lab.plan()
    lab.until(lambda s: s.state is S.DEPARTED)
    lab.faults.left["low gas"] = 2
    saga = lab.until(lambda s: s.state is S.STUCK)
    assert "2 deliveries failed: reverted" in saga.note
    lab.rules = type(lab.rules)(**{**vars_of(lab.rules), "delivery_tries": 3})
    assert lab.until(settled).state is S.SETTLED


def vars_of(rules) -> dict:
    return {f: getattr(rules, f) for f in type(rules).__slots__}


def test_nothing_is_signed_while_a_plan_of_the_vault_is_in_flight(tmp_path):
    lab = made(tmp_path)
    lab.plan()
    lab.busy = "a plan is in flight"
    for _ in range(3):
        assert lab.look()[-1].state is S.PLANNED
        lab.world.mine()
    lab.busy = ""
    assert lab.look()[-1].state is S.SENT


def test_nothing_is_signed_or_sent_while_trading_is_stopped(tmp_path):
    lab = made(tmp_path)
    lab.stopped = "trading is stopped (a drill)"
    assert [v.check for v in lab.plan().verdicts] == ["halted"]
    lab.stopped = None
    lab.plan()
    lab.kill = "signed depart"
    with pytest.raises(Killed):
        lab.look()
    lab.stopped = "trading is stopped (a drill)"
    assert lab.look()[-1].state is S.SIGNED
    assert lab.world.a.public == {}
    lab.stopped = None
    lab.until(lambda s: s.state is S.DEPARTED)
    lab.stopped = "trading is stopped (a drill)"
    lab.world.mine(8)
    assert lab.look()[-1].state is S.ATTESTED, "it is looked up, and not delivered"
    lab.stopped = None
    assert lab.until(settled)


def test_any_prefix_of_a_history_replays_to_a_legal_state(tmp_path):
    lab = made(tmp_path, "simulated-fill")
    lab.plan()
    run(lab)
    whole = (tmp_path / "transfers.jsonl").read_bytes().splitlines(keepends=True)
    for n in range(len(whole) + 1):
        path = tmp_path / f"prefix{n}.jsonl"
        path.write_bytes(b"".join(whole[:n]))
        sagas = TransferLog(path).sagas()
        assert len(sagas) == (n > 0)
    torn = tmp_path / "torn.jsonl"
    torn.write_bytes(b"".join(whole)[:-9])
    assert TransferLog(torn).sagas()[0].state is not S.SETTLED


def test_a_departure_nobody_planned_stops_everything(tmp_path):
    lab = made(tmp_path)
    lab.world.depart(lab.world.transfer(1_000))
    lab.world.mine(5)
    found = lab.plan()
    assert [v.check for v in found.verdicts] == ["ledger_mismatch"]
    assert "no journal knows why" in found.verdicts[0].reason
    assert CHAINS[0] == 31_337
