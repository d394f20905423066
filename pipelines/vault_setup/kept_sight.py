"""What a keeper knows of a portfolio over several chains: one of them at each block, the others as last read.

An old reading asks for a decision too early or too late and never makes one: a decision reads every chain itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from lake.errors import ForedriftError
from pipelines.monitor.logs import log
from pipelines.settlements.reconcile import journal_of
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.decider import Choice
from pipelines.vault_setup.kept import Standing
from pipelines.vault_setup.transfer_fleet import Fleet
from pipelines.vault_setup.whole_look import WholeLook, look_at_whole
from policy.execution.base import Snapshot
from policy.execution.context import EngineContext
from policy.keeping.desk import Occasion, SeenBlock, VaultReading
from policy.keeping.whole_reading import LastKnown, last_known, whole_reading

REFRESH_S = 600
"""The other chains are read anew this often: a tenth of the time between two scheduled runs, which read them at all."""
RETRY_S = 60
"""After a reading that failed: a node that is down holds up the looks for as long as it takes to say so."""
STALE_S = 1_800
"""Three readings missed: what is known of the other chains is no ground to act on any more."""
NEVER_S = -(10**9)


class KeptMember(Protocol):
    """One vault of the portfolio with its chain; ``PaperDesk`` and ``ChainDesk`` fit."""

    @property
    def standing(self) -> Standing:
        """Its settings and the choice of the hour."""
        ...

    def given(self, head: SeenBlock) -> Choice:
        """Return what decides at ``head``."""
        ...

    def opened(self, head: SeenBlock, *, live: bool) -> AbstractContextManager[EngineContext]:
        """Open the engine's context at ``head``."""
        ...

    def cycle(self, occasion: Occasion) -> AbstractContextManager[EngineContext]:
        """Open it for a cycle, whose records are written to the lake afterwards."""
        ...


@dataclass(slots=True)
class WholeSight:
    """The vaults ``members`` of ``fleet`` by chain, at the blocks of the first one's; ``follows``: as of LastKnown.

    ``held``: what the first vault held when the others were read, at ``read_s``; ``why``: what kept the last try, at
    ``tried_s``, from telling.
    """

    fleet: Fleet
    members: Mapping[int, KeptMember]
    follows: frozenset[int] = frozenset()
    known: LastKnown | None = None
    held: tuple[int, ...] = ()
    read_s: int = NEVER_S
    tried_s: int = NEVER_S
    why: str = ""

    @property
    def here(self) -> int:
        """The chain whose blocks are looked at."""
        return self.fleet.first.chain.id

    def flying(self) -> list[int]:
        """Return the chains on which a plan is in flight."""
        return [c for c, d in self.fleet.members.items() if journal_of(d).in_flight() is not None]

    def forget(self) -> None:
        """Let the next look read every chain: something was done."""
        self.read_s = self.tried_s = NEVER_S

    def widened(self, snapshot: Snapshot, own: VaultReading, head: SeenBlock) -> VaultReading:
        """Return ``own``, the first vault's reading at ``head``, as that of the whole; unknown where it cannot be.

        The other chains are read anew when they are due, and at once where the first vault's holdings changed: what
        came or left may be what is between the chains.
        """
        if self.flying():  # to be looked up, which needs no weights; the block after it decides
            return replace(own if self.known is None else whole_reading(own, snapshot, self.known), flight=True)
        now = head.timestamp_s
        if (self.held != snapshot.holdings or now - self.read_s >= REFRESH_S) and now - self.tried_s >= RETRY_S:
            self._read(head)
        if self.known is None or now - self.read_s > STALE_S:
            return replace(own, unknown=f"the other chains are not known: {self.why}")
        if self.held != snapshot.holdings:
            return replace(own, unknown=self.why or "its holdings moved since the other chains were read")
        return whole_reading(own, snapshot, self.known)

    def look(self, head: SeenBlock) -> WholeLook:
        """Read every chain for a decision at ``head``, which is one of the vaults' plan nonces."""

        @contextmanager
        def opened(deployment: VaultSettings) -> Iterator[EngineContext]:
            with self.members[deployment.chain.id].opened(head, live=False) as ctx:
                yield replace(ctx, per_nonce=True)

        choices = {c: m.given(head) for c, m in self.members.items()}
        at = datetime.fromtimestamp(head.timestamp_s, UTC)
        return look_at_whole(self.fleet, choices, self.members[self.here].standing.lake, at, opened)

    def _read(self, head: SeenBlock) -> None:
        """Read every chain; what was known before stands where one cannot be read."""
        self.tried_s, before = head.timestamp_s, self.why
        try:
            found = self.look(head)
        except ForedriftError as error:
            self.why = str(error)
        else:
            self.why = found.why
            if found.portfolio is not None:
                seen = {c: one.seen.snapshot for c, one in found.looks.items() if one.seen is not None}
                self.known = last_known(found.portfolio, self.here, seen, self.follows)
                self.held, self.read_s, self.tried_s = seen[self.here].holdings, head.timestamp_s, NEVER_S
        if self.why and self.why != before:
            log("whole", vault=self.fleet.first.name, unknown=self.why)
