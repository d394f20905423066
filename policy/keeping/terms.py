"""What a look at one vault needs besides weights and gas: the closed-form band of its State, taken once and kept.

A State costs a reading of the chain; between readings only weights and gas move, and a look is arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policy.base import Matrix, State, Vector
from policy.costs import impact_per_square
from policy.simulation.planner import gas_of, usual_gwei
from policy.solvers import bands


@dataclass(frozen=True, slots=True)
class LookTerms:
    """One vault's geometry and costs at its last full reading; costs are fractions of NAV.

    ``target``, ``tolerance`` (n,); ``M`` (n, n): distance is ``sqrt(x'Mx)`` (soft), largest deviation in tolerances
    (hard). ``k``, ``m``, ``B``: fee, impact and stiffness of the soft band; ``usual``: one swap at usual gas and
    ``value``: cost rate times exit time, of the hard one. One swap costs ``gas_fixed + gas_slope * gwei``,
    each further one ``leg_fixed + leg_slope * gwei``.
    """

    hard: bool
    target: Vector
    tolerance: Vector
    M: Matrix
    k: float
    m: float
    B: float
    usual: float
    value: float
    gas_fixed: float
    gas_slope: float
    usual_gwei: float
    nav_usd: float
    leg_fixed: float
    leg_slope: float


def terms_of(state: State) -> LookTerms:
    """Return the terms of ``state``: those of the ``gas_band`` rule at the same moment, solved for gas."""
    market, n = state.market, state.target.size
    fixed = gas_of(state, 0.0, 1)
    leg_fixed = gas_of(state, 0.0, 2) - fixed
    leg_slope = gas_of(state, 1.0, 2) - gas_of(state, 1.0, 1) - leg_fixed
    slope, usual = gas_of(state, 1.0, 1) - fixed, gas_of(state, usual_gwei(state), 1)
    impact = impact_per_square(state.nav_usd, market.depth_usd)
    covariance = state.covariance[None]
    M, _ = bands.shapes(covariance, state.target)
    value = 0.0
    if state.scenario == "hard":
        exit_h, fees, squares = bands.box_moves(covariance, state.target, state.tolerance, market.fee)
        k, m = float(fees[0]), float(squares[0] @ impact)
        one = (np.atleast_1d(v) for v in (usual, usual, k, m, exit_h))
        value = float((bands.hard_band(*one, early=False)[2] * exit_h)[0])
    else:
        k = float(0.5 * bands.mean_moves(M, n)[0] @ market.fee)
        m = float(bands.mean_square_moves(M, n)[0] @ impact)
    return LookTerms(
        state.scenario == "hard", state.target, state.tolerance, M[0], k, m, max(state.gamma, 1e-12), usual, value,
        fixed, slope, usual_gwei(state), state.nav_usd, leg_fixed, leg_slope,
    )  # fmt: skip
