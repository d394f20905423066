"""Rules that look at the present only: hold, calendar, threshold, band and gas_band.

Each is a Planner (see ``schedule``). Their free parameters come from the mandate; what is tuned is tuned on the past.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lake.units import DAY_S, HOUR_S
from policy import bands
from policy.backtest import GAS, TRACKING, simulate
from policy.base import ForecastView, State, Vector
from policy.costs import gas_lines, impact_per_square
from policy.schedule import NEVER, Case, Levels, Planner, Schedule, schedule

FIVE_PERCENT = 0.05  # what most systems ship
GRID = tuple(float(v) for v in np.geomspace(0.005, 0.25, 14))  # triggers the tuned threshold chooses from
TUNE_EVERY_H = 30 * 24
INNER_GRID = np.linspace(0.0, 0.97, 98)


@dataclass(frozen=True, slots=True)
class Hold:
    """Never trades."""

    name: str = "hold"

    def plan(self, case: Case) -> Schedule:
        """Return a schedule that never acts."""
        return schedule(len(case.history.ts), NEVER, 0.0)

    def levels(self, state: State, forecasts: ForecastView) -> Levels:  # noqa: ARG002
        """Return levels that never act."""
        return Levels(NEVER, 0.0, why="holds")


@dataclass(frozen=True, slots=True)
class Calendar:
    """Trades to target at 00:00 UTC, each day or each Monday."""

    name: str
    weekly: bool

    def _due(self, seconds: int) -> bool:
        days, rest = divmod(seconds, DAY_S)
        return rest < HOUR_S and (not self.weekly or (days + 3) % 7 == 0)

    def plan(self, case: Case) -> Schedule:
        """Return a schedule open at the calendar's hours."""
        due = np.array([self._due(int(t)) for t in case.history.ts // 1_000_000])
        return schedule(due.size, np.where(due, 0.0, NEVER), 0.0, box=True, direct=True)

    def levels(self, state: State, forecasts: ForecastView) -> Levels:  # noqa: ARG002
        """Return open levels at the calendar's hours."""
        due = self._due(int(state.ts.timestamp()))
        return Levels(
            0.0 if due else NEVER, 0.0, box=True, direct=True, why="calendar hour" if due else "no calendar hour"
        )


@dataclass(frozen=True, slots=True)
class Threshold:
    """Trades to target when any abs(x_i) exceeds ``trigger``; None: at the mandate's tolerances (hard)."""

    name: str
    trigger: float | None

    def _scale(self, n: int) -> Vector | None:
        return None if self.trigger is None else np.full(n, 1.0 / self.trigger)

    def plan(self, case: Case) -> Schedule:
        """Return the constant trigger."""
        scale = self._scale(len(case.columns))
        return schedule(len(case.history.ts), 1.0, 0.0, box=True, must=self.trigger is None, scale=scale, direct=True)

    def levels(self, state: State, forecasts: ForecastView) -> Levels:  # noqa: ARG002
        """Return the constant trigger."""
        why = "trigger is the tolerance" if self.trigger is None else f"trigger {self.trigger:.2%}"
        return Levels(
            1.0, 0.0, box=True, must=self.trigger is None, scale=self._scale(state.target.size), direct=True, why=why
        )


@dataclass(frozen=True, slots=True)
class TunedThreshold:
    """The threshold with the trigger that would have cost least so far (soft), or the mandate's tolerance (hard).

    Every 30 days the trigger is chosen by simulating all of GRID on the portfolio's own assets and costs from the
    first recorded gas to that moment. ``trigger`` is what ``levels`` uses for a live soft portfolio.
    """

    name: str = "threshold"
    trigger: float = FIVE_PERCENT

    def plan(self, case: Case) -> Schedule:
        """Return the trigger in force at each step."""
        if case.portfolio.scenario == "hard":
            return Threshold(self.name, None).plan(case)
        triggers = tuned_triggers(case)
        return schedule(triggers.size, triggers, 0.0, box=True, scale=np.ones(len(case.columns)), direct=True)

    def levels(self, state: State, forecasts: ForecastView) -> Levels:
        """Return the tuned trigger (soft) or the tolerance (hard)."""
        if state.scenario == "hard":
            return Threshold(self.name, None).levels(state, forecasts)
        return Levels(
            self.trigger,
            0.0,
            box=True,
            scale=np.ones(state.target.size),
            direct=True,
            why=f"trigger {self.trigger:.2%}",
        )


def tuned_triggers(case: Case) -> Vector:
    """Return (T,) triggers: at each re-tuning the one of GRID with the least cost on all steps before it."""
    history = case.history
    steps = len(history.ts)
    block = np.maximum(np.arange(steps) - case.first, -1) // TUNE_EVERY_H + 1  # 0 is the past, then one per period
    spent = np.zeros((len(GRID), int(block[-1]) + 1))
    for i, trigger in enumerate(GRID):
        run = simulate(
            case, Threshold("trial", trigger).plan(case), block, log=False, span=(history.gas_known, case.last)
        )
        spent[i] = run.weekly[:, GAS : TRACKING + 1].sum(axis=1)
    past = np.cumsum(spent, axis=1)
    best = np.array(GRID)[np.argmin(past, axis=0)]
    if case.first - history.gas_known < 7 * 24:  # no past to speak of: what most systems ship
        best[0] = FIVE_PERCENT
    return np.asarray(best[np.maximum(block - 1, 0)], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Bands:
    """The exact band. ``constant`` solves it at the past median gas and depth, otherwise at what they are now.

    Hard mandate: trades at the tolerance back to the inner level with the least cost per expected hour until the next
    breach, at the gas usual in the last week; not ``constant`` also trades early where gas is so far below usual that
    trading now beats the expected forced trade (one step of policy improvement). ``usual_gwei`` and
    ``usual_depth_usd`` (n,) are those past figures for ``levels``; None takes the present ones.
    """

    name: str
    constant: bool
    usual_gwei: float | None = None
    usual_depth_usd: Vector | None = None

    def plan(self, case: Case) -> Schedule:
        """Return the band of every step."""
        if case.portfolio.scenario == "hard":
            outer, inner, rate = hard_levels(case, early=not self.constant)
            A = rate * case.exit_h[case.history.day]
            return schedule(outer.size, outer, inner, box=True, must=True, A=A)
        h = case.history
        g, impact = case.gas_full, case.impact
        if self.constant:
            g = case.gas_at(h.median_gwei)
            impact = impact_per_square(case.portfolio.nav_usd, h.median_depth_usd[:, case.columns])
        m = np.sum(impact * case.unit_square[h.day], axis=1)
        outer, inner = bands.solve(g, case.unit_fee[h.day], case.portfolio.gamma, m)
        return schedule(outer.size, outer, inner)

    def levels(self, state: State, forecasts: ForecastView) -> Levels:  # noqa: ARG002
        """Return the band for the state's gas and depth (or the usual ones when ``constant``)."""
        now = gas_full(state, state.market.gas_gwei)
        usual = now if self.usual_gwei is None else gas_full(state, self.usual_gwei)
        fee = state.market.fee
        n = state.target.size
        if state.scenario == "hard":
            exit_h, unit_fee, squares = bands.box_moves(state.covariance[None], state.target, state.tolerance, fee)
            m = float(impact_per_square(state.nav_usd, state.market.depth_usd) @ squares[0])
            outer, inner, rate = _hard(
                *(np.atleast_1d(v) for v in (now, usual, unit_fee, m, exit_h)), early=not self.constant
            )
            why = f"forced at the tolerance, early below it at {float(outer[0]):.3f}"
            return Levels(float(outer[0]), float(inner[0]), box=True, must=True, why=why, A=float(rate[0] * exit_h[0]))
        M, _ = bands.shapes(state.covariance[None], state.target)
        unit_fee = 0.5 * bands.mean_moves(M, n) @ fee
        depth = state.market.depth_usd
        if self.constant and self.usual_depth_usd is not None:
            depth = self.usual_depth_usd
        m = float(bands.mean_square_moves(M, n)[0] @ impact_per_square(state.nav_usd, depth))
        out, back = bands.solve(usual if self.constant else now, unit_fee[0], state.gamma, m)
        D, d = float(out[0]), float(back[0])
        A = 2.0 * state.gamma * (D * D + D * d + d * d)
        return Levels(D, d, why=f"band {D:.4f} back to {d:.4f}", A=A, B=state.gamma)


def as_of(planner: Planner, case: Case, step: int) -> Planner:
    """Return ``planner`` with what it had learnt from the past by ``step``: the one to use live at that moment."""
    h = case.history
    if isinstance(planner, TunedThreshold) and case.portfolio.scenario == "soft":
        return replace(planner, trigger=float(tuned_triggers(case)[step]))
    if isinstance(planner, Bands):
        soft = case.portfolio.scenario == "soft"
        gwei = h.median_gwei if soft else h.recent_gwei
        depth = h.median_depth_usd[step, case.columns]
        return replace(planner, usual_gwei=float(gwei[step]), usual_depth_usd=depth)
    return planner


def hard_levels(case: Case, *, early: bool) -> tuple[Vector, Vector, Vector]:
    """Return (T,) outer and inner of the box distance and the (T,) cost rate an hour at usual gas."""
    day = case.history.day
    m = np.sum(case.impact * case.box_square[day], axis=1)
    usual = case.gas_at(case.history.recent_gwei)
    return _hard(case.gas_full, usual, case.box_fee[day], m, case.exit_h[day], early=early)


def _hard(
    now: Vector, usual: Vector, k: Vector, m: Vector, exit_h: Vector, *, early: bool
) -> tuple[Vector, Vector, Vector]:
    """Renewal reward: inner minimises (g + k(1-d) + m(1-d)^2) / (exit (1-d^2)); early as in ``Bands``."""
    move = 1.0 - INNER_GRID
    rate = np.full(now.shape, np.inf)
    inner = np.zeros(now.shape)
    for step, d in zip(move, INNER_GRID, strict=True):
        value = (usual + k * step + m * step * step) / (exit_h * (1.0 - d * d))
        better = value < rate
        rate, inner = np.where(better, value, rate), np.where(better, d, inner)
    outer = np.ones(now.shape)
    if early:
        # rate*exit*(1-r^2) = usual - now + k (1-r): trade nearer the edge than the smaller root of y = 1-r
        worth, saved = rate * exit_h, np.maximum(usual - now, 0.0)
        b = np.maximum(2.0 * worth - k, 0.0)
        y = (b - np.sqrt(np.maximum(b * b - 4.0 * worth * saved, 0.0))) / (2.0 * worth)
        outer = np.where(saved > 0.0, 1.0 - y, 1.0)
    return outer, inner, rate


def gas_full(state: State, gas_gwei: float) -> float:
    """Return the gas of a rebalance of all assets at ``gas_gwei``, as a fraction of NAV."""
    base, leg = gas_lines(state.market.fees, gas_gwei, state.market.native_usd)
    return (float(base) + float(leg) * max(1, state.target.size - 1)) / state.nav_usd


REACTIVE: tuple[Planner, ...] = (
    Hold(),
    Calendar("calendar_daily", weekly=False),
    Calendar("calendar_weekly", weekly=True),
    Threshold("threshold_5pct", FIVE_PERCENT),
    TunedThreshold(),
    Bands("band", constant=True),
    Bands("gas_band", constant=False),
)
"""One of each reactive rule, as the panel runs them."""
