"""How a hedge uses what sends, follows and recovers every plan: the same journal, lookups and words for what failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from lake.errors import RpcError
from policy.execution.attempts import launch
from policy.execution.base import Vault
from policy.execution.context import EngineContext, Limits, Stages, StepReport
from policy.execution.outcomes import settled
from policy.execution.records.audit import Audit
from policy.execution.records.halt import Halted, never
from policy.execution.records.journal import Flight, Journal
from policy.execution.recovery import recover
from policy.execution.submission.channels import Channel
from policy.execution.submission.gas import Bid
from policy.execution.submission.node import BlockHeader, Node
from policy.execution.submission.signer import Signer
from policy.execution.vaults.hedge.adapter import HedgeAccount

_NONE: Any = None


@dataclass(frozen=True, slots=True)
class HedgeSending:
    """What sending a hedge's plans needs; the fields are those of ``context.EngineContext``."""

    vault: HedgeAccount
    vault_address: str
    chain_id: int
    node: Node
    sender: str
    journal: Journal
    audit: Audit
    channels: Mapping[str, Channel]
    wait: Callable[[BlockHeader], None]
    clock: Callable[[], datetime]
    signer: Signer | None = None
    live: bool = False
    channel: str = "public"
    limits: Limits = field(default_factory=Limits)
    checkpoint: Callable[[str], None] = lambda _: None
    halted: Halted = never

    def engine(self) -> EngineContext:
        """Return the context that attempts and recovery take.

        They ask the account to build, verify and recover a plan, which a hedge account does; the policy, portfolio,
        view and pools of a rebalance are asked for by ``engine.step`` alone, and are none here.
        """
        return EngineContext(
            vault=cast("Vault", self.vault), vault_address=self.vault_address, chain_id=self.chain_id, node=self.node,
            policy=_NONE, portfolio=_NONE, view=_NONE, pools=_NONE, sender=self.sender, journal=self.journal,
            audit=self.audit, channels=self.channels, wait=self.wait, signer=self.signer, live=self.live,
            channel=self.channel, limits=self.limits, clock=self.clock, checkpoint=self.checkpoint,
            halted=self.halted,
        )  # fmt: skip


def recovered(ctx: EngineContext, report: StepReport, stages: Stages) -> bool:
    """Finish earlier plans first; return whether a new decision may be taken."""
    ctx.checkpoint("start")
    before = ctx.journal.last()
    flight, settlement = recover(ctx)
    stages.done("recover")
    if flight is None:
        return True
    if flight.open or flight != before:
        report.recovered = "pending" if flight.open else flight.state
        report.decision_id = flight.plan.decision_id
        settled(report, flight, settlement)
    return not flight.open


def launched(ctx: EngineContext, flight: Flight, bid: Bid, nonce: int, gas_limit: int) -> Flight:
    """Sign and send; a node that fails in between leaves the flight to the lookup that follows."""
    assert ctx.signer is not None
    try:
        return launch(ctx, ctx.signer, flight, bid, nonce, gas_limit)
    except RpcError:
        return ctx.journal.in_flight() or flight
