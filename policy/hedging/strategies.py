"""Hedge rules: at every step the distance that triggers a trade (outer) and the one it goes back to (inner).

All are known before the step, as phi depends on price, time and volatility and never on the hedge. ``gas_band`` is the
rebalancing band at the present gas with stiffness ``gamma / (12 phi^2)``: without gas that is Whalley-Wilmott (1997),
without fee the quartic root. Volatility cancels in it, but not in the roll cap and in the cadence correction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from policy.base import Vector
from policy.hedging.case import LEAST_PHI, YEAR_H, HedgeCase
from policy.solvers import bands

OVERSHOOT = 0.5826  # -zeta(1/2) / sqrt(2 pi): Broadie, Glasserman, Kou 1997, discretely watched barriers
EVERY_H = (1.0, 2.0, 4.0, 8.0, 12.0, 24.0, 48.0, 72.0, 168.0, 336.0)
WIDTHS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4)


@dataclass(frozen=True, slots=True)
class Band:
    """``outer`` and ``inner`` (T,) in fractions of NAV: trade where abs(x) reaches outer, back to inner on its side."""

    outer: Vector
    inner: Vector


def hedge_schedule(case: HedgeCase, every_h: float) -> Band:
    """To the target every ``every_h`` hours."""
    steps = max(round(every_h / case.step_h), 1)
    outer = np.full(case.price.size, np.inf)
    outer[::steps] = 0.0
    return Band(outer, np.zeros(case.price.size))


def hedge_delta(case: HedgeCase, width: float) -> Band:
    """To the target where the net delta is ``width`` of NAV away."""
    return Band(np.full(case.price.size, width), np.zeros(case.price.size))


def hedge_ww(case: HedgeCase, gamma: float) -> Band:
    """Whalley-Wilmott 1997: proportional cost alone, to the edge."""
    edge = (1.5 * case.costs.fee * case.phi**2 / gamma) ** (1.0 / 3.0)
    return Band(edge, edge)


def hedge_zakamouline(case: HedgeCase, gamma: float) -> Band:
    """Zakamouline 2006: proportional cost alone, to the edge; his band for a book without an end is one year's."""
    tau = np.clip(case.left_y, 1.0 / YEAR_H, 1.0)
    k, v = case.costs.fee, case.vol
    flat = k / (gamma * v**2 * tau)
    edge = flat + 1.12 * k**0.31 * tau**0.05 * v**-0.25 * (case.phi / gamma) ** 0.5
    return Band(edge, edge)


def _closed(case: HedgeCase, gas: Vector, gamma: float) -> Band:
    outer, inner = bands.solve(gas, case.costs.fee, gamma / (12.0 * np.maximum(case.phi, LEAST_PHI) ** 2))
    return Band(outer, inner)


def hedge_band(case: HedgeCase, gamma: float) -> Band:
    """The closed band at the usual gas."""
    return _closed(case, case.costs.usual, gamma)


def hedge_gas_band(case: HedgeCase, gamma: float, *, cap: bool = True, cadence: bool = False) -> Band:
    """The closed band at the gas of now; ``cap`` by what the time to the roll can earn back, ``cadence`` narrower.

    Clearing x for T years earns ``gamma vol^2 x^2 T / 2``; it must pay ``gas + fee x``. Positions without an end have
    no cap. Watched every dt, x passes a level by ``0.58 phi vol sqrt(dt)`` on average: the level moves in by as much.
    """
    closed = _closed(case, case.costs.gas, gamma)
    outer = closed.outer
    if cap:
        outer = np.maximum(outer, roll_cap(case, gamma))
    if cadence:
        ahead = OVERSHOOT * case.phi * case.vol * math.sqrt(case.step_h / YEAR_H)
        outer = np.maximum(np.maximum(outer - ahead, 0.25 * outer), closed.inner)
    return Band(outer, closed.inner)


def roll_cap(case: HedgeCase, gamma: float) -> Vector:
    """Return (T,) the deviation whose clearing just pays until the roll; 0 for positions without an end."""
    earns = gamma * case.vol**2 * np.where(np.isfinite(case.left_y), case.left_y, 1.0)
    k, g = case.costs.fee, case.costs.gas
    least = (k + np.sqrt(k * k + 2.0 * earns * g)) / earns
    return np.where(np.isfinite(case.left_y), least, 0.0)


def hedge_hard(case: HedgeCase, limit: float, usual_gas: Vector) -> Band:
    """A hard limit on the net delta, ``limit`` of NAV: at it, back to the inner level of least cost over time."""
    sigma_h = case.vol / math.sqrt(YEAR_H)
    exit_h = (limit / (np.maximum(case.phi, 1e-3) * sigma_h)) ** 2
    n = case.price.size
    fee, none = np.full(n, case.costs.fee * limit), np.zeros(n)
    outer, inner, _ = bands.hard_band(case.costs.gas, usual_gas, fee, none, exit_h, early=False)
    return Band(np.minimum(outer, 1.0) * limit, inner * limit)


def hedge_neutral(case: HedgeCase, limit: float) -> Band:
    """A hard limit on the net delta: at it, back to neutral."""
    return hedge_delta(case, limit)
