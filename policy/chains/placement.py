"""Where a trade of the whole portfolio is made, and what cash moves: the step between a decision and its plans.

The policy decides on weights over all chains; here its trade is split over the chains where it costs least, within what
lies there above each chain's cash floor, or cash is sent first to where the trade will be cheaper. A transfer promises
nothing: on its arrival the next decision looks at where the money is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lake.errors import ConfigError
from policy.base import Market, Matrix, Vector
from policy.chains.global_state import GlobalState, Place
from policy.chains.netting import MOST, CashMove, refills
from policy.chains.placement_kernel import best_first_move, best_split, least_cost, lines, rooms
from policy.chains.transfer_costs import BridgeTerms, ends_usd
from policy.costs import gas_lines, impact_per_square

SURE = 1.0 + 1e-9  # of its cost: a trade worth what it costs is made
Routes = Mapping[tuple[int, int], BridgeTerms]
"""The bridge from one chain id to another; a pair that is not in it has none."""


@dataclass(frozen=True, slots=True)
class PlacedTrade:
    """What is traded on one chain: USD by asset (n,), sold below 0, and the weights that chain's holdings then have."""

    chain_id: int
    change_usd: Vector
    weights: Vector


@dataclass(frozen=True, slots=True)
class Placement:
    """What one decision does on the chains: trades, or transfers, never both; ``gain_usd`` is worth less cost."""

    action: Literal["trade", "transfer", "wait"]
    trades: tuple[PlacedTrade, ...]
    moves: tuple[CashMove, ...]
    gain_usd: float
    cost_usd: float
    done: float  # share of the wanted trade that is made now
    why: str


@dataclass(frozen=True, slots=True)
class PlacementTerms:
    """What a placement may use: ``floors_usd`` (C,) of cash in the order of the places, routes, their limits in USD.

    ``waiting_usd_per_h``: tracking cost of what is not traded; ``overhead_usd``: of a transfer beyond its price.
    """

    floors_usd: Vector
    routes: Routes
    most_usd: float = float("inf")
    waiting_usd_per_h: float = 0.0
    overhead_usd: float = 0.0


def place(state: GlobalState, wanted: Vector, benefit_usd: float, terms: PlacementTerms) -> Placement:
    """Return the placement of the trade to the weights ``wanted`` (n,), worth ``benefit_usd`` in whole.

    The policy has weighed what the trade costs where all lies in the right place, so it is worth at least that.
    On one chain there is nothing to choose: all of it is traded there. Raises ConfigError for weights that do not sum
    to 1 or floors that are not one a place.
    """
    whole = state.state()
    _check(state, wanted, terms)
    y = (wanted - whole.weights) * state.nav_usd
    if not np.abs(y).sum() > 0.0:
        return Placement("wait", (), (), 0.0, 0.0, 0.0, "the weights are the wanted ones")
    prices = _prices(state.places)
    cost = np.empty((len(state.places), 3))
    lines(y, prices.base, prices.leg, prices.fee, prices.impact, cost)
    if len(state.places) == 1:
        only = float(cost[0].sum())
        return Placement("trade", (_placed(state.places[0], y),), (), benefit_usd - only, only, 1.0, "one chain")
    have = np.array([p.usd for p in state.places])
    have[:, state.cash] = np.maximum([p.spendable_usd for p in state.places] - terms.floors_usd, 0.0)
    open_, room, shares = _open(state), np.empty(len(state.places)), np.zeros(len(state.places))
    rooms(y, have, open_, room)
    left, benefit_usd = left_of(state, whole.weights, wanted), max(benefit_usd, least_worth(cost))
    gain = best_split(cost, room, benefit_usd, left, shares)
    first = _first(state, y, have, cost, (benefit_usd, left), terms)
    if first is not None and first.gain_usd > gain:
        return first
    if gain <= 0.0:
        return Placement("wait", (), (), 0.0, 0.0, 0.0, _why_not(state, room, benefit_usd))
    used = [c for c in range(shares.size) if shares[c] > 0.0]
    trades = tuple(_placed(state.places[c], y * shares[c]) for c in used)
    spent = float(sum(cost[c, 0] + cost[c, 1] * shares[c] + cost[c, 2] * shares[c] ** 2 for c in used))
    parts = ", ".join(f"{shares[c]:.0%} on chain {state.places[c].chain_id}" for c in used)
    return Placement("trade", trades, (), gain, spent, float(shares.sum()), f"{parts}; gains {gain:.2f} USD")


def fill_up(
    state: GlobalState, coming_usd: Vector, low: Vector, goal: Vector, terms: PlacementTerms
) -> tuple[CashMove, ...]:
    """Return the transfers that bring chains whose cash is below ``low`` (C,) USD up to ``goal`` (C,), by chain id.

    ``coming_usd`` (C,) is on its way to each. Nothing is sent beyond a route's limit, nor where there is no route.
    """
    fixed, rate = route_prices(state.places, terms)
    out, cash = np.empty(fixed.shape), np.array([p.spendable_usd for p in state.places])
    refills(cash, coming_usd, low, low, goal, fixed, rate, out)
    ids = [p.chain_id for p in state.places]
    return tuple(
        CashMove(ids[a], ids[b], min(float(out[a, b]), terms.most_usd)) for a, b in np.argwhere(out > 0.0).tolist()
    )


def route_prices(places: tuple[Place, ...], terms: PlacementTerms) -> tuple[Matrix, Matrix]:
    """Return (C, C) USD a transfer and its fraction a USD, inf where there is no route."""
    C = len(places)
    fixed, rate = np.full((C, C), np.inf), np.zeros((C, C))
    at = {p.chain_id: i for i, p in enumerate(places)}
    for (a, b), bridge in terms.routes.items():
        if a in at and b in at and a != b:
            i, j = at[a], at[b]
            gas = ends_usd(bridge, places[i].market)[0] + ends_usd(bridge, places[j].market)[1]
            fixed[i, j] = gas + bridge.fixed_usd + terms.overhead_usd + terms.waiting_usd_per_h * bridge.hours
            rate[i, j] = bridge.fee + bridge.risk + bridge.stuck
    return fixed, rate


@dataclass(frozen=True, slots=True)
class _Prices:
    base: Vector
    leg: Vector
    fee: Matrix
    impact: Matrix


def _prices(places: tuple[Place, ...]) -> _Prices:
    def gas(m: Market) -> tuple[float, float]:
        base, leg = gas_lines(m.fees, m.gas_gwei, m.native_usd)
        return float(base), float(leg)

    lines_ = np.array([gas(p.market) for p in places])
    fee = np.array([p.market.fee for p in places])
    impact = np.array([impact_per_square(1.0, p.market.depth_usd) for p in places])
    return _Prices(lines_[:, 0].copy(), lines_[:, 1].copy(), fee, impact)


def _open(state: GlobalState) -> Matrix:
    n = len(state.assets)
    return np.array([
        np.ones(n, dtype=np.bool_) if p.market.tradable is None else p.market.tradable for p in state.places
    ])  # fmt: skip


def _first(
    state: GlobalState, y: Vector, have: Matrix, cost: Matrix, worth: tuple[float, float], terms: PlacementTerms
) -> Placement | None:  # fmt: skip
    """Return the transfer that is worth making before the trade; None while one is under way, or none is."""
    if state.in_transit > 0 or not terms.routes:
        return None
    fixed, rate = route_prices(state.places, terms)
    out = np.zeros(3)
    gain = best_first_move(y, state.cash, have, _open(state), cost, *worth, fixed, rate, 0.0, terms.most_usd, out)
    if gain <= 0.0:
        return None
    a, b, usd = int(out[0]), int(out[1]), float(out[2])
    ids = state.places[a].chain_id, state.places[b].chain_id
    price = float(fixed[a, b] + rate[a, b] * usd)
    why = f"{usd:.2f} USD of cash to chain {ids[1]} first: the trade gains {gain:.2f} USD there"
    return Placement("transfer", (), (CashMove(*ids, usd),), gain, price, 0.0, why)


def least_worth(cost: Matrix) -> float:
    """Return the least a trade is worth that a policy wants, for the ``lines`` of it on every chain (C, 3)."""
    return SURE * float(least_cost(cost))


def left_of(state: GlobalState, before: Vector, after: Vector) -> float:
    """Return the tracking error that weights ``after`` leave over that of ``before``, between 0 and 1."""
    x, y = before - state.target, after - state.target
    had = float(x @ state.covariance @ x)
    return min(1.0, float(np.sqrt(max(0.0, float(y @ state.covariance @ y)) / had))) if had > 0.0 else 0.0


def _placed(p: Place, change: Vector) -> PlacedTrade:
    after = np.maximum(p.usd + change, 0.0)
    total = after.sum()
    return PlacedTrade(p.chain_id, change, after / total if total > 0.0 else after)


def _why_not(state: GlobalState, room: Vector, benefit_usd: float) -> str:
    if room.max() <= 0.0:
        ids = ", ".join(str(p.chain_id) for p in state.places)
        return f"none of the chains {ids} holds what is to be sold above its cash floor"
    return f"worth {benefit_usd:.2f} USD, less than any placement costs"


def _check(state: GlobalState, wanted: Vector, terms: PlacementTerms) -> None:
    C, n = len(state.places), len(state.assets)
    if wanted.shape != (n,) or not np.isfinite(wanted).all() or abs(float(wanted.sum()) - 1.0) > 1e-6:
        raise ConfigError(f"weights {wanted.tolist()} for {n} assets: give one each, summing to 1")
    if terms.floors_usd.shape != (C,) or not (terms.floors_usd >= 0.0).all():
        raise ConfigError(f"cash floors {terms.floors_usd.tolist()} for {C} chains: give one each, 0 or more")
    if C > MOST:
        raise ConfigError(f"{C} chains: a placement looks at every set of them; give at most {MOST}")
