"""Laws of joining heads by parent hash, against a generated chain that knows the truth."""

from __future__ import annotations

import random
from collections import deque

import pytest

from lake.errors import RpcError
from lake.evm import next_base_fee, read_head
from lake.head_ring import HeadRing
from lake.heads import Head, Jumped, Reorged
from lake.universe import CHAINS
from tests.realtime.truth import RIGHT, Account, TruthBlocks, TruthChain


def announced(new, rng, waiting):
    """Yield the new blocks as a bad connection announces them: lost, twice, swapped, or later."""
    for block in new:
        draw = rng.random()
        if draw < 0.1:
            continue
        if draw < 0.2:
            waiting.append(block)
            continue
        yield block
        if draw < 0.35:
            yield block
        while waiting and rng.random() < 0.5:
            yield waiting.popleft()


@pytest.mark.parametrize("seed", range(8))
def test_every_block_counts_once_whatever_is_announced(seed):
    rng = random.Random(seed)
    truth, account, waiting = TruthChain(), Account(), deque()
    nodes = TruthBlocks(truth, rng)
    ring = HeadRing(CHAINS[1])
    depths = [1, 1, 1, 2, 3, 7, 40, 150, 240]  # and what went unheard before comes on top

    def deliver(block):
        before = (ring.tip, len(account.net))
        try:
            for event in ring.take(read_head(block), nodes):
                account.book(event)
        except RpcError:
            assert (ring.tip, len(account.net)) == before

    deliver(truth.at(truth.height))
    for step in range(600):
        nodes.lag, nodes.sick = rng.choice([0, 0, 0, 1, 4]), rng.choice([0.0] * 9 + [0.2])
        room = truth.height - account.first - 1
        depth = rng.choice(depths)
        if step % 11 == 0 and depth <= room:
            new = truth.reorg(depth, max(1, depth + rng.choice([-1, 0, 1, 2])))
        else:
            new = truth.mine(rng.choice([1, 1, 1, 2, 5]))
        for block in announced(new, rng, waiting):
            deliver(block)
    nodes.lag, nodes.sick = 0, 0.0
    deliver(truth.mine(1)[0])
    assert ring.tip is not None
    assert ring.tip.hash == truth.canonical[-1]
    assert account.jumps == 1  # the first head
    assert account.figures(truth) == RIGHT
    assert account.reorgs > 15
    assert account.deepest > 200


def ring_at(truth, nodes, blocks):
    ring = HeadRing(CHAINS[1])
    for block in [truth.at(truth.height), *truth.mine(blocks)]:
        ring.take(read_head(block), nodes)
    return ring


@pytest.mark.parametrize(("depth", "joined"), [(1, True), (255, True), (256, True), (257, False)])
def test_a_fork_is_walked_back_256_blocks_and_no_further(depth, joined):
    truth = TruthChain()
    nodes = TruthBlocks(truth, random.Random(0))
    ring = ring_at(truth, nodes, 600)
    new = truth.reorg(depth, depth + 1)
    (event,) = ring.take(read_head(new[-1]), nodes)
    assert nodes.asked <= 257 + 1
    if not joined:
        assert isinstance(event, Jumped)
        assert "more than 256 blocks" in event.reason
        assert ring.tip == event.head
        return
    assert isinstance(event, Reorged)
    assert (len(event.undone), len(event.applied)) == (depth, depth + 1)
    assert [h.number for h in event.undone] == sorted((h.number for h in event.undone), reverse=True)


@pytest.mark.parametrize(("gap", "joined"), [(2, True), (257, True), (258, False)])
def test_a_gap_is_filled_by_hash_or_jumped(gap, joined):
    truth = TruthChain()
    nodes = TruthBlocks(truth, random.Random(0))
    ring = ring_at(truth, nodes, 5)
    before = nodes.asked
    moves = ring.take(read_head(truth.mine(gap)[-1]), nodes)
    assert nodes.asked - before == (gap if joined else 1)
    assert len(moves) == (gap if joined else 1)


def test_an_old_head_changes_nothing_while_the_nodes_say_so():
    truth = TruthChain()
    nodes = TruthBlocks(truth, random.Random(0))
    ring = ring_at(truth, nodes, 20)
    orphan = truth.reorg(3, 3)[-1]
    truth.reorg(3, 5)
    ring.take(read_head(truth.at(truth.height)), nodes)
    assert ring.take(read_head(orphan), nodes) == ()
    assert ring.tip is not None
    assert ring.tip.hash == truth.canonical[-1]


def test_a_parent_of_another_number_is_a_lie():
    truth = TruthChain()
    nodes = TruthBlocks(truth, random.Random(0))
    ring = ring_at(truth, nodes, 3)
    new = truth.mine(3)
    truth.blocks[new[1]["hash"]] = {**new[1], "number": hex(5)}  # its hash stays
    tip = ring.tip
    with pytest.raises(RpcError, match="its parent was answered as block 5"):
        ring.take(read_head(new[2]), nodes)
    assert ring.tip == tip


def test_the_next_base_fee_is_the_chains_own():
    figures = (10**9, 40_000_000, 60_000_000)
    for chain_id in (1, 8453, 42161):
        head = Head(1, "0x1", "0x0", 0, *figures, CHAINS[chain_id])
        assert head.next_base_fee_wei == next_base_fee(*figures, CHAINS[chain_id])
    assert Head(1, "0x1", "0x0", 0, *figures).next_base_fee_wei == 1_041_666_666
