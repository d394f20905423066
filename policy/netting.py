"""Holders' money netted against a rebalance: decide on the portfolio as it will be, trade what is needed for it now.

A deposit on its way buys what is missing without a sale, a withdrawal on its way takes what is too much: both are
trades for nothing. So a policy is asked twice where requests wait: about the holdings as they are, and as they will be
once all requests are settled. What either does not want to trade waits for the money; what both want is traded towards
the settled portfolio. Where the cash does not reach for the withdrawals, the settled portfolio alone is asked about. Of
the cash that is here none is spent that requested or expected withdrawals need.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from policy.base import CashFlows, Decision, State, Vector

LEAST_GAS = 5e-5
"""Gas of a trade, fraction of NAV, from which a soft mandate nets by default: half a basis point.

What netting saves is that gas, what it costs is to be away from the target meanwhile. The figure lies between the
mandates where netting paid on the panel of 2022 and those where it did not; another year is in docs/measurements.md.
"""
CASH = 0
"""Place of the accounting asset."""
LEAST_NAV = 0.05
"""Least fraction of NAV a decision is made on: where nearly all leaves, the last of it is sold in later decisions."""
NOTHING = 1e-9
"""A trade of less is none, fraction of NAV."""


def after(weights: Vector, flows: CashFlows) -> tuple[Vector, float]:
    """Return the weights (n,) once every request is settled, and NAV then as a fraction of NAV now.

    The accounting asset's weight is negative where it does not reach for the withdrawals.
    """
    growth = max(1.0 + flows.coming - flows.leaving, LEAST_NAV)
    moved = weights.copy()
    moved[CASH] += growth - 1.0
    return moved / growth, growth


def netted(state: State) -> State:
    """Return the state once requests are settled: ``state`` itself where none waits, or none is netted."""
    flows = state.flows
    if flows is None or not (flows.coming or flows.leaving) or not (flows.net or lacks(state)):
        return state
    weights, growth = after(state.weights, flows)
    return replace(state, weights=weights, nav_usd=state.nav_usd * growth)


def decide(ask: Callable[[State], tuple[State, Decision, Decision]], state: State) -> tuple[State, Decision, Decision]:
    """Return what ``ask`` says of ``state``, holders' money netted: the state asked about, its answer, what to trade.

    ``ask`` returns the very state its policy was given, the policy's answer, and that answer for the state it was
    asked about. Without flows it is asked once and nothing is changed.
    """
    shown = netted(state)
    if shown is state:
        asked, said, decision = ask(state)
        return asked, said, to_trade(decision, state, state)
    if not lacks(state):
        asked, said, decision = ask(state)
        if decision.action == "wait":
            return asked, said, decision
    asked, said, decision = ask(shown)
    return asked, said, to_trade(decision, state, shown)


def lacks(state: State) -> bool:
    """Return whether the cash held does not reach for the withdrawals asked for."""
    return state.flows is not None and float(state.weights[CASH]) < state.flows.leaving


def to_trade(decision: Decision, state: State, shown: State) -> Decision:
    """Return the decision about ``shown`` as weights to trade to from ``state``, whose money has not moved yet.

    Purchases shrink alike where they would spend cash that is not here yet or that withdrawals need; a trade that
    shrinks to nothing waits. Without flows the decision itself is returned.
    """
    flows = state.flows
    if flows is None or not np.isfinite(decision.weights).all():
        return decision
    if decision.action == "wait":
        return replace(decision, weights=state.weights)
    growth = shown.nav_usd / state.nav_usd if state.nav_usd else 1.0
    change = growth * (decision.weights - shown.weights)
    change = within(state.weights, change, flows)
    if np.abs(change).max() < NOTHING:
        return replace(decision, action="wait", weights=state.weights, why=f"{decision.why}; {_waits(flows)}")
    wanted = np.maximum(state.weights + change, 0.0)
    return replace(decision, weights=wanted / wanted.sum())


def within(weights: Vector, change: Vector, flows: CashFlows) -> Vector:
    """Return the (n,) changes of weight with purchases cut to what sales bring and the cash that is free now.

    ``weights`` and ``change`` are fractions of NAV now, ``change`` sums to 0.
    """
    if change[CASH] >= 0.0:
        return change
    free = max(0.0, float(weights[CASH]) - flows.leaving - flows.reserve)
    others = np.delete(change, CASH)
    sold, bought = -float(others[others < 0].sum()), float(others[others > 0].sum())
    if sold + free >= bought:
        return change
    cut = np.where(change > 0, change * ((sold + free) / bought), change)
    cut[CASH] = 0.0
    cut[CASH] = -cut.sum()
    return np.asarray(cut)


def _waits(flows: CashFlows) -> str:
    return (
        f"{flows.leaving:.2%} of NAV is to be paid out and {flows.reserve:.2%} is kept for what may be asked, so no "
        "cash is free to buy with"
    )
