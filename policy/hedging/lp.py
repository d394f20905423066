"""A Uniswap v3 position [lower, upper] of liquidity L: value, delta and gamma (whitepaper v3, 6.29-6.30).

P is the price of the underlying in USD, L = value scale in units of underlying^1/2 x USD^1/2 (decimals applied). In
range ``V = L (2 sqrt P - P / sqrt b - sqrt a)``; below it is all underlying, above all USD. Gamma falls to zero at the
edges: decisions use it averaged over the lognormal move of a day, or a band would collapse where it jumps.
"""

from __future__ import annotations

import math

import numpy as np

from policy.base import Vector

DAY_YEARS = 1.0 / 365.0
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def value(P: Vector, liquidity: float | Vector, lower: float | Vector, upper: float | Vector) -> Vector:
    """Return the USD value (n,) at price ``P`` of positions whose range is ``lower .. upper`` USD."""
    inside = np.clip(P, lower, upper)
    coins = liquidity * (1.0 / np.sqrt(inside) - 1.0 / np.sqrt(upper))
    cash = liquidity * (np.sqrt(inside) - np.sqrt(lower))
    return np.asarray(coins * P + cash, dtype=np.float64)


def delta(P: Vector, liquidity: float | Vector, lower: float | Vector, upper: float | Vector) -> Vector:
    """Return the underlying held (n,): dV/dP, by the envelope theorem."""
    inside = np.clip(P, lower, upper)
    return np.asarray(liquidity * (1.0 / np.sqrt(inside) - 1.0 / np.sqrt(upper)), dtype=np.float64)


def cash_gamma(P: Vector, liquidity: float | Vector, lower: float | Vector, upper: float | Vector) -> Vector:
    """Return P^2 d2V/dP2 (n,) in USD per unit return: ``-L sqrt P / 2`` in range, else 0."""
    inside = (np.asarray(P) > lower) & (np.asarray(P) < upper)
    return np.asarray(np.where(inside, -0.5 * liquidity * np.sqrt(P), 0.0), dtype=np.float64)


def smooth_cash_gamma(P: Vector, liquidity: float | Vector, lower: float, upper: float, vol: float | Vector) -> Vector:
    """Return the cash gamma averaged over a day's lognormal move at ``vol`` a year (9 Hermite nodes)."""
    spread = np.asarray(vol) * math.sqrt(DAY_YEARS)
    total = np.zeros(np.shape(P))
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        total = total + weight * cash_gamma(np.asarray(P) * np.exp(node * spread), liquidity, lower, upper)
    return total


def liquidity_of(worth_usd: float, price: float, lower: float, upper: float) -> float:
    """Return the liquidity that is worth ``worth_usd`` at ``price``."""
    unit = float(value(np.array([price]), 1.0, lower, upper)[0])
    return worth_usd / unit
