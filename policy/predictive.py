"""The predictive policy: gas_band, moved by the dynamic programme as far as the forecasts have earned trust.

Soft mandate: the programme's trigger relative to the present band, kept within a trust region around it; in a market
faster than usual it never waits longer than the band and trades earlier. Hard mandate: the programme's own levels,
never earlier than the band's. ``trust`` (0..1) is the measured skill of the gas forecasts; at 0 every level is
gas_band's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lake.store import Lake
from policy.base import ForecastView, State, Vector
from policy.dynamic import GasChain, Terms, levels_many, solve
from policy.history import History
from policy.reactive import Bands
from policy.registry import CompareConfig
from policy.scenario import Window, hours_of_week, index_in, speeds, windows
from policy.schedule import Case, Levels, Portfolio, Schedule, prepare
from policy.skill import Outlook, outlook_of

GAS_BAND = Bands("gas_band", constant=False)
TRUST_REGION = (0.9, 1.15)  # of the band's trigger: the cost of a band is flat to second order within it
FAST = 2.0  # speed above which the calm gas process no longer describes the market
NARROW = 0.15  # exponent by which the trigger falls with speed above FAST: the penalty is high now, not for long
HARD_DIMS = 3.0  # of the box distance: between a line and the cube, where exit times scatter like observed ones
LEG_SHARE = 0.3  # of the further legs that a cheapest sufficient set of swaps uses
YOUNG_H = 30 * 24.0  # hours of gas at which trust in a chain reaches one half
MOVE_SHARE = 0.8  # of the turnover to the inner level that such a set moves
SPLIT_BELOW = 0.5  # slices are used where at least two make a move
SWEEPS, NODES = 1, 32  # from the closed form one week back is within 2 % of many; see tests


@dataclass(frozen=True, slots=True)
class Predictive:
    """Planner over an outlook; implements schedule.Planner."""

    history: History
    outlook: Outlook
    name: str = "predictive"

    def plan(self, case: Case) -> Schedule:
        """Return the levels of every step of ``case``; those of step t depend on nothing after t."""
        base = GAS_BAND.plan(case)
        outer, inner = base.outer.copy(), base.inner.copy()
        speed = speeds(growth_squares(case, len(self.history.ts)))
        for window in self.outlook.windows:
            first, last = max(window.first, case.first), min(window.last, case.last + 1)
            if first < last:
                outer[first:last], inner[first:last] = moved(case, base, self.outlook, window, first, last, speed)
        return split(case, replace(base, outer=outer, inner=inner), self.outlook.trust)

    def levels(self, state: State, forecasts: ForecastView) -> Levels:
        """Return the levels for ``state``: those of ``plan`` at the history's last step known by then.

        Without forecasts, outside the recorded history or without trust they are gas_band's, and ``why`` says so.
        """
        base = GAS_BAND.levels(state, forecasts)
        step = int(np.searchsorted(self.history.ts, int(state.ts.timestamp() * 1e6), side="right")) - 1
        reason = self.outlook.silent(forecasts, step)
        window = next((w for w in self.outlook.windows if w.first <= step < w.last), None)
        if reason or window is None:
            return replace(base, why=f"{base.why}; gas_band decides: {reason or 'too little gas history'}")
        case = prepare(self.history, portfolio_of(state, self.history, step))
        planned = schedule_at(base, len(self.history.ts))
        speed = speeds(growth_squares(case, step + 1))
        outer, inner = moved(case, planned, self.outlook, window, step, step + 1, speed)
        whole = split(case, replace(planned, outer=np.full_like(planned.outer, outer[0])), self.outlook.trust)
        return replace(
            base,
            outer=float(outer[0]),
            inner=float(inner[0]),
            cap=float(whole.cap[step]),
            resume=float(inner[0]) if np.isfinite(whole.cap[step]) else base.resume,
            why=f"{base.why}, moved to {float(outer[0]):.4f} by the gas forecast at trust "
            f"{float(self.outlook.trust[step]):.2f}",
        )


def moved(
    case: Case, base: Schedule, outlook: Outlook, window: Window, first: int, last: int, speed: Vector
) -> tuple[Vector, Vector]:
    """Return (outer, inner) of steps ``first`` .. ``last`` (exclusive) within ``window``; ``speed`` is by step."""
    part = slice(first, last)
    trust = outlook.trust[part]
    gb_outer, gb_inner = base.outer[part], base.inner[part]
    if not trust.any():
        return gb_outer.copy(), gb_inner.copy()
    hard = case.portfolio.scenario == "hard"
    chain = window.fit.chain
    found = terms(case, window.first, chain)
    solution = solve(found, chain, SWEEPS, NODES)
    speed = speed[part]
    count = last - first
    gas = effective_gas(case)[part]
    k, m = np.full(count, found.fee), np.full(count, found.impact)
    outer, inner = np.empty(count), np.empty(count)
    levels_many(
        solution.keep, hours_of_week(case.history.ts[part]), index_in(chain.slow, outlook.slow[part]),
        index_in(np.log(chain.speed), np.log(speed)), chain.speed.size, gas, k, m, solution.step, solution.forced,
        outer, inner,
    )  # fmt: skip
    if hard:  # the less of a move's cost is gas, the less a view on gas may change
        trust = trust * min(1.0, 2.0 * found.gas / (found.gas + found.fee + found.impact))
    else:  # a soft gain is small and a chain learnt from few weeks uncertain
        hours = np.arange(first, last) - case.history.gas_known
        trust = trust * hours / (hours + YOUNG_H)
    return moderated(hard, gb_outer, gb_inner, outer, inner, speed, trust)


def moderated(
    hard: bool,
    gb_outer: Vector,
    gb_inner: Vector,
    outer: Vector,
    inner: Vector,
    speed: Vector,
    trust: Vector,
    region: tuple[float, float] = TRUST_REGION,
) -> tuple[Vector, Vector]:
    """Return gas_band's (outer, inner) moved towards the programme's by ``trust``; see the module for how far."""
    if hard:
        outer = np.minimum(np.maximum(outer, gb_outer), 1.0)
        return gb_outer + trust * (outer - gb_outer), gb_inner + trust * (np.minimum(inner, outer) - gb_inner)
    ratio = np.clip(outer / gb_outer, *region)
    ratio = np.where(speed > FAST, np.minimum(ratio, 1.0) * (speed / FAST) ** -NARROW, ratio)
    outer = gb_outer * ratio**trust
    return outer, np.minimum(gb_inner, outer)


def terms(case: Case, step: int, chain: GasChain) -> Terms:
    """Return the programme's terms of ``case`` as known at ``step``, at the chain's usual gas and last week's depth."""
    p, h = case.portfolio, case.history
    d = int(h.day[step])
    usual = effective_gas(case)[step] * chain.usual / gas_usd(h)[step]
    impact = np.median(case.impact[max(0, step - 168) : step + 1], axis=0)
    if p.scenario == "hard":
        m = float(impact @ case.box_square[d])
        return Terms(
            float(usual),
            MOVE_SHARE * float(case.box_fee[d]),
            MOVE_SHARE * m,
            float(1.0 / case.exit_h[d]),
            HARD_DIMS,
            0.0,
            hard=True,
        )
    drift = np.diag(p.target) - np.outer(p.target, p.target)
    CM = drift @ case.covariance[d] @ drift.T @ case.M[d]
    dims = float(np.trace(CM) ** 2 / max(float(np.trace(CM @ CM)), 1e-300))
    m = float(impact @ case.unit_square[d])
    return Terms(float(usual), float(case.unit_fee[d]), m, float(case.growth[d]), dims, p.gamma, hard=False)


def gas_usd(history: History) -> Vector:
    """Return (T,) USD per unit of gas."""
    return np.asarray(history.gas_gwei * history.native_usd * 1e-9)


def effective_gas(case: Case) -> Vector:
    """Return (T,) gas of a usual rebalance, fraction of NAV: all assets (soft), the sufficient swaps of it (hard)."""
    if case.portfolio.scenario == "soft":
        return case.gas_full
    further = max(0, len(case.columns) - 2)
    return np.asarray(case.gas_base + case.gas_leg * (1.0 + LEG_SHARE * further))


def growth_squares(case: Case, last: int) -> Vector:
    """Return (last,) growth of r^2 in the hour before each step over its usual value; mean 1 in a usual market."""
    h, p = case.history, case.portfolio
    move = case.returns[: last - 1] @ (np.diag(p.target) - np.outer(p.target, p.target)).T
    out = np.ones(last)
    day = h.day[: last - 1]
    out[1:] = np.einsum("ti,tij,tj->t", move, case.M[day], move) / np.maximum(case.growth[day], 1e-300)
    return out


def split(case: Case, plan: Schedule, trust: Vector) -> Schedule:
    """Return ``plan`` with trades cut where price impact exceeds another gas payment.

    N equal slices of a move rho cost ``N g + m rho^2 / N``: the best slice is ``sqrt(g / m)``, taken hour by hour until
    the inner level (the pools refill between). Only where forecasts are trusted.
    """
    hard = case.portfolio.scenario == "hard"
    day = case.history.day
    square = case.box_square[day] if hard else case.unit_square[day]
    m = np.sum(case.impact * square, axis=1)
    with np.errstate(divide="ignore"):
        slice_r = np.sqrt(effective_gas(case) / m)
    turnover = 0.5 * np.sqrt(np.sum(square, axis=1) * len(case.columns))  # upper bound of sum |x_i| / 2 at unit r
    active = (trust > 0.0) & (slice_r < SPLIT_BELOW * (plan.outer - plan.inner))
    cap = np.where(active, slice_r * turnover, plan.cap)
    resume = np.where(active, plan.inner + slice_r, plan.resume)
    return replace(plan, cap=cap, resume=resume)


def schedule_at(levels: Levels, steps: int) -> Schedule:
    """Return ``levels`` as a constant schedule of ``steps`` steps."""
    arrays = (np.full(steps, v) for v in (levels.outer, levels.inner, levels.resume, levels.cap))
    outer, inner, resume, cap = arrays
    return Schedule(outer, inner, resume, cap, levels.box, levels.must, levels.scale, levels.direct)


def portfolio_of(state: State, history: History, step: int) -> Portfolio:
    """Return the portfolio ``state`` describes, as the panel would hold it from ``step`` on."""
    return Portfolio(
        "live", state.scenario, state.assets, state.target, state.tolerance, state.nav_usd, state.gamma,
        state.market.fees, history.when(step), history.when(len(history.ts) - 1), state.market.fee,
    )  # fmt: skip


def make(history: History, lake: Lake, config: CompareConfig) -> Predictive:
    """Return the policy on the forecasts recorded in ``lake``, or on dialled ones when ``config.skill`` is set."""
    return Predictive(history, outlook_of(history, lake, config.chain_id, config.skill, config.seed, windows(history)))
