"""What a decision on a portfolio over several chains is taken on: every chain read once, and cash between them.

A chain that cannot be decided on (a bad oracle, a plan in flight, this epoch's decision executed already) makes the
whole wait, and is named: what lies there is part of every weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from lake.errors import RpcError
from lake.store import Lake
from pipelines.settlements.reconcile import journal_of
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.cash_levels import AUTO_FLOOR, OVERHEAD, CashLevel, cash_levels, terms_of
from pipelines.vault_setup.context import open_context
from pipelines.vault_setup.decider import Choice
from pipelines.vault_setup.transfer_fleet import Fleet, rules_of
from pipelines.vault_setup.transfer_opening import opened_to_look
from policy.base import tradable
from policy.chains.global_state import GlobalState, Place
from policy.chains.placement import PlacementTerms
from policy.execution.context import EngineContext, Stages, StepReport
from policy.execution.observation import Seen, observe
from policy.execution.planner import book_of
from policy.execution.probes import sick
from policy.execution.records.audit import Audit
from policy.execution.records.hashlog import Line
from policy.execution.transfers.checks import price_e8, prices_differ
from policy.execution.transfers.ledger import CashCount, count

Opened = Callable[[VaultSettings], AbstractContextManager[EngineContext]]


class Unwritten(Audit):
    """The audit record of a look: read like any, and nothing is written to it."""

    def append(self, event: str, body: Mapping[str, Any]) -> Line:
        """Return what would have been written."""
        return Line(0, "", {"event": event, **body}, "")


@dataclass(frozen=True, slots=True)
class ChainLook:
    """One vault as a decision sees it; ``why``: what keeps it from being decided on, empty where nothing does."""

    deployment: VaultSettings
    choice: Choice
    seen: Seen | None
    untradable: tuple[int, ...]
    why: str


@dataclass(frozen=True, slots=True)
class WholeLook:
    """All vaults of a portfolio at one moment; ``why`` as in ChainLook, naming the chain."""

    portfolio: GlobalState | None
    terms: PlacementTerms | None
    looks: Mapping[int, ChainLook]
    levels: Mapping[int, CashLevel]
    why: str


def look_at_whole(
    fleet: Fleet, choices: Mapping[int, Choice], lake: Lake, at: datetime, opened: Opened | None = None
) -> WholeLook:
    """Read every chain of ``fleet`` and the cash between them, without writing anything.

    ``opened`` gives the engine's context of a vault; None: as a run opens it.
    """

    def as_run(deployment: VaultSettings) -> AbstractContextManager[EngineContext]:
        return open_context(deployment, at, choices[deployment.chain.id], live=False)

    looks = {c: _look(d, choices[c], opened or as_run) for c, d in fleet.members.items()}
    held = [f"chain {c}: {one.why}" for c, one in looks.items() if one.why]
    if held:
        return WholeLook(None, None, looks, {}, "; ".join(held))
    seen = {c: one.seen for c, one in looks.items() if one.seen is not None}
    targets = {s.snapshot.targets_bps for s in seen.values()}
    if len(targets) > 1:
        words = ", ".join(f"{list(s.snapshot.targets_bps)} on chain {c}" for c, s in seen.items())
        return WholeLook(None, None, looks, {}, f"the vaults' targets differ ({words}); a portfolio has one set")
    apart = _apart(fleet, seen)
    if apart:
        return WholeLook(None, None, looks, {}, apart)
    moving, levels, why = _between(fleet, seen, lake, at)
    if why:
        return WholeLook(None, None, looks, levels, why)
    places = tuple(_place(fleet, c, one) for c, one in looks.items() if one.seen is not None)
    first = next(iter(seen.values())).state
    portfolio = GlobalState(
        max(s.state.ts for s in seen.values()), first.assets, fleet.cash, places, moving, first.target, first.tolerance,
        first.gamma, first.scenario, first.covariance,
    )  # fmt: skip
    return WholeLook(portfolio, _terms(fleet, portfolio, levels), looks, levels, "")


def _look(deployment: VaultSettings, choice: Choice, opened: Opened) -> ChainLook:
    flight = journal_of(deployment).in_flight()
    if flight is not None:
        return ChainLook(deployment, choice, None, (), f"plan {flight.plan.decision_id} is in flight")
    with opened(deployment) as made:
        ctx = replace(made, audit=Unwritten(deployment.audit), signer=None, live=False)
        report = StepReport(policy=ctx.policy.name, assets=ctx.portfolio.assets)
        try:
            seen = observe(ctx, report, Stages(ctx, report))
        except RpcError as error:
            return ChainLook(deployment, choice, None, (), f"it cannot be read: {error}")
        if seen is None:
            return ChainLook(deployment, choice, None, (), report.why)
        if report.denial is not None:
            return ChainLook(deployment, choice, None, (), "the market denies its NAV")
        left = sick.of_market(seen.snapshot, tradable(seen.state), report.sick)
        return ChainLook(deployment, choice, seen, tuple(sick.positions(seen.snapshot, left)), "")


def _place(fleet: Fleet, chain_id: int, look: ChainLook) -> Place:
    seen = look.seen
    assert seen is not None
    book = book_of(seen.snapshot)
    holdings = tuple(book.value(i, h) for i, h in enumerate(book.holdings))
    open_ = tradable(seen.state).copy()
    open_[list(look.untradable)] = False
    cash = holdings[look.deployment.portfolio.assets.index(fleet.cash)]
    return Place(chain_id, holdings, cash, replace(seen.state.market, tradable=open_))


def _apart(fleet: Fleet, seen: Mapping[int, Seen]) -> str:
    """Return the assets that the chains' oracles price too differently for one decision, in words."""
    prices: dict[str, dict[int, int]] = {}
    for chain_id, one in seen.items():
        for asset, price in zip(one.state.assets, book_of(one.snapshot).prices_e8, strict=True):
            prices.setdefault(asset, {})[chain_id] = price
    return "; ".join(v.reason for v in prices_differ(prices, rules_of(fleet).oracle_gap))


def _between(
    fleet: Fleet, seen: Mapping[int, Seen], lake: Lake, at: datetime
) -> tuple[int, dict[int, CashLevel], str]:  # fmt: skip
    """Return what is between the chains in 1e-18 USD at the blocks read, the cash levels, and why neither is known."""
    opened = opened_to_look(fleet)
    if opened is None:  # paper vaults that begin with this run
        nav = sum(s.state.nav_usd for s in seen.values())
        return 0, {c: CashLevel(AUTO_FLOOR * nav, 2 * AUTO_FLOOR * nav, "the vaults begin") for c in seen}, ""
    heads = {c: min(s.snapshot.block_number, opened.context.ends[c].node.head().number) for c, s in seen.items()}
    found = count(opened.context, heads)
    wrong = found.verdict()
    if wrong is not None:
        return 0, {}, f"cash is on the move at the newest blocks, or does not add up: {wrong.reason}"
    levels = cash_levels(opened, lake, at)
    amount = _moving(found, {c: price_e8(s.snapshot, opened.context.ends[c].cash.address) for c, s in seen.items()})
    return (amount, levels, "") if amount >= 0 else (0, levels, "cash arrived before it was seen to leave; read again")


def _moving(found: CashCount, prices_e8: Mapping[int, int]) -> int:
    """Return the cash between the chains in 1e-18 USD, at the lowest price any chain gives it."""
    price = min(prices_e8.values())
    return int((found.moving - found.early) * price * 10**10 // 10**found.scale)


def _terms(fleet: Fleet, portfolio: GlobalState, levels: Mapping[int, CashLevel]) -> PlacementTerms:
    state, nav = portfolio.state(), portfolio.nav_usd
    x = state.weights - state.target
    rules = fleet.shared.transfers
    routes = {(b.origin, b.destination): terms_of(b) for b in fleet.shared.bridges}
    most = min((b.max_transfer_usd for b in fleet.shared.bridges), default=0.0)
    return PlacementTerms(
        np.array([levels[p.chain_id].low for p in portfolio.places]), routes if rules.decide else {},
        min(most, 0.999 * rules.max_transfer_share * nav),
        0.5 * portfolio.gamma * float(x @ state.covariance @ x) * nav, OVERHEAD * nav,
    )  # fmt: skip
