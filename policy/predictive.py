"""The predictive policy: gas_band, moved towards the dynamic programme as far as that has earned.

Two things must be earned, both from the past alone: the gas forecasts must have been right (``Outlook.trust``, 0..1)
and following the programme must have been cheaper than gas_band on a panel of baskets of the same kind (``experts``).
Where either is missing every level is gas_band's.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field, replace

import numpy as np

from lake.store import Lake
from policy import experts
from policy.base import ForecastView, Matrix, State, Vector
from policy.dynamic import GasChain, Terms, levels_many, solve
from policy.history import History
from policy.reactive import Bands
from policy.registry import CompareConfig
from policy.scenario import Window, hours_of_week, index_in, speeds, windows
from policy.schedule import Case, Latest, Levels, Portfolio, Schedule, prepare
from policy.skill import Outlook, outlook_of

GAS_BAND = Bands("gas_band", constant=False)
HARD_DIMS = 3.0  # of the box distance: between a line and the cube, where exit times scatter like observed ones
LEG_SHARE = 0.3  # of the further legs that a cheapest sufficient set of swaps uses
MOVE_SHARE = 0.8  # of the turnover to the inner level that such a set moves
SPLIT_BELOW = 0.5  # slices are used where at least two make a move
HARD_GRID, SOFT_GRID = (2, 32), (1, 64)  # sweeps and nodes: weeks back from the closed form until more change nothing
CALM = 0.95  # soft: in hours faster than this share of the past the programme is silent, see ``programme``
_ONE_AT_A_TIME: defaultdict[experts.Kind, threading.Lock] = defaultdict(threading.Lock)


@dataclass(frozen=True, slots=True)
class Predictive:
    """Planner over an outlook; implements schedule.Planner. ``learnt`` keeps the members' weights by kind."""

    history: History
    outlook: Outlook
    name: str = "predictive"
    learnt: dict[experts.Kind, Matrix] = field(default_factory=dict, compare=False, repr=False)
    latest: Latest = field(default_factory=Latest, compare=False, repr=False)

    def plan(self, case: Case) -> Schedule:
        """Return the levels of every step of ``case``; those of step t depend on nothing after t."""
        return self.latest.of(case, self._plan)

    def _plan(self, case: Case) -> Schedule:
        base = GAS_BAND.plan(case)
        weights = self.weights(case, case.first, case.last + 1)
        outer, inner = self.moved(case, base, weights, case.first, case.last + 1)
        return split(case, replace(base, outer=outer, inner=inner), self.outlook.trust)

    def levels(self, state: State, forecasts: ForecastView) -> Levels:
        """Return the levels for ``state``: those of ``plan`` at the history's last step known by then.

        Without forecasts, outside the recorded history or without trust they are gas_band's, and ``why`` says so.
        """
        base = GAS_BAND.levels(state, forecasts)
        step = int(np.searchsorted(self.history.ts, int(state.ts.timestamp() * 1e6), side="right")) - 1
        reason = self.outlook.silent(forecasts, step)
        if reason is None and not any(w.first <= step < w.last for w in self.outlook.windows):
            reason = "too little gas history"
        if reason:
            return replace(base, why=f"{base.why}; gas_band decides: {reason}")
        case = prepare(self.history, portfolio_of(state, self.history, step))
        planned = schedule_at(base, len(self.history.ts))
        weights = self.weights(case, step, step + 1)
        outer, inner = self.moved(case, planned, weights, step, step + 1)
        whole = split(case, replace(planned, outer=outer, inner=inner), self.outlook.trust)
        share = float(weights[step].sum())
        return replace(
            base,
            outer=float(outer[step]),
            inner=float(inner[step]),
            cap=float(whole.cap[step]),
            resume=float(whole.resume[step]),
            why=f"{base.why}, moved to {float(outer[step]):.4f} by the gas forecast at trust "
            f"{float(self.outlook.trust[step]):.2f}"
            if share > 0.0
            else f"{base.why}; forecasts have not yet been cheaper than it for such a portfolio",
        )

    def weights(self, case: Case, first: int, last: int) -> Matrix:
        """Return (T, members) weights in force, times trust; zero outside ``first`` .. ``last`` (exclusive)."""
        kind = experts.kind_of(case.portfolio, case.fee)
        out = np.zeros((len(self.history.ts), len(experts.MEMBERS)))
        if not self.learns or not self.outlook.trust[first:last].any():
            return out
        with _ONE_AT_A_TIME[kind]:
            if kind not in self.learnt:
                self.learnt[kind] = self.learn(kind)
        for window, weight in zip(self.outlook.windows, self.learnt[kind], strict=True):
            part = slice(max(window.first, first), max(min(window.last, last), 0))
            out[part] = weight * self.outlook.trust[part, None]
        return out

    @property
    def learns(self) -> bool:
        """Whether there is anything to trust, and a basket to learn from."""
        return bool(self.outlook.trust.any()) and len(self.history.assets) >= 2

    def learn(self, kind: experts.Kind) -> Matrix:
        """Return (windows, members) weights of the members for portfolios of ``kind``, each from the past alone."""
        return experts.chosen(self.past(kind), experts.SURE[kind.scenario])

    def past(self, kind: experts.Kind) -> Matrix:
        """Return (1 + members, windows) what gas_band and the members cost a panel of ``kind`` in each window."""
        edges = np.array([w.first for w in self.outlook.windows] + [self.outlook.windows[-1].last])

        def view(case: Case, base: Schedule) -> tuple[Vector, Vector]:
            everywhere = np.ones((len(self.history.ts), 1))
            return programme(case, base, self.outlook.windows, everywhere, self.outlook.slow)

        return experts.past_costs(self.history, kind, edges, GAS_BAND.plan, view)

    def moved(self, case: Case, base: Schedule, weights: Matrix, first: int, last: int) -> tuple[Vector, Vector]:
        """Return (outer, inner) of ``base`` moved by ``weights`` in steps ``first`` .. ``last`` (exclusive)."""
        found = programme(case, base, self.outlook.windows, weights, self.outlook.slow, first, last)
        return experts.moved(case.portfolio.scenario, (base.outer, base.inner), found, weights)


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

    Elsewhere they are ``base``'s, and in a soft mandate in hours faster than CALM of the past too: there the deviation
    lies along what moves most, and waiting costs more than its distance tells. ``slow`` (T,) is the state of gas.
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
        if not found.hard:
            fast = speed[part] > np.quantile(speed[: window.first + 1], CALM)
            outer[part] = np.where(fast, base.outer[part], outer[part])
            inner[part] = np.where(fast, base.inner[part], inner[part])
    return outer, inner


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
    """Return (T,) gas of a usual rebalance, fraction of NAV: of the sufficient swaps."""
    further = max(0, len(case.columns) - 2)
    return np.asarray(case.gas_base + case.gas_leg * (1.0 + LEG_SHARE * further))


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
    """Return the policy on the forecasts recorded in ``lake``, or on dialled ones when ``config.skill`` is set.

    The last one made is kept: the bounds of a comparison ask for the same again.
    """
    with _MAKING:
        for known, where, settings, policy in _MADE:
            if known is history and where is lake and settings == config:
                return policy
        outlook = outlook_of(history, lake, config.chain_id, config.skill, config.seed, windows(history))
        policy = Predictive(history, outlook)
        _MADE[:] = [(history, lake, config, policy)]
        return policy


_MAKING = threading.Lock()
_MADE: list[tuple[History, Lake, CompareConfig, Predictive]] = []
