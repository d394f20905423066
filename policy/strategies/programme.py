"""The predictive policy's use of the dynamic programme: its terms for a portfolio, its levels, and slices of a trade.

The same arithmetic serves a whole history (arrays over steps) and one moment (arrays of one).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from policy.base import Matrix, Vector
from policy.simulation.history import History
from policy.simulation.planner import Case, Schedule
from policy.solvers.dynamic_program import GasChain, Terms, levels_many, solve
from policy.strategies.gas_process import Window, hours_of_week, index_in, speeds

HARD_DIMS = 3.0  # of the box distance: between a line and the cube, where exit times scatter like observed ones
LEG_SHARE = 0.3  # of the further legs that a cheapest sufficient set of swaps uses
MOVE_SHARE = 0.8  # of the turnover to the inner level that such a set moves
SPLIT_BELOW = 0.5  # slices are used where at least two make a move
HARD_GRID, SOFT_GRID = (2, 32), (1, 64)  # sweeps and nodes: weeks back from the closed form until more change nothing
Gas = TypeVar("Gas", float, Vector)


@dataclass(frozen=True, slots=True)
class Geometry:
    """The no-trade region of one portfolio under one covariance.

    ``fee`` and ``square`` (n,) are the fee and the squared weight changes of moving one unit of the distance,
    ``growth`` of the distance squared an hour. ``M`` (n, n) is the soft distance's matrix, None in a hard mandate.
    """

    hard: bool
    gamma: float
    fee: float
    square: Vector
    growth: float
    target: Vector
    covariance: Matrix
    M: Matrix | None


def terms_of(shape: Geometry, usual: float, impact: Vector) -> Terms:
    """Return the programme's terms at ``usual`` gas (fraction of NAV) and ``impact`` (n,) per squared weight change."""
    m = float(impact @ shape.square)
    if shape.M is None:
        return Terms(float(usual), MOVE_SHARE * shape.fee, MOVE_SHARE * m, shape.growth, HARD_DIMS, 0.0, hard=True)
    drift = np.diag(shape.target) - np.outer(shape.target, shape.target)
    CM = drift @ shape.covariance @ drift.T @ shape.M
    dims = float(np.trace(CM) ** 2 / max(float(np.trace(CM @ CM)), 1e-300))
    return Terms(float(usual), shape.fee, m, shape.growth, dims, shape.gamma, hard=False)


def geometry(case: Case, step: int) -> Geometry:
    """Return the no-trade region's geometry of ``case`` as known at ``step``."""
    p, d = case.portfolio, int(case.history.day[step])
    if p.scenario == "hard":
        return Geometry(
            True, 0.0, float(case.box_fee[d]), case.box_square[d], float(1.0 / case.exit_h[d]), p.target,
            case.covariance[d], None,
        )  # fmt: skip
    return Geometry(
        False, p.gamma, float(case.unit_fee[d]), case.unit_square[d], float(case.growth[d]), p.target,
        case.covariance[d], case.M[d],
    )  # fmt: skip


def recent_impact(case: Case, step: int) -> Vector:
    """Return (n,) the median impact of the week up to ``step``, per squared weight change."""
    return np.asarray(np.median(case.impact[max(0, step - 168) : step + 1], axis=0), dtype=np.float64)


def terms(case: Case, step: int, chain: GasChain) -> Terms:
    """Return the programme's terms of ``case`` as known at ``step``, at the chain's usual gas and last week's depth."""
    usual = effective_gas(case)[step] * chain.usual / gas_usd(case.history)[step]
    return terms_of(geometry(case, step), float(usual), recent_impact(case, step))


def programme(
    case: Case,
    base: Schedule,
    chains: tuple[Window, ...],
    wanted: Matrix,
    slow: Vector,
    first: int = 0,
    last: int | None = None,
) -> tuple[Vector, Vector]:
    """Return the dynamic programme's (outer, inner), solved in each window where ``wanted`` (T, any) is not all zero.

    Elsewhere they are ``base``'s. ``slow`` (T,) is the state of gas.
    """
    outer, inner = base.outer.copy(), base.inner.copy()
    steps = len(case.history.ts)
    end = steps if last is None else min(last, steps)
    speed = speeds(growth_squares(case, steps))
    prices = effective_gas(case)
    for window in chains:
        part = slice(max(window.first, first), min(window.last, end))
        if part.start >= part.stop or not wanted[part].any():
            continue
        chain = window.fit.chain
        found = terms(case, window.first, chain)
        solution = solve(found, chain, *(HARD_GRID if found.hard else SOFT_GRID))
        count = part.stop - part.start
        levels_many(
            solution.keep, hours_of_week(case.history.ts[part]), index_in(chain.slow, slow[part]),
            index_in(np.log(chain.speed), np.log(speed[part])), chain.speed.size, prices[part],
            np.full(count, found.fee), np.full(count, found.impact), solution.step, solution.forced,
            outer[part], inner[part],
        )  # fmt: skip
    return outer, inner


def gas_usd(history: History) -> Vector:
    """Return (T,) USD per unit of gas."""
    return np.asarray(history.gas_gwei * history.native_usd * 1e-9)


def gas_of_swaps(base: Gas, leg: Gas, assets: int) -> Gas:
    """Return gas of a usual rebalance of ``assets``: of the sufficient swaps, whose first leg is in ``leg``."""
    return base + leg * (1.0 + LEG_SHARE * max(0, assets - 2))


def effective_gas(case: Case) -> Vector:
    """Return (T,) gas of a usual rebalance, fraction of NAV."""
    return np.asarray(gas_of_swaps(case.gas_base, case.gas_leg, len(case.columns)))


def growth_squares(case: Case, last: int) -> Vector:
    """Return (last,) growth of r^2 in the hour before each step over its usual value; mean 1 in a usual market.

    An hour that does not lie between two bars in a row of every asset counts as usual.
    """
    h, p = case.history, case.portfolio
    move = case.returns[: last - 1] @ (np.diag(p.target) - np.outer(p.target, p.target)).T
    out = np.ones(last)
    day = h.day[: last - 1]
    out[1:] = np.einsum("ti,tij,tj->t", move, case.M[day], move) / np.maximum(case.growth[day], 1e-300)
    if h.moved is not None:
        out[1:][~h.moved[: last - 1, case.columns].all(axis=1)] = 1.0
    return out


def split(case: Case, plan: Schedule, trust: Vector) -> Schedule:
    """Return ``plan`` with trades cut where price impact exceeds another gas payment and forecasts are trusted."""
    day = case.history.day
    square = case.box_square[day] if case.portfolio.scenario == "hard" else case.unit_square[day]
    cap, resume = slices(
        effective_gas(case), case.impact, square, plan.outer, plan.inner, trust, (plan.cap, plan.resume)
    )
    return replace(plan, cap=cap, resume=resume)


def slices(
    gas: Vector,
    impact: Matrix,
    square: Matrix,
    outer: Vector,
    inner: Vector,
    trust: Vector,
    whole: tuple[Vector, Vector],
) -> tuple[Vector, Vector]:
    """Return (T,) cap and resume of trades cut into slices; ``whole`` where one trade is best or nothing is trusted.

    N equal slices of a move rho cost ``N g + m rho^2 / N``: the best slice is ``sqrt(g / m)``, taken hour by hour until
    the inner level (the pools refill between). ``impact`` and ``square`` are (T, n), the rest (T,).
    """
    m = np.sum(impact * square, axis=1)
    with np.errstate(divide="ignore"):
        slice_r = np.sqrt(gas / m)
    turnover = 0.5 * np.sqrt(np.sum(square, axis=1) * square.shape[1])  # upper bound of sum |x_i| / 2 at unit r
    active = (trust > 0.0) & (slice_r < SPLIT_BELOW * (outer - inner))
    return np.where(active, slice_r * turnover, whole[0]), np.where(active, inner + slice_r, whole[1])
