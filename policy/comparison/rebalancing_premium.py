"""What rebalancing did to wealth: the rebalancing premium, against two yardsticks that must not be mixed.

Against the weighted average of growth rates a rebalanced portfolio earns the excess growth rate (Fernholz),
``1/2 (sum pi_i s_ii - pi' S pi)`` a year. Against buy-and-hold on the same path it is a bet against dispersion: it pays
where prices return and loses where one asset runs away. Neither is alpha and neither is in the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lake.units import HOURS_PER_YEAR
from policy.base import Matrix, Vector
from policy.simulation.simulator import FEE, GAS, IMPACT, Run


@dataclass(frozen=True, slots=True)
class Premium:
    """Continuous growth rates a year, fractions. Costs are subtracted from ``rebalanced``."""

    rebalanced: float
    buy_and_hold: float
    growth_average: float  # sum of target weight times each asset's growth rate
    excess_growth: float  # Fernholz's formula on the realised covariance
    cost: float

    @property
    def over_buy_and_hold(self) -> float:
        """Growth over holding the same start untouched: a bet against dispersion, not alpha."""
        return self.rebalanced - self.buy_and_hold

    @property
    def over_growth_average(self) -> float:
        """Growth over the weighted average of growth rates, about ``excess_growth`` less ``cost``."""
        return self.rebalanced - self.growth_average


def excess_growth(target: Vector, covariance: Matrix) -> float:
    """Return ``1/2 (sum pi_i s_ii - pi' S pi)`` for a covariance (n, n); its unit of time is the covariance's."""
    return 0.5 * float(target @ np.diag(covariance) - target @ covariance @ target)


def premium(run: Run, weights: Matrix, target: Vector, returns: Matrix) -> Premium:
    """Return the premium of ``run`` whose weights over (T, n) simple hourly ``returns`` were ``weights`` after trading.

    Rows of both are the run's steps; the run starts at ``target``.
    """
    span = len(returns) / HOURS_PER_YEAR
    growth = np.log1p(returns).sum(axis=0)
    cost = float(run.weekly[:, [GAS, FEE, IMPACT]].sum())
    gross = float(np.log1p(np.sum(weights * returns, axis=1)).sum())
    covariance = np.cov(np.log1p(returns).T) * HOURS_PER_YEAR
    return Premium(
        (gross - cost) / span,
        float(np.log(target @ np.exp(growth))) / span,
        float(target @ growth) / span,
        excess_growth(target, covariance),
        cost / span,
    )


def te_annual(deviations: Matrix, returns: Matrix) -> float:
    """Return the tracking error a year of (T, n) deviations held over (T, n) hourly returns, as a fraction."""
    difference = np.sum(deviations * returns, axis=1)
    return float(np.sqrt(np.mean(difference**2) * HOURS_PER_YEAR))


def turnover_a_year(before: Matrix, after: Matrix, hours: int) -> float:
    """Return one-way turnover a year of trades (K, n) from ``before`` to ``after`` over ``hours``."""
    return float(np.abs(after - before).sum()) / 2 * HOURS_PER_YEAR / hours
