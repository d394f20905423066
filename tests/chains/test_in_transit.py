"""Money between chains is counted once for every order of reads, whatever moved meanwhile."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import ConfigError, DataError
from policy.chains.in_transit import Crossing, counted

CHAINS = (1, 8453, 42161)


class World:
    """Balances on three chains by block, and transfers that depart, arrive and return at blocks of their own."""

    def __init__(self, seed: int, blocks: int, transfers: int) -> None:
        r = random.Random(seed)
        self.start = {c: r.randrange(10_000, 20_000) for c in CHAINS}
        self.events: list[tuple[int, int, int]] = []  # chain, block, change of its balance
        self.crossings: list[Crossing] = []
        self.fees_at: list[tuple[int, int, int]] = []  # chain, block of departure, fee
        for _ in range(transfers):
            a, b = r.sample(CHAINS, 2)
            sent = r.randrange(1, 2_000)
            due = max(1, sent - r.randrange(3))
            departed = r.randrange(1, blocks)
            arrived = r.choice([None, r.randrange(1, blocks)])  # each chain numbers its own blocks
            returned = r.choice([None, r.randrange(departed + 1, blocks + 1)]) if arrived is None else None
            self.crossings.append(Crossing(a, b, sent, due, departed, arrived, returned))
            self.events.append((a, departed, -sent))
            self.events += [(b, arrived, due)] if arrived is not None else []
            self.events += [(a, returned, due)] if returned is not None else []

    def balance(self, chain: int, block: int) -> int:
        return self.start[chain] + sum(d for c, at, d in self.events if c == chain and at <= block)


@given(seed=st.integers(0, 10**6), transfers=st.integers(0, 6), data=st.data())
@settings(max_examples=150)
def test_counted_once_for_every_block_of_every_chain(seed, transfers, data):
    world = World(seed, 12, transfers)
    read = {c: data.draw(st.integers(0, 12)) for c in CHAINS}
    seen = counted(world.crossings, read)
    total = sum(world.balance(c, read[c]) for c in CHAINS) + seen.amount - sum(seen.twice.values())
    gone = sum(
        c.sent - c.due
        for c in world.crossings
        if c.departed <= read[c.origin] or (c.arrived is not None and c.arrived <= read[c.destination])
    )
    assert total == sum(world.start.values()) - gone
    assert seen.read_again == frozenset(seen.twice)


@pytest.mark.parametrize("order", list(itertools.permutations(CHAINS)))
def test_counted_once_whichever_chain_is_read_first(order):
    """Time goes on between the reads: a transfer leaves and lands before, between and after them."""
    for leaves, lands in itertools.product(range(7), range(7)):
        if lands <= leaves:
            continue
        one = Crossing(1, 8453, 500, 499, departed=leaves, arrived=lands)
        read = {c: 2 * i + 1 for i, c in enumerate(order)}  # the blocks of all chains are moments here
        seen = counted([one], read)
        held = {
            1: 1_000 - (500 if leaves <= read[1] else 0),
            8453: 1_000 + (499 if lands <= read[8453] else 0),
            42161: 1_000,
        }
        whole = sum(held.values()) + seen.amount - sum(seen.twice.values())
        begun = leaves <= read[1] or lands <= read[8453]
        assert whole == 3_000 - begun, (order, leaves, lands)
        assert bool(seen.read_again) == (lands <= read[8453] and leaves > read[1])


def test_a_second_read_needs_no_deduction():
    one = Crossing(1, 8453, 500, 500, departed=7, arrived=3)
    first = counted([one], {1: 6, 8453: 3})
    assert (first.amount, first.twice, first.read_again) == (0, {1: 500}, {1})
    again = counted([one], {1: 7, 8453: 3})
    assert (again.amount, again.twice, again.read_again) == (0, {}, frozenset())


def test_a_refund_is_at_home_again():
    one = Crossing(1, 10, 500, 500, departed=5, returned=9)
    assert [counted([one], {1: at, 10: 99}).amount for at in (4, 5, 8, 9)] == [0, 500, 500, 0]


def test_both_ends_are_refused_by_name():
    with pytest.raises(DataError, match=r"arrived \(block 3\) and returned \(block 4\).*read them again"):
        counted([Crossing(1, 10, 5, 5, 1, 3, 4)], {1: 9, 10: 9})


def test_a_chain_that_was_not_read_is_named():
    with pytest.raises(ConfigError, match="touches chain 10, which was not read"):
        counted([Crossing(1, 10, 5, 5)], {1: 9})


@pytest.mark.parametrize(("sent", "due"), [(0, 0), (5, 6), (5, 0), (-1, -1)])
def test_amounts_that_cannot_be_are_refused(sent, due):
    with pytest.raises(ConfigError, match="0 < due <= sent"):
        Crossing(1, 10, sent, due)


def test_a_transfer_to_itself_is_refused():
    with pytest.raises(ConfigError, match="to itself"):
        Crossing(1, 1, 5, 5)
