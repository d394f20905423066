"""The panel: many random portfolios on one history, because one path holds too few trades to prove anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from lake.errors import ConfigError, NotEnoughData
from lake.units import HOURS_PER_YEAR
from policy.base import Scenario, Vector
from policy.costs import chain_fees
from policy.simulation.history import History, Ints
from policy.simulation.planner import Portfolio

LARGEST = 8
WEEK_H = 7 * 24
SMALLEST_SHARE = 0.04  # of a target: below it a position costs more to keep than it matters
CONCENTRATION = 4.0  # Dirichlet: targets vary by about half of their mean


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of portfolio: mandate with its tightness, NAV and chain. ``label`` names the scenario in results."""

    label: str
    scenario: Scenario
    nav_usd: float
    chain_id: int
    gammas: tuple[float, ...] = (3.0,)
    tolerances: tuple[float, ...] = (0.05,)


GAMMAS = (3.0, 10.0, 30.0)
DEFAULT_CELLS: tuple[Cell, ...] = (
    *(Cell("soft", "soft", nav, 1, gammas=GAMMAS) for nav in (1e5, 1e6, 1e7)),
    *(Cell("hard", "hard", nav, 1, tolerances=(0.03, 0.04, 0.05)) for nav in (1e5, 1e6, 1e7)),
    *(Cell("hard_tight", "hard", nav, 1, tolerances=(0.01, 0.02)) for nav in (1e5, 1e6, 1e7)),
    Cell("soft_l2", "soft", 1e5, 8453, gammas=GAMMAS),
    Cell("hard_l2", "hard", 1e5, 8453, tolerances=(0.02, 0.04)),
)
"""Soft and hard mandates at three NAVs on L1, and at the smallest on a roll-up where prediction has least to win."""


def portfolios(
    history: History,
    n: int,
    seed: int,
    start: datetime,
    end: datetime,
    cells: Sequence[Cell] = DEFAULT_CELLS,
    starts: int = 4,
    largest: int = LARGEST,
) -> list[Portfolio]:
    """Return ``n`` baskets in each cell: the same baskets, targets and starts in every cell, so cells compare.

    Basket sizes run over 2 .. ``largest`` of the ``holdable`` assets, targets are Dirichlet with a floor, starts lie on
    ``starts`` consecutive weeks from ``start`` (fewer where the span is under eight weeks), later where an asset is
    listed later. Deterministic in ``seed``. Raises NotEnoughData with fewer than two assets.
    """
    weeks = min(starts, max(1, int((end - start) / timedelta(weeks=2))))
    free, _ = holdable(history, start, end, weeks)
    if free.size < 2:
        have = ", ".join(history.assets[i] for i in free) or "none"
        raise NotEnoughData(
            f"a portfolio needs 2 assets with prices between {start} and {end}; there is {have}: import prices of more "
            "assets, or choose another span"
        )
    if n < 1 or not cells:
        raise ConfigError(f"the panel needs at least 1 portfolio and 1 cell, got {n} and {len(cells)}")
    rng = np.random.default_rng(seed)
    sizes = np.arange(2, min(largest, LARGEST, free.size) + 1)
    out: list[Portfolio] = []
    for i in range(n):
        size = int(sizes[i % len(sizes)])
        turn = i + i // len(sizes)  # so that every size meets every tightness
        chosen = np.sort(free[rng.choice(free.size, size, replace=False)])
        assets = tuple(history.assets[c] for c in chosen)
        target = draw_target(rng, size)
        begin = start + timedelta(weeks=int(rng.integers(weeks)))
        if history.listed is not None and history.listed[chosen].max() > history.first:
            begin = max(begin, history.when(int(history.listed[chosen].max())))
        for cell in cells:
            tolerance = cell.tolerances[turn % len(cell.tolerances)]
            gamma = cell.gammas[turn % len(cell.gammas)]
            identity = f"{cell.label}-{cell.nav_usd:.0f}-{i:04d}"
            out.append(
                Portfolio(
                    identity, cell.scenario, assets, target, np.full(size, tolerance), cell.nav_usd, gamma,
                    chain_fees(cell.chain_id), begin, end, label=cell.label,
                )
            )  # fmt: skip
    return out


def holdable(history: History, start: datetime, end: datetime, weeks: int) -> tuple[Ints, list[str]]:
    """Return the assets (k,) baskets of the span may hold, and a note on each that is left out.

    One must be listed a week before ``end`` and have bars until a week after the latest start, ``weeks`` weeks in.
    An asset that ends later stays: leaving it out would compare on survivors.
    """
    every = np.arange(len(history.assets))
    if history.listed is None or history.ended is None:
        return every, []
    last = history.step_of(end)
    late = (history.listed > history.first) & (history.listed + WEEK_H > last)
    gone = (history.ended < last) & (history.ended < min(history.step_of(start) + weeks * WEEK_H, last))
    notes = [
        f"{history.assets[i]}: in no basket, its bars {'start' if late[i] else 'end'} "
        f"{history.when(int(history.listed[i] if late[i] else history.ended[i])):%Y-%m-%d %H:%M}"
        for i in every[late | gone]
    ]
    return every[~(late | gone)], notes


def draw_target(rng: np.random.Generator, size: int) -> Vector:
    """Return random target weights of ``size`` assets, each at least SMALLEST_SHARE, summing to one."""
    free = 1.0 - size * SMALLEST_SHARE
    target = SMALLEST_SHARE + free * rng.dirichlet(np.full(size, CONCENTRATION))
    return np.asarray(target / target.sum(), dtype=np.float64)


def years(hours: int) -> float:
    """Return hours as Julian years."""
    return hours / HOURS_PER_YEAR
