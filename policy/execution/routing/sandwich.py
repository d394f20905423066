"""What a sandwich attacker can take from a swap, and the tolerance at which it stops paying.

An attacker who buys first moves the price until the victim gets exactly its minimum; measured against an optimal
attacker, the victim's shortfall EQUALS its tolerance whenever the attack pays. So the tolerance is set where the
attack's profit meets its own gas. Exact curve of one liquidity range, fees on all three swaps; amounts are raw units
of the token sold, floats (they size a tolerance, never a transaction).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lake.units import BPS, Bps, bps
from policy.execution.routing.amm import PIPS, Pool, V2Pool
from policy.execution.routing.segments import curve

ATTACK_GAS = 200_000
"""Gas of the attacker's two swaps (a bare router swap costs 103,546 measured). Lower is more careful."""

_GRID = 257


@dataclass(frozen=True, slots=True)
class Depth:
    """Virtual reserves of one range: ``x`` of the token sold, ``y`` of the bought; ``stays`` is the share of the
    input that enters the curve (1 for v2, where the fee joins the reserves; 1 - fee for v3, where it does not).
    """

    x: float
    y: float
    keep: float  # 1 - fee
    stays: float


def depth_of(pool: Pool, token_in: str) -> Depth | None:
    """Return the pool's depth around its present price, None without liquidity."""
    segments = curve(pool, token_in, 1.0)
    if not segments:
        return None
    keep = 1 - pool.fee_pips / PIPS
    first = segments[0]
    return Depth(first.R * keep, first.Y, keep, 1.0 if isinstance(pool, V2Pool) else keep)


def attack(
    depth: Depth, victim_in: float, front_in: float | npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return (attacker's profit before gas, victim's shortfall as a fraction) for front-run sizes ``front_in``."""
    a = np.asarray(front_in, dtype=float)
    k, s = depth.keep, depth.stays
    bought = depth.y * k * a / (depth.x + k * a)
    x1, y1 = depth.x + s * a, depth.y - bought
    got = y1 * k * victim_in / (x1 + k * victim_in)
    clean = depth.y * k * victim_in / (depth.x + k * victim_in)
    x2, y2 = x1 + s * victim_in, y1 - got
    back = x2 * k * bought / (y2 + k * bought)
    return back - a, 1 - got / clean


def break_even(depth: Depth, victim_in: float, attack_cost: float) -> float:
    """Return the largest tolerance (fraction, 0 to 1) at which no attack earns more than ``attack_cost``.

    The profit first rises above the cost at one front-run size; the victim's shortfall there is the answer. A pool
    whose fee eats every attack gives 1.
    """
    sizes = np.geomspace(depth.x * 1e-9, depth.x * 10, _GRID)
    profit, _ = attack(depth, victim_in, sizes)
    pays = np.flatnonzero(profit > attack_cost)
    if not len(pays):
        return 1.0
    high = float(sizes[pays[0]])
    low = float(sizes[pays[0] - 1]) if pays[0] else 0.0
    for _ in range(60):
        middle = (low + high) / 2
        if float(attack(depth, victim_in, middle)[0]) > attack_cost:
            high = middle
        else:
            low = middle
    return float(attack(depth, victim_in, low)[1])


def tolerance_bps(needed: float, even: float, cap: Bps, *, hidden: bool = True) -> tuple[Bps, bool]:
    """Return the tolerance to grant and whether an attack on it can pay.

    ``needed``: the fraction that forecast slippage and price movement ask for; ``even``: the attacker's break-even;
    ``cap``: the mandate's limit. In the open (``hidden=False``) the tolerance falls to the break-even, where no attack
    pays any more: the leg fails more often, but is never worth a sandwich. 1 bp is the least that is granted.
    """
    wanted = max(1, min(int(np.ceil(needed * BPS)), cap))
    free = int(even * BPS)
    granted = wanted if hidden else max(1, min(wanted, free))
    return bps(granted), granted > free
