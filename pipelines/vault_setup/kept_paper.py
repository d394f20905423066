"""Simulated vaults as a keeper's desks: at each block they stand at the tape's prices and the head's gas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from lake.units import WEI_PER_GWEI
from pipelines.settlements.reconcile import journal_of
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.context import open_context, private_folders, state_lock
from pipelines.vault_setup.context_parts import portfolio_of, view_of
from pipelines.vault_setup.decider import Choice
from pipelines.vault_setup.kept import Standing, minute_s, rule_at
from pipelines.vault_setup.paper import DAY_S, MarketPoint, address, open_vault, own_wei
from pipelines.vault_setup.tape import Tape
from pipelines.vault_setup.transfer_fleet import kept_alone
from pipelines.wiring import lake_of
from policy.execution.context import EngineContext
from policy.keeping.chain_market import Widened
from policy.keeping.desk import Changes, Desk, Occasion, SeenBlock, VaultReading
from policy.keeping.readings import reading_of

TIP_WEI = 10**8  # what the simulated chain's blocks pay


@dataclass(slots=True)
class PaperDesk:
    """One simulated vault; its state stays in its file, so that a run by hand goes on where the keeper is."""

    standing: Standing
    tape: Tape
    quiet: bool = False  # leave the lake as it is: a replay's decisions belong to another time
    widened: Widened | None = None  # makes of its reading that of the portfolio it is part of

    def market(self, head: SeenBlock) -> tuple[Choice, MarketPoint]:
        """Return the hour's choice and the market at ``head``: the tape's prices, the next block's gas."""
        choice = self.standing.renewed(head.timestamp_s)
        known = self.tape.at(head.timestamp_s)
        given = choice.market
        return choice, replace(
            given, at=datetime.fromtimestamp(head.timestamp_s, UTC),
            close=np.array([known[a][0] for a in given.assets]), gas_gwei=head.next_base_fee_wei / WEI_PER_GWEI,
            native_usd=known[self.standing.deployment.chain.native][0],
            price_at={a: datetime.fromtimestamp(known[a][1], UTC) for a in given.assets},
        )  # fmt: skip

    def given(self, head: SeenBlock) -> Choice:
        """Return the hour's choice in the market at ``head``."""
        choice, market = self.market(head)
        return replace(choice, market=market)

    @contextmanager
    def opened(self, head: SeenBlock, *, live: bool) -> Iterator[EngineContext]:
        """Yield the context at ``head``; the vault's file is written where it is ``live``."""
        here = self.given(head)
        with open_context(self.standing.deployment, here.market.at, here, live=live) as ctx:

            def clock() -> datetime:  # its chain makes blocks of its own for a plan, and stands ahead of the tape then
                return max(here.market.at, datetime.fromtimestamp(ctx.node.head().time, UTC))

            limits = replace(ctx.limits, confirmations=1)
            yield replace(ctx, audit=self.standing.audit, clock=clock, limits=limits)

    @contextmanager
    def cycle(self, occasion: Occasion) -> Iterator[EngineContext]:
        """Yield the context of one cycle, which executes on paper; afterwards what it left is written to the lake."""
        policy = rule_at(self.standing, self.standing.renewed(occasion.head.timestamp_s), occasion)
        with self.opened(occasion.head, live=True) as ctx:
            yield replace(ctx, policy=policy)
        if not self.quiet:
            self.standing.record()

    def read(self, head: SeenBlock) -> VaultReading:
        """Return the vault at ``head``, read from its file; one that does not exist yet stands as it would begin."""
        deployment = self.standing.deployment
        choice, market = self.market(head)
        with state_lock(deployment):
            _, vault = open_vault(deployment, market)
        snapshot = vault.snapshot()
        view = view_of(replace(choice, market=market), snapshot)
        price = own_wei(deployment, market) + TIP_WEI
        beats = {t.address: float(DAY_S) for t in snapshot.tokens}
        found = reading_of(snapshot, portfolio_of(deployment), view, vault.pools(snapshot), price, beats)
        return found if self.widened is None else self.widened(snapshot, found, head)


class PaperMarket:
    """Reads the desks of simulated vaults."""

    def __init__(self, desks: Sequence[PaperDesk]) -> None:
        self._desks = tuple(desks)
        self._feeds = {a: address(f"feed {a}").lower() for d in desks for a in d.standing.deployment.portfolio.assets}

    def changes(self, head: SeenBlock) -> Changes:
        """Return every asset's price at ``head``."""
        prices: dict[str, float] = {}
        for tape in {id(d.tape): d.tape for d in self._desks}.values():
            prices |= {a: usd for a, (usd, _) in tape.at(head.timestamp_s).items()}
        return Changes({self._feeds[a]: p for a, p in prices.items() if a in self._feeds}, frozenset(), TIP_WEI)

    def read(self, row: int, head: SeenBlock) -> VaultReading:
        """Return vault ``row`` at ``head``."""
        return self._desks[row].read(head)


def tape_of(deployments: Sequence[VaultSettings], until: datetime | None) -> Tape:
    """Return what all of ``deployments`` see of prices; see ``paper_desks``."""
    assets = {a for d in deployments for a in (*d.portfolio.assets, d.chain.native)}
    return Tape(lake_of(deployments[0]), tuple(sorted(assets)), until)


def paper_desks(deployments: Sequence[VaultSettings], until: datetime | None = None) -> tuple[list[Desk], PaperMarket]:
    """Return the desks of simulated ``deployments`` on one tape, and what reads them.

    ``until``: the end of a replay, beyond which nothing is read; its decisions are kept in the vault's own files and
    out of the lake.
    """
    tape = tape_of(deployments, until)
    own, desks = [], []
    for one in deployments:
        kept_alone(one)
        private_folders(one)
        desk = PaperDesk(Standing(one), tape, quiet=until is not None)
        own.append(desk)
        looks = one.audit.parent / "looks"
        desks.append(
            Desk(
                one.name,
                journal_of(one),
                desk.cycle,
                looks,
                desk.standing.surface.look,
                patient=True,
                minute_s=minute_s(one),
            )
        )
    return desks, PaperMarket(own)
