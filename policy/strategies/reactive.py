"""Rules that look at the present only: hold, calendar, threshold, band and gas_band.

Each is a BandRule (``simulation.planner``). Free parameters come from the mandate; what is tuned is tuned on the past.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lake.units import DAY_S, HOUR_S
from policy.base import Bools, ForecastView, State, Vector
from policy.costs import impact_per_square
from policy.memory import PolicyMemory
from policy.simulation.history import History, Ints
from policy.simulation.planner import NEVER, BandRule, Case, Levels, Schedule, gas_of, schedule, usual_gwei
from policy.simulation.simulator import GAS, TRACKING, simulate
from policy.solvers import bands

FIVE_PERCENT = 0.05  # what most systems ship
GRID = tuple(float(v) for v in np.geomspace(0.005, 0.25, 14))  # triggers the tuned threshold chooses from
TUNE_EVERY_H = 30 * 24


@dataclass(frozen=True, slots=True)
class Hold:
    """Never trades."""

    name: str = "hold"

    def levels_over(self, case: Case) -> Schedule:
        """Return a schedule that never acts."""
        return schedule(len(case.history.ts), NEVER, 0.0)

    def levels_at(self, state: State, forecasts: ForecastView) -> Levels:  # noqa: ARG002
        """Return levels that never act."""
        return Levels(NEVER, 0.0, why="holds")


@dataclass(frozen=True, slots=True)
class Calendar:
    """Trades to target at 00:00 UTC, each day or each Monday."""

    name: str
    weekly: bool

    def _due(self, seconds: Ints) -> Bools:
        days, rest = np.divmod(seconds, DAY_S)
        return np.asarray((rest < HOUR_S) & ((days + 3) % 7 == 0 if self.weekly else True))

    def levels_over(self, case: Case) -> Schedule:
        """Return a schedule open at the calendar's hours."""
        due = self._due(case.history.ts // 1_000_000)
        return schedule(due.size, np.where(due, 0.0, NEVER), 0.0, box=True, direct=True)

    def levels_at(self, state: State, forecasts: ForecastView) -> Levels:  # noqa: ARG002
        """Return open levels at the calendar's hours."""
        due = bool(self._due(np.array(int(state.ts.timestamp()))))
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

    def levels_over(self, case: Case) -> Schedule:
        """Return the constant trigger."""
        scale = self._scale(len(case.columns))
        return schedule(len(case.history.ts), 1.0, 0.0, box=True, must=self.trigger is None, scale=scale, direct=True)

    def levels_at(self, state: State, forecasts: ForecastView) -> Levels:  # noqa: ARG002
        """Return the constant trigger."""
        why = "trigger is the tolerance" if self.trigger is None else f"trigger {self.trigger:.2%}"
        return Levels(
            1.0, 0.0, box=True, must=self.trigger is None, scale=self._scale(state.target.size), direct=True, why=why
        )


@dataclass(frozen=True, slots=True)
class TunedThreshold:
    """The threshold with the trigger that would have cost least so far (soft), or the mandate's tolerance (hard).

    Every 30 days the trigger is chosen by simulating all of GRID on the portfolio's own assets and costs from the
    first recorded gas to that moment. ``trigger`` is what ``levels_at`` uses for a live soft portfolio.
    """

    name: str = "threshold"
    trigger: float = FIVE_PERCENT

    def levels_over(self, case: Case) -> Schedule:
        """Return the trigger in force at each step."""
        if case.portfolio.scenario == "hard":
            return Threshold(self.name, None).levels_over(case)
        triggers = tuned_triggers(case)
        return schedule(triggers.size, triggers, 0.0, box=True, scale=np.ones(len(case.columns)), direct=True)

    def levels_at(self, state: State, forecasts: ForecastView) -> Levels:
        """Return the tuned trigger (soft) or the tolerance (hard)."""
        if state.scenario == "hard":
            return Threshold(self.name, None).levels_at(state, forecasts)
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
    begin = history.known_from(case.columns)
    block = np.maximum(np.arange(steps) - case.first, -1) // TUNE_EVERY_H + 1  # 0 is the past, then one per period
    spent = np.zeros((len(GRID), int(block[-1]) + 1))
    for i, trigger in enumerate(GRID):
        run = simulate(case, Threshold("trial", trigger).levels_over(case), block, log=False, span=(begin, case.last))
        spent[i] = run.weekly[:, GAS : TRACKING + 1].sum(axis=1)
    past = np.cumsum(spent, axis=1)
    best = np.array(GRID)[np.argmin(past, axis=0)]
    if case.first - begin < 7 * 24:  # no past to speak of: what most systems ship
        best[0] = FIVE_PERCENT
    return np.asarray(best[np.maximum(block - 1, 0)], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Bands:
    """The exact band. ``constant`` solves it at the past median gas and depth, otherwise at what they are now.

    The trigger is priced at the gas of one swap (the smallest trade that helps); see ``trade_set`` for the rest. Hard
    mandate: trades at the tolerance back to the inner level with the least cost per expected hour until the next
    breach, at the gas usual in the last week; not ``constant`` also trades early where gas is so far below usual that
    trading now beats the expected forced trade (one step of policy improvement). ``median_gwei`` and
    ``median_depth_usd`` (n,) are past values of a ``constant`` band for ``levels_at``; None takes the present ones.

    ``tilt`` (soft) raises the trigger by ``exp(tilt R)``, R being the log of gas over its mean of the last week less
    R's own mean so far, ``mean_log`` for ``levels_at``: dear hours wait, cheap ones do not. ``exit_part`` (hard) is
    that of ``step_kernel.wanted``; without ``exit_legs`` swaps are chosen by the distance they leave.
    """

    name: str
    constant: bool
    median_gwei: float | None = None
    median_depth_usd: Vector | None = None
    tilt: float = 0.0
    mean_log: float = 0.0
    exit_part: float = 0.0
    exit_legs: bool = True

    def levels_over(self, case: Case) -> Schedule:
        """Return the band of every step."""
        h, day = case.history, case.history.day
        if case.portfolio.scenario == "hard":
            m = np.sum(case.impact * case.box_square[day], axis=1)
            outer, inner, _ = bands.hard_band(
                case.gas_one, case.gas_at(h.recent_gwei, swaps=1), case.box_fee[day], m, case.exit_h[day],
                early=not self.constant,
            )  # fmt: skip
            part = np.full(outer.size, self.exit_part)
            plain = schedule(outer.size, outer, inner, box=True, must=True)
            return replace(plain, exit_legs=self.exit_legs, exit_part=part)
        g, impact = case.gas_one, case.impact
        if self.constant:
            g = case.gas_at(h.median_gwei, swaps=1)
            impact = impact_per_square(case.portfolio.nav_usd, h.median_depth_usd[:, case.columns])
        m = np.sum(impact * case.unit_square[day], axis=1)
        outer, inner = bands.solve(g, case.unit_fee[day], case.portfolio.gamma, m)
        if self.tilt:
            outer = outer * np.exp(self.tilt * centred(gas_of_week(h), h.gas_known))
        return schedule(outer.size, outer, np.minimum(inner, outer))

    def levels_at(self, state: State, forecasts: ForecastView) -> Levels:  # noqa: ARG002
        """Return the band for the state's gas and depth (or the median ones when ``constant``)."""
        market, n = state.market, state.target.size
        now = gas_of(state, market.gas_gwei, 1)
        if state.scenario == "hard":
            usual = gas_of(state, usual_gwei(state), 1)
            exit_h, k, squares = bands.box_moves(state.covariance[None], state.target, state.tolerance, market.fee)
            m = impact_per_square(state.nav_usd, market.depth_usd) @ squares[0]
            found = bands.hard_band(*(np.atleast_1d(v) for v in (now, usual, k, m, exit_h)), early=not self.constant)
            outer, inner = float(found[0][0]), float(found[1][0])
            return Levels(
                outer, inner, box=True, must=True, why=f"forced at the tolerance, early from {outer:.3f}",
                exit_legs=self.exit_legs, exit_part=self.exit_part,
            )  # fmt: skip
        M, _ = bands.shapes(state.covariance[None], state.target)
        k = 0.5 * bands.mean_moves(M, n) @ market.fee
        depth = market.depth_usd
        if self.constant:
            now = now if self.median_gwei is None else gas_of(state, self.median_gwei, 1)
            depth = depth if self.median_depth_usd is None else self.median_depth_usd
        m = bands.mean_square_moves(M, n)[0] @ impact_per_square(state.nav_usd, depth)
        out, back = bands.solve(now, k[0], state.gamma, m)
        outer, why = float(out[0]), "band of gas, fee and impact"
        if self.tilt:
            relative = float(np.log(market.gas_gwei / usual_gwei(state))) - self.mean_log
            outer *= float(np.exp(self.tilt * relative))
            why = f"{why}, gas {relative:+.2f} in logs against its usual place in the week's mean"
        return Levels(outer, min(float(back[0]), outer), why=why)


def gas_of_week(history: History) -> Vector:
    """Return (T,) log gas over the mean of the last week known at each step."""
    return np.asarray(np.log(np.maximum(history.gas_gwei, 1e-9) / np.maximum(history.recent_gwei, 1e-9)))


def centred(values: Vector, known: int = 0) -> Vector:
    """Return (T,) ``values`` less their mean from step ``known`` up to and with t; 0 where they are not finite.

    So a tilt made of them moves a trigger about its mean place, and nothing drifts away with a level that moved.
    """
    return np.where(np.isfinite(values), values - running_mean(values, known), 0.0)


def running_mean(values: Vector, known: int = 0) -> Vector:
    """Return (T,) the mean of the finite ``values`` from step ``known`` up to and with t; 0 before any."""
    counted = np.isfinite(values) & (np.arange(values.size) >= known)
    total, number = np.cumsum(np.where(counted, values, 0.0)), np.cumsum(counted)
    return np.asarray(total / np.maximum(number, 1))


def memory_of(planner: BandRule, case: Case, step: int) -> PolicyMemory:
    """Return what the reactive ``planner`` has learnt from the past by ``step``; most have learnt nothing."""
    h = case.history
    values: dict[str, Vector] = {}
    if isinstance(planner, TunedThreshold) and case.portfolio.scenario == "soft":
        values["trigger"] = np.array(tuned_triggers(case)[step])
    if isinstance(planner, Bands) and planner.constant:
        values["median_gwei"] = np.array(h.median_gwei[step])
        values["median_depth_usd"] = h.median_depth_usd[step, case.columns]
    if isinstance(planner, Bands) and planner.tilt and case.portfolio.scenario == "soft":
        values["mean_log"] = np.array(running_mean(gas_of_week(h), h.gas_known)[step])
    return PolicyMemory(planner.name, h.when(step), values)


def recalled(memory: PolicyMemory) -> BandRule:
    """Return the reactive rule that ``memory`` is of, with what it had learnt; KeyError for any other name."""
    planner = {p.name: p for p in REACTIVE}[memory.policy]
    if isinstance(planner, TunedThreshold) and "trigger" in memory.values:
        return replace(planner, trigger=memory.number("trigger"))
    if isinstance(planner, Bands) and "median_gwei" in memory.values:
        depth = memory.values["median_depth_usd"]
        return replace(planner, median_gwei=memory.number("median_gwei"), median_depth_usd=depth)
    if isinstance(planner, Bands) and "mean_log" in memory.values:
        return replace(planner, mean_log=memory.number("mean_log"))
    return planner


TILT = 0.15  # of gas_tilt
EXIT_PART = 0.5  # of gas_band_exit

GAS_BAND = Bands("gas_band", constant=False)
GAS_TILT = Bands("gas_tilt", constant=False, tilt=TILT)
GAS_BAND_EXIT = Bands("gas_band_exit", constant=False, exit_part=EXIT_PART)

REACTIVE: tuple[BandRule, ...] = (
    Hold(),
    Calendar("calendar_daily", weekly=False),
    Calendar("calendar_weekly", weekly=True),
    Threshold("threshold_5pct", FIVE_PERCENT),
    TunedThreshold(),
    Bands("band", constant=True),
    GAS_BAND,
    GAS_TILT,
    GAS_BAND_EXIT,
)
"""One of each reactive rule, as the panel runs them."""
