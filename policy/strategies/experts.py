"""What the predictive policy does besides its reactive rule: learnt from what doing so would have cost in the past.

The strongest reactive rule of a mandate is gas_tilt in a soft one, gas_band_exit in a hard one. Beside it stand
members: a soft mandate's trigger tilted by how dear the hour is against the least gas that is forecast, a hard one's
levels moved half or all of the way to the dynamic programme's. What is followed before the past of a market says
anything, PRIOR, is what paid on other stretches of history; it needs forecasts that have been right (``gas_outlook``),
and the past can overrule it.

A panel of random baskets of the same kind and of its neighbours runs all of them over all recorded steps, block by
block. Gas is what it was. Of prices each basket sees ``mirrored`` pasts: all moves of a day as they were or all with
the opposite sign, drawn at random. Prices are close to a martingale, so both are as likely; volatility, its clusters
and its coupling to gas stay in place, and the luck of a few trends, which no rule could know, averages out. A block's
cost is what was paid plus the change of the cost-to-go of the deviation left, so that a trade put off is no gain.

What PRIOR does not follow must be proven: savings block by block are a bet against a member's being worthless, and
``evidence`` is what a stake of 1 has become. At no skill it exceeds 1 / p at any time with a chance of p at most.
Members are then followed with the share ``1 - 1 / evidence``; below a stake of 1 the reactive rule decides.

What PRIOR follows is left at the start of a block where the past speaks against it. In a hard mandate the programme is
left on the same evidence turned round, a bet on its being dearer that has grown to AGAINST: half of the noise of a
week's difference is that of the few paths drawn, and a test looked at every week strays by a standard error sooner or
later. A soft mandate's tilt, and the choice between the reactive rules, are left at a standard error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from policy.base import ChainFees, Matrix, Scenario, Vector
from policy.simulation.history import History, Ints
from policy.simulation.panel import LARGEST, draw_target
from policy.simulation.planner import Case, Portfolio, Schedule, prepare
from policy.simulation.simulator import GAS, TRACKING, simulate
from policy.solvers.trade_set import to_go
from policy.strategies.reactive import EXIT_PART, TILT

BASKETS = 48  # of a kind; with PATHS each, what is left of the noise is that of gas and volatility, common to all
PATHS = 4  # mirrored pasts of a basket
SEED = 20_201  # of the baskets; any
NEAR = 2.0  # neighbours: baskets of up to this many times the NAV (and the aversion), and as small a part of them
NEAR_TOLERANCE = 1.25
AGAINST = 20.0  # what a bet against the programme must have grown to; where it is no dearer, one in twenty ever does
STAKES = (0.1, 0.3, 1.0)  # of a usual block's cost: the noises of differences that bets are laid out for
LARGE_USD = 3e6  # above it impact outweighs gas, which the programme's one distance misjudges


@dataclass(frozen=True, slots=True)
class Member:
    """A way to use forecasts.

    Soft: ``rate`` of the hour's dearness in the log of the trigger. Hard: the programme's trigger over the band's, at
    least ``low``, to the power ``share``.
    """

    name: str
    rate: float = 0.0
    low: float = 0.0
    share: float = 1.0


MEMBERS: Mapping[Scenario, tuple[Member, ...]] = {
    "soft": tuple(Member(f"tilt {rate:.2f}", rate=rate) for rate in (0.05, 0.10, 0.15)),
    "hard": tuple(
        Member(f"{name} {share:.0%}", low=low, share=share)
        for share in (0.5, 1.0)
        for name, low in (("wait", 1.0), ("both", 0.0))
    ),
}
"""Soft: three strengths. Hard: to wait only, or also to trade early; half of the way or all of it."""


PRIOR: Mapping[Scenario, tuple[float, ...]] = {"soft": (1.0, 0.5, 0.5, 0.0), "hard": (1.0, 0.0, 0.0, 0.5, 0.5)}
"""What is followed before the past speaks: the stronger reactive rule's share, then the members' weights."""


def prior(kind: Kind) -> Vector:
    """Return the (width,) weights that ``kind`` starts with: PRIOR, but gas_band alone in a large hard mandate."""
    large = kind.scenario == "hard" and kind.nav_usd > LARGE_USD
    return np.zeros(width(kind.scenario)) if large else np.array(PRIOR[kind.scenario])


def width(scenario: Scenario) -> int:
    """Return the length of a weight vector: the share of the stronger reactive rule, then one a member."""
    return 1 + len(MEMBERS[scenario])


def reactive_only(kind: Kind) -> Vector:
    """Return the (width,) weights of ``prior`` without its members."""
    out = prior(kind)
    out[1:] = 0.0
    return out


@dataclass(frozen=True, slots=True)
class Sight:
    """What moves the band, (T,) each: ``relative`` and ``dear`` of ``gas_tilt``; hard, the programme's levels."""

    relative: Vector
    dear: Vector
    outer: Vector | None = None
    inner: Vector | None = None


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
    """Return ``count`` random baskets about ``kind`` over the whole history; sizes run over 2 .. LARGEST assets.

    NAV and, by mandate, tolerance or risk aversion spread evenly in logs about the kind's own, out to NEAR and
    NEAR_TOLERANCE: neighbours tell of each other. Assets listed within the history are left out where two others
    remain: before their listing nothing can be learnt of them.
    """
    rng = np.random.default_rng(SEED)
    free = np.arange(len(history.assets))
    if history.listed is not None and np.count_nonzero(history.listed <= history.gas_known) >= 2:
        free = free[history.listed <= history.gas_known]
    sizes = np.arange(2, min(LARGEST, free.size) + 1)
    begin, end = history.when(history.gas_known), history.when(len(history.ts) - 1)
    spread = 2.0 * ((np.arange(count)[:, None] * np.array([0.618034, 0.754878]) + 0.5) % 1.0) - 1.0
    return [
        _basket(history, _near(kind, *spread[i]), rng, free, int(sizes[i % sizes.size]), begin, end)
        for i in range(count)
    ]


def _near(kind: Kind, first: float, second: float) -> Kind:
    """Return the neighbour of ``kind`` at places -1 .. 1 of NAV and of tolerance or risk aversion."""
    by = NEAR_TOLERANCE if kind.scenario == "hard" else NEAR
    return replace(
        kind, nav_usd=kind.nav_usd * NEAR**first, tolerance=kind.tolerance * by**second, gamma=kind.gamma * by**second
    )


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
    scenario: Scenario, band: tuple[Vector, Vector], sight: Sight, weights: Matrix
) -> tuple[Vector, Vector, Vector]:
    """Return (outer, inner, exit part) of the band moved by (T, width) ``weights``: geometric mean of triggers.

    A soft inner level stays the band's (below the trigger); a hard one moves with the share of the programme in use.
    """
    outer = np.maximum(band[0], 1e-9)
    members, own = MEMBERS[scenario], weights[:, 1:]
    if scenario == "soft":
        log = weights[:, 0] * (1.0 - own.sum(axis=1)) * TILT * sight.relative
        log = log + own @ np.array([m.rate for m in members]) * sight.dear
        outer = np.where(log != 0.0, outer * np.exp(log), band[0])
        return outer, np.minimum(band[1], outer), np.zeros(outer.size)
    share = own @ np.array([m.share for m in members])
    exit_part = EXIT_PART * weights[:, 0] * (1.0 - np.minimum(share, 1.0))
    if sight.outer is None or sight.inner is None:
        return band[0], band[1], exit_part
    ratio = np.maximum(sight.outer / outer, 1e-3)
    log = sum((own[:, i] * m.share * np.log(np.maximum(ratio, m.low)) for i, m in enumerate(members)), np.zeros(1))
    used = share > 0.0
    outer = np.minimum(np.where(used, outer * np.exp(log), band[0]), 1.0)
    inner = np.where(used, band[1] + share * (np.minimum(sight.inner, outer) - band[1]), band[1])
    return outer, np.minimum(inner, outer), exit_part


def past_costs(
    history: History,
    kind: Kind,
    blocks: Ints,
    gas_band: Callable[[Case], Schedule],
    sight: Callable[[Case, Schedule], Sight],
) -> Matrix:
    """Return (1 + width, blocks) summed cost of gas_band, the stronger rule and every member over the kind's baskets.

    ``blocks`` (B + 1,) are the first steps of the blocks and the end. The programme is solved for one basket of each
    size; the others take its trigger over the band's (and a hard inner level, in tolerances): it depends on gas and
    the time between trades, hardly on which assets. In units of each basket's own cost-to-go at the first step, so
    that small and large neighbours count alike; a block depends on nothing after it.
    """
    number = np.searchsorted(blocks, np.arange(len(history.ts)), side="right")
    rows = width(kind.scenario)
    total = np.zeros((1 + rows, blocks.size - 1))
    views: dict[int, tuple[Sight, Vector]] = {}
    for place, portfolio in enumerate(baskets(history, kind)):
        case = prepare(history, portfolio)
        base = gas_band(case)
        size = len(case.columns)
        if size not in views:
            views[size] = sight(case, base), np.maximum(base.outer, 1e-9)
        seen, of = views[size]
        if seen.outer is not None:
            seen = replace(seen, outer=base.outer * (seen.outer / of))
        plans = [base]
        for i in range(rows):
            weights = np.zeros((base.outer.size, rows))
            weights[:, i] = 1.0
            outer, inner, part = moved(kind.scenario, (base.outer, base.inner), seen, weights)
            plans.append(replace(base, outer=outer, inner=inner, exit_part=part))
        unit = max(float(case.A[history.gas_known]), 1e-300)
        for draw in range(PATHS):
            path = mirrored(case, place * PATHS + draw)
            total += np.array([block_costs(path, plan, blocks, number) for plan in plans]) / unit
    return total


def before(case: Case, plan: Schedule, draw: int) -> float:
    """Return what ``plan`` costs on PATHS mirrored pasts before the comparison, in units of the cost-to-go; 0 without.

    ``draw`` numbers the portfolio: another one has other pasts.
    """
    known, first = case.history.known_from(case.columns), case.first
    if first <= known:
        return 0.0
    number = np.where(np.arange(len(case.history.ts)) < known, 0, 1)
    edges = np.array([known, first], dtype=np.int64)
    paths = [mirrored(case, draw * PATHS + i) for i in range(PATHS)]
    unit = max(float(case.A[known]), 1e-300)
    return float(sum(block_costs(path, plan, edges, number).sum() for path in paths)) / unit


def mirrored(case: Case, draw: int) -> Case:
    """Return ``case`` with the log returns of each day (UTC) multiplied by +1 or -1, the same for all assets.

    The sign of a day depends on ``draw`` and the date alone, so that a longer history changes no earlier day.
    """
    day = case.history.ts // (24 * 3_600_000_000)
    sign = 2.0 * np.random.default_rng((SEED, draw)).integers(0, 2, int(day[-1]) + 1)[day] - 1.0
    returns = np.where(sign[:, None] > 0.0, case.returns, -case.returns / (1.0 + case.returns))
    return replace(case, returns=np.ascontiguousarray(returns))


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
    """Return the cost-to-go at usual gas of ``weights`` over the target's, a fraction of NAV; see ``trade_set``."""
    p, day = case.portfolio, case.history.day[step]
    hard = p.scenario == "hard"
    shape = case.exits[day] if hard else case.M[day]
    B = 0.0 if hard else p.gamma
    return float(to_go(weights - p.target, shape, 1.0 / p.tolerance, hard, float(case.A[step]), B))


def chosen(costs: Matrix, start: Vector, scenario: Scenario) -> Matrix:
    """Return (blocks, width) weights in force in each block, from (1 + width, blocks) costs of the blocks before it.

    ``start`` (width,) is followed where the past does not speak against it, which ``scenario`` takes differently: see
    the module.
    """
    count = costs.shape[1]
    out = np.zeros((count, start.size))
    bands, members = costs[:2], costs[2:]
    first = int(start[0])
    for b in range(count):
        dearer = _dearer(bands[first, :b] - bands[1 - first, :b])
        out[b, 0] = float(first != dearer)
        rule = bands[int(out[b, 0]), :b]
        usual = max(float(rule.mean()), 1e-300) if b else 1.0
        if start[1:].any():
            extra = start[1:] @ members[:, :b] / start[1:].sum() - rule
            if not (_dearer(extra) if scenario == "soft" else _bet(-extra, usual) >= AGAINST):
                out[b, 1:] = start[1:]
                continue
        grown = np.array([_bet(m[:b] - rule, usual) for m in members])
        mean = float(grown.mean())  # of bets is a bet, too
        if mean > 1.0:
            out[b, 1:] = (1.0 - 1.0 / mean) * grown / grown.sum()
    return out


def _dearer(difference: Vector) -> bool:
    """Return whether ``difference`` (blocks,) lies above zero by over a standard error, nothing assumed of its mean."""
    return float(difference.sum()) > math.sqrt(float(np.sum(difference**2)))


def _bet(difference: Vector, usual: float) -> float:
    """Return the mean of ``evidence`` over STAKES of a ``usual`` block's cost."""
    return float(np.mean([evidence(difference, stake * usual) for stake in STAKES]))


def evidence(difference: Vector, scale: float) -> float:
    """Return what a stake of 1 on ``difference`` (blocks,) being savings, below zero, has become.

    For differences as likely to be of either sign, ``exp(c G - c^2 Q / 2)`` with G their sum's fall and Q their summed
    squares is a fair bet or worse at every c (de la Pena 1999), and so is its mean over a half-normal c of spread
    ``1 / scale``: whenever one looks, it exceeds 1 / p with a chance of p at most (Ville).
    """
    gain, squares = -float(difference.sum()), float(np.sum(difference**2))
    total = squares + scale * scale
    power = min(gain * gain / (2.0 * total), 500.0)
    return math.erfc(-gain / math.sqrt(2.0 * total)) * scale / math.sqrt(total) * math.exp(power)
