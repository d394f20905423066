"""Vaults on a chain as a keeper's desks: contexts made once an hour, read in one batch a block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from lake.evm import BlockHeader
from lake.rpc import Rpc
from lake.universe import chain
from pipelines.settlements.reconcile import journal_of
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.context import private_folders
from pipelines.vault_setup.context_parts import view_of
from pipelines.vault_setup.decider import Choice
from pipelines.vault_setup.kept import RENEW_S, Standing, minute_s, rule_at
from pipelines.vault_setup.onchain import open_onchain
from pipelines.vault_setup.transfer_fleet import kept_alone
from policy.execution.context import EngineContext
from policy.execution.submission.gas import fee_rules
from policy.execution.submission.node import JsonNode
from policy.keeping.chain_market import ChainMarket, Kept, Widened
from policy.keeping.desk import Desk, Occasion, SeenBlock


@dataclass(slots=True)
class ChainDesk:
    """One deployment on its chain; the engine's context is built anew with each hour's choice."""

    standing: Standing
    live: bool
    base: EngineContext | None = None
    made_s: int = -RENEW_S

    def context(self, time_s: int) -> EngineContext:
        """Return the context in force at ``time_s`` (Unix)."""
        choice = self.standing.renewed(time_s)
        if self.base is None or self.made_s != self.standing.at_s:
            self.base, self.made_s = open_onchain(self.standing.deployment, choice, live=self.live), self.standing.at_s
        return self.base

    def given(self, head: SeenBlock) -> Choice:
        """Return the choice in force at ``head``."""
        return self.standing.renewed(head.timestamp_s)

    @contextmanager
    def opened(self, head: SeenBlock, *, live: bool) -> Iterator[EngineContext]:
        """Yield the context at ``head``, live where the keeper is; it waits for nothing."""
        base = self.context(head.timestamp_s)
        yield replace(base, audit=self.standing.audit, wait=_no_wait, live=base.live and live)

    @contextmanager
    def cycle(self, occasion: Occasion) -> Iterator[EngineContext]:
        """Yield the context of one cycle; afterwards what it left is written to the lake."""
        with self.opened(occasion.head, live=True) as ctx:
            policy = rule_at(self.standing, self.given(occasion.head), occasion)
            yield replace(ctx, policy=policy, not_before=occasion.head.number)
        self.standing.record()


def _no_wait(head: BlockHeader) -> None:
    """Wait for nothing: the keeper comes back at the next block."""


def chain_desks(
    deployments: Sequence[VaultSettings], rpc: Rpc, *, live: bool, time_s: int
) -> tuple[list[Desk], ChainMarket]:
    """Return the desks of ``deployments``, all on the chain behind ``rpc``, and what reads them.

    Raises ConfigError naming what is missing, NotEnoughData where the lake does not reach ``time_s``.
    """
    desks, kept = [], []
    for one in deployments:
        kept_alone(one)
        private_folders(one)
        own = ChainDesk(Standing(one), live)
        ctx = own.context(time_s)
        desks.append(
            Desk(
                one.name,
                journal_of(one),
                own.cycle,
                one.audit.parent / "looks",
                own.standing.surface.look,
                minute_s=minute_s(one),
            )
        )
        kept.append(kept_of(own, ctx))
    rules = fee_rules(chain(deployments[0].chain.id))
    return desks, ChainMarket(rpc, JsonNode(rpc), kept, rules)


def settlement_of(standing: Standing) -> float | None:
    """Return the gas price that the data of the vault's roll-up are paid at, gwei; None where it is none."""
    choice, row = standing.choice, chain(standing.deployment.chain.id)
    return None if row.l1_chain_id is None or choice is None else choice.market.gas_gwei


def kept_of(own: ChainDesk, ctx: EngineContext, widened: Widened | None = None) -> Kept:
    """Return how the vault is read for a look: without the evidence on its oracle, which a cycle reads itself."""
    heartbeats = {token: float(rule.heartbeat_s) for token, rule in ctx.limits.feeds.items()}
    return Kept(
        ctx.vault, ctx.vault_address, ctx.portfolio,
        lambda snapshot: view_of(own.standing.renewed(snapshot.block_time), snapshot), ctx.pools, heartbeats,
        lambda: settlement_of(own.standing), widened,
    )  # fmt: skip
