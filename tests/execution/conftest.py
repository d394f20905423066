"""Fixtures of the execution path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.chain_fixtures import CLOCK, fresh
from tests.needs import need_node

if TYPE_CHECKING:
    from policy.localnet.market import Localnet

ROOM = 6  # empty blocks ahead of a test, so that it may undo some


@pytest.fixture(scope="session")
def vaultnet_session() -> Iterator[Localnet]:
    """A local market with a reference vault of three tokens in it."""
    from policy.localnet.market import start
    from policy.localnet.portfolio import reference_vault
    from tests.execution.chainlab import MANDATE, TARGETS

    need_node()
    with start(extras=[reference_vault(TARGETS, mandate=MANDATE)], at=CLOCK) as net:
        yield net


@pytest.fixture
def vaultnet(vaultnet_session: Localnet) -> Iterator[Localnet]:
    """The same, fresh for every test."""
    with fresh(vaultnet_session, ROOM) as net:
        yield net
