"""The reservation-price surface of a portfolio: its terms as known at one step, at the states gas was learnt in."""

from __future__ import annotations

import numpy as np

from policy.base import Matrix
from policy.costs import gas_lines
from policy.realtime.surface import GasStates, ReservationSurface, solve
from policy.simulation.planner import Case
from policy.strategies.programme import LEG_SHARE, geometry, recent_impact, terms_of


def surface_at(
    case: Case, step: int, states: GasStates, before: ReservationSurface | None = None
) -> ReservationSurface:
    """Return the surface of ``case`` as known at ``step``, the iteration begun from ``before`` where one is given."""
    fixed, unit = affine_gas(case)
    legs = (1.0, swaps_of(case))
    gas = fixed[step] @ legs + unit[step] @ legs * states.price
    usual = float(fixed[step] @ legs + unit[step] @ legs * np.exp(states.level))
    terms = terms_of(geometry(case, step), usual, recent_impact(case, step))
    return solve(terms, states, np.asarray(gas), before)


def affine_gas(case: Case) -> tuple[Matrix, Matrix]:
    """Return (T, 2) gas of a rebalance's base and of each leg at no gas price, and per gwei; fractions of NAV."""
    p, native = case.portfolio, case.history.native_usd
    fixed, one = gas_lines(p.fees, 0.0, native), gas_lines(p.fees, 1.0, native)
    low = np.column_stack([np.broadcast_to(v, native.shape) for v in fixed]) / p.nav_usd
    high = np.column_stack([np.broadcast_to(v, native.shape) for v in one]) / p.nav_usd
    return np.ascontiguousarray(low), np.ascontiguousarray(high - low)


def swaps_of(case: Case) -> float:
    """Return the legs of a usual rebalance: the first, and a share of the others (see ``programme``)."""
    return 1.0 + LEG_SHARE * max(len(case.columns) - 2, 0)
