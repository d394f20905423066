"""Cost against band width for one portfolio: where the marginal benefit of a tighter band meets its marginal cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lake.units import BPS, HOURS_PER_YEAR
from policy.base import State, Vector
from policy.costs import impact_per_square
from policy.simulation.planner import gas_of, usual_gwei
from policy.solvers import bands

POINTS = 81
INNER = 200


@dataclass(frozen=True, slots=True)
class Widths:
    """Curves over band widths, (POINTS,) each.

    ``width`` is the mean absolute weight deviation of an asset at the trigger; costs are bp of NAV a year at the best
    inner level of each width.
    """

    width: Vector
    inner: Vector  # in the unit of width
    gas_bp: Vector
    fee_bp: Vector
    impact_bp: Vector
    tracking_bp: Vector
    trades_per_year: Vector
    best_width: float
    best_inner: float
    best_bp: float
    gas_gwei: float

    @property
    def total_bp(self) -> Vector:
        """All costs together."""
        return self.gas_bp + self.fee_bp + self.impact_bp + self.tracking_bp

    @property
    def benefit(self) -> Vector:
        """Tracking saved, bp a year, per 1 % narrower band."""
        return np.asarray(0.01 * np.gradient(self.tracking_bp, np.log(self.width)))

    @property
    def burden(self) -> Vector:
        """Gas, fee and impact added, bp a year, per 1 % narrower band; equals ``benefit`` at the best width."""
        return np.asarray(-0.01 * np.gradient(self.gas_bp + self.fee_bp + self.impact_bp, np.log(self.width)))


def curve(state: State, gas_gwei: float | None = None) -> Widths:
    """Return the curves for the soft mandate of ``state`` at ``gas_gwei`` (None: the gas usual in the last week).

    Uses the exact cost rate of ``bands`` in the trading distance of the portfolio's covariance, gas of one swap.
    """
    n = state.target.size
    gwei = usual_gwei(state) if gas_gwei is None else gas_gwei
    M, growth = bands.shapes(state.covariance[None], state.target)
    g = gas_of(state, gwei, 1)
    moves = bands.mean_moves(M, n)[0]
    k = float(0.5 * moves @ state.market.fee)
    m = float(bands.mean_square_moves(M, n)[0] @ impact_per_square(state.nav_usd, state.market.depth_usd))
    best = tuple(float(v[0]) for v in bands.solve(g, k, state.gamma, m))
    dims = n - 1
    eta2 = float(growth[0]) * HOURS_PER_YEAR / dims
    q = 4.0 * (dims + 2) * eta2 * state.gamma
    outer = best[0] * np.geomspace(0.2, 5.0, POINTS)
    inner = outer[:, None] * np.linspace(0.0, 0.995, INNER)[None, :]
    rho = outer[:, None] - inner
    often = dims * eta2 / (outer[:, None] ** 2 - inner**2)
    drag = 0.25 * q * dims / (dims + 2) * (outer[:, None] ** 2 + inner**2)
    total = often * (g + k * rho + m * rho**2) + drag
    chosen = np.argmin(total, axis=1)
    row = np.arange(POINTS)
    rho, often, drag = rho[row, chosen], often[row, chosen], drag[row, chosen]
    unit = float(moves.mean())
    best_rate = dims * eta2 / (best[0] ** 2 - best[1] ** 2)
    gap = best[0] - best[1]
    best_bp = best_rate * (g + k * gap + m * gap**2) + 0.25 * q * dims / (dims + 2) * (best[0] ** 2 + best[1] ** 2)
    return Widths(
        outer * unit, inner[row, chosen] * unit, often * g * BPS, often * k * rho * BPS, often * m * rho**2 * BPS,
        drag * BPS, often, best[0] * unit, best[1] * unit, best_bp * BPS, gwei,
    )  # fmt: skip
