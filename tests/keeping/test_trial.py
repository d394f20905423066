"""A keeper on the local market behind every fault: the six counts are zero, and each can be other than zero."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from lake.head_ring import Extended, Head, Reorged
from pipelines.demo.keep_trial import SIX, settled, try_keeper
from pipelines.demo.trial_market import Followed, missed


@pytest.mark.chain
def test_sixty_blocks_behind_every_fault_end_with_six_zeros():
    found = try_keeper(60, faults=True, seed=3)
    assert [zero(found) for zero in SIX] == [0] * 6, found
    assert found["settled"]
    assert len(found["load"]) == 2
    assert found["executions"] >= 1
    assert found["reorgs"] >= 1
    assert sum(found["faults"].values()) > 10


def head(number: int, name: str, parent: str) -> Head:
    return Head(number, name, parent, 12 * number, 10**9, 15, 30)


def test_a_chain_that_was_followed_wrongly_is_counted():
    followed = Followed(first=1)
    one, two, other = head(1, "a", "0"), head(2, "b", "a"), head(2, "c", "a")
    followed.book(Extended(one))
    followed.book(Extended(two))
    assert followed.against({1: "a", 2: "b"}) == {"wrong": 0, "twice": 0, "missing": 0}
    assert followed.against({1: "a", 2: "c", 3: "d"}) == {"wrong": 1, "twice": 0, "missing": 1}
    followed.book(Reorged(one, (two,), (other,)))
    assert followed.against({1: "a", 2: "c"}) == {"wrong": 0, "twice": 0, "missing": 0}
    followed.book(Extended(other))
    assert followed.against({1: "a", 2: "c"})["twice"] == 1


def test_a_trigger_is_missed_when_three_looks_in_a_row_pass_it_over():
    due = dict.fromkeys(range(10), (10.0, 20.0))
    assert missed(due, dict.fromkeys(range(10), False), 1.0) == [0]
    assert missed(due, {n: n % 3 == 2 for n in range(10)}, 1.0) == []
    assert missed(due, {0: False, 7: False, 9: False}, 1.0) == [0]
    assert missed(due, {0: False, 7: False}, 1.0) == []  # what could not be looked at is not held against it
    assert missed(dict.fromkeys(range(10), (10.0, 10.5)), dict.fromkeys(range(10), False), 1.0) == []


class Slow:
    """A chain whose keeper looks at a block some time after it was made, with a plan on its way for some looks."""

    def __init__(self, *, dead: bool = False, open_looks: int = 3) -> None:
        self.dead, self.open_looks, self.mined = dead, open_looks, 0
        self.followed = Followed()
        journal = SimpleNamespace(in_flight=lambda: None if len(self.looks) > open_looks else "a plan")
        self.looks: dict[int, bool] = {}
        self.trial = SimpleNamespace(looks=self.looks, ctx=SimpleNamespace(journal=journal))
        self.node = SimpleNamespace(head=lambda: SimpleNamespace(number=self.mined, hash=str(self.mined)))

    def mine(self) -> None:
        self.mined += 1

    async def keep(self) -> None:
        while not self.dead:
            await asyncio.sleep(0.05)
            self.followed.chain[self.mined] = str(self.mined)
            self.looks[self.mined] = True

    async def run(self, room_s: float) -> bool:
        keeping = asyncio.create_task(self.keep())
        try:
            return await settled(self, self.trial, self.followed, room_s)
        finally:
            keeping.cancel()


def test_a_trial_ends_when_the_keeper_is_at_the_tip_however_slowly_it_looks():
    slow = Slow()
    assert asyncio.run(slow.run(60.0))
    assert sorted(slow.looks) == list(range(1, slow.mined + 1))  # no block came before the look at the one before it
    assert slow.mined == slow.open_looks + 1


def test_a_keeper_that_looks_no_more_has_not_settled_and_no_block_was_piled_on_it():
    dead = Slow(dead=True)
    assert not asyncio.run(dead.run(0.2))
    assert dead.mined == 1
