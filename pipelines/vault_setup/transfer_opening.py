"""The chains of a portfolio opened for a run or a look: on paper, or over their nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from pipelines.vault_setup.transfer_fleet import Fleet, OpenFleet, not_begun
from pipelines.vault_setup.transfer_onchain import OnchainFleet, open_chains
from pipelines.vault_setup.transfer_world import looked_at, open_paper


@contextmanager
def open_fleet(fleet: Fleet, at: datetime, *, live: bool, told: Callable[..., None]) -> Iterator[OpenFleet]:
    """Yield the fleet's opened chains, held against every other run; ``at`` is the paper chains' time.

    ConfigError where a vault has not begun, or a setting of its chain is missing.
    """
    if fleet.on_paper:
        with open_paper(fleet, at, live=live, told=told) as paper:
            yield paper
        return
    with open_chains(fleet, at, live=live, told=told) as chains:
        yield chains


def opened_to_look(fleet: Fleet) -> OpenFleet | None:
    """Return the fleet's chains for a look that writes nothing; None while a paper vault has not begun."""
    if not_begun(fleet):
        return None
    if fleet.on_paper:
        return looked_at(fleet)
    return OnchainFleet(fleet, live=False, told=lambda *_: None)
