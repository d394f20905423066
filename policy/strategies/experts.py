"""How far the dynamic programme may move the band: learnt from what doing so would have cost in the past.

Members are ways to follow the programme: wait only, or trade early too, half of the way or all of it. A panel of random
baskets of the same kind (mandate, NAV, gas schedule) runs every member and gas_band over all recorded steps, block by
block. Gas is what it was. Of prices each basket sees ``mirrored`` pasts: all moves of a day as they were or all with
the opposite sign, drawn at random. Prices are close to a martingale, so both are as likely; volatility, its clusters
and its coupling to gas stay in place, and the luck of a few trends, which no rule could know, averages out.

A block's cost is what was paid plus the change of the cost-to-go of the deviation left, so that a trade put off is no
gain. At the start of a block a member counts if its summed difference to gas_band over the blocks before, plus SURE
roots of the summed squares (a standard error when nothing is assumed of the mean), is below zero; members count by that
bound. Where none does, gas_band decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from policy.base import ChainFees, Matrix, Scenario, Vector
from policy.simulation.history import History, Ints
from policy.simulation.panel import LARGEST, draw_target
from policy.simulation.planner import Case, Portfolio, Schedule, prepare
from policy.simulation.simulator import GAS, TRACKING, simulate

BASKETS = 48  # of a kind; with PATHS each, what is left of the noise is that of gas and volatility, common to all
PATHS = 4  # mirrored pasts of a basket
SEED = 20_201  # of the baskets; any
SURE = {"soft": 2.0, "hard": 1.0}
"""Standard errors to be ahead by. A wrong view costs a soft mandate tracking without bound in a crisis: the usual 95 %.
A hard one stays within its tolerances whatever the programme says, so one is proof enough (and takes two blocks)."""


@dataclass(frozen=True, slots=True)
class Member:
    """A way to follow the programme: its trigger over the band's, at least ``low``, to the power ``share``."""

    name: str
    low: float
    share: float


MEMBERS: tuple[Member, ...] = tuple(
    Member(f"{name} {share:.0%}", low, share) for share in (0.5, 1.0) for name, low in (("wait", 1.0), ("both", 0.0))
)
"""To wait only, or also to trade early; half of the way or all of it."""


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
    """Return ``count`` random baskets of ``kind`` over the whole history; sizes run over 2 .. LARGEST assets.

    Assets listed within it are left out where two others remain: before their listing nothing can be learnt of them.
    """
    rng = np.random.default_rng(SEED)
    free = np.arange(len(history.assets))
    if history.listed is not None and np.count_nonzero(history.listed <= history.gas_known) >= 2:
        free = free[history.listed <= history.gas_known]
    sizes = np.arange(2, min(LARGEST, free.size) + 1)
    begin, end = history.when(history.gas_known), history.when(len(history.ts) - 1)
    return [_basket(history, kind, rng, free, int(sizes[i % sizes.size]), begin, end) for i in range(count)]


def _basket(
    history: History, kind: Kind, rng: np.random.Generator, free: Ints, size: int, begin: datetime, end: datetime
) -> Portfolio:
    chosen = np.sort(free[rng.choice(free.size, size, replace=False)])
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
    for i, m in enumerate(MEMBERS):
        log += weights[:, i] * m.share * np.log(np.maximum(ratio, m.low))
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
    members = len(MEMBERS)
    total = np.zeros((1 + members, blocks.size - 1))
    views: dict[int, tuple[Vector, Vector]] = {}
    for place, portfolio in enumerate(baskets(history, kind)):
        case = prepare(history, portfolio)
        paths = [mirrored(case, place * PATHS + i) for i in range(PATHS)]
        base = gas_band(case)
        size = len(case.columns)
        if size not in views:
            outer, inner = programme(case, base)
            views[size] = outer / np.maximum(base.outer, 1e-9), inner
        ratio, inner = views[size]
        total[0] += sum(block_costs(path, base, blocks, number) for path in paths)
        for i in range(members):
            weights = np.zeros((ratio.size, members))
            weights[:, i] = 1.0
            own = moved(kind.scenario, (base.outer, base.inner), (base.outer * ratio, inner), weights)
            plan = replace(base, outer=own[0], inner=own[1])
            total[1 + i] += sum(block_costs(path, plan, blocks, number) for path in paths)
    return total


def mirrored(case: Case, draw: int) -> Case:
    """Return ``case`` with the log returns of each day (UTC) multiplied by +1 or -1, the same for all assets.

    The sign of a day depends on ``draw`` and the date alone, so that a longer history changes no earlier day.
    """
    day = case.history.ts // (24 * 3_600_000_000)
    sign = 2.0 * np.random.default_rng((SEED, draw)).integers(0, 2, int(day[-1]) + 1)[day] - 1.0
    return replace(case, returns=np.ascontiguousarray(np.expm1(sign[:, None] * np.log1p(case.returns))))


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


def chosen(costs: Matrix, sure: float) -> Matrix:
    """Return (blocks, members) weights in force in each block, from (1 + members, blocks) costs of blocks before it.

    ``sure`` is the standard errors a member must be ahead by, see SURE.
    """
    members, count = costs.shape[0] - 1, costs.shape[1]
    out = np.zeros((count, members))
    scale = np.maximum(np.cumsum(costs[0]), 1e-300)
    gap = costs[1:] - costs[0]
    summed, squares = np.cumsum(gap, axis=1), np.cumsum(gap**2, axis=1)
    for b in range(1, count):
        bound = (summed[:, b - 1] + sure * np.sqrt(squares[:, b - 1])) / scale[b - 1]
        gain = np.maximum(-bound, 0.0)
        if gain.sum() > 0.0:
            out[b] = gain / gain.sum()
    return out
