"""One decision on a portfolio over several chains, and each chain's part of it.

The policy is asked once, about the whole; ``placement`` says which chain trades which share of its answer, or what cash
goes first. A part is that share as weights of the chain's own vault. It stands for the holdings it was made on: a chain
whose holdings moved since takes no part, and the next decision looks at where the money is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from policy.base import Decision, State, Vector
from policy.chains.global_state import GlobalState, Place, one_swap_usd
from policy.chains.placement import Placement, PlacementTerms, place

MOVED = 1e-3
"""Most the weights or the value of a chain may have moved since it was looked at, fraction."""
NOTHING = 0.01
"""USD of a trade that is none."""


@dataclass(frozen=True, slots=True)
class WholeDecision:
    """What was decided: on which portfolio, what the policy was asked and said, where it is traded.

    ``placement`` is None where the policy waits or its answer is no portfolio.
    """

    portfolio: GlobalState
    terms: PlacementTerms
    asked: State
    said: Decision
    placement: Placement | None

    @property
    def why(self) -> str:
        """Return the placement in words, empty where nothing is placed."""
        return "" if self.placement is None else self.placement.why


def cheapest(places: Sequence[Place]) -> Place:
    """Return the place where one swap costs least: its gas is the whole portfolio's, so its policy decides."""
    return min(places, key=lambda p: one_swap_usd(p.market))


def decide_whole(portfolio: GlobalState, ask: Callable[[State], Decision], terms: PlacementTerms) -> WholeDecision:
    """Ask the policy about the whole and place what it wants to trade."""
    asked = portfolio.state()
    said = ask(asked)
    w = said.weights
    sound = w.shape == asked.weights.shape and bool(np.isfinite(w).all()) and abs(float(w.sum()) - 1.0) <= 1e-6
    if said.action == "wait" or not sound:
        return WholeDecision(portfolio, terms, asked, said, None)
    return WholeDecision(portfolio, terms, asked, said, place(portfolio, w, said.benefit_usd, terms))


def part_of(whole: WholeDecision, chain_id: int, here: State, untradable: Sequence[int] = ()) -> Decision:
    """Return what the vault on ``chain_id`` does of ``whole``, for its State ``here`` now.

    With one chain it is the policy's own decision, untouched. Assets at the positions ``untradable`` keep what they
    have; purchases shrink alike where that leaves too little cash.
    """
    if len(whole.portfolio.places) == 1 and not whole.portfolio.in_transit and not untradable:
        return whole.said
    if whole.placement is None:
        return replace(whole.said, action="wait", weights=here.weights) if whole.said.action == "wait" else whole.said
    trades = {t.chain_id: t for t in whole.placement.trades}
    if chain_id not in trades:
        return _waits(whole, here, whole.placement.why)
    index = [p.chain_id for p in whole.portfolio.places].index(chain_id)
    looked = whole.portfolio.places[index].usd
    now = here.weights * here.nav_usd
    if float(np.abs(now - looked).max()) > MOVED * max(here.nav_usd, float(looked.sum())):
        return _waits(whole, here, "its holdings moved since the portfolio was decided on; the next decision sees them")
    change = trades[chain_id].change_usd.copy()
    if untradable:
        change = _without(change, now, whole.portfolio.cash, float(whole.terms.floors_usd[index]), untradable)
    if float(np.abs(change).max()) <= NOTHING:
        return _waits(whole, here, "nothing of its part can be traded now")
    after = np.maximum(now + change, 0.0)
    share = float(np.abs(trades[chain_id].change_usd).sum() / sum(np.abs(t.change_usd).sum() for t in trades.values()))
    gross = whole.placement.gain_usd + whole.placement.cost_usd
    return replace(
        whole.said, weights=after / after.sum(), benefit_usd=share * gross, cost_usd=share * whole.placement.cost_usd,
        why=f"{whole.said.why}; {whole.placement.why}",
    )  # fmt: skip


def _waits(whole: WholeDecision, here: State, why: str) -> Decision:
    return replace(
        whole.said, action="wait", weights=here.weights, benefit_usd=0.0, cost_usd=0.0, value_of_waiting_usd=0.0,
        why=f"{whole.said.why}; {why}",
    )  # fmt: skip


def _without(change: Vector, now: Vector, cash: int, floor_usd: float, left: Sequence[int]) -> Vector:
    """Return ``change`` (n,) USD with the assets ``left`` untouched, its purchases within the cash that is there."""
    out = change.copy()
    out[list(left)] = 0.0
    out[cash] = 0.0
    free = max(0.0, float(now[cash]) - floor_usd) - float(out[out < 0.0].sum())
    bought = float(out[out > 0.0].sum())
    if bought > free:
        out[out > 0.0] *= free / bought
    out[cash] = -float(out.sum())
    return out
