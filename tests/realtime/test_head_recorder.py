"""What a keeper hears goes to the lake beside its decisions, and nothing of that stands in their way."""

from __future__ import annotations

import asyncio
import random

import pytest

from lake.errors import StoreError
from lake.evm import read_head
from lake.head_ring import HeadRing
from lake.rpc import Rpc
from lake.sources.head_log import HeadLog
from lake.store import Lake
from lake.transport import FakeTransport
from lake.universe import CHAINS
from pipelines.scheduled.head_recorder import booked, recorder
from tests.realtime.truth import TruthBlocks, TruthChain

NODE = Rpc("http://a.invalid", transport=FakeTransport({}), tries=1)


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path / "lake"))


def heard(blocks=80):
    """Return the events of a chain of so many blocks."""
    truth, ring = TruthChain(), HeadRing(CHAINS[1])
    nodes = TruthBlocks(truth, random.Random(0))
    return [e for b in [truth.at(truth.first), *truth.mine(blocks)] for e in ring.take(read_head(b), nodes)]


async def passed(events, into):
    async def source():
        for event in events:
            yield event

    return [event async for event in booked(source(), into)]


def test_events_pass_unchanged_and_confirmed_blocks_are_in_the_lake_at_the_end(lake, tmp_path):
    events = heard()
    with recorder(lake, CHAINS[1], tmp_path / "state", NODE) as log:
        assert asyncio.run(passed(events, log)) == events
    assert lake.scan("heads").collect().height == len(events) - 64
    with recorder(lake, CHAINS[1], tmp_path / "state", NODE) as log:
        assert log.since[-1] == events[-1].head


def test_a_second_process_records_nothing_and_is_not_stopped(lake, tmp_path):
    with recorder(lake, CHAINS[1], tmp_path, NODE) as first, recorder(lake, CHAINS[1], tmp_path, NODE) as second:
        assert first is not None
        assert second is None
        events = heard(3)
        assert asyncio.run(passed(events, second)) == events


def test_a_damaged_cursor_or_a_lake_that_refuses_stops_no_decision(lake, tmp_path, monkeypatch):
    (tmp_path / "heads-1.json").write_text("{")
    with recorder(lake, CHAINS[1], tmp_path, NODE) as log:
        assert log is None
    (tmp_path / "heads-1.json").unlink()

    def full(*_):
        raise StoreError("the disk is full")

    monkeypatch.setattr(HeadLog, "_write", full)
    with recorder(lake, CHAINS[1], tmp_path, NODE) as log:
        events = heard()
        assert asyncio.run(passed(events, log)) == events
    assert lake.scan("heads").collect().is_empty()
