"""How policies act: levels of a scalar distance, known before the step. One record for a moment, one for a history.

Gas, prices, depth and forecasts do not depend on what the portfolio does, so a policy's levels can be computed for all
steps at once; the compiled step then applies them. ``Rule`` applies the same levels through the same step to one State.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import numpy as np
import numpy.typing as npt

from policy.base import ChainFees, ForecastView, Market, Matrix, Scenario, State, Vector, tradable
from policy.costs import DEFAULT_FEE, gas_lines, impact_per_square
from policy.simulation.history import History
from policy.solvers import bands, step_kernel

NEVER = np.inf


@dataclass(frozen=True, slots=True)
class Portfolio:
    """One portfolio of the panel; vectors are (n,) in the order of ``assets``."""

    portfolio_id: str
    scenario: Scenario
    assets: tuple[str, ...]
    target: Vector
    tolerance: Vector
    nav_usd: float
    gamma: float
    fees: ChainFees
    start: datetime
    end: datetime
    fee: Vector = field(default_factory=lambda: np.zeros(0))  # empty: DEFAULT_FEE for every asset
    label: str = ""  # scenario with its tightness and chain, e.g. "hard 4% L1"
    max_turnover: float = 1.0  # most one trade may move, one-way, of NAV; 1 never binds

    @property
    def swap_fee(self) -> Vector:
        """(n,) fee of each asset's pool as a fraction of the trade."""
        return self.fee if self.fee.size else np.full(len(self.assets), DEFAULT_FEE)


@dataclass(frozen=True, slots=True)
class Levels:
    """What a policy does at one moment: trade when r >= outer, back to inner, moving at most cap of NAV.

    ``resume`` replaces a higher outer in the step after a trade (a split under way). ``box``: r is max |x_i| times
    ``scale`` (n,), else r^2 = x'Mx of ``bands.shapes``. ``must``: r >= 1 is traded at once whatever outer says.
    """

    outer: float
    inner: float
    resume: float = NEVER
    cap: float = NEVER
    box: bool = False
    must: bool = False
    scale: Vector | None = None  # None: 1 / tolerance
    direct: bool = False  # every asset moves the same share of its way; else the cheapest sufficient swaps
    why: str = ""
    A: float | None = None  # relative cost-to-go A r^2 - B r^4 as fraction of NAV; None: at usual gas, see ``worth``
    exit_legs: bool = True  # box: swaps are chosen by the exit time they leave; else by the distance
    exit_part: float = 0.0  # box: of the exit distance in what meets the trigger, see ``step_kernel.wanted``


@dataclass(frozen=True, slots=True)
class Schedule:
    """The levels of a whole history, (T,) arrays over its steps; the fields are those of Levels."""

    outer: Vector
    inner: Vector
    resume: Vector
    cap: Vector
    box: bool = False
    must: bool = False
    scale: Vector | None = None
    direct: bool = False
    A: Vector | None = None  # of the cost-to-go; None: that of the case, at usual gas
    exit_legs: bool = True
    exit_part: Vector | None = None  # None: 0 throughout

    @property
    def exit_parts(self) -> Vector:
        """(T,) ``exit_part``."""
        return np.zeros(self.outer.size) if self.exit_part is None else self.exit_part


@dataclass(frozen=True, slots=True)
class Case:
    """One portfolio on one history: everything exogenous its step needs. Costs are fractions of NAV.

    ``growth`` is the mean growth of r^2 an hour; ``unit_move``, ``unit_fee`` and ``unit_square`` are the weight
    changes, the fee and the squared weight changes (times ``impact``: the quadratic cost) of moving one unit of r,
    averaged over directions.
    """

    portfolio: Portfolio
    history: History
    columns: npt.NDArray[np.int64]
    first: int
    last: int
    returns: Matrix  # (T, n)
    covariance: Matrix  # (D, n, n)
    M: Matrix  # (D, n, n)
    growth: Vector  # (D,)
    gas_base: Vector  # (T,)
    gas_leg: Vector  # (T,)
    fee: Vector  # (n,)
    impact: Matrix  # (T, n)
    unit_move: Vector  # (D, n)
    unit_fee: Vector  # (D,)
    unit_square: Vector  # (D, n)
    exit_h: Vector  # (D,) see bands.box_moves; hard mandate only, else empty
    box_fee: Vector  # (D,)
    box_square: Vector  # (D, n)
    exits: Matrix  # (D, n, n) speeds of leaving the box, see ``bands.exit_shapes``
    A: Vector  # (T,) of the cost-to-go A r^2 - B r^4 at usual gas; weighs the number of swaps, see ``worth``

    def shape(self, plan: Schedule) -> Matrix:
        """Return (D, n, n) the matrices the compiled step takes for ``plan``: M, or of a box its speeds of leaving."""
        if not plan.box:
            return self.M
        return self.exits if self.exits.size and plan.exit_legs else np.zeros_like(self.M)

    @property
    def gas_full(self) -> Vector:
        """(T,) gas of a rebalance of all assets, fraction of NAV."""
        return self.gas_base + self.gas_leg * max(1, len(self.columns) - 1)

    @property
    def unit_impact(self) -> Vector:
        """(T,) quadratic cost of moving one unit of r, averaged over directions."""
        return np.asarray(np.sum(self.impact * self.unit_square[self.history.day], axis=1))

    @property
    def gas_one(self) -> Vector:
        """(T,) gas of the smallest rebalance, one swap, fraction of NAV: what rules price their trigger at."""
        return self.gas_base + self.gas_leg

    def gas_at(self, gas_gwei: Vector, swaps: int | None = None) -> Vector:
        """Return (T,) gas of a rebalance of ``swaps`` (None: all assets) at other gas prices, fraction of NAV."""
        legs = max(1, len(self.columns) - 1) if swaps is None else swaps
        base, leg = gas_lines(self.portfolio.fees, gas_gwei, self.history.native_usd)
        return np.asarray((base + leg * legs) / self.portfolio.nav_usd)

    def state(self, step: int, weights: Vector, last_trade: datetime | None = None) -> State:
        """Return what a live decision would see at ``step`` with ``weights``."""
        p, h = self.portfolio, self.history
        market = Market(
            float(h.gas_gwei[step]),
            float(h.native_usd[step]),
            p.fees,
            self.fee,
            h.depth_usd[step, self.columns],
            float(h.recent_gwei[step]),
            h.markets[step, self.columns],
        )
        return State(
            h.when(step), p.assets, weights, p.target, p.tolerance, p.nav_usd, p.gamma, p.scenario,
            self.covariance[h.day[step]], market, last_trade, p.max_turnover,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Latest:
    """The schedule each thread asked for last: bounds choose among plans that another policy has just made."""

    held: dict[int, tuple[Case, Schedule]] = field(default_factory=dict)

    def of(self, case: Case, make: Callable[[Case], Schedule]) -> Schedule:
        """Return ``make(case)``, made once for the same case in a row."""
        thread = threading.get_ident()
        found = self.held.get(thread)
        if found is None or found[0] is not case:
            self.held[thread] = found = (case, make(case))
        return found[1]


class LevelRule(Protocol):
    """A rebalancing rule at one moment: levels from a state and the forecasts handed over, and from nothing else."""

    @property
    def name(self) -> str:
        """Name of the policy."""
        ...

    def levels_at(self, state: State, forecasts: ForecastView) -> Levels:
        """Return the levels for one state: equal to a planner's ``levels_over`` at that step."""
        ...


class BandRule(LevelRule, Protocol):
    """A rebalancing rule over a history."""

    def levels_over(self, case: Case) -> Schedule:
        """Return the levels of every step; those of step t depend on nothing after t (bounds excepted)."""
        ...


def prepare(history: History, portfolio: Portfolio, like: Case | None = None) -> Case:
    """Return the case of ``portfolio`` on ``history``; its assets must be among the history's.

    ``like`` is the case of the same basket and target under another mandate or NAV: its geometry is reused.
    """
    p = portfolio
    columns = np.array([history.assets.index(a) for a in p.assets], dtype=np.int64)
    n = len(columns)
    fee = p.swap_fee
    base, leg = gas_lines(p.fees, history.gas_gwei, history.native_usd)
    impact = np.ascontiguousarray(impact_per_square(p.nav_usd, history.depth_usd[:, columns]))
    first = max(history.step_of(p.start), history.first)
    last = min(history.step_of(p.end), len(history.ts) - 1)
    if like is not None and like.portfolio.assets == p.assets and np.array_equal(like.portfolio.target, p.target):
        returns, covariance, M, growth, square = like.returns, like.covariance, like.M, like.growth, like.unit_square
        moves = like.unit_move
    else:
        returns = np.ascontiguousarray(history.returns[:, columns])
        covariance = np.ascontiguousarray(history.covariance[:, columns[:, None], columns])
        M, growth = bands.shapes(covariance, p.target)
        M, square, moves = np.ascontiguousarray(M), bands.mean_square_moves(M, n), bands.mean_moves(M, n)
    box = (np.zeros(0), np.zeros(0), np.zeros((0, n)), np.zeros((0, n, n)))
    if like is not None and covariance is like.covariance and like.exit_h.size and _same_box(like, p, fee):
        box = like.exit_h, like.box_fee, like.box_square, like.exits
    elif p.scenario == "hard":
        box = (
            *bands.box_moves(covariance, p.target, p.tolerance, fee),
            bands.exit_shapes(covariance, p.target, p.tolerance),
        )
    gas_base, gas_leg = np.asarray(base) / p.nav_usd, np.asarray(leg) / p.nav_usd
    usual_base, usual_leg = gas_lines(p.fees, history.recent_gwei, history.native_usd)
    usual = np.asarray(usual_base + usual_leg * max(1, n - 1)) / p.nav_usd
    unit_fee, day = 0.5 * moves @ fee, history.day
    hard = p.scenario == "hard"
    m = np.sum(impact * (box[2] if hard else square)[day], axis=1)
    A = worth(p.scenario, p.gamma, usual, (box[1] if hard else unit_fee)[day], m, box[0][day] if hard else None)
    return Case(
        p, history, columns, first, last, returns, covariance, M, growth,
        gas_base, gas_leg, fee, impact, moves, unit_fee, square, *box, A,
    )  # fmt: skip


def _same_box(like: Case, p: Portfolio, fee: Vector) -> bool:
    return np.array_equal(like.portfolio.tolerance, p.tolerance) and np.array_equal(like.fee, fee)


@dataclass(frozen=True, slots=True)
class Partial:
    """How a rebalance is split: the ``resume`` and ``cap`` of Levels, numbers or (T,) arrays; NEVER: in one go."""

    resume: float | Vector = NEVER
    cap: float | Vector = NEVER


def schedule(
    steps: int,
    outer: float | Vector,
    inner: float | Vector,
    *,
    partial: Partial | None = None,
    box: bool = False,
    must: bool = False,
    scale: Vector | None = None,
    direct: bool = False,
) -> Schedule:
    """Return a Schedule of ``steps`` steps from numbers or (T,) arrays."""
    pace = partial or Partial()
    full = [np.full(steps, v, dtype=np.float64) for v in (outer, inner, pace.resume, pace.cap)]
    return Schedule(full[0], full[1], full[2], full[3], box, must, scale, direct)


def worth(scenario: Scenario, gamma: float, gas: Vector, k: Vector, m: Vector, exit_h: Vector | None) -> Vector:
    """Return A of the cost-to-go ``A r^2 - B r^4`` (B is gamma, hard: 0) of full rebalances at usual gas ``gas``.

    Soft: A makes the slopes at the band's two levels equal (see ``bands``). Hard: cost rate times exit time.
    """
    if exit_h is not None and scenario == "hard":
        return bands.hard_band(gas, gas, k, m, exit_h, early=False)[2] * exit_h
    D, d = bands.solve(gas, k, gamma, m)
    return np.asarray(2.0 * gamma * (D * D + D * d + d * d), dtype=np.float64)


def usual_gwei(state: State) -> float:
    """Return the gas price usual in the last week, or the present one where it is not given."""
    usual = state.market.usual_gwei
    return state.market.gas_gwei if usual is None else usual


def gas_of(state: State, gas_gwei: float, swaps: int) -> float:
    """Return the gas of a rebalance of ``swaps`` at ``gas_gwei``, as a fraction of NAV."""
    base, leg = gas_lines(state.market.fees, gas_gwei, state.market.native_usd)
    return (float(base) + float(leg) * swaps) / state.nav_usd


def state_worth(state: State) -> float:
    """Return ``worth`` for one state: equal to the case's A at that step."""
    n, cov = state.target.size, state.covariance[None]
    gas = np.array([gas_of(state, usual_gwei(state), max(1, n - 1))])
    impact = impact_per_square(state.nav_usd, state.market.depth_usd)
    if state.scenario == "hard":
        exit_h, k, squares = bands.box_moves(cov, state.target, state.tolerance, state.market.fee)
        return float(worth("hard", state.gamma, gas, k, squares @ impact, exit_h)[0])
    M, _ = bands.shapes(cov, state.target)
    k = 0.5 * bands.mean_moves(M, n) @ state.market.fee
    return float(worth("soft", state.gamma, gas, k, bands.mean_square_moves(M, n) @ impact, None)[0])


@dataclass(frozen=True, slots=True)
class Move:
    """What the compiled step does with one state."""

    reason: int
    before: Vector
    after: Vector
    distance: float


def state_shape(state: State, levels: Levels) -> Matrix:
    """Return (n, n) the matrix the compiled step takes for ``levels``: equal to ``Case.shape`` at that day."""
    n = state.target.size
    if not levels.box:
        return np.ascontiguousarray(bands.shapes(state.covariance[None], state.target)[0][0])
    if state.scenario != "hard" or not levels.exit_legs:
        return np.zeros((n, n))
    return np.ascontiguousarray(bands.exit_shapes(state.covariance[None], state.target, state.tolerance)[0])


def apply(state: State, levels: Levels) -> Move:
    """Return the move of ``state`` under ``levels``, by the compiled step of the simulator."""
    x = np.ascontiguousarray(state.weights - state.target)
    n = x.size
    scale = levels.scale if levels.scale is not None else 1.0 / state.tolerance
    M = state_shape(state, levels)
    after = x.copy()
    r = float(step_kernel.distance(x, M, scale, levels.box, n))
    busy = state.last_trade is not None and state.ts - state.last_trade <= timedelta(hours=1)
    trigger = min(levels.outer, levels.resume) if busy else levels.outer
    reason = step_kernel.NOTHING
    if (levels.must and r >= 1.0) or step_kernel.wanted(
        x, r, trigger, levels.inner, M, scale, levels.box, levels.exit_part
    ):
        A = 0.0 if levels.direct else state_worth(state) if levels.A is None else levels.A
        B = state.gamma if state.scenario == "soft" else 0.0
        gas = gas_of(state, state.market.gas_gwei, 1)
        leg = gas_of(state, state.market.gas_gwei, 2) - gas
        impact = impact_per_square(state.nav_usd, state.market.depth_usd)
        reason = int(
            step_kernel.move(
                x, r, trigger, state.target, tradable(state), M, scale, levels.box, levels.direct, levels.inner,
                levels.cap, levels.must, A, B, gas - leg, leg, state.market.fee, impact, state.tolerance,
                state.max_turnover, after,
            )
        )  # fmt: skip
    moved = state.target + after if reason != step_kernel.NOTHING else state.weights
    return Move(reason, state.weights, moved, r)
