"""The reservation-price surface as a live rule: trade where the next block's gas is within the reserve.

What it knows is one column of a published surface, that of the present state of gas; with it a decision's record alone
gives the decision again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from policy.base import ForecastView, State, Vector
from policy.memory import PolicyMemory
from policy.realtime.surface import NEVER as FORCED
from policy.realtime.surface import ReservationSurface
from policy.simulation.planner import NEVER, Levels, gas_of
from policy.solvers import bands
from policy.strategies.programme import LEG_SHARE

NAME = "surface"
FORCED_AT = 0.5 * FORCED


def usual_legs(assets: int) -> float:
    """Return the legs of a usual rebalance, which a surface's reserves are of."""
    return 1.0 + LEG_SHARE * max(assets - 2, 0)


def at_node(table: Vector, place: float) -> float:
    """Return ``table`` at the fractional node ``place``: beyond the last the last, below a forced one that before."""
    j = min(int(place), table.size - 1)
    if j == table.size - 1 or table[j + 1] > FORCED_AT:
        return float(table[j])
    return float(table[j] + (place - j) * (table[j + 1] - table[j]))


def memory_of(surface: ReservationSurface, state: int, at: datetime) -> PolicyMemory:
    """Return what the rule knows at ``at`` where gas is in ``state``."""
    values = {
        "reserve": surface.reserve[:, state].copy(), "back": surface.back[:, state].copy(),
        "node": np.array(surface.node),
    }  # fmt: skip
    return PolicyMemory(NAME, at, values)


@dataclass(frozen=True, slots=True)
class SurfaceRule:
    """Decides from the column in ``memory``; implements LevelRule."""

    memory: PolicyMemory
    name: str = NAME

    def levels_at(self, state: State, forecasts: ForecastView) -> Levels:  # noqa: ARG002
        """Return levels that trade now, back to the surface's own level, where gas is within the reserve."""
        reserve, back, node = (self.memory.values[n] for n in ("reserve", "back", "node"))
        hard, x = state.scenario == "hard", state.weights - state.target
        if hard:
            r = float(np.max(np.abs(x) / state.tolerance))
        else:
            M, _ = bands.shapes(state.covariance[None], state.target)
            r = float(np.sqrt(max(float(x @ M[0] @ x), 0.0)))
        legs = usual_legs(state.target.size)
        none = gas_of(state, state.market.gas_gwei, 0)
        cost = none + legs * (gas_of(state, state.market.gas_gwei, 1) - none)
        place = r / float(node)
        worth, inner = at_node(reserve, place), at_node(back, place)
        acts = cost <= worth and r > inner + 1e-9
        outer = r * (1.0 - 1e-12) if acts else NEVER
        if hard and not acts:
            outer = 1.0
        said = f"gas costs {1e4 * cost:.3f} bp of NAV, the surface pays {1e4 * min(worth, 1.0):.3f}"
        return Levels(outer, inner, box=hard, must=hard, why=said)


def recalled(memory: PolicyMemory) -> SurfaceRule:
    """Return the rule that ``memory`` is of."""
    return SurfaceRule(memory)
