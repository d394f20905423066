"""What selling through an auction is expected to cost: one model for decisions and for the ledger.

A falling ask starts above the oracle and is taken in the first block in which it pays the best filler: the market less
his hedge, margin and gas. Log prices walk from block to block, so the distance of ask and market is a walk with drift;
its distribution is carried exactly on a grid of half basis points. How fast the ask falls is from the closed form of
Moallemi and Robinson (arXiv 2406.00113) for blocks at random times: loss and time to fill against each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BLOCK_S = 12.0
YEAR_S = 31_557_600.0
BPS = 10_000.0
GRID_BP = 0.5
REACH_BP = 200.0
PRIORITY_SHADE_BP = 1.0
"""What a bidder keeps of his value in a one-block auction beside his margin, basis points."""
_LEAST_SIGMA = 0.05  # bp a block: below, the market stands still


@dataclass(frozen=True, slots=True)
class Fillers:
    """Who takes orders: ``count`` of them, each hedging at ``hedge_bp`` x U(0.5, 1.5), wanting ``margin_bp``.

    ``gas``: units a fill costs whoever fills (the vault's own check included).
    """

    count: int = 3
    hedge_bp: float = 3.0
    margin_bp: float = 1.0
    gas: int = 230_000

    @property
    def best_bp(self) -> float:
        """What the cheapest of them needs, basis points: the least of ``count`` uniform draws, and the margin."""
        return self.hedge_bp * (0.5 + 1.0 / (self.count + 1)) + self.margin_bp


@dataclass(frozen=True, slots=True)
class Auction:
    """The terms of one falling ask: starts ``start_bp`` over the oracle, falls ``decay_bp`` a block for ``blocks``."""

    start_bp: float = 60.0
    decay_bp: float = 3.0
    blocks: int = 27

    @property
    def least_bp(self) -> float:
        """What is asked at the end, basis points over the oracle (negative: below)."""
        return self.start_bp - self.decay_bp * (self.blocks - 1)


@dataclass(frozen=True, slots=True)
class AuctionCost:
    """Expected cost in basis points of what is sold: ``loss_bp`` to the fillers, ``keeper_bp`` of the keeper's gas.

    ``wait_s``: expected time to the fill; ``unfilled``: probability that nobody takes it.
    """

    loss_bp: float
    keeper_bp: float
    wait_s: float
    unfilled: float

    @property
    def total_bp(self) -> float:
        """Return what it costs with the keeper's gas."""
        return self.loss_bp + self.keeper_bp


KEEPER_GAS = 165_000
"""Gas of arming an order and ending it (tests/execution/gas_snapshot.json)."""


def gas_bp(units: float, gwei: float, native_usd: float, size_usd: float) -> float:
    """Return ``units`` of gas at ``gwei`` in basis points of ``size_usd``."""
    return units * gwei * 1e-9 * native_usd / size_usd * BPS


def sigma_block_bp(sigma_year: float, block_s: float = BLOCK_S) -> float:
    """Return the deviation of a block's log return in basis points; ``sigma_year`` is the volatility of a year."""
    return sigma_year * math.sqrt(block_s / YEAR_S) * BPS


def closed_form(sigma_bp: float, decay_bp: float) -> tuple[float, float]:
    """Return expected loss (bp) and blocks from the crossing to the fill of an ask that falls ``decay_bp`` a block.

    Moallemi and Robinson (2406.00113) with blocks as a Poisson process, in units of a block.
    """
    root = math.sqrt(decay_bp**2 + 2 * sigma_bp**2)
    inverse = sigma_bp**2 / (decay_bp + root)
    return decay_bp + inverse, 1.0 + inverse / decay_bp


def decay_for(sigma_bp: float, start_bp: float, wait_bp_block: float = 0.0, most_blocks: int = 40) -> float:
    """Return the fall a block (bp) that loses least: the closed form's loss and waiting together.

    ``wait_bp_block``: what a block of waiting costs. The ask has to come down ``start_bp`` within ``most_blocks``.
    """
    slowest = max(start_bp / most_blocks, 0.25)
    grid = np.arange(slowest, max(slowest, 12.0) + 0.25, 0.25)
    costs = []
    for fall in grid.tolist():
        loss, extra = closed_form(max(sigma_bp, _LEAST_SIGMA), fall)
        costs.append(loss + wait_bp_block * (start_bp / fall + extra))
    return float(grid[int(np.argmin(costs))])


def auction_cost(
    size_usd: float,
    gwei: float,
    sigma_year: float,
    lag_bp: float,
    *,
    native_usd: float,
    auction: Auction | None = None,
    fillers: Fillers | None = None,
) -> AuctionCost:
    """Return the expected cost of selling ``size_usd`` by a falling ask.

    ``lag_bp``: mean absolute lag of the oracle behind the market, basis points. ``sigma_year``: volatility of the pair.
    """
    auction, fillers = auction or Auction(), fillers or Fillers()
    need = fillers.best_bp + gas_bp(fillers.gas, gwei, native_usd, size_usd)
    key = (round(need, 1), round(sigma_block_bp(sigma_year), 1), round(lag_bp, 1))
    loss, blocks, unfilled = expected_walk(*key, auction)
    return AuctionCost(loss, gas_bp(KEEPER_GAS, gwei, native_usd, size_usd), blocks * BLOCK_S, unfilled)


def priority_cost(size_usd: float, gwei: float, *, native_usd: float, fillers: Fillers | None = None) -> AuctionCost:
    """Return the expected cost where bidders outbid each other within one block: the second best sets what is paid."""
    fillers = fillers or Fillers()
    second = fillers.hedge_bp * (0.5 + min(2.0, fillers.count) / (fillers.count + 1)) + fillers.margin_bp
    loss = max(fillers.best_bp + PRIORITY_SHADE_BP, min(second, fillers.best_bp + 2.0))
    loss += gas_bp(fillers.gas, gwei, native_usd, size_usd)
    return AuctionCost(loss, gas_bp(KEEPER_GAS, gwei, native_usd, size_usd), BLOCK_S, 0.0)


@lru_cache(maxsize=4096)
def expected_walk(need_bp: float, sigma_bp: float, lag_bp: float, auction: Auction) -> tuple[float, float, float]:
    """Return loss against the market at the start (bp), blocks to the fill, and probability of no fill.

    The walk is that of market less ask; it is absorbed where it reaches what a filler needs. The market has no drift,
    so what it did until the fill is lost by neither side on average: the loss is what the filler is left with.
    """
    cells = np.arange(-REACH_BP, REACH_BP + GRID_BP, GRID_BP)
    spread = max(lag_bp * math.sqrt(math.pi / 2), _LEAST_SIGMA)
    mass = _bell(cells + auction.start_bp, spread)
    step = _bell(np.arange(-60.0, 60.0 + GRID_BP, GRID_BP) - auction.decay_bp, max(sigma_bp, _LEAST_SIGMA))
    over = cells >= need_bp
    loss = blocks = filled = 0.0
    for k in range(1, auction.blocks + 1):
        taken = mass * over
        share = float(taken.sum())
        loss += float(taken @ cells)
        blocks += k * share
        filled += share
        mass = np.convolve(np.where(over, 0.0, mass), step, mode="same") if k < auction.blocks else mass
    if filled <= 0:
        return need_bp, float(auction.blocks), 1.0
    return loss / filled, blocks / filled, max(0.0, 1.0 - filled)


def _bell(at: NDArray[np.float64], spread: float) -> NDArray[np.float64]:
    weights = np.exp(-0.5 * (at / max(spread, GRID_BP / 2)) ** 2)
    return np.asarray(weights / weights.sum())
