"""How far the dynamic programme may move the band: learnt from what doing so would have cost in the past.

Members are ways to follow the programme: wait only, trade early only, or both, within a width (soft) or by a share
(hard, where the tolerance bounds them). A panel of random baskets of the same kind (mandate, NAV, gas schedule) runs
every member and gas_band over all recorded steps, block by block. A block's cost is what was paid plus the change of
the cost-to-go of the deviation left, so that a trade put off is no gain. At the start of a block a member counts if its
summed difference to gas_band over the blocks before, plus SURE roots of the summed squares (a standard error when
nothing is assumed of the mean), is below zero; members count by that bound. Where none does, gas_band decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from policy.backtest import GAS, TRACKING, simulate
from policy.base import ChainFees, Matrix, Scenario, Vector
from policy.history import History, Ints
from policy.panel import LARGEST, draw_target
from policy.schedule import Case, Portfolio, Schedule, prepare

BASKETS = 96  # of a kind; their differences are nearly independent, so the noise falls like 1 / sqrt(baskets)
SEED = 20_201  # of the baskets; any
SURE = 2.0  # standard errors to be ahead by: the usual 95 %, and more than 4 blocks; 1 takes chance for gains


@dataclass(frozen=True, slots=True)
class Member:
    """A way to follow the programme: its trigger over the band's is clipped to low .. high and raised to ``share``."""

    name: str
    low: float
    high: float
    share: float = 1.0


LOSS = 0.02  # what a wrong soft view may cost: raise it where forecasts are long proven, lower it for less risk
WIDTH = float(np.sqrt(1.0 + LOSS + np.sqrt((1.0 + LOSS) ** 2 - 1.0)))
"""A trigger off by w costs (w^2 + w^-2) / 2 of the best, with gas alone: gas falls and tracking rises by w^2."""
SOFT: tuple[Member, ...] = (
    Member("wait", 1.0, WIDTH),
    Member("early", 1.0 / WIDTH, 1.0),
    Member("both", 1.0 / WIDTH, WIDTH),
)
HARD: tuple[Member, ...] = tuple(
    Member(f"{name} {share:.0%}", low, np.inf, share)
    for share in (0.5, 1.0)
    for name, low in (("wait", 1.0), ("both", 0.0))
)
MEMBERS: dict[str, tuple[Member, ...]] = {"soft": SOFT, "hard": HARD}


@dataclass(frozen=True, slots=True)
class Kind:
    """What portfolios must share for the past of one to speak for another."""

    scenario: Scenario
    nav_usd: float
    gamma: float
    tolerance: float
    fees: ChainFees
    fee: float


def kind_of(portfolio: Portfolio, fee: Vector) -> Kind:
    """Return the kind of ``portfolio``; its tolerance and fee are the medians over its assets."""
    p = portfolio
    hard = p.scenario == "hard"
    return Kind(
        p.scenario, p.nav_usd, 0.0 if hard else p.gamma, float(np.median(p.tolerance)) if hard else 0.0, p.fees,
        float(np.median(fee)),
    )  # fmt: skip


def baskets(history: History, kind: Kind, count: int = BASKETS) -> list[Portfolio]:
    """Return ``count`` random baskets of ``kind`` over the whole history; sizes run over 2 .. LARGEST assets."""
    rng = np.random.default_rng(SEED)
    sizes = np.arange(2, min(LARGEST, len(history.assets)) + 1)
    begin, end = history.when(history.gas_known), history.when(len(history.ts) - 1)
    return [_basket(history, kind, rng, int(sizes[i % sizes.size]), begin, end) for i in range(count)]


def _basket(
    history: History, kind: Kind, rng: np.random.Generator, size: int, begin: datetime, end: datetime
) -> Portfolio:
    chosen = np.sort(rng.choice(len(history.assets), size, replace=False))
    return Portfolio(
        "past", kind.scenario, tuple(history.assets[c] for c in chosen), draw_target(rng, size),
        np.full(size, kind.tolerance if kind.scenario == "hard" else 1.0), kind.nav_usd, kind.gamma or 1.0, kind.fees,
        begin, end, np.full(size, kind.fee),
    )  # fmt: skip


def moved(
    scenario: Scenario, band: tuple[Vector, Vector], programme: tuple[Vector, Vector], weights: Matrix
) -> tuple[Vector, Vector]:
    """Return (outer, inner), the band's moved by the members' ``weights`` (T, members): geometric mean of triggers.

    A soft inner level stays the band's (below the trigger); a hard one moves with the share of the programme in use.
    """
    outer = np.maximum(band[0], 1e-9)
    ratio = np.maximum(programme[0] / outer, 1e-3)
    log, share = np.zeros(outer.size), np.zeros(outer.size)
    for i, m in enumerate(MEMBERS[scenario]):
        log += weights[:, i] * m.share * np.log(np.clip(ratio, max(m.low, 1e-3), m.high))
        share += weights[:, i] * m.share
    used = share > 0.0
    outer = np.where(used, outer * np.exp(log), band[0])
    if scenario == "hard":
        outer = np.minimum(outer, 1.0)
        inner = np.where(used, band[1] + share * (np.minimum(programme[1], outer) - band[1]), band[1])
        return outer, np.minimum(inner, outer)
    return outer, np.where(used, np.minimum(band[1], outer), band[1])


def past_costs(
    history: History,
    kind: Kind,
    blocks: Ints,
    gas_band: Callable[[Case], Schedule],
    programme: Callable[[Case, Schedule], tuple[Vector, Vector]],
) -> Matrix:
    """Return (1 + members, blocks) summed cost of gas_band and every member over the kind's baskets.

    ``blocks`` (B + 1,) are the first steps of the blocks and the end. The programme is solved for one basket of each
    size; the others take its trigger over the band's (and a hard inner level, in tolerances): it depends on gas and
    the time between trades, hardly on which assets. Fractions of NAV; a block depends on nothing after it.
    """
    number = np.searchsorted(blocks, np.arange(len(history.ts)), side="right")
    members = len(MEMBERS[kind.scenario])
    total = np.zeros((1 + members, blocks.size - 1))
    views: dict[int, tuple[Vector, Vector]] = {}
    for portfolio in baskets(history, kind):
        case = prepare(history, portfolio)
        base = gas_band(case)
        size = len(case.columns)
        if size not in views:
            outer, inner = programme(case, base)
            views[size] = outer / np.maximum(base.outer, 1e-9), inner
        ratio, inner = views[size]
        total[0] += block_costs(case, base, blocks, number)
        for i in range(members):
            weights = np.zeros((ratio.size, members))
            weights[:, i] = 1.0
            own = moved(kind.scenario, (base.outer, base.inner), (base.outer * ratio, inner), weights)
            total[1 + i] += block_costs(case, replace(base, outer=own[0], inner=own[1]), blocks, number)
    return total


def block_costs(case: Case, plan: Schedule, blocks: Ints, number: Ints) -> Vector:
    """Return (B,) cost of ``plan`` in each block: paid, and the rise of the cost-to-go of the deviation left."""
    soft = case.portfolio.scenario == "soft"
    last = int(blocks[-1])
    run = simulate(case, plan, number, log=False, path=True, span=(case.history.gas_known, last))
    paid = run.weekly[1 : blocks.size, GAS : TRACKING + soft].sum(axis=1)
    assert run.path is not None
    at = np.array([cost_to_go(case, run.path[t], int(t)) for t in np.minimum(blocks, last - 1)])
    return np.asarray(paid + np.diff(at))


def cost_to_go(case: Case, weights: Vector, step: int) -> float:
    """Return the cost-to-go at usual gas of ``weights`` over the target's, a fraction of NAV; flat beyond its peak."""
    p, A = case.portfolio, float(case.A[step])
    x = weights - p.target
    if p.scenario == "hard":
        return A * float(np.max(np.abs(x) / p.tolerance)) ** 2
    square = min(max(float(x @ case.M[case.history.day[step]] @ x), 0.0), 0.5 * A / p.gamma)
    return A * square - p.gamma * square**2


def chosen(costs: Matrix) -> Matrix:
    """Return (blocks, members) weights in force in each block, from (1 + members, blocks) costs of blocks before it."""
    members, count = costs.shape[0] - 1, costs.shape[1]
    out = np.zeros((count, members))
    scale = np.maximum(np.cumsum(costs[0]), 1e-300)
    gap = costs[1:] - costs[0]
    summed, squares = np.cumsum(gap, axis=1), np.cumsum(gap**2, axis=1)
    for b in range(1, count):
        bound = (summed[:, b - 1] + SURE * np.sqrt(squares[:, b - 1])) / scale[b - 1]
        gain = np.maximum(-bound, 0.0)
        if gain.sum() > 0.0:
            out[b] = gain / gain.sum()
    return out
