"""A cycle that did not trade is not repeated while it would say the same again."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from policy.execution.checks.verdicts import refused
from policy.execution.context import StepReport
from policy.execution.records.journal import Journal
from policy.keeping.desk import HOLD_BLOCKS, LONGEST_HOLD, Desk, paying
from tests.execution.simlab import chain
from tests.keeping.kit import header, keeper


@pytest.fixture
def desk(tmp_path) -> Desk:
    return Desk("v", Journal(tmp_path / "journal"), lambda _: pytest.fail("no cycle here"), Path("looks"))


def test_what_refused_is_held_longer_each_time_and_a_much_better_price_ends_it(desk):
    assert not desk.waits(100, 10.0, 12.0)
    lengths = []
    for _ in range(9):
        desk.took(StepReport(outcome="waited"), 100, 10.0, 12.0)
        lengths.append(desk.hold)
    assert lengths[:3] == [HOLD_BLOCKS, 2 * HOLD_BLOCKS, 4 * HOLD_BLOCKS]
    assert lengths[-1] == LONGEST_HOLD
    assert desk.waits(101, 10.0, 12.0)
    assert desk.waits(101, 9.5, 12.5)
    assert not desk.waits(101, 8.9, 12.0)
    assert not desk.waits(101, 10.0, 13.3)
    assert not desk.waits(101, 10.0, math.inf)  # a hard tolerance was reached
    assert not desk.waits(100 + LONGEST_HOLD, 10.0, 12.0)
    desk.took(StepReport(outcome="traded"), 101, 10.0, 12.0)
    assert not desk.waits(102, 10.0, 12.0)


def test_a_cycle_that_the_price_did_not_ask_for_holds_nothing(desk):
    desk.took(StepReport(outcome="waited"), 100, 13.0, 12.0)
    assert not desk.waits(101, 11.0, 12.0)


def test_on_paper_a_plan_is_said_once(desk):
    desk.took(StepReport(outcome="planned"), 100, 13.0, 12.0)
    assert desk.waits(101, 13.0, 12.0)


def test_a_trade_that_was_unprofitable_is_looked_at_again_where_gas_has_saved_the_difference(desk):
    verdict = refused("unprofitable", "no", benefit_usd=10.0, cost_usd=12.0)
    report = StepReport(outcome="refused", verdicts=[verdict], expected={"gas_usd": 8.0})
    assert paying(report, 20.0) == pytest.approx(15.0)
    assert paying(StepReport(outcome="refused"), 20.0) == math.inf
    desk.took(report, 100, 20.0, 30.0)
    assert desk.waits(101, 17.0, 30.0)  # a tenth and more below, and still not worth it
    assert not desk.waits(101, 15.0, 30.0)


def test_on_a_roll_up_a_look_waits_for_the_settlement_chains_price_and_not_its_own_blocks(tmp_path):
    """The block is at a hundredth of a gwei whatever the data cost; the surface is over what they cost."""
    sim = chain(base_fee_wei=10**7)
    held, _ = keeper(tmp_path, sim)
    given = held.market.changes
    held.market.changes = lambda head: replace(given(head), settlement_wei=42 * 10**9)
    held.on_block(header(sim), quiet="looks only")
    held.market.changes = given
    held.on_block(header(sim), quiet="looks only")
    assert [look[1] for look in held.ring.of(0)] == pytest.approx([42.0, 0.11], rel=0.15)
