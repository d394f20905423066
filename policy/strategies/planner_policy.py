"""A BandRule as a Policy: one State in, one Decision out, by the compiled step of the simulator."""

from __future__ import annotations

from dataclasses import dataclass

from policy.base import Decision, ForecastView, State, Vector
from policy.costs import trade_cost
from policy.memory import PolicyMemory
from policy.simulation.planner import LevelRule, Levels, Move, apply, state_worth
from policy.solvers import step_kernel


@dataclass(frozen=True, slots=True)
class RulePolicy:
    """Decides as ``planner`` would in the panel at the same moment; implements Policy.

    ``memory`` is what the planner knows besides what it is handed: with it the record of a decision is complete.
    """

    planner: LevelRule
    memory: PolicyMemory | None = None

    @property
    def name(self) -> str:
        """Name of the planner."""
        return self.planner.name

    def decide(self, state: State, forecasts: ForecastView) -> Decision:
        """Return the decision for ``state``; pure, and dependent on nothing after ``state.ts``."""
        levels = self.planner.levels_at(state, forecasts)
        return decision(state, levels, apply(state, levels))


def decision(state: State, levels: Levels, move: Move) -> Decision:
    """Return ``move`` in words and USD. Benefit is the fall of the relative cost-to-go ``A r^2 - B r^4``.

    When waiting, cost and benefit are those of the trade not made (to the inner level, from inside it to the
    target), and the value of waiting is what they differ by.
    """
    traded = move.reason != step_kernel.NOTHING
    after = move.after if traded else _would_be(state, levels, move)
    r = move.distance
    s = levels.inner if r > levels.inner else 0.0
    if traded and levels.cap < float("inf"):  # a split keeps the direction, so the distance shrinks by the same share
        gone = float(abs(move.after - state.target).sum()) / max(float(abs(state.weights - state.target).sum()), 1e-300)
        s = r * min(gone, 1.0)
    A, B = state_worth(state) if levels.A is None else levels.A, state.gamma if state.scenario == "soft" else 0.0
    benefit = (worth(r, A, B, levels.outer) - worth(s, A, B, levels.outer)) * state.nav_usd
    cost = trade_cost(state.market, state.nav_usd, state.weights, after).total_usd
    action = step_kernel.REASONS[move.reason]
    waiting = 0.0 if traded else max(cost - benefit, 0.0)
    why = (
        f"{action}: distance {r:.4f} against trigger {levels.outer:.4f}, back to {levels.inner:.4f} ({levels.why}); "
        f"cost {cost:.2f} USD, benefit {benefit:.2f} USD at {state.market.gas_gwei:.1f} gwei"
    )
    return Decision(
        action=action,
        weights=move.after,
        benefit_usd=benefit,
        cost_usd=cost,
        value_of_waiting_usd=waiting,
        why=why,
        details={"distance": r, "outer": levels.outer, "inner": levels.inner},
    )


def worth(r: float, A: float, B: float, outer: float) -> float:
    """Return the relative cost-to-go at distance ``r``, fraction of NAV: ``A r^2 - B r^4`` inside the band.

    Outside it continues in a straight line with the slope at the trigger (smooth pasting: there one trades at once, and
    the slope is the marginal cost); the quartic itself would fall again beyond ``sqrt(A / 2B)``.
    """
    peak = (A / (2.0 * B)) ** 0.5 if B > 0.0 else float("inf")
    edge = min(outer, peak)
    if r <= edge:
        return A * r**2 - B * r**4
    return A * edge**2 - B * edge**4 + max(2.0 * A * edge - 4.0 * B * edge**3, 0.0) * (r - edge)


def _would_be(state: State, levels: Levels, move: Move) -> Vector:
    share = levels.inner / move.distance if move.distance > levels.inner else 0.0
    return state.target + (state.weights - state.target) * share
