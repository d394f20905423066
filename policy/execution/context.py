"""What one step is given and what it reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any, Protocol

from policy.base import Decision, Policy, State
from policy.execution.auctions.terms import AuctionTerms, OrderBook
from policy.execution.base import Leg, Plan, Settlement, Snapshot, Vault, Verdict
from policy.execution.checks.guards import FeedRule
from policy.execution.checks.verdicts import NAV_DENIED, UNTRADABLE
from policy.execution.planner import PlanRules
from policy.execution.probes.roundtrip import Proven
from policy.execution.records.audit import Audit
from policy.execution.records.codec import plain, plan_json, settlement_json, verdicts_json
from policy.execution.records.halt import Halted, never
from policy.execution.records.journal import Flight, Journal
from policy.execution.routing.amm import Pool
from policy.execution.state_builder import OffchainView, RiskTerms
from policy.execution.submission.channels import DEFAULT_COSTS, Channel, Cost
from policy.execution.submission.gas import FeeRules
from policy.execution.submission.node import BlockHeader, Node
from policy.execution.submission.quorum import Witness
from policy.execution.submission.signer import Signer


def _nothing(_: str) -> None:
    """Pass a checkpoint."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a step.

    ``confirmations``: blocks (the transaction's own included) before a status is final; deeper reorganisations are
    still noticed by the next step. ``bump_after``: blocks before an attempt is replaced. ``watch_blocks``: those a
    step follows a transaction before it leaves it to the next step; 0: one look, without waiting. ``epoch_s``: one
    decision per vault, policy and epoch. ``gas_margin_percent``: gas limit over the simulated use. ``tries``: plans per
    decision. ``close_s``: how long deposits and oracle-priced exits are closed when the market denies NAV, in seconds;
    0 leaves it to people. ``urgent_blocks``: full blocks a forced trade's first bid survives (12: the base fee may
    rise fourfold).
    """

    plan: PlanRules = field(default_factory=PlanRules)
    gas: FeeRules = field(default_factory=FeeRules)
    feeds: Mapping[str, FeedRule] = field(default_factory=dict)
    confirmations: int = 2
    bump_after: int = 3
    watch_blocks: int = 40
    epoch_s: int = 3_600
    max_block_age_s: int = 120
    max_quote_blocks: int = 3
    max_data_age: timedelta = timedelta(hours=3)
    sequencer_grace_s: int = 3_600
    gas_margin_percent: int = 25
    tries: int = 3
    close_s: int = 21_600
    urgent_blocks: int = 12
    block_time_s: float = 12.0


@dataclass(frozen=True, slots=True)
class EngineContext:
    """Everything a step works with. ``live=False`` or no signer: it stops after the simulation.

    ``sender``: the keeper's address, also simulated from in a dry run. ``view`` and ``pools`` are asked once per
    step, for the snapshot's block, and so is ``probe``, which proves the tokens (see ``probes.roundtrip``;
    None: over a JSON-RPC node). ``wait(head)`` returns when a block after ``head`` may be there. ``checkpoint`` is
    called at every stage with its name (tests stop the process there). ``channel``: a channel's name, or "auto".
    ``witnesses``: a node of each operator; where there are several, two must agree on a live decision before it is
    signed. ``per_nonce``: one decision a plan nonce of the vault, whoever takes it, instead of one an epoch.
    ``not_before``: block that was seen elsewhere; a node that does not have it yet may not be decided on. ``halted``
    says why nothing may be sent just now; it is asked before a live decision, and before each signature and sending.
    ``auctions``: on what terms trades may be offered to others instead of swapped; None: never. ``order_book``: where
    an armed order is published; None: nowhere, whoever fills it reads the chain. ``part``: what this vault does of a
    decision on the whole portfolio; None: the policy decides on this vault alone. ``data_fee``: wei that a roll-up
    charges for the bytes of a transaction; None: by its row's figures.
    """

    vault: Vault
    vault_address: str
    chain_id: int
    node: Node
    policy: Policy
    portfolio: RiskTerms
    view: Callable[[Snapshot], OffchainView]
    pools: Callable[[Snapshot], Sequence[Pool]]
    sender: str
    journal: Journal
    audit: Audit
    channels: Mapping[str, Channel]
    wait: Callable[[BlockHeader], None]
    signer: Signer | None = None
    live: bool = False
    channel: str = "auto"
    channel_costs: Mapping[str, Cost] = field(default_factory=lambda: dict(DEFAULT_COSTS))
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], datetime] = _utc_now
    checkpoint: Callable[[str], None] = _nothing
    probe: Callable[[Snapshot, Sequence[Pool]], Proven] | None = None
    on_plan: Callable[[StepReport], None] | None = None
    witnesses: Sequence[Witness] = ()
    others_sign: bool = False  # a Safe's owners sign what is decided here: it is recorded as acted on
    auctions: AuctionTerms | None = None
    order_book: OrderBook | None = None
    per_nonce: bool = False
    not_before: int = 0
    halted: Halted = never
    part: Part | None = None
    data_fee: Callable[[bytes], int] | None = None


class Part(Protocol):
    """A vault's part of a decision that was taken on a whole portfolio, of which this vault is one."""

    def decide(self, here: State, untradable: Sequence[int]) -> tuple[State, Decision, Decision]:
        """Return what the policy was asked about, its answer, and what the vault in State ``here`` does of it.

        The assets at the positions ``untradable`` are left alone.
        """
        ...

    def record(self) -> Mapping[str, Any]:
        """Return the whole decision as JSON for the audit record."""
        ...


@dataclass(frozen=True, slots=True)
class Denial:
    """What says that the market denies NAV, and the block and pools that it was read from."""

    snapshot: Snapshot
    pools: tuple[Pool, ...]
    verdicts: tuple[Verdict, ...]


IN_FLIGHT = frozenset({"pending", "offered"})
"""Outcomes after which something may still happen to the vault: it is looked up at the next step, or block."""


@dataclass(slots=True)
class StepReport:
    """What a step found, did and why; ``json()`` is what ``foredrift rebalance --json`` writes.

    outcome: traded | waited | planned (dry run) | refused | pending (still in flight) | offered (an order is armed, and
    may be filled) | done (this epoch's decision was executed already) | reverted | void (cancelled, too late, or an
    order nobody filled; nothing happened).
    """

    outcome: str = "refused"
    decision_id: str = ""
    policy: str = ""
    action: str = ""
    why: str = ""
    assets: tuple[str, ...] = ()
    block_number: int = 0
    weights_before: tuple[float, ...] = ()
    weights_wanted: tuple[float, ...] = ()
    weights_after: tuple[float, ...] = ()
    plan: Plan | None = None
    legs: tuple[Leg, ...] = ()
    channel: str = ""
    expected: dict[str, float] = field(default_factory=dict)
    gas_limit: int = 0
    verdicts: list[Verdict] = field(default_factory=list)
    data: list[dict[str, Any]] = field(default_factory=list)  # series behind the decision, oldest first
    denial: Denial | None = None
    sick: dict[str, Verdict] = field(default_factory=dict)  # tokens left alone in this step, by address
    asked: tuple[State, Decision] | None = None  # what the policy was asked about, and its answer
    settlement: Settlement | None = None
    recovered: str = ""
    attempts: list[dict[str, Any]] = field(default_factory=list)
    stages_ms: dict[str, float] = field(default_factory=dict)
    keeper: dict[str, Any] = field(default_factory=dict)  # why a keeper looked: trigger, order, table; for the audit

    def json(self) -> dict[str, Any]:
        """Return the report as JSON values, amounts as decimal strings."""
        return {
            "outcome": self.outcome,
            "decision_id": self.decision_id,
            "policy": self.policy,
            "action": self.action,
            "why": self.why,
            "assets": list(self.assets),
            "block_number": self.block_number,
            "weights_before": list(self.weights_before),
            "weights_wanted": list(self.weights_wanted),
            "weights_after": list(self.weights_after),
            "plan": None if self.plan is None else plan_json(self.plan),
            "channel": self.channel,
            "expected": plain(self.expected),
            "gas_limit": self.gas_limit,
            "data": self.data,
            "oldest_input": self.data[0] if self.data else None,
            "verdicts": verdicts_json(self.verdicts),
            "untradable": [
                {
                    "token": v.figures["token"],
                    "symbol": v.figures["symbol"],
                    "cause": v.figures["cause"],
                    "reason": v.reason,
                }
                for v in self.verdicts
                if v.check == UNTRADABLE
            ],
            "nav_denied": "; ".join(v.reason for v in self.verdicts if v.check == NAV_DENIED) or None,
            "settlement": None if self.settlement is None else settlement_json(self.settlement),
            "recovered": self.recovered,
            "attempts": self.attempts,
            "stages_ms": self.stages_ms,
        }


class Stages:
    """Stop-watch of a step's stages, milliseconds, which also announces each stage to the checkpoint."""

    def __init__(self, ctx: EngineContext, report: StepReport) -> None:
        self._ctx = ctx
        self._report = report
        self._from = perf_counter()

    def done(self, name: str) -> None:
        """Book the time since the last stage under ``name`` and pass the checkpoint."""
        now = perf_counter()
        self._report.stages_ms[name] = self._report.stages_ms.get(name, 0.0) + (now - self._from) * 1e3
        self._ctx.checkpoint(name)
        self._from = perf_counter()


def attempts_json(flight: Flight) -> list[dict[str, Any]]:
    """Return the attempts of a plan for reports and the audit, without the signed bytes."""
    return [
        {
            "kind": a.kind,
            "tx_hash": a.tx_hash,
            "account_nonce": a.account_nonce,
            "max_fee_wei": str(a.max_fee_wei),
            "tip_wei": str(a.tip_wei),
            "channel": a.channel,
            "block": a.block,
            "reply": a.reply,
            "taken": a.taken,
        }
        for a in flight.attempts
    ]
