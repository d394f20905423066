"""One vault's desk in the keeper: how a decision cycle of it is opened, and what it waits for between cycles."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from policy.base import State, Vector
from policy.execution.context import IN_FLIGHT, EngineContext, Limits, StepReport
from policy.execution.records.journal import Journal
from policy.execution.records.owner import OwnerFile
from policy.keeping.orders import GasOrder
from policy.keeping.sights import Reserves
from policy.realtime.triggers import Trigger

HOLD_BLOCKS, LONGEST_HOLD = 5, 300  # after a cycle that did not trade: doubled each time
MOVED = 0.1  # a price this much lower, or a reserve this much higher, ends a hold at once


class SeenBlock(Protocol):
    """What is known of a block: also of the next one's base fee, which follows from it exactly."""

    @property
    def number(self) -> int:
        """Height."""
        ...

    @property
    def hash(self) -> str:
        """Hash, 0x hex."""
        ...

    @property
    def timestamp_s(self) -> int:
        """Unix seconds."""
        ...

    @property
    def next_base_fee_wei(self) -> int:
        """Base fee of the block after it, wei per gas."""
        ...


@dataclass(frozen=True, slots=True)
class Occasion:
    """Why and at which block a cycle is run; ``scheduled``: by the configured policy, else by the block's own rule."""

    head: SeenBlock
    triggers: tuple[Trigger, ...]

    @property
    def scheduled(self) -> bool:
        """Whether it is the hour's own decision."""
        return "hour" in self.triggers and not {"breach", "price", "gas"} & set(self.triggers)

    @property
    def forced(self) -> bool:
        """Whether a hard tolerance is reached: it is paid for at any gas."""
        return "breach" in self.triggers


@dataclass(frozen=True, slots=True)
class VaultReading:
    """One vault read in full at one block: its State, holdings in whole tokens, and the USD price of each feed.

    ``unknown``: why no look rests on it, empty where it does; ``flight``: a plan of it waits to be looked up;
    ``gas_wei``: what its trades are paid at, None where that is the price of this chain's own blocks.
    """

    state: State
    feeds: tuple[str, ...]
    holdings: Vector
    prices: Mapping[str, float]
    plan_nonce: int
    oracle_age_s: float = 0.0
    heartbeat_s: float = math.inf
    unknown: str = ""
    flight: bool = False
    gas_wei: int | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What a block changed: prices by feed, vaults to be read anew (their rows), the usual tip.

    ``settlement_wei``: gas price that a roll-up's data are paid at, what its trades wait for; None: the block's own.
    """

    prices: Mapping[str, float] = field(default_factory=dict)
    touched: frozenset[int] = frozenset()
    tip_wei: int = 0
    settlement_wei: int | None = None


class MarketReader(Protocol):
    """Where a keeper reads: one batch a block for all vaults, one vault in full when it was touched."""

    def changes(self, head: SeenBlock) -> Changes:
        """Return what ``head`` changed; RpcError where the node does not tell."""
        ...

    def read(self, row: int, head: SeenBlock) -> VaultReading:
        """Return vault ``row`` at ``head``; RpcError where the node does not tell."""
        ...


@dataclass(slots=True)
class Desk:
    """One vault of a keeper. ``cycle`` opens the engine's context for an occasion and closes it after the step.

    ``minute_s``: seconds into the hour at which its scheduled decision is due; ``looks``: folder of the looks that are
    written with each decision; ``patient``: its cycles wait for the status of a plan, where a chain costs no time. The
    ``reserves`` gives the column of a surface in force at a block with its hash, None for the closed form. The rest is
    what it waits for: an armed ``order``, and a ``hold`` after a cycle that did not trade, at the ``asked``
    price and reservation price.
    """

    name: str
    journal: Journal
    cycle: Callable[[Occasion], AbstractContextManager[EngineContext]]
    looks: Path
    reserves: Callable[[SeenBlock], tuple[Reserves, str] | None] | None = None
    patient: bool = False
    minute_s: int = 0
    owner: OwnerFile | None = None
    order: GasOrder | None = None
    order_armed: int = 0  # orders armed so far
    flight: bool = False
    nonce: int | None = None
    epoch: int = -1
    hold: int = 0
    held_until: int = 0
    asked: tuple[float, float] = (math.inf, 0.0)
    ends_gwei: float = math.inf  # gas at which what was unprofitable pays
    oracle_age_s: float = 0.0
    heartbeat_s: float = math.inf
    read_at: int = 0  # block of the last full reading
    unknown: str = ""  # why that reading says nothing, and its prices trigger nothing
    gas_wei: int | None = None  # what its trades are paid at, None: this chain's blocks
    acted_at: int = -(10**9)  # block of the last cycle that had a plan to follow

    def waits(self, block: int, price_gwei: float, reserve_gwei: float) -> bool:
        """Return whether a cycle that did not trade a moment ago would only say the same again."""
        price, reserve = self.asked
        if block >= self.held_until or price_gwei <= min((1.0 - MOVED) * price, self.ends_gwei):
            return False
        return not reserve_gwei >= (1.0 + MOVED) * reserve

    def took(self, report: StepReport, block: int, price_gwei: float, reserve_gwei: float) -> None:
        """Remember how a cycle ended, and how long the next one would say the same."""
        self.flight = report.outcome in IN_FLIGHT
        if report.attempts or report.recovered:
            self.acted_at = block
        unpaid = price_gwei > reserve_gwei and report.outcome != "planned"  # it was not the price that asked
        if unpaid or report.outcome in {"traded", "void", "reverted"} | IN_FLIGHT:
            self.hold = self.held_until = 0
            self.asked = (math.inf, 0.0)
            return
        self.hold = min(2 * self.hold, LONGEST_HOLD) if self.hold else HOLD_BLOCKS
        if report.outcome == "planned":
            self.hold = LONGEST_HOLD  # on paper nothing comes of it: said once
        self.held_until, self.asked = block + self.hold, (price_gwei, reserve_gwei)
        self.ends_gwei = paying(report, price_gwei)


def paying(report: StepReport, price_gwei: float) -> float:
    """Return the gas price at which a trade that was just unprofitable would pay; inf where that was not why.

    At exact quotes a trade may cost more than the rule's average one: by gas alone it pays where gas has saved the
    difference, below 0 never.
    """
    short = next((v for v in report.verdicts if v.check == "unprofitable"), None)
    gas_usd = report.expected.get("gas_usd", 0.0)
    if short is None or gas_usd <= 0.0:
        return math.inf
    return price_gwei * (1.0 - (float(short.figures["cost_usd"]) - float(short.figures["benefit_usd"])) / gas_usd)


def hurried(limits: Limits, *, forced: bool) -> Limits:
    """Return a keeper's limits: one look a block instead of waiting, and a plan for the next two blocks only.

    A forced trade keeps its deadline and its bid: it is wanted at any price. Any other is decided anew when the block
    it was signed for has passed.
    """
    quick = replace(limits, watch_blocks=0)
    if forced:
        return quick
    deadline_s = math.ceil(2.0 * limits.block_time_s) + 1
    return replace(
        quick, plan=replace(limits.plan, deadline_s=deadline_s), gas=replace(limits.gas, blocks=1)
    )  # fmt: skip


def told_of(desk: Desk, report: StepReport | None) -> dict[str, Any]:
    """Return what the owner's file says of a desk."""
    last = {} if report is None else {"outcome": report.outcome, "decision_id": report.decision_id}
    order = None if desk.order is None else desk.order.json()
    return {"order": order, "flight": desk.flight, "last": last, "unknown": desk.unknown}
