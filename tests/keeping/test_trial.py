"""A keeper on the local market behind every fault: the six counts are zero, and each can be other than zero."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from lake.head_ring import Extended, Head, Reorged
from pipelines.demo.keep_trial import SIX, settled, try_keeper
from pipelines.demo.trial_books import Followed, Looks
from pipelines.demo.trial_market import missed
from policy.keeping.last_figures import LastFigures


@pytest.mark.chain
def test_sixty_blocks_behind_every_fault_end_with_six_zeros():
    found = try_keeper(60, faults=True, seed=3)
    assert [zero(found) for zero in SIX] == [0] * 6, found
    assert found["settled"]
    assert len(found["load"]) == 2
    assert found["executions"] >= 1
    assert found["reorgs"] >= 1
    assert sum(found["faults"].values()) > 10


def named(name: str) -> str:
    return f"0x{ord(name):064x}"


def head(number: int, name: str, parent: str) -> Head:
    return Head(number, named(name), named(parent), 12 * number, 10**9, 15, 30)


def truth(**blocks: str) -> dict[int, str]:
    return {int(number[1:]): named(name) for number, name in blocks.items()}


def test_a_chain_that_was_followed_wrongly_is_counted():
    followed = Followed(first=1)
    one, two, other = head(1, "a", "0"), head(2, "b", "a"), head(2, "c", "a")
    followed.book(Extended(one))
    followed.book(Extended(two))
    assert followed.against(truth(b1="a", b2="b")) == {"wrong": 0, "twice": 0, "missing": 0}
    assert followed.against(truth(b1="a", b2="c", b3="d")) == {"wrong": 1, "twice": 0, "missing": 1}
    followed.book(Reorged(one, (two,), (other,)))
    assert followed.against(truth(b1="a", b2="c")) == {"wrong": 0, "twice": 0, "missing": 0}
    followed.book(Extended(other))
    assert followed.against(truth(b1="a", b2="c"))["twice"] == 1


def test_looks_are_known_by_block_whatever_order_they_came_in():
    looks = Looks()
    for block, answered in ((7, True), (9, False), (5, True), (9, True)):
        looks[block] = answered
    assert dict(looks) == {5: True, 7: True, 9: True}
    assert (list(looks), len(looks), looks.newest, looks.get(8), looks.get(4)) == ([5, 7, 9], 3, 9, None, None)


def test_the_last_figures_of_a_long_run_are_kept_in_order():
    recent = LastFigures(3)
    assert recent.values().tolist() == []
    for figure in range(5):
        recent.append(figure)
        assert recent.values().tolist() == list(range(max(figure - 2, 0), figure + 1))


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
        self.node = SimpleNamespace(head=lambda: SimpleNamespace(number=self.mined, hash=named(chr(self.mined))))

    def mine(self) -> None:
        self.mined += 1

    async def keep(self) -> None:
        while not self.dead:
            await asyncio.sleep(0.05)
            self.followed.book(Extended(head(self.mined, chr(self.mined), chr(self.mined - 1))))
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
