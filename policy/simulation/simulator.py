"""The simulator: schedules on cases, in compiled code, threads over portfolios."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lake.units import BPS, HOURS_PER_YEAR
from policy.base import Matrix, Vector
from policy.simulation.history import Ints
from policy.simulation.planner import Case, Schedule
from policy.solvers import step_kernel

GAS, FEE, IMPACT, TRACKING, SQUARE, TRADES = range(6)


@dataclass(frozen=True, slots=True)
class Trades:
    """The trades of one run: (K,) steps and reasons (index of ``step_kernel.REASONS``), (K, n) weights.

    ``gas_gwei`` (K,) and ``at_us`` (K,) are price and time of each trade where they are not those of its hour.
    """

    step: Ints
    reason: Ints
    before: Matrix
    after: Matrix
    gas_gwei: Vector | None = None
    at_us: Ints | None = None


@dataclass(frozen=True, slots=True)
class Fine:
    """What only a ledger finer than the hour sees of a run: minutes a year outside the tolerances, mean seconds from
    wanting a trade to making it, and gas limit orders that never filled.
    """

    minutes_outside: float
    wait_s: float
    unfilled: int


@dataclass(frozen=True, slots=True)
class Run:
    """One portfolio under one policy. ``weekly`` is (weeks, 6): gas, fee, impact, tracking as fractions of NAV, squared
    tracking difference, trades, by calendar week of the history. ``violations`` counts the hours beyond a hard
    mandate's tolerances, ``violations_could_not`` those of them in which no admissible trade in the assets that had a
    market could have ended the breach.
    """

    weekly: Matrix
    steps: int
    trades: int
    violations: int
    turnover: float
    log: Trades | None = None
    path: Matrix | None = None  # (T, n) weights at each step before its trade
    violations_could_not: int = 0
    fine: Fine | None = None

    @property
    def violations_did_not(self) -> int:
        """Hours in breach that one admissible trade would have ended: 0 for a policy that keeps hard mandates."""
        return self.violations - self.violations_could_not

    @property
    def minutes_outside(self) -> float:
        """Minutes a year outside a hard mandate's tolerances, as far as the ledger sees: an hour in breach is 60."""
        return self.violations * 60.0 * HOURS_PER_YEAR / self.steps if self.fine is None else self.fine.minutes_outside

    def bp_a_year(self, column: int) -> float:
        """Return a column of ``weekly`` in bp of NAV a year."""
        return float(self.weekly[:, column].sum()) * BPS * HOURS_PER_YEAR / self.steps

    @property
    def te_annual(self) -> float:
        """Tracking error a year, fraction: root of the summed squared differences a year."""
        return float(np.sqrt(self.weekly[:, SQUARE].sum() * HOURS_PER_YEAR / self.steps))

    def total_bp(self, soft: bool) -> float:
        """Return the ledger's total in bp of NAV a year; tracking counts in the soft mandate only."""
        return float(sum(self.bp_a_year(c) for c in range(TRACKING + soft)))


def simulate(
    case: Case,
    plan: Schedule,
    week: Ints,
    *,
    log: bool = True,
    path: bool = False,
    span: tuple[int, int] | None = None,
) -> Run:
    """Run ``plan`` on ``case`` over its own steps, or over ``span`` (first, last) for tuning on the past."""
    p = case.portfolio
    first, last = span or (case.first, case.last)
    n = len(case.columns)
    room = last - first if log else 0
    steps, reasons = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    before, after = np.empty((room, n)), np.empty((room, n))
    weekly, tallies = np.zeros((int(week[-1]) + 1, 6)), np.zeros(5)
    weights = np.empty((len(week) if path else 0, n))
    scale = plan.scale if plan.scale is not None else 1.0 / p.tolerance
    tolerance = p.tolerance if p.scenario == "hard" else np.full(n, np.inf)
    A = case.A if plan.A is None else plan.A
    B = p.gamma if p.scenario == "soft" else 0.0
    count = step_kernel.run(
        (0,) * n, case.returns, case.history.day, case.shape(plan), p.target, scale, plan.box, plan.direct, A, B,
        plan.must, plan.outer, plan.inner, plan.resume, plan.cap, plan.exit_parts, case.history.markets, case.columns,
        p.max_turnover, case.gas_base, case.gas_leg, case.fee, case.impact, tolerance, 0.5 * p.gamma,
        first, last, week, weekly, tallies, steps, reasons, before, after, weights,
    )  # fmt: skip
    kept = (
        Trades(steps[:count].copy(), reasons[:count].copy(), before[:count].copy(), after[:count].copy())
        if log
        else None
    )
    return Run(
        weekly, int(tallies[0]), int(tallies[1]), int(tallies[2]), float(tallies[3]), kept, weights if path else None,
        int(tallies[4]),
    )  # fmt: skip
