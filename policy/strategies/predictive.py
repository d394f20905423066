"""The predictive policy: the strongest reactive rule, moved by gas forecasts as far as that has earned.

Two things must be earned, both from the past alone: the gas forecasts must have been right (``Outlook.trust``, 0..1)
and following them must have been cheaper than the reactive rule on a panel of baskets of the same kind (``experts``).
Where either is missing every level is that rule's; gas_band's where there is too little past to learn from. What has
been learnt about a kind is a lesson: made once, handed over, never kept behind anybody's back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from policy.base import ForecastView, Matrix, State, Vector
from policy.memory import PolicyMemory
from policy.simulation.history import History
from policy.simulation.planner import Case, Latest, Levels, Portfolio, Schedule, prepare
from policy.strategies import experts
from policy.strategies.gas_outlook import Outlook, silent
from policy.strategies.gas_process import speeds
from policy.strategies.programme import growth_squares, programme, split
from policy.strategies.reactive import GAS_BAND
from policy.strategies.remembered import Remembered, nothing_learnt, remember


@dataclass(frozen=True, slots=True)
class Predictive:
    """The rule over an outlook; a BandRule. ``lessons`` are the members' weights by kind."""

    history: History
    outlook: Outlook
    name: str = "predictive"
    lessons: Mapping[experts.Kind, Matrix] = field(default_factory=dict, compare=False, repr=False)
    latest: Latest = field(default_factory=Latest, compare=False, repr=False)

    def taught(self, lessons: Mapping[experts.Kind, Matrix]) -> Predictive:
        """Return this policy with ``lessons`` added to its own."""
        self.latest.held.clear()  # shared with the bounds that look at this policy: what was planned before is void
        return replace(self, lessons={**self.lessons, **lessons})

    def levels_over(self, case: Case) -> Schedule:
        """Return the levels of every step of ``case``; those of step t depend on nothing after t.

        A kind without a lesson is learnt about on the spot, and again at the next call: teach it before.
        """
        return self.latest.of(case, self._plan)

    def _plan(self, case: Case) -> Schedule:
        base = GAS_BAND.levels_over(case)
        weights = self.weights(case, case.first, case.last + 1)
        outer, inner, part = self.moved(case, base, weights, case.first, case.last + 1)
        return split(case, replace(base, outer=outer, inner=inner, exit_part=part), self.outlook.trust)

    def levels_at(self, state: State, forecasts: ForecastView) -> Levels:
        """Return the levels for ``state`` with the memory of that moment: those of ``levels_over`` at that step."""
        step = int(np.searchsorted(self.history.ts, int(state.ts.timestamp() * 1e6), side="right")) - 1
        portfolio = portfolio_of(state, self.history, step)
        if silent(forecasts) and experts.kind_of(portfolio, portfolio.swap_fee) not in self.lessons:
            return Remembered(nothing_learnt(state.ts)).levels_at(state, forecasts)  # nobody learns to say nothing
        return Remembered(self.memory(portfolio, step)).levels_at(state, forecasts)

    def memory(self, portfolio: Portfolio, step: int) -> PolicyMemory:
        """Return what this policy knows at ``step`` about ``portfolio``, frozen; nothing where gas is too young."""
        at = self.history.when(step)
        number = next((i for i, w in enumerate(self.outlook.windows) if w.first <= step < w.last), None)
        if number is None:
            return nothing_learnt(at)
        window = self.outlook.windows[number]
        case, first = prepare(self.history, portfolio), window.first
        speed = speeds(growth_squares(case, len(self.history.ts)))
        depth = self.history.depth_usd[max(0, first - 168) : first + 1, case.columns]
        then = {
            "gas_gwei": self.history.gas_gwei[first], "native_usd": self.history.native_usd[first],
            "covariance": case.covariance[self.history.day[first]], "depth_usd": np.median(depth, axis=0),
            "slow": window.slow[step - first], "speed": speed[step], "means": self.outlook.tilt.means[step],
            "least": self.outlook.least[step], "least_share": self.outlook.least_shares[number],
        }  # fmt: skip
        earned = float(self.outlook.earned[step])
        weights = self.lesson(case)[number]
        return remember(at, window, float(self.outlook.shares[number]), earned, weights, then)

    def weights(self, case: Case, first: int, last: int) -> Matrix:
        """Return (T, width) weights in force, members' times trust; zero outside ``first`` .. ``last`` (exclusive)."""
        scenario = case.portfolio.scenario
        out = np.zeros((len(self.history.ts), experts.width(scenario)))
        trust = self.outlook.trust * (self.outlook.tilt.issued if scenario == "soft" else 1.0)
        for window, weight in zip(self.outlook.windows, self.lesson(case), strict=True):
            part = slice(max(window.first, first), max(min(window.last, last), 0))
            out[part] = weight
            out[part, 1:] *= trust[part, None]
        return out

    @property
    def learns(self) -> bool:
        """Whether there is anything to trust, and a basket to learn from."""
        return bool(self.outlook.trust.any()) and bool(self.outlook.windows) and len(self.history.assets) >= 2

    def lesson(self, case: Case) -> Matrix:
        """Return (windows, width) weights for portfolios like that of ``case``: the lesson, or learnt now.

        Where nothing is to be trusted there is nothing to learn: the stronger reactive rule, and no member.
        """
        kind = experts.kind_of(case.portfolio, case.fee)
        if not self.learns:
            return np.tile(experts.reactive_only(kind), (len(self.outlook.windows), 1))
        found = self.lessons.get(kind)
        return self.learn(kind) if found is None else found

    def learn(self, kind: experts.Kind) -> Matrix:
        """Return (windows, width) weights for portfolios of ``kind``, each from the past alone."""
        return experts.chosen(self.past(kind), experts.prior(kind), kind.scenario)

    def past(self, kind: experts.Kind) -> Matrix:
        """Return (1 + width, windows) what gas_band, the stronger rule and the members cost a panel of ``kind``."""
        edges = np.array([w.first for w in self.outlook.windows] + [self.outlook.windows[-1].last])

        def sight(case: Case, base: Schedule) -> experts.Sight:
            return self.sight(case, base, np.ones((len(self.history.ts), 1)))

        return experts.past_costs(self.history, kind, edges, GAS_BAND.levels_over, sight)

    def sight(
        self, case: Case, base: Schedule, wanted: Matrix, first: int = 0, last: int | None = None
    ) -> experts.Sight:
        """Return what moves ``base`` on ``case``; the programme is solved where ``wanted`` (T, any) is not all zero."""
        tilt = self.outlook.tilt
        if case.portfolio.scenario == "soft":
            return experts.Sight(tilt.relative, tilt.dear)
        found = programme(case, base, self.outlook.windows, wanted, self.outlook.slow, first, last)
        return experts.Sight(tilt.relative, tilt.dear, *found)

    def moved(
        self, case: Case, base: Schedule, weights: Matrix, first: int, last: int
    ) -> tuple[Vector, Vector, Vector]:
        """Return (outer, inner, exit part) of ``base`` moved by ``weights`` in ``first`` .. ``last`` (exclusive)."""
        seen = self.sight(case, base, weights[:, 1:], first, last)
        return experts.moved(case.portfolio.scenario, (base.outer, base.inner), seen, weights)


def portfolio_of(state: State, history: History, step: int) -> Portfolio:
    """Return the portfolio ``state`` describes, as the panel would hold it from ``step`` on."""
    return Portfolio(
        "live", state.scenario, state.assets, state.target, state.tolerance, state.nav_usd, state.gamma,
        state.market.fees, history.when(step), history.when(len(history.ts) - 1), state.market.fee,
    )  # fmt: skip
