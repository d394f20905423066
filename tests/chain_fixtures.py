"""Fixtures that give a test a real chain. ``tests/conftest.py`` makes them known everywhere.

``localnet``: a local market of its own (pools, feeds, tokens; see policy.localnet.market.Localnet); what
the test does to it is undone afterwards. Mark such tests ``chain``; without Node.js they skip with
the reason, and fail in CI.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from tests.needs import need_node

if TYPE_CHECKING:
    from policy.localnet.chain_pair import ChainPair
    from policy.localnet.market import Localnet

REORG_ROOM = 4  # empty blocks between the snapshot and the test, so that a test may undo up to this many
CLOCK = datetime.fromisoformat(os.environ.get("FOREDRIFT_TEST_CLOCK", "2024-05-01T12:10:00+00:00"))
"""When the local chains of the tests start. No test may depend on it: set FOREDRIFT_TEST_CLOCK to the last seconds of
an hour, of a day or of a year to see."""
HOUR_S = 3_600
_LATER = itertools.count()
"""Seconds by which each test begins later: Anvil keeps states by block hash, and forgets those it has seen twice."""


def hour_ahead(net: Localnet, room_s: int = 60) -> int:
    """Return the first full hour (Unix seconds) at least ``room_s`` after the newest block."""
    return -(-(net.node.head().time + room_s) // HOUR_S) * HOUR_S


def into_the_hour(net: Localnet, seconds: int) -> None:
    """Mine a block ``seconds`` into the next hour; decisions are made once an hour, so a test may need one hour."""
    net.mine(seconds=hour_ahead(net) + seconds - net.node.head().time)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Miss Node.js for tests marked ``chain`` before any of their fixtures starts something."""
    if item.get_closest_marker("chain") is not None:
        need_node()


@pytest.fixture(scope="session")
def localnet_session() -> Iterator[Localnet]:
    """The process behind ``localnet``, one a test session; use ``localnet`` unless you must not be undone."""
    from policy.localnet.market import start

    with start(at=CLOCK) as net:
        yield net


@contextmanager
def fresh(net: Localnet, room: int) -> Iterator[Localnet]:
    """Yield ``net`` with ``room`` empty blocks ahead, which a test may undo; take back whatever the test does to it."""
    saved = net.snapshot()
    net.mine(seconds=12 + next(_LATER))
    net.mine(room - 1)
    try:
        yield net
    finally:
        net.faults.clear()
        net.front.calls.clear()
        net.front.kept_states = None
        net.front.old_reads.clear()
        net.front.refused.clear()
        net.node.searchers.clear()
        net.node.backrunners.clear()
        net.node.refused.clear()
        net.node.automine = net.node.leaky_relay = False
        net.revert(saved)


@pytest.fixture
def localnet(localnet_session: Localnet) -> Iterator[Localnet]:
    """A fresh local market at default prices, 1 gwei base fee, not mining by itself."""
    with fresh(localnet_session, REORG_ROOM) as net:
        yield net


@pytest.fixture(scope="session")
def pair_session() -> Iterator[ChainPair]:
    """The processes behind ``chain_pair``, one pair a test session."""
    from policy.localnet.chain_pair import pair

    with pair(at=CLOCK) as made:
        yield made


@pytest.fixture
def chain_pair(pair_session: ChainPair) -> Iterator[ChainPair]:
    """Two local chains with a vault of ours on each and CCTP between them; what the test does is undone."""
    with fresh(pair_session.nets[0], REORG_ROOM), fresh(pair_session.nets[1], REORG_ROOM):
        pair_session.level()
        yield pair_session
        pair_session.attester.faults.clear()
        pair_session.attester.renewed.clear()


@pytest.fixture
def automining(localnet: Localnet) -> Localnet:
    """``localnet`` that makes a block for every transaction it accepts."""
    localnet.node.automine = True
    return localnet
