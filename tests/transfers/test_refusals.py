"""Each refusal of a departure by its name beside the plan that may go; the haircut; transfers before finality."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from lake.errors import ExecutionError
from policy.execution.bridges.base import Sighting
from policy.execution.transfers.ledger import MovingCash, count, mark
from policy.execution.transfers.planning import plan_transfer
from policy.execution.transfers.saga import SagaState as S
from tests.transfers.lab import Lab, made
from tests.transfers.two_chains import CHAINS, KEEPER, USDC

ROW = ("simulated-mint", *CHAINS[:2])
QUOTES = {"quote_age_s": 5_400}


def priced(lab: Lab, i: int, *, ratio: float = 1.0, age_s: int = 60) -> None:
    """Let the cash of a chain be quoted at ``ratio`` dollars, ``age_s`` ago by that chain's clock."""
    c = lab.world.chains[i]
    quote = round(1e8 * ratio), c.head().time - age_s, 7
    c.set_world(replace(c.world, prices={**c.world.prices, USDC[i]: quote}))


def fresh_prices(lab: Lab) -> None:
    for i in (0, 1):
        priced(lab, i)


def later(lab: Lab, skip_s: int) -> None:
    lab.world.b.mine(skip_s=skip_s)


def poor(lab: Lab, wei: int) -> None:
    top = lab.world.b.blocks[-1]
    lab.world.b.blocks[-1] = replace(top, wei={**top.wei, KEEPER: wei})


def spent(lab: Lab) -> None:
    """One transfer of the day is settled already."""
    assert lab.plan().saga is not None
    lab.until(lambda s: s.state is S.SETTLED)


@dataclass(frozen=True)
class Case:
    """``plant`` makes the fault of the right kind, ``harmless`` one just inside what is allowed."""

    check: str
    plant: object
    harmless: object
    rules: dict
    wish: dict


def case(check, plant, harmless, *, wish=None, **rules) -> Case:
    return Case(check, plant, harmless, rules, wish or {})


CASES = (
    case("oracle_stale", lambda lab: priced(lab, 0, age_s=5_401), fresh_prices, **QUOTES),
    case("oracle_stale", lambda lab: priced(lab, 1, age_s=5_401), fresh_prices, **QUOTES),
    case("oracle_stale", lambda lab: priced(lab, 1, age_s=-1), fresh_prices),
    case("oracle_stale", lambda lab: priced(lab, 0, ratio=0.0), fresh_prices),
    case("oracle_differs", lambda lab: priced(lab, 1, ratio=1.006), lambda lab: priced(lab, 1, ratio=1.004)),
    case("oracle_differs", lambda lab: priced(lab, 0, ratio=0.99), lambda lab: priced(lab, 0, ratio=0.996)),
    case("clock", lambda lab: later(lab, 150), lambda lab: later(lab, 90)),
    case("gas_money_destination", lambda lab: poor(lab, 10**12), lambda lab: poor(lab, 10**19)),
    case("bridge_cap", spent, lambda _: None, max_bridge_day_share=0.0007),
    case("bridge_limit", lambda _: None, lambda lab: setattr(lab, "rules", replace(lab.rules, max_usd={ROW: 1_001.0})),
         max_usd={ROW: 999.0}),
    case("finality", lambda _: None, lambda lab: setattr(lab, "rules", replace(lab.rules, fast_part=1.0)),
         wish={"speed": "fast", "dollars": 20_001}),
)  # fmt: skip


@pytest.mark.parametrize("wrong", CASES, ids=lambda c: c.check)
def test_a_fault_is_refused_by_its_name_and_journals_nothing(tmp_path, wrong: Case):
    lab = made(tmp_path, **wrong.rules)
    if wrong.rules == QUOTES:
        fresh_prices(lab)
    wrong.plant(lab)
    before = len(lab.fresh().log.sagas())
    plan = lab.plan(**wrong.wish)
    assert {v.check for v in plan.verdicts} == {wrong.check}
    assert all(v.reason for v in plan.verdicts)
    assert plan.saga is None
    assert len(lab.fresh().log.sagas()) == before


@pytest.mark.parametrize("wrong", CASES, ids=lambda c: c.check)
def test_what_is_just_inside_is_let_go(tmp_path, wrong: Case):
    lab = made(tmp_path, **wrong.rules)
    if wrong.rules == QUOTES:
        fresh_prices(lab)
    wrong.harmless(lab)
    plan = lab.plan(**wrong.wish)
    assert plan.verdicts == ()
    assert plan.saga is not None


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    ("words", "check"),
    [
        ("the sequencer has been down since 5", "sequencer_down"),
        ("the sequencer's uptime feed does not answer", "sequencer_down"),
        ("in its grace time: the sequencer is back for 60 s", "sequencer_grace"),
        ("", None),
    ],
)
def test_a_sequencer_of_either_chain_stops_a_departure(tmp_path, side, words, check):
    lab = made(tmp_path)
    ctx = lab.fresh()
    ends = {c: replace(e, sequencer=lambda: words) if c == CHAINS[side] else e for c, e in ctx.ends.items()}
    ctx = replace(ctx, ends=ends)
    with ctx.log.lease():
        plan = plan_transfer(ctx, lab.wish())
    assert {v.check for v in plan.verdicts} == ({check} if check else set())


@pytest.mark.parametrize(
    ("state", "attested", "expired", "age_s", "worth"),
    [
        (S.DEPARTED, False, False, 10.0, 0.99),
        (S.OVERDUE, False, False, 90_000.0, 0.99),
        (S.STUCK, True, False, 90_000.0, 0.99),
        (S.STUCK, False, False, 86_400.0, 0.99),
        (S.STUCK, False, False, 86_401.0, 0.99 * 0.6),
        (S.STUCK, False, True, 90_000.0, 0.99),
        (S.WRITTEN_DOWN, True, False, 10.0, 0.0),
    ],
)
def test_only_a_stuck_transfer_that_nobody_attested_for_a_day_is_reported_with_a_haircut(
    tmp_path, state, attested, expired, age_s, worth
):
    lab = made(tmp_path, fee_pips=10_000, unverified_haircut=0.4)
    saga = lab.plan().saga
    assert saga is not None
    moving = MovingCash(
        replace(saga, state=state), saga.transfer.amount, Sighting((1, 1), attested=attested, expired=expired)
    )
    assert mark(moving, lab.rules, age_s) == pytest.approx(worth)


def test_a_fast_transfer_is_delivered_before_its_departure_is_final_and_settled_only_after(tmp_path):
    lab = made(tmp_path)
    assert lab.plan(speed="fast").saga is not None
    seen = []
    for _ in range(40):
        saga = lab.look()[-1]
        ctx = lab.fresh(live=False)
        final = ctx.bridge(saga.transfer).find(saga.transfer).final
        seen.append((saga.state, final))
        assert count(ctx).mismatch == 0
        if saga.state is S.SETTLED:
            break
        lab.world.mine()
    assert (S.RECEIVED, False) in seen, "it arrived while its departure could still go away"
    assert seen[-1] == (S.SETTLED, True)


def test_a_transfer_that_waits_for_finality_signs_no_delivery_before_it(tmp_path):
    lab = made(tmp_path)
    assert lab.plan().saga is not None
    saga = lab.until(lambda s: s.state is S.DEPARTED)
    sent = replace(saga.attempts[0], leg="deliver")
    ctx = lab.fresh()
    with ctx.log.lease(), pytest.raises(ExecutionError, match="departed signs no deliver"):
        ctx.log.signed(ctx.log.sagas()[-1], sent)
    assert lab.until(lambda s: s.state is S.SETTLED).arrived == saga.transfer.amount


def test_a_fast_transfer_whose_departure_goes_away_is_said_to_be_reorganised(tmp_path):
    """What allow_unfinal accepts: the arrival stays, the departure may go away; an alarm says so at the next look."""
    lab = made(tmp_path)
    assert lab.plan(speed="fast").saga is not None
    lab.until(lambda s: s.state is S.RECEIVED)
    lab.world.a.reorg(3, keep=False)
    lab.look()
    assert any(name == "reorganised" for name, _ in lab.alarms)
