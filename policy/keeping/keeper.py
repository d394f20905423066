"""The keeper: at each block one look at every vault of the process, and a decision cycle where a look asks for one.

It decides when to look closely, never what to trade: a cycle is ``policy.execution.engine.step`` with its own reading,
guards, journal and limits. A block that cannot be read is a block without a look; nothing is sent on an old one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lake.errors import ForedriftError
from lake.units import WEI_PER_GWEI
from policy.execution.context import IN_FLIGHT, StepReport
from policy.execution.engine import step
from policy.execution.records.journal import VaultBusy
from policy.keeping.desk import Desk, MarketReader, Occasion, SeenBlock, VaultReading, hurried, told_of
from policy.keeping.last_figures import LastFigures
from policy.keeping.orders import ARMED_FROM, GasOrder, Moment, ordered
from policy.keeping.ring import Ring, dump
from policy.keeping.sights import Glance, Sights
from policy.keeping.terms import terms_of
from policy.realtime.triggers import NEAR_BREACH, Marks, NextBlock, Trigger, TriggerLevels, triggers
from policy.solvers import bands

EPOCH_S = 3_600
REFRESHED = 3  # such vaults a block at most, the longest unread first: a large fleet takes its time over it
REFRESH_BLOCKS = 50  # a vault nothing touched is read in full after so many: tokens may move without a log
DEEPEST = 256  # blocks: a plan that was sent longer ago is looked up by the hour's own cycle
ACTING: frozenset[Trigger] = frozenset({"flight", "breach", "price", "gas", "hour"})


@dataclass(frozen=True, slots=True)
class Act:
    """A decision cycle that a block asked for, and how it ended."""

    vault: str
    block: int
    triggers: tuple[Trigger, ...]
    report: StepReport
    seconds: float


@dataclass(slots=True)
class Tally:
    """Counts of a keeper's life, for status and acceptance."""

    blocks: int = 0
    blind: int = 0  # blocks that could not be read
    acts: int = 0
    undone: int = 0
    reason: str = ""  # why the last of them could not be
    look_s: LastFigures = field(default_factory=LastFigures)  # of looks, without cycles

    def json(self) -> dict[str, Any]:
        """Return the counts."""
        return {"blocks": self.blocks, "blind": self.blind, "acts": self.acts, "undone": self.undone}


class Keeper:
    """Keeps ``desks``; ``workers`` cycles run at once. Not to be called by two threads."""

    def __init__(self, desks: Sequence[Desk], market: MarketReader, *, width: int = 16, workers: int = 4) -> None:
        self.desks, self.market = tuple(desks), market
        self.sights, self.ring = Sights(len(desks), width), Ring(len(desks))
        self.tally = Tally()
        self.glance: Glance | None = None
        self.table = [""] * len(desks)
        self.told: Mapping[str, Any] = {}  # what the owner's files say of the heads and nodes
        self._workers = workers
        self._reports: list[StepReport | None] = [None] * len(desks)
        self._stale = set(range(len(desks)))
        self._due = np.array([d.minute_s for d in desks])
        self._epochs = np.full(len(desks), -1)
        self._flights = np.zeros(len(desks), dtype=np.bool_)
        self._armed = np.zeros(len(desks), dtype=np.bool_)

    def undo(self, ancestor: int) -> None:
        """Take back what was seen above block ``ancestor``: everything is read anew, flights are looked up."""
        self.tally.undone += 1
        self._stale = set(range(len(self.desks)))
        for row, desk in enumerate(self.desks):
            desk.held_until = 0
            if desk.order is not None and desk.order.block > ancestor:
                self._keep_order(row, desk, None, "its block was replaced")
            self._flights[row] = self._flights[row] or desk.acted_at > ancestor - DEEPEST

    def on_block(self, head: SeenBlock, *, quiet: str = "") -> list[Act]:
        """Look at every vault at ``head`` and run the cycles it asks for; ``quiet``: only look, for that reason."""
        began = time.perf_counter()
        self.tally.blocks += 1
        try:
            price_wei, tip_wei = self._read(head)
        except ForedriftError as error:
            self.tally.blind += 1
            self.tally.reason = str(error)
            self._stale = set(range(len(self.desks)))
            return []
        price = price_wei / WEI_PER_GWEI
        self._swap(head)
        self.glance = glance = self.sights.look()
        self.ring.put(head.number, price, glance)
        asked = [] if quiet else self._asked(head, glance, price_wei, tip_wei)
        self._orders(head, glance, price)
        self.tally.look_s.append(time.perf_counter() - began)
        acts = self._act(head, asked, price, glance)
        self._refresh(head)
        return acts

    def _read(self, head: SeenBlock) -> tuple[int, int]:
        """Bring prices and touched vaults up to ``head``; return price of the next block and its tip, wei."""
        found = self.market.changes(head)
        self.sights.reprice(found.prices)
        due = [(d.read_at, row) for row, d in enumerate(self.desks) if head.number - d.read_at >= REFRESH_BLOCKS]
        old = {row for _, row in sorted(due)[:REFRESHED]}
        for row in sorted(self._stale | found.touched | old):
            self._adopt(row, self.market.read(row, head), head)
            if not self.desks[row].unknown:
                self._stale.discard(row)
        elsewhere = [g for g in (found.settlement_wei, *(d.gas_wei for d in self.desks)) if g is not None]
        if elsewhere:
            return max(elsewhere), 0
        return head.next_base_fee_wei + found.tip_wei, found.tip_wei

    def _swap(self, head: SeenBlock) -> None:
        """Put the surfaces in force at ``head`` into the look, each by its hash."""
        for row, desk in enumerate(self.desks):
            if desk.reserves is not None:
                found = desk.reserves(head)
                self.sights.table(row, None if found is None else found[0])
                self.table[row] = "" if found is None else found[1]

    def _adopt(self, row: int, found: VaultReading, head: SeenBlock) -> None:
        desk = self.desks[row]
        self.sights.read(row, terms_of(found.state), found.feeds, found.holdings, found.prices)
        desk.read_at, desk.oracle_age_s, desk.heartbeat_s = head.number, found.oracle_age_s, found.heartbeat_s
        desk.unknown, desk.gas_wei = found.unknown, found.gas_wei
        if found.unknown:
            self.sights.forget(row)
        if found.flight or (desk.nonce is not None and found.plan_nonce != desk.nonce):
            self._flights[row] = True
        desk.nonce = found.plan_nonce

    def _asked(self, head: SeenBlock, glance: Glance, price_wei: int, tip_wei: int) -> list[tuple[int, Occasion]]:
        """Return the vaults that a cycle is run for, with why: first by arrays, then by the triggers' own words."""
        price = price_wei / WEI_PER_GWEI
        epoch = (head.timestamp_s - self._due) // EPOCH_S
        paid = (glance.reserve_gwei > 0.0) & (price <= glance.reserve_gwei)
        breach = self.sights.hard & (glance.in_tolerances >= NEAR_BREACH)
        rows = np.flatnonzero((epoch > self._epochs) | paid | breach | self._flights)
        block = NextBlock(head.number, head.timestamp_s, price_wei - tip_wei, tip_wei)
        found = []
        for row in rows.tolist():
            desk = self.desks[row]
            reserve = float(glance.reserve_gwei[row])
            levels = TriggerLevels(
                reserve if math.isfinite(reserve) else 0.0, self.trigger(row, price), bool(self.sights.hard[row]),
                desk.heartbeat_s, EPOCH_S, int(self._epochs[row]),
            )  # fmt: skip
            marks = Marks(
                float(glance.distance[row]), float(glance.in_tolerances[row]), nonce_moved=bool(self._flights[row]),
                oracle_age_s=desk.oracle_age_s,
            )  # fmt: skip
            due = replace(block, timestamp_s=head.timestamp_s - desk.minute_s)
            why = tuple(t for t in triggers(due, marks, levels) if t in ACTING)
            if why and ({"hour", "flight"} & set(why) or not desk.waits(head.number, price, reserve)):
                found.append((row, Occasion(head, why)))
        return found

    def trigger(self, row: int, price: float) -> float:
        """Return the distance from which vault ``row`` pays ``price`` gwei: 1 (hard), the band's outer one (soft)."""
        terms = self.sights.terms[row]
        if terms is None or terms.hard:
            return 1.0
        gas = terms.gas_fixed + terms.gas_slope * price
        return float(bands.solve_one(gas, terms.k, terms.m, terms.B)[0])

    def _orders(self, head: SeenBlock, glance: Glance, price: float) -> None:
        """Arm, follow and let go orders; only vaults whose order changes cost more than an array."""
        reach = glance.reserve_gwei / np.where(self.sights.usual_gwei > 0.0, self.sights.usual_gwei, np.nan)
        for row in np.flatnonzero(self._armed | (np.isfinite(reach) & (reach >= ARMED_FROM))).tolist():
            desk = self.desks[row]
            at = Moment(head.number, head.hash, head.timestamp_s, self.table[row])
            order, why = ordered(
                desk.order, at, float(glance.reserve_gwei[row]), float(self.sights.usual_gwei[row]), price
            )
            if why:
                self._keep_order(row, desk, order, why)
            else:
                desk.order = order

    def _keep_order(self, row: int, desk: Desk, order: GasOrder | None, why: str) -> None:
        """Note in the journal that an order was armed or let go; a vault that is busy just now has none noted."""
        about, named = "armed" if order is not None else "let go", order or desk.order
        body = None if named is None else named.json()
        desk.order, self._armed[row] = order, order is not None
        desk.order_armed += order is not None
        try:
            with desk.journal.lease():
                desk.journal.note(about, why=why, order=body)
        except VaultBusy:
            return

    def _act(self, head: SeenBlock, asked: list[tuple[int, Occasion]], price: float, glance: Glance) -> list[Act]:
        if len(asked) > 1 and self._workers > 1:
            with ThreadPoolExecutor(min(self._workers, len(asked))) as pool:
                acts = list(pool.map(lambda one: self._cycle(*one), asked))
        else:
            acts = [self._cycle(row, occasion) for row, occasion in asked]
        for (row, occasion), act in zip(asked, acts, strict=True):
            desk = self.desks[row]
            desk.took(act.report, head.number, price, float(glance.reserve_gwei[row]))
            if "hour" in occasion.triggers and act.report.outcome not in IN_FLIGHT:
                self._epochs[row] = (head.timestamp_s - desk.minute_s) // EPOCH_S
            self._flights[row], self._reports[row] = desk.flight, act.report
            self._stale.add(row)
            if act.report.settlement is not None:
                desk.nonce = None  # it was moved by the plan that was just settled
            if act.report.outcome in {"traded"} | IN_FLIGHT and desk.order is not None:
                self._keep_order(row, desk, None, f"the cycle at block {head.number}: {act.report.outcome}")
        self.tally.acts += len(acts)
        return acts

    def _cycle(self, row: int, occasion: Occasion) -> Act:
        """Run one decision cycle of a vault; what its setup refuses is a refused cycle, not the end of the keeper."""
        desk, began = self.desks[row], time.perf_counter()
        try:
            with desk.cycle(occasion) as ctx:
                limits = ctx.limits if desk.patient else hurried(ctx.limits, forced=occasion.forced)
                report = step(replace(
                    ctx, per_nonce=True, limits=limits, on_plan=lambda made: self._explain(row, occasion, made)
                ))  # fmt: skip
        except ForedriftError as error:
            report = StepReport(why=str(error))
        return Act(desk.name, occasion.head.number, occasion.triggers, report, time.perf_counter() - began)

    def _explain(self, row: int, occasion: Occasion, report: StepReport) -> None:
        """Write the last looks beside the decision, before anything is signed, and name them in its record."""
        desk = self.desks[row]
        path = desk.looks / f"{report.decision_id}-{report.block_number}.json"
        report.keeper.update(
            trigger=list(occasion.triggers), block=occasion.head.number, table=self.table[row],
            order=None if desk.order is None else desk.order.json(), looks=path.name,
            looks_sha256=dump(path, self.ring.of(row)),
        )  # fmt: skip

    def _refresh(self, head: SeenBlock) -> None:
        for row, desk in enumerate(self.desks):
            if desk.owner is not None:
                told = told_of(desk, self._reports[row]) | {"table": self.table[row], "blind": self.tally.blind}
                desk.owner.refresh(head.number, told | dict(self.told))
