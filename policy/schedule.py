"""How policies act: levels of a scalar distance, known before the step. One record for a moment, one for a history.

Gas, prices, depth and forecasts do not depend on what the portfolio does, so a policy's levels can be computed for all
steps at once; the compiled step then applies them. ``Rule`` applies the same levels through the same step to one State.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import numpy as np
import numpy.typing as npt

from policy import bands, kernels
from policy.base import ChainFees, ForecastView, Market, Matrix, Scenario, State, Vector
from policy.costs import DEFAULT_FEE, gas_lines, impact_per_square
from policy.history import History

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
    A: float = 0.0  # relative cost-to-go A r^2 - B r^4, fraction of NAV; 0: implied by outer and inner
    B: float = 0.0


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
    A: Vector | None = None  # None: implied by outer and inner, see ``worth``


@dataclass(frozen=True, slots=True)
class Case:
    """One portfolio on one history: everything exogenous its step needs. Costs are fractions of NAV.

    ``growth`` is the mean growth of r^2 an hour; ``unit_move`` and ``unit_fee`` are the weight changes and the fee of moving one unit of r and ``unit_square`` the
    squared weight changes of it (times ``impact``: its quadratic cost), averaged over directions.
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

    @property
    def gas_full(self) -> Vector:
        """(T,) gas of a rebalance of all assets, fraction of NAV."""
        return self.gas_base + self.gas_leg * max(1, len(self.columns) - 1)

    @property
    def unit_impact(self) -> Vector:
        """(T,) quadratic cost of moving one unit of r, averaged over directions."""
        return np.asarray(np.sum(self.impact * self.unit_square[self.history.day], axis=1))

    def gas_at(self, gas_gwei: Vector) -> Vector:
        """Return (T,) gas of a rebalance of all assets at other gas prices, fraction of NAV."""
        base, leg = gas_lines(self.portfolio.fees, gas_gwei, self.history.native_usd)
        return np.asarray((base + leg * max(1, len(self.columns) - 1)) / self.portfolio.nav_usd)

    def state(self, step: int, weights: Vector, last_trade: datetime | None = None) -> State:
        """Return what a live decision would see at ``step`` with ``weights``."""
        p, h = self.portfolio, self.history
        market = Market(
            float(h.gas_gwei[step]), float(h.native_usd[step]), p.fees, self.fee, h.depth_usd[step, self.columns]
        )
        return State(
            h.when(step), p.assets, weights, p.target, p.tolerance, p.nav_usd, p.gamma, p.scenario,
            self.covariance[h.day[step]], market, last_trade,
        )  # fmt: skip


class Planner(Protocol):
    """A rebalancing rule as levels."""

    @property
    def name(self) -> str:
        """Name of the policy."""
        ...

    def plan(self, case: Case) -> Schedule:
        """Return the levels of every step; those of step t depend on nothing after t (bounds excepted)."""
        ...

    def levels(self, state: State, forecasts: ForecastView) -> Levels:
        """Return the levels for one state: equal to ``plan`` at that step."""
        ...


def prepare(history: History, portfolio: Portfolio, like: Case | None = None) -> Case:
    """Return the case of ``portfolio`` on ``history``; its assets must be among the history's.

    ``like`` is the case of the same basket and target under another mandate or NAV: its geometry is reused.
    """
    p = portfolio
    columns = np.array([history.assets.index(a) for a in p.assets], dtype=np.int64)
    n = len(columns)
    fee = p.fee if p.fee.size else np.full(n, DEFAULT_FEE)
    base, leg = gas_lines(p.fees, history.gas_gwei, history.native_usd)
    impact = impact_per_square(p.nav_usd, history.depth_usd[:, columns])
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
    box = (np.zeros(0), np.zeros(0), np.zeros((0, n)))
    if like is not None and covariance is like.covariance and like.exit_h.size and _same_box(like, p, fee):
        box = like.exit_h, like.box_fee, like.box_square
    elif p.scenario == "hard":
        box = bands.box_moves(covariance, p.target, p.tolerance, fee)
    return Case(
        p, history, columns, first, last, returns, covariance, M, growth,
        np.asarray(base) / p.nav_usd, np.asarray(leg) / p.nav_usd, fee, impact, moves, 0.5 * moves @ fee, square, *box,
    )  # fmt: skip


def _same_box(like: Case, p: Portfolio, fee: Vector) -> bool:
    return np.array_equal(like.portfolio.tolerance, p.tolerance) and np.array_equal(like.fee, fee)


def schedule(
    steps: int,
    outer: float | Vector,
    inner: float | Vector,
    resume: float | Vector = NEVER,
    cap: float | Vector = NEVER,
    *,
    box: bool = False,
    must: bool = False,
    scale: Vector | None = None,
    direct: bool = False,
    A: Vector | None = None,
) -> Schedule:
    """Return a Schedule of ``steps`` steps from numbers or (T,) arrays."""
    full = [
        np.ascontiguousarray(np.broadcast_to(np.asarray(v, dtype=np.float64), steps))
        for v in (outer, inner, resume, cap)
    ]
    return Schedule(full[0], full[1], full[2], full[3], box, must, scale, direct, A)


def worth(
    scenario: Scenario,
    gamma: float,
    outer: float | Vector,
    inner: float | Vector,
    gas: float | Vector,
    k: float | Vector,
) -> tuple[Vector, float]:
    """Return (A, B) of the cost-to-go ``A r^2 - B r^4`` (fractions of NAV) that levels imply; 0 where they never act.

    Soft: B is gamma and A makes the slopes at outer and inner equal (see ``bands``). Hard: the cost of a forced trade to
    ``inner`` spread over its expected time, ``(gas + k (1-inner)) / (1 - inner^2)``; B is 0.
    """
    D, d = np.asarray(outer, dtype=np.float64), np.asarray(inner, dtype=np.float64)
    if scenario == "hard":
        d = np.clip(d, 0.0, 0.99)
        return np.asarray((gas + k * (1.0 - d)) / (1.0 - d * d), dtype=np.float64), 0.0
    D, d = np.where(np.isfinite(D), D, 0.0), np.where(np.isfinite(d), d, 0.0)
    return np.asarray(2.0 * gamma * (D * D + D * d + d * d), dtype=np.float64), gamma


@dataclass(frozen=True, slots=True)
class Move:
    """What the compiled step does with one state."""

    reason: int
    before: Vector
    after: Vector
    distance: float


def apply(state: State, levels: Levels) -> Move:
    """Return the move of ``state`` under ``levels``, by the compiled step of the simulator."""
    x = np.ascontiguousarray(state.weights - state.target)
    n = x.size
    scale = levels.scale if levels.scale is not None else 1.0 / state.tolerance
    M = (
        np.zeros((n, n))
        if levels.box
        else np.ascontiguousarray(bands.shapes(state.covariance[None], state.target)[0][0])
    )
    after = x.copy()
    r = float(kernels.distance(x, M, scale, levels.box, n))
    busy = state.last_trade is not None and state.ts - state.last_trade <= timedelta(hours=1)
    trigger = min(levels.outer, levels.resume) if busy else levels.outer
    breach = levels.must and r >= 1.0
    reason = kernels.NOTHING
    if breach or (r >= trigger and r > levels.inner):
        A, B, leg = _weighing(state, levels)
        impact = impact_per_square(state.nav_usd, state.market.depth_usd)
        reason = int(
            kernels.act(
                x, r, M, scale, levels.box, levels.direct, levels.inner, levels.cap, breach, A, B, leg, state.market.fee,
                impact, after,
            )
        )  # fmt: skip
    moved = state.target + after if reason != kernels.NOTHING else state.weights
    return Move(reason, state.weights, moved, r)


def _weighing(state: State, levels: Levels) -> tuple[float, float, float]:
    """Return (A, B, gas of a leg) by which the projection weighs the number of swaps."""
    base, leg = (
        float(v) / state.nav_usd for v in gas_lines(state.market.fees, state.market.gas_gwei, state.market.native_usd)
    )
    k = 0.0
    if state.scenario == "hard" and not levels.A:
        k = float(bands.box_moves(state.covariance[None], state.target, state.tolerance, state.market.fee)[1][0])
    gas = base + leg * max(1, state.target.size - 1)
    A, B = worth(state.scenario, state.gamma, levels.outer, levels.inner, gas, k)
    return levels.A or float(A), B, leg
