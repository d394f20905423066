"""One ledger for every hedge: gas, fee and what the open net delta gained or lost, by week, over NAV."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from policy.base import Matrix, Vector
from policy.hedging.case import YEAR_H, HedgeCase
from policy.hedging.strategies import Band

GAS, FEE, SQUARE, TRADES, OPEN, OVER, BREACH = range(7)
WEEK_H = 168.0
BP = 1e4


@njit(cache=True, nogil=True)
def _run(
    price: Vector, exposure: Vector, outer: Vector, inner: Vector, gas: Vector, fee: float, first: int,
    every: int, limit: float, week: int, out: Matrix,
) -> None:  # fmt: skip
    """Hedge from ``first`` on, decisions each ``every`` steps; the hedge starts at the target without cost."""
    units = -exposure[first] / price[first]
    for t in range(first, price.size - 1):
        x = units * price[t] + exposure[t]
        row = (t - first) // week
        a = abs(x)
        if a > limit:
            out[row, OVER] += 1.0
        if (t - first) % every == 0:
            if a >= outer[t] and a > inner[t]:
                to = inner[t] if x > 0.0 else -inner[t]
                out[row, GAS] += gas[t]
                out[row, FEE] += fee * abs(x - to)
                out[row, TRADES] += 1.0
                units += (to - x) / price[t]
                x = to
            if abs(x) > limit * (1.0 + 1e-12):
                out[row, BREACH] += 1.0
        gain = x * (price[t + 1] / price[t] - 1.0)
        out[row, SQUARE] += gain * gain
        out[row, OPEN] += gain


@dataclass(frozen=True, slots=True)
class Ledger:
    """Weeks (W, 7) by the column numbers of this module, over ``hours`` in all; add ledgers of equal weeks."""

    weeks: Matrix
    hours: float

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(self.weeks + other.weeks, self.hours + other.hours)

    def _a_year(self, *columns: int) -> float:
        return float(self.weeks[:, list(columns)].sum()) * YEAR_H / self.hours

    @property
    def cost_bp(self) -> float:
        """Gas and fee, bp of NAV a year."""
        return BP * self._a_year(GAS, FEE)

    @property
    def gas_bp(self) -> float:
        """Gas alone."""
        return BP * self._a_year(GAS)

    @property
    def te_bp(self) -> float:
        """Standard deviation of what the open delta gains and loses, bp of NAV a year."""
        return BP * math.sqrt(self._a_year(SQUARE))

    @property
    def trades(self) -> float:
        """Hedges a year."""
        return self._a_year(TRADES)

    def objective(self, gamma: float) -> Vector:
        """Return (W,) gas + fee + gamma / 2 of the squared open gain: what a rule with that aversion minimises."""
        w = self.weeks
        return np.asarray(w[:, GAS] + w[:, FEE] + 0.5 * gamma * w[:, SQUARE], dtype=np.float64)

    def objective_bp(self, gamma: float) -> float:
        """The same in all, bp of NAV a year."""
        return BP * float(self.objective(gamma).sum()) * YEAR_H / self.hours

    def count(self, column: int) -> int:
        """Return the sum of a counting column: OVER steps beyond the limit, BREACH decisions that left it broken."""
        return int(self.weeks[:, column].sum())


def run(case: HedgeCase, band: Band, first: int, every_h: float | None = None, limit: float = math.inf) -> Ledger:
    """Return the ledger of ``band`` on ``case`` from step ``first``; decisions each ``every_h`` hours (None: all)."""
    every = 1 if every_h is None else max(round(every_h / case.step_h), 1)
    week = round(WEEK_H / case.step_h)
    steps = case.price.size - 1 - first
    out = np.zeros((-(-steps // week), 7))
    c = case.costs
    _run(
        case.price, case.exposure, band.outer, band.inner, c.gas, c.fee, first, every, limit, week, out,
    )  # fmt: skip
    return Ledger(out, steps * case.step_h)
