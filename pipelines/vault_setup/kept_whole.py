"""A portfolio over several chains as one desk of a keeper: each block of its first vault's chain may trigger it all.

What acts is the decision that a scheduled run takes, on every chain read anew; each vault does its part under its own
lease, journal and plan nonce, so that a run that stands in for a keeper can find nothing half done twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from lake.errors import ForedriftError
from lake.rpc import Rpc
from lake.universe import chain
from pipelines.monitor.logs import log
from pipelines.settlements.reconcile import journal_of
from pipelines.vault_setup.context import private_folders
from pipelines.vault_setup.kept import Standing, minute_s, rule_at
from pipelines.vault_setup.kept_chain import ChainDesk, kept_of
from pipelines.vault_setup.kept_paper import PaperDesk, PaperMarket, tape_of
from pipelines.vault_setup.kept_sight import WholeSight
from pipelines.vault_setup.transfer_fleet import Fleet
from pipelines.vault_setup.whole_cycle import Apart, WholePart, decided, placed
from policy.base import Policy
from policy.chains.deciding import WholeDecision, cheapest
from policy.chains.netting import CashMove
from policy.execution.context import EngineContext, Part
from policy.execution.engine import step
from policy.execution.observation import nonce_decision_id
from policy.execution.submission.gas import fee_rules
from policy.execution.submission.node import JsonNode
from policy.keeping.chain_market import ChainMarket
from policy.keeping.desk import Desk, Occasion, hurried

Moved = Callable[[int, Sequence[CashMove], Mapping[str, Any] | None], object]
"""Moves transfers on at a time (Unix), sends the cash that a trade waits for, and notes what was placed."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What the vaults do at one block: their parts by chain, and the decision these are of, with who was asked.

    ``nonces``: the vaults' plans at the look; ``names``: their decisions' as they begin.
    """

    parts: Mapping[int, Part]
    whole: WholeDecision | None = None
    policy: Policy | None = None
    nonces: Mapping[int, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)

    @property
    def moves(self) -> Sequence[CashMove]:
        """Cash that a trade waits for."""
        return () if self.whole is None or self.whole.placement is None else self.whole.placement.moves


@dataclass(frozen=True, slots=True)
class WholeDesk:
    """Decision cycles of the portfolio that ``sight`` sees.

    ``patient``: as of a Desk. ``moved`` is called after the hour's cycle and where a trade waits for cash; None: never.
    """

    sight: WholeSight
    patient: bool = False
    moved: Moved | None = None

    def desk(self) -> Desk:
        """Return the portfolio as the keeper's desk, under the first vault's name and journal.

        It is looked up in the closed form: a published surface is of one vault on one chain.
        """
        one = self.sight.fleet.first
        looks = one.audit.parent / "looks"
        return Desk(one.name, journal_of(one), self.cycle, looks, patient=self.patient, minute_s=minute_s(one))

    @contextmanager
    def cycle(self, occasion: Occasion) -> Iterator[EngineContext]:
        """Yield the context of one vault's part; then the others do theirs, and transfers are moved on.

        Where a plan is in flight on any chain it is only looked up, and nothing is decided at this block.
        """
        flying = self.sight.flying()
        waits = Apart("an earlier plan is looked up first")
        turn = Turn(dict.fromkeys(flying, waits)) if flying else self._turn(occasion)
        self.sight.forget()
        first, *others = turn.parts
        with self._opened(first, occasion, turn) as ctx:
            yield ctx
        for chain_id in others:
            self._do(chain_id, occasion, turn)
        if self.moved is not None and not flying and (turn.moves or "hour" in occasion.triggers):
            try:
                self.moved(occasion.head.timestamp_s, turn.moves, placed(turn.whole, turn.names))
            except ForedriftError as error:  # the plans above stand; the next hour moves them on
                log("transfers", vault=self.sight.fleet.first.name, error=str(error))

    def _turn(self, occasion: Occasion) -> Turn:
        members, look = self.sight.members, self.sight.look(occasion.head)
        rules = {c: rule_at(m.standing, m.given(occasion.head), occasion) for c, m in members.items()}
        whole = decided(look, rules)
        if whole is None:
            return Turn(dict.fromkeys(members, Apart(look.why)))
        asked = rules[cheapest(whole.portfolio.places).chain_id]
        nonces = {c: one.seen.snapshot.plan_nonce for c, one in look.looks.items() if one.seen is not None}
        return Turn({c: WholePart(whole, c) for c in members}, whole, asked, nonces)

    @contextmanager
    def _opened(self, chain_id: int, occasion: Occasion, turn: Turn) -> Iterator[EngineContext]:
        """Yield the context of a vault's part; a block of one chain says nothing of how far another one is."""
        with self.sight.members[chain_id].cycle(occasion) as ctx:
            policy = turn.policy or ctx.policy
            if chain_id in turn.nonces:
                turn.names[chain_id] = nonce_decision_id(ctx.vault_address, policy.name, turn.nonces[chain_id])
            not_before = ctx.not_before if chain_id == self.sight.here else 0
            yield replace(ctx, part=turn.parts[chain_id], policy=policy, not_before=not_before)

    def _do(self, chain_id: int, occasion: Occasion, turn: Turn) -> None:
        """Run a further vault's cycle; what its setup refuses is logged, and the next decision sees what came of it."""
        name = self.sight.fleet.members[chain_id].name
        told = {"trigger": list(occasion.triggers), "block": occasion.head.number, "chain": self.sight.here}
        try:
            with self._opened(chain_id, occasion, turn) as ctx:
                limits = ctx.limits if self.patient else hurried(ctx.limits, forced=occasion.forced)
                report = step(replace(
                    ctx, per_nonce=True, limits=limits, on_plan=lambda made: made.keeper.update(told)
                ))  # fmt: skip
        except ForedriftError as error:
            log("cycle", vault=name, block=occasion.head.number, outcome="refused", why=str(error))
            return
        said = report.recovered or report.outcome
        log("cycle", vault=name, block=occasion.head.number, outcome=said, decision_id=report.decision_id)


def paper_whole(
    fleet: Fleet, until: datetime | None = None, moved: Moved | None = None
) -> tuple[WholeDesk, PaperMarket]:
    """Return the desk of a portfolio on paper chains and what reads it; ``until``: as of ``paper_desks``."""
    every = list(fleet.members.values())
    tape = tape_of(every, until)
    desks = {c: PaperDesk(Standing(d), tape, quiet=until is not None) for c, d in fleet.members.items()}
    for one in every:
        private_folders(one)
    own = desks[fleet.first.chain.id]
    follows = frozenset(d.chain.id for d in every if d.chain.history == fleet.first.chain.history)
    sight = WholeSight(fleet, desks, follows)
    own.widened = sight.widened
    return WholeDesk(sight, patient=True, moved=None if until is not None else moved), PaperMarket([own])


def chain_whole(
    fleet: Fleet, rpc: Rpc, *, live: bool, time_s: int, moved: Moved | None = None
) -> tuple[WholeDesk, ChainMarket]:
    """Return the desk of a portfolio whose first vault's chain is behind ``rpc``, and what reads it.

    Raises as ``chain_desks`` does.
    """
    desks = {c: ChainDesk(Standing(d), live) for c, d in fleet.members.items()}
    for one in fleet.members.values():
        private_folders(one)
    own = desks[fleet.first.chain.id]
    sight = WholeSight(fleet, desks)
    kept = kept_of(own, own.context(time_s), sight.widened)
    market = ChainMarket(rpc, JsonNode(rpc), [kept], fee_rules(chain(fleet.first.chain.id)))
    return WholeDesk(sight, moved=moved if live else None), market
