"""Bounds that look ahead: what perfect knowledge of gas, or of everything, would have been worth on this very path.

``foresight_gas`` solves the programme over the distance along the gas that really came (drift unknown, as its model
has it) and takes, by hindsight, the cheapest of that, in slices or whole, of the predictive policy and of the reactive
bands on the path: the ceiling for gas forecasting, loose by the luck of choosing. ``clairvoyant`` knows prices too: the
cheapest sequence of full rebalances there is, exactly, or a sequence of partial trades another policy made if that is
cheaper. So no policy of a comparison that keeps the mandate is cheaper than it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from numba import njit

from policy.base import ForecastView, Matrix, State, Vector
from policy.simulation.planner import NEVER, Case, Levels, Schedule
from policy.simulation.simulator import GAS, TRACKING, simulate
from policy.solvers import bands
from policy.solvers.dynamic_program import factors, levels_of
from policy.strategies.experts import Kind
from policy.strategies.gas_process import speeds
from policy.strategies.predictive import Predictive
from policy.strategies.programme import HARD_DIMS, MOVE_SHARE, effective_gas, growth_squares, split
from policy.strategies.reactive import GAS_BAND, GAS_BAND_EXIT, GAS_TILT, Bands
from policy.strategies.registry import Workshop

CONSTANT_BAND = Bands("band", constant=True)
NODES = 64
REACH = 2.5  # of the band at the most expensive tenth of gas


@njit(cache=True, nogil=True)
def foresee(
    gas: Vector,
    k: Vector,
    m: Vector,
    growth: Vector,
    penalty: Vector,
    dims: float,
    h: float,
    nodes: int,
    forced: int,
    V: Vector,  # (nodes,) cost-to-go at the end
    outer: Vector,
    inner: Vector,
) -> float:
    """Write the levels of each step, backward along known (T,) gas and growth; return the least expected cost from 0.

    ``penalty`` (T,) is per r^2 and hour; at nodes from ``forced`` on a trade is due.
    """
    lo, cp, den, C = np.empty(nodes), np.empty(nodes), np.empty(nodes), np.empty(nodes)
    last = -1.0
    for t in range(gas.shape[0] - 1, -1, -1):
        if growth[t] != last:
            factors(nodes, h, dims, growth[t], lo, cp, den)
            last = growth[t]
        C[0] = V[0] / den[0]
        for j in range(1, nodes):
            C[j] = (V[j] - lo[j] * C[j - 1]) / den[j]
        for j in range(nodes - 2, -1, -1):
            C[j] -= cp[j] * C[j + 1]
        for j in range(nodes):
            C[j] += penalty[t] * (h * j) ** 2
        outer[t], inner[t] = levels_of(C, gas[t], k[t], m[t], h, forced)
        y = 0
        for j in range(nodes):
            d = h * (j - y)
            best = C[y] + k[t] * d + m[t] * d * d
            while y < j:
                d = h * (j - y - 1)
                other = C[y + 1] + k[t] * d + m[t] * d * d
                if other > best:
                    break
                y += 1
                best = other
            V[j] = gas[t] + best if j >= forced else min(C[j], gas[t] + best)
    return float(V[0])


@dataclass(frozen=True, slots=True)
class ForesightGas:
    """A rule that knows all gas to come; without ``predictive`` it chooses between gas_band and the programme."""

    predictive: Predictive | None = None
    name: str = "foresight_gas"

    def levels_over(self, case: Case) -> Schedule:
        """Return the cheapest on this path of the bands, the predictive policy and the programme along the true gas."""
        return cheapest(case, self.candidates(case))

    def candidates(self, case: Case) -> list[Schedule]:
        """Return the schedules to choose from."""
        stronger = {"soft": GAS_TILT, "hard": GAS_BAND_EXIT}[case.portfolio.scenario]
        others = [] if self.predictive is None else [self.predictive.levels_over(case)]
        along = along_true_gas(case)
        found = [
            GAS_BAND.levels_over(case),
            stronger.levels_over(case),
            CONSTANT_BAND.levels_over(case),
            *others,
            along,
        ]
        if np.isfinite(along.cap).any():
            never = np.full(along.cap.size, NEVER)
            found.append(replace(along, cap=never, resume=never))
        return found

    def taught(self, lessons: Mapping[Kind, Matrix]) -> ForesightGas:
        """Return this bound over the policy taught ``lessons``."""
        return self if self.predictive is None else replace(self, predictive=self.predictive.taught(lessons))

    def levels_at(self, state: State, forecasts: ForecastView) -> Levels:
        """Return gas_band's levels: a bound needs a future, and a live state has none."""
        return GAS_BAND.levels_at(state, forecasts)


def along_true_gas(case: Case) -> Schedule:
    """Return the programme's levels along the true gas; at the end the cost-to-go is that of the band at median gas."""
    base = GAS_BAND.levels_over(case)
    first, last = case.first, case.last
    part = slice(first, last)
    p, h = case.portfolio, case.history
    day = h.day[part]
    speed = speeds(growth_squares(case, last))[part]
    gas = np.ascontiguousarray(effective_gas(case)[part])
    outer, inner = base.outer.copy(), base.inner.copy()
    if p.scenario == "hard":
        k = MOVE_SHARE * case.box_fee[day]
        m = MOVE_SHARE * np.sum(case.impact[part] * case.box_square[day], axis=1)
        step = 1.0 / (NODES - 1)
        r = step * np.arange(NODES)
        foresee(
            gas, k, m, speed / case.exit_h[day], np.zeros(gas.size), HARD_DIMS, step, NODES, NODES - 1,
            (float(np.median(gas)) + k[-1]) * r**2, outer[part], inner[part],
        )  # fmt: skip
        outer[part] = np.minimum(outer[part], 1.0)
    else:
        k, m = case.unit_fee[day], case.unit_impact[part]
        growth = case.growth[day] * speed
        dims = max(1.0, float(len(case.columns) - 1))
        penalty = 2.0 * (dims + 2.0) / dims * growth * p.gamma
        top, _ = bands.solve_one(float(np.quantile(gas, 0.9)), float(np.median(k)), float(np.median(m)), p.gamma)
        step = REACH * top / (NODES - 1)
        end, back = bands.solve_one(float(np.median(gas)), float(k[-1]), float(m[-1]), p.gamma)
        r = np.minimum(step * np.arange(NODES), end)
        V = 2.0 * p.gamma * (end**2 + end * back + back**2) * r**2 - p.gamma * r**4
        foresee(gas, k, m, growth, penalty, dims, step, NODES, NODES + 1, V, outer[part], inner[part])
    inner[part] = np.minimum(inner[part], outer[part])
    return split(case, replace(base, outer=outer, inner=inner), np.ones(len(h.ts)))


def cheapest(case: Case, candidates: Sequence[Schedule]) -> Schedule:
    """Return the schedule of ``candidates`` that costs least on this path; the first of equals."""
    return min(candidates, key=lambda plan: path_cost(case, plan))


def path_cost(case: Case, plan: Schedule) -> float:
    """Return what ``plan`` costs on this path, a fraction of NAV; tracking counts in a soft mandate only."""
    soft = case.portfolio.scenario == "soft"
    one = np.zeros(len(case.history.ts), dtype=np.int64)
    return float(simulate(case, plan, one, log=False).weekly[:, GAS : TRACKING + soft].sum())


@njit(cache=True, nogil=True)
def cheapest_times(
    returns: Matrix,  # (T, n) of the hour after each step
    target: Vector,
    gas: Vector,  # (T,) of a rebalance of all assets; inf where one of them has no market
    fee: Vector,
    impact: Matrix,
    half_gamma: float,  # 0: no tracking cost
    tolerance: Vector,
    bound: float,  # a cost that is known to be reached
    times: npt.NDArray[np.bool_],
) -> float:
    """Mark the steps of the cheapest sequence of rebalances to target and return its cost; exact, O(T^2 n).

    Starts at target before step 0; a deviation beyond ``tolerance`` must be traded in its step, or the next in which
    all assets have a market. A segment is given up when its tracking alone exceeds ``bound``.
    """
    T, n = returns.shape
    best = np.full(T + 1, np.inf)  # cost until a trade at step b, before holding from it; T is the end
    origin = np.full(T + 1, -1)
    x = np.empty(n)
    for start in range(-1, T):
        so_far = 0.0 if start < 0 else best[start]
        if so_far > bound:
            continue
        x[:] = 0.0
        spent = so_far
        for t in range(max(start, 0), T):
            if t > start and t > 0:
                price = gas[t]
                moved = False
                due = False
                for i in range(n):
                    dw = abs(x[i])
                    moved |= dw > 0.0
                    due |= dw > tolerance[i]
                    price += 0.5 * fee[i] * dw + impact[t, i] * dw * dw
                if moved and spent + price < best[t]:
                    best[t] = spent + price
                    origin[t] = start
                if due and price < np.inf:
                    break
            portfolio, difference = 0.0, 0.0
            for i in range(n):
                portfolio += (target[i] + x[i]) * returns[t, i]
                difference += x[i] * returns[t, i]
            spent += half_gamma * difference * difference
            if spent > bound:
                break
            for i in range(n):
                x[i] = (target[i] + x[i]) * (1.0 + returns[t, i]) / (1.0 + portfolio) - target[i]
            if t == T - 1 and spent < best[T]:
                best[T] = spent
                origin[T] = start
    times[:] = False
    b = origin[T]
    while b >= 0:
        times[b] = True
        b = origin[b]
    return float(best[T])


@dataclass(frozen=True, slots=True)
class Clairvoyant:
    """A rule that knows prices and gas to come; trades to target at the cheapest times unless another does better."""

    foresight: ForesightGas = field(default_factory=ForesightGas)
    name: str = "clairvoyant"

    def levels_over(self, case: Case) -> Schedule:
        """Return the cheapest of ``full_rebalances`` and what foresight_gas chooses from."""
        return cheapest(case, [*self.foresight.candidates(case), full_rebalances(case)])

    def taught(self, lessons: Mapping[Kind, Matrix]) -> Clairvoyant:
        """Return this bound over the policy taught ``lessons``."""
        return replace(self, foresight=self.foresight.taught(lessons))

    def levels_at(self, state: State, forecasts: ForecastView) -> Levels:
        """Return gas_band's levels: a bound needs a future, and a live state has none."""
        return GAS_BAND.levels_at(state, forecasts)


def full_rebalances(case: Case) -> Schedule:
    """Return a schedule open at the steps of the cheapest sequence of rebalances to target only."""
    p = case.portfolio
    part = slice(case.first, case.last)
    soft = p.scenario == "soft"
    times = np.zeros(case.last - case.first, dtype=np.bool_)
    tolerance = np.full(len(case.columns), np.inf) if soft else p.tolerance * (1.0 - 1e-9)
    whole = case.history.markets[part][:, case.columns].all(axis=1)
    arguments = (
        np.ascontiguousarray(case.returns[part]), p.target, np.where(whole, case.gas_full[part], np.inf), case.fee,
        np.ascontiguousarray(case.impact[part]), 0.5 * p.gamma if soft else 0.0, tolerance,
    )  # fmt: skip
    cheapest_times(*arguments, ceiling(case) if soft else np.inf, times)
    steps = len(case.history.ts)
    outer = np.full(steps, NEVER)
    outer[part][times] = 0.0
    never = np.full(steps, NEVER)
    return Schedule(outer, np.zeros(steps), never, never, box=True, must=not soft, direct=True)


def ceiling(case: Case) -> float:
    """Return a cost some sequence of rebalances to target reaches: the least over fixed box triggers."""
    steps = len(case.history.ts)
    never, ones = np.full(steps, NEVER), np.ones(len(case.columns))
    plans = [
        Schedule(np.full(steps, trigger), np.zeros(steps), never, never, box=True, scale=ones, direct=True)
        for trigger in (0.03, 0.06, 0.1, 0.2, 10.0)
    ]
    return min(path_cost(case, plan) for plan in plans) * (1.0 + 1e-9) + 1e-15


def make_foresight_gas(workshop: Workshop) -> ForesightGas:
    """Return the ceiling for gas forecasting."""
    return ForesightGas(workshop.predictive)


def make_clairvoyant(workshop: Workshop) -> Clairvoyant:
    """Return the ceiling for everything."""
    return Clairvoyant(make_foresight_gas(workshop))
