"""A keeper on the local market behind every fault: the six counts are zero, and each can be other than zero."""

from __future__ import annotations

import shutil

import pytest

from lake.head_ring import Extended, Head, Reorged
from pipelines.demo.keep_trial import SIX, try_keeper
from pipelines.demo.trial_market import Followed, missed


@pytest.mark.chain
@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm: the local chain needs Node.js")
def test_sixty_blocks_behind_every_fault_end_with_six_zeros():
    found = try_keeper(60, faults=True, seed=3)
    assert [zero(found) for zero in SIX] == [0] * 6, found
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
