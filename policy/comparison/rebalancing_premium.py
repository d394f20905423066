"""What rebalancing did to wealth: the rebalancing premium, against two yardsticks that must not be mixed.

Against the weighted average of growth rates a rebalanced portfolio earns the excess growth rate (Fernholz),
``1/2 (sum pi_i s_ii - pi' S pi)`` a year. Against buy-and-hold on the same path it is a bet against dispersion: it pays
where prices return and loses where one asset runs away. Neither is alpha and neither is in the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lake.units import BPS, HOURS_PER_YEAR
from policy.base import Matrix, Vector
from policy.simulation.history import Ints
from policy.simulation.planner import Portfolio
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


@dataclass(frozen=True, slots=True)
class PathPrices:
    """What every policy of one case is measured against; computed once a case."""

    grown: Matrix  # (T + 1, n) log growth of each asset since the start
    target: Vector

    @classmethod
    def of(cls, returns: Matrix, target: Vector) -> PathPrices:
        """Return it for (T, n) simple hourly ``returns`` of the assets that ``target`` (n,) weighs."""
        moves = np.log1p(returns)
        return cls(np.vstack([np.zeros(len(target)), np.cumsum(moves, axis=0)]), target)


def premium(run: Run, prices: PathPrices, first: int, at: Ints | None = None, per_hour: int = 1) -> Premium:
    """Return the premium of a logged ``run`` that began on target at step ``first``, when ``prices`` begin.

    ``at`` (K,) are the rows of ``prices`` at which its trades were made where those have ``per_hour`` rows an hour.
    Between two trades holdings only drift, so the growth of each such stretch is that of the weights it began with.
    """
    log = run.log
    assert log is not None
    grown = prices.grown
    steps = len(grown) - 1
    cuts = np.concatenate([[0], log.step - first if at is None else at, [steps]])
    held = np.vstack([prices.target, log.after])
    stretch = np.exp(grown[cuts[1:]] - grown[cuts[:-1]])
    gross = float(np.log(np.sum(held * stretch, axis=1)).sum())
    cost = float(run.weekly[:, [GAS, FEE, IMPACT]].sum())
    span = steps / per_hour / HOURS_PER_YEAR
    covariance = np.cov(np.diff(grown[::per_hour], axis=0).T) * HOURS_PER_YEAR
    return Premium(
        (gross - cost) / span,
        float(np.log(prices.target @ np.exp(grown[-1]))) / span,
        float(prices.target @ grown[-1]) / span,
        excess_growth(prices.target, covariance),
        cost / span,
    )


def rows(
    names: Sequence[str], panel: Sequence[Portfolio], found: Sequence[tuple[int, str, Premium]]
) -> list[dict[str, object]]:
    """Return one row a policy and cell, means over portfolios in bp of growth a year, all net of ``cost_bp``.

    ``found`` are (position in ``panel``, policy, premium). Beside the ledger, never in it: no total and no ratio counts
    them.
    """
    by: dict[tuple[str, float, str], list[Premium]] = {}
    for position, policy, one in found:
        p = panel[position]
        by.setdefault((p.label or p.scenario, p.nav_usd, policy), []).append(one)
    cells = list(dict.fromkeys((scenario, nav) for scenario, nav, _ in by))
    return [
        {
            "policy": name, "scenario": scenario, "nav_usd": nav,
            "over_buy_and_hold_bp": _mean([m.over_buy_and_hold for m in many]),
            "over_growth_average_bp": _mean([m.over_growth_average for m in many]),
            "excess_growth_bp": _mean([m.excess_growth for m in many]), "cost_bp": _mean([m.cost for m in many]),
            "portfolios": len(many),
        }
        for scenario, nav in cells
        for name in names
        if (many := by.get((scenario, nav, name)))
    ]  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) * BPS
