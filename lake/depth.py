"""The one definition of a pool's depth, for the tables, the backtest that reads them and the live decision.

Depth is the value of the quote token, before fee, that moves the price by 1 %: up (paid) or down (received), whichever
is less. The walk goes over every initialised tick within the move (v3 whitepaper, eq. 6.14 and 6.16). A pool without
liquidity there, on either side, has depth 0: it is left out, and never counts as bottomless.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from lake.poolstate import reach_ticks
from lake.units import Q96

MOVE = 0.01
TICKS = reach_ticks(MOVE) + 2
"""Ticks to each side of the price that the depth needs to know."""
_TICK = 1.0001
_MIN_ROOT, _MAX_ROOT = 4_295_128_739 / Q96, 1_461_446_703_485_210_103_287_273_052_203_988_822_378_723_970_342 / Q96


class Curve(Protocol):
    """A pool's state as far as its depth goes."""

    @property
    def sqrt_price_x96(self) -> int:
        """Q64.96 root of the raw price, token1 per token0; 0 where the pool has none."""
        ...

    @property
    def tick(self) -> int:
        """Present tick."""
        ...

    @property
    def liquidity(self) -> int:
        """Liquidity in range."""
        ...

    @property
    def ticks(self) -> Sequence[tuple[int, int]]:
        """Initialised ticks near the price with net liquidity, ascending."""
        ...


def depth_raw(state: Curve, quote: int) -> float:
    """Return the depth in raw units of token ``quote`` (0 or 1); 0 where the price cannot be moved on both sides."""
    if not state.sqrt_price_x96:
        return 0.0
    root = state.sqrt_price_x96 / Q96
    amounts = []
    for factor in (1 + MOVE, 1 - MOVE):
        raw_factor = factor if quote == 1 else 1 / factor
        goal = min(max(root * math.sqrt(raw_factor), _MIN_ROOT), _MAX_ROOT)
        amounts.append(_amount(state, root, goal, quote))
    return min(amounts)


def depth_usd(state: Curve, quote: int, decimals: int, quote_usd: float) -> float:
    """Return the depth in USD; ``decimals`` and ``quote_usd`` (USD per whole unit) are the quote token's."""
    return depth_raw(state, quote) / 10.0**decimals * quote_usd


def _amount(state: Curve, start: float, goal: float, token: int) -> float:
    """Return the raw amount of ``token`` (0 or 1) that changes hands between two root prices, tick by tick."""
    up = goal > start
    edges = state.ticks if up else state.ticks[::-1]
    ahead = [(t, net) for t, net in edges if (t > state.tick if up else t <= state.tick)]
    total, here, liquidity = 0.0, start, state.liquidity  # an int: crossings cancel exactly
    for tick, net in [*ahead, (None, 0)]:
        edge = goal if tick is None else _TICK ** (tick / 2)
        stop = max(min(edge, goal), here) if up else min(max(edge, goal), here)
        span = abs(stop - here) if token == 1 else abs(1 / here - 1 / stop)
        total += liquidity * span
        here = stop
        if stop == goal:
            break
        liquidity += net if up else -net
    return max(total, 0.0)
