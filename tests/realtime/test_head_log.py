"""What a follower leaves in the lake: confirmed blocks once, whatever was undone or killed."""

from __future__ import annotations

import json
import random

import pytest

from lake.errors import DataError
from lake.evm import read_head
from lake.head_ring import HeadRing
from lake.heads import Extended
from lake.ingest import status
from lake.rpc import Rpc
from lake.sources.head_log import CONFIRMED, CURSOR_BLOCKS, HeadLog
from lake.store import Lake
from lake.transport import FakeTransport
from lake.units import utc
from lake.universe import CHAINS
from tests.realtime.truth import TruthBlocks, TruthChain

ETHEREUM = CHAINS[1]


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path / "lake"))


def events(truth, ring, blocks):
    """Return what the ring makes of announcements, all answered truly."""
    nodes = TruthBlocks(truth, random.Random(0))
    return [e for b in blocks for e in ring.take(read_head(b), nodes)]


def stored(lake):
    return lake.scan("heads").sort("number").collect()


def test_confirmed_blocks_are_written_each_hour_and_at_the_end(lake, tmp_path):
    truth, ring = TruthChain(), HeadRing(ETHEREUM)
    log = HeadLog(lake, ETHEREUM, tmp_path / "state" / "heads.json")
    for event in events(truth, ring, [truth.at(truth.first), *truth.mine(364)]):
        log.book(event)
        if truth.first + 300 > event.head.number:
            assert log.written == 0
    assert log.written == 301  # an hour of blocks below 64 on top
    for _ in range(3):
        for event in events(truth, ring, truth.reorg(20, 22)):
            log.book(event)
    log.close()
    rows = stored(lake)
    assert rows["number"].to_list() == list(range(truth.first, truth.height - CONFIRMED + 1))
    want = [truth.at(n) for n in rows["number"]]
    assert rows["base_fee_wei"].to_list() == [int(b["baseFeePerGas"], 16) for b in want]
    assert rows["ts"].dt.epoch("s").to_list() == [int(b["timestamp"], 16) for b in want]
    assert rows["tip_p50_wei"].null_count() == rows.height
    (told,) = status(lake, utc("2030-01-01")).to_dicts()
    assert (told["table"], told["key"], told["rows"], told["gaps"]) == ("heads", "1", rows.height, 0)


@pytest.mark.parametrize("seed", range(3))
def test_kills_lose_nothing(lake, tmp_path, seed):
    rng, truth, cursor = random.Random(seed), TruthChain(), tmp_path / "heads.json"
    truth.mine(5)
    for _ in range(8):
        log, ring = HeadLog(lake, ETHEREUM, cursor), HeadRing(ETHEREUM)
        ring.seed(log.since)
        for _ in range(rng.randint(1, 120)):
            turn = rng.random() < 0.1 and truth.height - truth.first > 60
            new = truth.reorg(rng.randint(1, 50), rng.randint(50, 52)) if turn else truth.mine(1)
            for event in events(truth, ring, new[-1:]):
                log.book(event)
        if rng.random() < 0.5:
            log.close()  # else killed: only what the cursor holds is left
    log.close()
    rows = stored(lake)
    numbers = rows["number"].to_list()
    assert numbers == list(range(numbers[0], truth.height - CONFIRMED + 1))
    assert numbers[0] <= truth.first + 6
    assert rows["base_fee_wei"].to_list() == [int(truth.at(n)["baseFeePerGas"], 16) for n in numbers]


def test_the_cursor_is_saved_every_32_blocks_and_at_the_end(lake, tmp_path):
    truth, ring, cursor = TruthChain(), HeadRing(ETHEREUM), tmp_path / "heads.json"
    log = HeadLog(lake, ETHEREUM, cursor)
    taken = events(truth, ring, [truth.at(truth.first), *truth.mine(CURSOR_BLOCKS)])
    for event in taken[:-2]:
        log.book(event)
    assert not cursor.exists()
    log.book(taken[-2])
    assert cursor.stat().st_mode & 0o077 == 0
    assert HeadLog(lake, ETHEREUM, cursor).since == log.since
    log.book(taken[-1])
    log.close()
    assert HeadLog(lake, ETHEREUM, cursor).since[-1].hash == truth.canonical[-1]


def test_tips_come_from_the_fee_history_and_empty_blocks_have_none(lake, tmp_path):
    truth, ring = TruthChain(), HeadRing(ETHEREUM)
    answer = lambda count, last, _: {  # noqa: E731
        "oldestBlock": hex(int(last, 16) - int(count, 16) + 1),
        "gasUsedRatio": [0.5 * (i % 2) for i in range(int(count, 16))],
        "reward": [["0x5", hex(100 + i)] for i in range(int(count, 16))],
    }
    rpc = Rpc("http://a.invalid", transport=FakeTransport({"eth_feeHistory": answer}))
    log = HeadLog(lake, ETHEREUM, tmp_path / "heads.json", rpc)
    for event in events(truth, ring, [truth.at(truth.first), *truth.mine(70)]):
        log.book(event)
    log.close()
    assert stored(lake)["tip_p50_wei"].to_list() == [None, 101, None, 103, None, 105, None]
    assert stored(lake)["tip_p10_wei"].to_list() == [None, 5, None, 5, None, 5, None]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"heads": [[1, 2]]}', '{"heads": [[1, "a", "b", 2, 3, 4, -5]]}'])
def test_a_damaged_cursor_is_told_with_the_remedy(lake, tmp_path, text):
    (tmp_path / "heads.json").write_text(text)
    with pytest.raises(DataError, match="is damaged .*move it away"):
        HeadLog(lake, ETHEREUM, tmp_path / "heads.json")


def test_a_cursor_of_another_chain_is_refused(lake, tmp_path):
    (tmp_path / "heads.json").write_text(json.dumps({"chain_id": 10, "heads": []}))
    with pytest.raises(DataError, match="is of chain 10, followed is 1"):
        HeadLog(lake, ETHEREUM, tmp_path / "heads.json")


def test_a_jump_leaves_a_hole_and_no_doubtful_block(lake, tmp_path):
    truth, ring = TruthChain(), HeadRing(ETHEREUM)
    log = HeadLog(lake, ETHEREUM, tmp_path / "heads.json")
    before = events(truth, ring, [truth.at(truth.first), *truth.mine(99)])
    for event in before:
        log.book(event)
    truth.mine(400)
    (jump,) = events(truth, ring, [truth.at(truth.height)])
    log.book(jump)
    for event in events(truth, ring, truth.mine(CONFIRMED + 3)):
        assert isinstance(event, Extended)
        log.book(event)
    log.close()
    numbers = stored(lake)["number"].to_list()
    assert numbers == [*range(truth.first, truth.first + 36), *range(jump.head.number, jump.head.number + 4)]
    assert status(lake, utc("2030-01-01"))["gaps"].to_list() == [jump.head.number - truth.first - 36]
