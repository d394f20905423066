"""Hedge rules against each other on recorded prices and gas: one ledger, staggered starts, paired intervals.

A cell is one underlying, net asset value, chain and gamma. Fixed delta bands and schedules are tuned in the sample they
are judged on, which favours them. "Equal error" is a baseline's cost at the tracking error of ``hedge_gas_band``,
interpolated between its widths on logarithms; outside their range it is undefined, not clipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from policy.base import Matrix, Vector
from policy.comparison.bootstrap import Interval, counts, ratio
from policy.hedging import strategies as rules
from policy.hedging.case import USUAL_H, HedgeCase, HedgeCosts, Path
from policy.hedging.ledger import BREACH, OVER, WEEK_H, Ledger, run
from policy.hedging.predictive import hedge_predictive, waiting_band
from policy.hedging.strategies import Band

DRAWS, SEED = 1_000, 0
LIMITS = (0.1, 0.3)
FRONTIER_GAMMAS = (1.0, 3.0, 10.0, 30.0, 100.0)
CADENCES_H = (5.0 / 60.0, 0.25, 1.0, 4.0)


@dataclass(frozen=True, slots=True)
class HedgeMarket:
    """One underlying over T steps: ``price`` USD, ``vol`` a year, ``gas_usd`` a hedge on L1; judged from ``first``."""

    asset: str
    price: Vector
    vol: Vector
    gas_usd: Vector
    first: int
    step_h: float


@dataclass(frozen=True, slots=True)
class HedgeTerms:
    """``chain`` is L1 or L2; ``fee`` a fraction of the traded value; ``l2_usd`` what a hedge costs on L2."""

    nav_usd: float
    chain: str
    fee: float
    l2_usd: float = 0.20


@dataclass(frozen=True, slots=True)
class Score:
    """One rule in one cell, bp of NAV a year; ``width`` is a tuned baseline's parameter."""

    rule: str
    objective_bp: float
    cost_bp: float
    gas_bp: float
    te_bp: float
    trades: float
    width: float | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """``hedge_gas_band`` over another rule: objective with its interval, and cost at equal error."""

    against: str
    objective: Interval
    equal_error: float | None


@dataclass(frozen=True, slots=True)
class Point:
    """Cost against tracking error of one rule at one parameter, bp of NAV a year: hours, width or gamma."""

    rule: str
    parameter: float
    te_bp: float
    cost_bp: float


@dataclass(frozen=True, slots=True)
class HedgeCell:
    """All rules in one cell, and the frontier of those with a parameter."""

    asset: str
    terms: HedgeTerms
    gamma: float
    scores: tuple[Score, ...]
    pairs: tuple[Pair, ...]
    frontier: tuple[Point, ...]

    def pair(self, rule: str) -> Pair:
        """Return the pair against ``rule``."""
        return next(p for p in self.pairs if p.against == rule)


def gas_of(market: HedgeMarket, terms: HedgeTerms) -> tuple[Vector, Vector]:
    """Return (gas now, trailing median of a month) of one hedge in fractions of NAV, each (T,)."""
    if terms.chain == "L2":
        flat = np.full(market.price.size, terms.l2_usd / terms.nav_usd)
        return flat, flat
    gas = market.gas_usd / terms.nav_usd
    return gas, trailing_median(gas, round(USUAL_H / market.step_h))


def trailing_median(x: Vector, steps: int) -> Vector:
    """Return (T,) the median of the last ``steps`` values, of what there is at first."""
    import polars as pl

    return pl.Series(x).rolling_median(steps, min_samples=1).to_numpy().astype(np.float64)


def cases(market: HedgeMarket, paths: Sequence[Path], terms: HedgeTerms) -> list[HedgeCase]:
    """Return one case a start."""
    gas, usual = gas_of(market, terms)
    costs = HedgeCosts(gas, usual, terms.fee)
    return [HedgeCase(market.price, p.exposure, p.phi, market.vol, p.left_y, costs, market.step_h) for p in paths]


def total(
    held: list[HedgeCase],
    first: int,
    band: Callable[[HedgeCase], Band],
    every_h: float | None = None,
    limit: float = math.inf,
) -> Ledger:
    """Return the sum of a rule's ledgers over all starts."""
    found = [run(c, band(c), first, every_h, limit) for c in held]
    whole = found[0]
    for one in found[1:]:
        whole = whole + one
    return whole


def tuned(
    held: list[HedgeCase], first: int, rule: Callable[[HedgeCase, float], Band], grid: Sequence[float]
) -> list[tuple[float, Ledger]]:
    """Return (parameter, ledger) of every parameter of ``grid``."""
    return [(p, total(held, first, lambda c, p=p: rule(c, p))) for p in grid]  # type: ignore[misc]


def at_error(found: Sequence[tuple[float, Ledger]], te_bp: float) -> float | None:
    """Return the cost in bp at tracking error ``te_bp``, None outside the errors reached."""
    points = sorted((led.te_bp, led.cost_bp) for _, led in found if led.te_bp > 0 and led.cost_bp > 0)
    if not points or not points[0][0] <= te_bp <= points[-1][0]:
        return None
    te, cost = np.log(np.array(points)).T
    return float(np.exp(np.interp(math.log(te_bp), te, cost)))


def compare(market: HedgeMarket, paths: Sequence[Path], terms: HedgeTerms, gamma: float) -> HedgeCell:
    """Return every rule of a soft mandate on one cell."""
    held, first = cases(market, paths, terms), market.first
    single: dict[str, Callable[[HedgeCase], Band]] = {
        "hedge_gas_band": lambda c: rules.hedge_gas_band(c, gamma),
        "hedge_gas_band without cap": lambda c: rules.hedge_gas_band(c, gamma, cap=False),
        "hedge_gas_band with cadence": lambda c: rules.hedge_gas_band(c, gamma, cadence=True),
        "hedge_predictive": lambda c: hedge_predictive(c, gamma, first),
        "hedge_predictive without gate": lambda c: waiting_band(c, gamma),
        "hedge_band": lambda c: rules.hedge_band(c, gamma),
        "hedge_ww": lambda c: rules.hedge_ww(c, gamma),
        "hedge_zakamouline": lambda c: rules.hedge_zakamouline(c, gamma),
    }
    ledgers = {name: total(held, first, band) for name, band in single.items()}
    mine = ledgers["hedge_gas_band"]
    grids = {
        "hedge_schedule": tuned(held, first, rules.hedge_schedule, rules.EVERY_H),
        "hedge_delta": tuned(held, first, rules.hedge_delta, rules.WIDTHS),
    }
    best = {n: min(found, key=lambda f: f[1].objective_bp(gamma)) for n, found in grids.items()}
    ledgers |= {n: led for n, (_, led) in best.items()}
    drawn = counts(len(mine.weeks), DRAWS, SEED)
    pairs = tuple(
        Pair(n, ratio(mine.objective(gamma), led.objective(gamma), drawn), _over(mine, grids.get(n)))
        for n, led in ledgers.items() if n != "hedge_gas_band"
    )  # fmt: skip
    scores = tuple(
        Score(
            n,
            led.objective_bp(gamma),
            led.cost_bp,
            led.gas_bp,
            led.te_bp,
            led.trades,
            best[n][0] if n in best else None,
        )
        for n, led in ledgers.items()
    )
    grids["hedge_gas_band"] = tuned(held, first, rules.hedge_gas_band, FRONTIER_GAMMAS)
    points = tuple(Point(n, p, led.te_bp, led.cost_bp) for n, found in grids.items() for p, led in found)
    return HedgeCell(market.asset, terms, gamma, scores, pairs, points)


def _over(mine: Ledger, found: Sequence[tuple[float, Ledger]] | None) -> float | None:
    if found is None:
        return None
    cost = at_error(found, mine.te_bp)
    return None if cost is None else mine.cost_bp / cost


@dataclass(frozen=True, slots=True)
class Hard:
    """A hard limit: ``hedge_hard``'s cost over that of going back to neutral, and how often it was left.

    ``over`` counts steps that began beyond the limit (between decisions), ``breaches`` decisions that left it so.
    """

    asset: str
    terms: HedgeTerms
    limit: float
    cost: Interval
    over: int
    breaches: int
    steps: int


def compare_hard(market: HedgeMarket, paths: Sequence[Path], terms: HedgeTerms, limit: float) -> Hard:
    """Return the hard mandate ``limit`` (of NAV) on one cell."""
    held, first = cases(market, paths, terms), market.first
    week = round(WEEK_H / market.step_h)
    usual = _trailing_mean(held[0].costs.gas, week)
    mine = total(held, first, lambda c: rules.hedge_hard(c, limit, usual), limit=limit)
    neutral = total(held, first, lambda c: rules.hedge_neutral(c, limit), limit=limit)
    drawn = counts(len(mine.weeks), DRAWS, SEED)
    found = ratio(mine.objective(0.0), neutral.objective(0.0), drawn)
    steps = round(mine.hours / market.step_h)
    return Hard(market.asset, terms, limit, found, mine.count(OVER), mine.count(BREACH), steps)


def _trailing_mean(x: Vector, steps: int) -> Vector:
    whole = np.cumsum(np.insert(x, 0, 0.0))
    i = np.arange(x.size)
    low = np.maximum(i - steps + 1, 0)
    return np.asarray((whole[i + 1] - whole[low]) / (i + 1 - low), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Cadence:
    """Objective of deciding at each of ``every_h`` over that of the first, by ``hedge_gas_band``."""

    asset: str
    terms: HedgeTerms
    gamma: float
    every_h: tuple[float, ...]
    over_first: tuple[Interval, ...]


def compare_cadence(market: HedgeMarket, paths: Sequence[Path], terms: HedgeTerms, gamma: float) -> Cadence:
    """Return what waiting between decisions costs; ``market`` must have the shortest step."""
    held = cases(market, paths, terms)
    every = tuple(h for h in CADENCES_H if h >= market.step_h * 0.999)
    found = [total(held, market.first, lambda c: rules.hedge_gas_band(c, gamma), every_h=h) for h in every]
    drawn = counts(len(found[0].weeks), DRAWS, SEED)
    base = found[0].objective(gamma)
    return Cadence(market.asset, terms, gamma, every, tuple(ratio(f.objective(gamma), base, drawn) for f in found))


def gamma_for(market: HedgeMarket, paths: Sequence[Path], terms: HedgeTerms, te_target: float) -> float:
    """Return the gamma at which ``hedge_gas_band`` has the tracking error ``te_target`` (a year, a fraction).

    Tracking error falls in gamma; found by bisection of its logarithm within 0.01 .. 10,000, nearest end outside.
    """
    held = cases(market, paths, terms)
    low, high = math.log(0.01), math.log(1e4)
    for _ in range(24):
        middle = 0.5 * (low + high)
        te = total(held, market.first, lambda c, m=middle: rules.hedge_gas_band(c, math.exp(m))).te_bp  # type: ignore[misc]
        low, high = (middle, high) if te > 1e4 * te_target else (low, middle)
    return math.exp(0.5 * (low + high))


def spread(rows: Matrix) -> tuple[float, float, float]:
    """Return mean, least and greatest of what is defined."""
    known = np.asarray(rows)[np.isfinite(rows)]
    return float(known.mean()), float(known.min()), float(known.max())
