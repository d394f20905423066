"""What a live portfolio saved so far: its own trades against what a plain rule would have done on the same hours.

Both start from the same weights, feel the same prices, gas, depth and flows, and pay by the same ledger: gas, fee
and impact in USD, and in a soft mandate the tracking penalty. Costs of the live portfolio are those that were paid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from policy.base import Vector
from policy.comparison import bootstrap
from policy.simulation.planner import BandRule, Case, Schedule
from policy.solvers import step_kernel

LEAST_WEEKS = 4
"""Calendar weeks below which an interval over weeks says nothing: of three, one draw in nine is one week thrice."""
GAS, FEE, IMPACT, TRACKING = range(4)


@dataclass(frozen=True, slots=True)
class LiveHour:
    """What the live portfolio did in the hour from ``step`` on. Weights are (n,) in the order of the portfolio.

    ``paid``: gas, fee and impact, USD. ``flow_usd``: (n,) what came in or went out just before, by asset, else None.
    """

    step: int
    before: Vector
    after: Vector
    nav_usd: float
    paid: tuple[float, float, float] = (0.0, 0.0, 0.0)
    flow_usd: Vector | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """Costs in USD by calendar week, (weeks, 4): gas, fee, impact, tracking; hours outside the tolerances, trades."""

    weekly: Vector
    hours_outside: int
    trades: int

    @property
    def split(self) -> tuple[float, float, float, float]:
        """Gas, fee, impact, tracking, USD."""
        gas, fee, impact, tracking = self.weekly.sum(axis=0)
        return float(gas), float(fee), float(impact), float(tracking)

    def total(self, soft: bool) -> Vector:
        """(weeks,) USD; tracking counts in a soft mandate only."""
        return np.asarray(self.weekly[:, : TRACKING + soft].sum(axis=1))


@dataclass(frozen=True, slots=True)
class SavedAgainst:
    """What was saved against one rule, USD (negative: the live portfolio cost more), and its 95 % interval over weeks.

    ``low`` and ``high`` are None where it is too short to say.
    """

    rule: str
    usd: float
    low: float | None
    high: float | None
    theirs: Spent


def replayed(case: Case, plan: Schedule, start: Vector, nav: Vector, flows: Mapping[int, Vector], last: int) -> Spent:
    """Return what ``plan`` would have spent from weights ``start`` at ``case.first`` up to step ``last``, excluded.

    ``nav`` (T,) is the live NAV at each step, USD, which every fraction is of; ``flows`` (USD by asset) by step.
    """
    p, h = case.portfolio, case.history
    n, x = p.target.size, start - p.target
    after, shape = np.zeros(n), case.shape(plan)
    scale = plan.scale if plan.scale is not None else 1.0 / p.tolerance
    tolerance = p.tolerance if p.scenario == "hard" else np.full(n, np.inf)
    A, B = (case.A if plan.A is None else plan.A), p.gamma if p.scenario == "soft" else 0.0
    week = h.week() - h.week()[case.first]
    weekly = np.zeros((int(week[last - 1]) + 1, 4))
    outside, trades, previous = 0, 0, -2
    for t in range(case.first, last):
        if t in flows:
            x = with_flow(p.target + x, flows[t], nav[t]) - p.target
        r = float(step_kernel.distance(x, shape[h.day[t]], scale, plan.box, n))
        trigger = min(plan.outer[t], plan.resume[t]) if previous == t - 1 else plan.outer[t]
        args = x, r, trigger
        reason = step_kernel.NOTHING
        if (plan.must and r >= 1.0) or step_kernel.wanted(
            *args, plan.inner[t], shape[h.day[t]], scale, plan.box, plan.exit_parts[t]
        ):
            reason = step_kernel.move(
                *args, p.target, h.markets[t, case.columns], shape[h.day[t]], scale, plan.box, plan.direct,
                plan.inner[t], plan.cap[t], plan.must, A[t], B, case.gas_base[t], case.gas_leg[t], case.fee,
                case.impact[t], tolerance, p.max_turnover, after,
            )  # fmt: skip
        if reason != step_kernel.NOTHING:
            cost = step_kernel.charge(x, after, case.gas_base[t], case.gas_leg[t], case.fee, case.impact[t])[:3]
            weekly[week[t], :3] += np.array(cost) * nav[t]
            x, trades, previous = after.copy(), trades + 1, t
        outside += bool(np.any(np.abs(x) > p.tolerance * (1.0 + 1e-9)))
        weekly[week[t], TRACKING] += tracked(case, x, t) * nav[t]
        x = moved(p.target + x, case.returns[t]) - p.target
    return Spent(weekly, outside, trades)


def lived(case: Case, hours: Sequence[LiveHour], last: int) -> tuple[Spent, Vector]:
    """Return what the live portfolio spent up to step ``last``, excluded, and its NAV at each step (T,), USD."""
    p, h = case.portfolio, case.history
    week = h.week() - h.week()[case.first]
    weekly, by_step = np.zeros((int(week[last - 1]) + 1, 4)), {hour.step: hour for hour in hours}
    nav, outside, trades = np.full(len(h.ts), hours[0].nav_usd), 0, 0
    weights, value = hours[0].before, hours[0].nav_usd
    for t in range(case.first, last):
        hour = by_step.get(t)
        if hour is not None:
            weights, value = hour.after, hour.nav_usd
            weekly[week[t], :3] += hour.paid
            trades += not np.array_equal(hour.before, hour.after)
        nav[t:] = value
        x = weights - p.target
        outside += bool(np.any(np.abs(x) > p.tolerance * (1.0 + 1e-9)))
        weekly[week[t], TRACKING] += tracked(case, x, t) * value
        value *= float(weights @ (1.0 + case.returns[t]))
        weights = moved(weights, case.returns[t])
    return Spent(weekly, outside, trades), nav


def savings(
    case: Case, hours: Sequence[LiveHour], rules: Sequence[BandRule], draws: int, seed: int
) -> tuple[Spent, list[SavedAgainst]]:
    """Return what the live portfolio spent, and what it saved against each of ``rules``.

    ``hours``: at least one, ascending, the first at ``case.first``; costs count up to the last step with an hour after
    it. The interval draws calendar weeks with replacement (``bootstrap``), the same for every rule.
    """
    last, soft = case.last, case.portfolio.scenario == "soft"
    mine, nav = lived(case, hours, last)
    flows = {hour.step: hour.flow_usd for hour in hours if hour.flow_usd is not None}
    scale = case.portfolio.nav_usd / nav
    here = replace(
        case, gas_base=case.gas_base * scale, gas_leg=case.gas_leg * scale, impact=case.impact / scale[:, None]
    )
    found = []
    for rule in rules:
        theirs = replayed(here, rule.levels_over(here), hours[0].before, nav, flows, last)
        gap = theirs.total(soft) - mine.total(soft)
        low = high = None
        if gap.size >= LEAST_WEEKS:
            samples = bootstrap.counts(gap.size, draws, seed) @ gap
            low, high = (float(q) for q in np.quantile(samples, [0.025, 0.975]))
        found.append(SavedAgainst(rule.name, float(gap.sum()), low, high, theirs))
    return mine, found


def with_flow(weights: Vector, flow_usd: Vector, nav_usd: float) -> Vector:
    """Return ``weights`` after a flow into a portfolio that is worth ``nav_usd`` afterwards.

    What comes in arrives as it is; what goes out leaves in proportion to what is held.
    """
    came = np.maximum(flow_usd, 0.0)
    gone = float(np.maximum(-flow_usd, 0.0).sum())
    held = max(nav_usd - float(flow_usd.sum()), 0.0)
    value = weights * max(held - gone, 0.0) + came
    total = float(value.sum())
    return value / total if total > 0.0 else weights


def moved(weights: Vector, returns: Vector) -> Vector:
    """Return weights after an hour's simple returns."""
    grown = weights * (1.0 + returns)
    return np.asarray(grown / grown.sum())


def tracked(case: Case, x: Vector, step: int) -> float:
    """Return the soft mandate's penalty of one hour as a fraction of NAV, ``gamma / 2 (x . r)^2``."""
    return 0.5 * case.portfolio.gamma * float(x @ case.returns[step]) ** 2
