"""Tokens that cannot be traded now: left out of the decision, named, and tried again at the next step.

A sick token is shown to the policy exactly on its target, and the others with their shares among themselves; so any
policy decides about the others as it would without it, and nothing is bought or sold of the sick one. Nothing is kept:
whether a token is sick is found anew in every step, so it rejoins by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from policy.base import Bools, Decision, State, Vector
from policy.base import tradable as tradable_assets
from policy.execution.base import Leg, Simulation, Snapshot, Verdict
from policy.execution.checks.verdicts import UNTRADABLE, passed, refusals, refused
from policy.execution.planner import Draft
from policy.execution.routing.amm import Pool

LEAST_HEALTHY = 2
"""Tokens needed for a trade."""

Sick = dict[str, Verdict]
"""The failed verdict on each sick token, by its address."""


@dataclass(frozen=True, slots=True)
class Healthy:
    """Verdicts sorted by whom they concern: ``sick`` one token each, ``rest`` everything else."""

    sick: Sick
    rest: list[Verdict]


def split(snapshot: Snapshot, found: Sequence[Verdict]) -> Healthy:
    """Sort the verdicts on a snapshot. A fault of the accounting asset (the first token) concerns everything."""
    others = {t.address for t in snapshot.tokens[1:]}
    sick: Sick = {}
    rest: list[Verdict] = []
    for verdict in found:
        token = verdict.figures.get("token")
        if verdict.ok or token not in others:
            rest.append(verdict)
        else:
            sick.setdefault(str(token), verdict)
    return Healthy(sick, rest) if tradable(snapshot, sick) else Healthy({}, list(found))


def tradable(snapshot: Snapshot, sick: Collection[str]) -> bool:
    """Return whether enough healthy tokens are left to trade among."""
    return sum(t.address not in sick for t in snapshot.tokens) >= LEAST_HEALTHY


def positions(snapshot: Snapshot, sick: Collection[str]) -> list[int]:
    """Return the places of the sick tokens."""
    return [i for i, t in enumerate(snapshot.tokens) if t.address in sick]


def named(snapshot: Snapshot, sick: Mapping[str, Verdict]) -> list[Verdict]:
    """Return a verdict for each sick token that says what it has and that the rest is traded without it."""
    found = []
    for token in snapshot.tokens:
        if token.address in sick:
            cause = sick[token.address]
            reason = f"{token.symbol} is left alone and tried again at the next step: {cause.reason}"
            figures = {**cause.figures, "token": token.address, "symbol": token.symbol, "cause": cause.check}
            found.append(passed(UNTRADABLE, reason, **figures))
    return found


def without(pools: Sequence[Pool], sick: Collection[str]) -> list[Pool]:
    """Return the pools that hold no sick token, so that no route leads through one."""
    return [p for p in pools if p.token0 not in sick and p.token1 not in sick]


def masked(state: State, sick: Sequence[int]) -> State:
    """Return ``state`` as if the sick tokens were on target, the others keeping their shares among themselves."""
    if not sick:
        return state
    healthy = np.ones(len(state.weights), dtype=bool)
    healthy[list(sick)] = False
    held = float(state.weights[healthy].sum())
    weights = state.target.copy()
    if held > 0:
        weights[healthy] = state.weights[healthy] / held * state.target[healthy].sum()
    market = replace(state.market, tradable=tradable_assets(state) & healthy)
    return replace(state, weights=weights, market=market)


def unmasked(decision: Decision, state: State, sick: Sequence[int]) -> Decision:
    """Return the decision in the portfolio's own weights: sick tokens as they are, the others share the rest."""
    if not sick:
        return decision
    return replace(decision, weights=_shared(decision.weights, state, sick))


def _shared(wanted: Vector, state: State, sick: Sequence[int]) -> Vector:
    healthy = np.ones(len(state.weights), dtype=bool)
    healthy[list(sick)] = False
    total = float(wanted[healthy].sum())
    if not np.isfinite(wanted).all() or total <= 0:
        return wanted  # no portfolio: the engine refuses it as it is
    weights = state.weights.copy()
    weights[healthy] = wanted[healthy] / total * state.weights[healthy].sum()
    return weights


def of_market(snapshot: Snapshot, market: Bools, sick: Sick) -> Sick:
    """Return ``sick`` with the tokens that have no market now, where enough others have one."""
    found: Sick = {}
    for token, good in zip(snapshot.tokens, market, strict=True):
        if not good and token.address not in sick:
            words = f"{token.symbol}: it has no bar of the last hour, or no configured pool with liquidity"
            found[token.address] = refused("no_market", words, token=token.address)
    return {**sick, **found} if tradable(snapshot, {*sick, *found}) else sick


def of_draft(snapshot: Snapshot, made: Draft, depths: Vector) -> Sick:
    """Return the tokens whose legs could not be planned; of a pair it is the other than the accounting asset.

    Where neither end is, it is the one with less depth.
    """
    place = {t.address: i for i, t in enumerate(snapshot.tokens)}
    sick: Sick = {}
    for verdict in refusals(made.verdicts):
        token = verdict.figures.get("token")
        if token is None and {"token_in", "token_out"} <= verdict.figures.keys():
            pair = [place[str(verdict.figures[k])] for k in ("token_in", "token_out")]
            worst = min(pair, key=lambda i: (i == 0, depths[i]))
            token = snapshot.tokens[worst].address
        if token in place:
            sick.setdefault(str(token), verdict)
    return sick


def of_simulation(snapshot: Snapshot, legs: Sequence[Leg], alone: Callable[[Sequence[Leg]], Simulation]) -> Sick:
    """Return the tokens that make a plan fail, found by simulating every pair of it on its own.

    A token of a pair that fails is sick unless a pair with it runs; the accounting asset only where nothing else is.
    """
    pairs: dict[tuple[str, str], list[Leg]] = {}
    for leg in legs:
        pairs.setdefault((leg.token_in, leg.token_out), []).append(leg)
    ran: set[str] = set()
    failed: dict[tuple[str, str], str] = {}
    for pair, own in pairs.items():
        trial = alone(own)
        if trial.ok:
            ran |= set(pair)
        else:
            failed[pair] = trial.revert or "reverted without a reason"
    cash = snapshot.tokens[0].address
    symbols = {t.address: t.symbol for t in snapshot.tokens}
    sick: Sick = {}
    for pair, why in failed.items():
        ends = [t for t in pair if t not in ran] or list(pair)
        ends = [t for t in ends if t != cash] or ends
        for token in ends:
            words = f"{symbols[pair[0]]} -> {symbols[pair[1]]} reverts: {why}"
            sick.setdefault(token, refused("simulation", words, token=token, revert=why))
    return sick
