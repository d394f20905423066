"""What a hedge is decided on over a history: the book's moving target, its cash gamma and the costs, all known in time.

The book is a template in fractions of net asset value: a long straddle bought at the money and rolled some days before
its expiry, or a pool position around the price that is centred anew at the end of its life. x is hedge + ``exposure``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policy.base import Vector
from policy.hedging import lp, pricing

YEAR_H = 8_760.0
HALF_LIVES_D = (3.0, 10.0, 30.0)
HALF_SHARES = (0.25, 0.35, 0.40)  # of variance: slower than realised, as implied volatility is
PREMIUM = 1.08  # implied over past realised volatility, a proxy where none is recorded
USUAL_H = 720.0  # gas: trailing median of a month
LEAST_PHI = 1e-6  # no gamma: the stiffest band that is still a number


@dataclass(frozen=True, slots=True)
class HedgeCosts:
    """Cost of a hedge: ``gas`` (T,) now and ``usual`` (T,) its past month's median, of NAV; ``fee`` a unit."""

    gas: Vector
    usual: Vector
    fee: float


@dataclass(frozen=True, slots=True)
class HedgeCase:
    """One book over T steps of ``step_h`` hours.

    ``price`` (USD), ``exposure`` (delta of the book in USD over NAV), ``phi`` (abs cash gamma over NAV), ``vol`` (a
    year) and ``left_y`` (years to roll or expiry, inf without an end) are (T,) and known at each step.
    """

    price: Vector
    exposure: Vector
    phi: Vector
    vol: Vector
    left_y: Vector
    costs: HedgeCosts
    step_h: float


def proxy_vol(price: Vector, step_h: float) -> Vector:
    """Return (T,) a stand-in for implied volatility a year from past returns alone: a mix of three memories.

    The first month has no past of its own: its variance starts at the mean of those returns, before decisions begin.
    """
    squared = np.diff(np.log(price), prepend=np.log(price[0])) ** 2
    begin = float(squared[: int(720 / step_h)].mean())
    total = np.zeros(price.size)
    for days, share in zip(HALF_LIVES_D, HALF_SHARES, strict=True):
        decay = 0.5 ** (step_h / (24.0 * days))
        total += share * _ewma(squared, decay, begin)
    return np.asarray(PREMIUM * np.sqrt(total * YEAR_H / step_h), dtype=np.float64)


def _ewma(x: Vector, decay: float, begin: float) -> Vector:
    from scipy.signal import lfilter

    out, _ = lfilter([1.0 - decay], [1.0, -decay], x, zi=[decay * begin])
    return np.asarray(out, dtype=np.float64)


def segments(steps: int, offset: int, life: int) -> list[tuple[int, int, int]]:
    """Return (first, end, age at first) of each holding: the first one began ``offset`` steps before the history."""
    found, t, age = [], 0, offset
    while t < steps:
        end = min(t + life - age, steps)
        found.append((t, end, age))
        t, age = end, 0
    return found


@dataclass(frozen=True, slots=True)
class Path:
    """Exposure, phi and years left (T,) of a template; ``vega_usd`` is the mean vega a point over NAV at purchase."""

    exposure: Vector
    phi: Vector
    left_y: Vector
    vega: float


def straddle(price: Vector, vol: Vector, step_h: float, offset_h: float, life_d: float, roll_d: float) -> Path:
    """Return a long straddle of notional NAV, at the money for ``life_d`` days, rolled ``roll_d`` before expiry."""
    life = round((life_d - roll_d) * 24 / step_h)
    out = np.empty((3, price.size))
    vegas = []
    for a, b, age in segments(price.size, round(offset_h / step_h) % life, life):
        steps = age + np.arange(b - a)
        K = np.full(b - a, price[a])
        tau = np.asarray(life_d / 365.0 - steps * step_h / YEAR_H, dtype=np.float64)
        both = [pricing.greeks(price[a:b], K, tau, vol[a:b], np.full(b - a, c)) for c in (True, False)]
        g = (both[0] + both[1]) / price[a]
        out[0, a:b] = g[:, pricing.DELTA] * price[a:b]
        out[1, a:b] = g[:, pricing.GAMMA] * price[a:b] ** 2
        out[2, a:b] = (life - steps) * step_h / YEAR_H
        vegas.append(0.01 * g[0, pricing.VEGA])
    return Path(out[0], np.abs(out[1]), out[2], float(np.mean(vegas)))


def pool(price: Vector, vol: Vector, step_h: float, offset_h: float, life_d: float, width: float) -> Path:
    """Return a pool position worth NAV, from ``1 - width`` to ``1 / (1 - width)`` of the price, centred each life."""
    life = round(life_d * 24 / step_h)
    exposure, phi = np.empty(price.size), np.empty(price.size)
    for a, b, _ in segments(price.size, round(offset_h / step_h) % life, life):
        lower, upper = price[a] * (1.0 - width), price[a] / (1.0 - width)
        scale = lp.liquidity_of(1.0, float(price[a]), lower, upper)
        exposure[a:b] = lp.delta(price[a:b], scale, lower, upper) * price[a:b]
        phi[a:b] = -lp.smooth_cash_gamma(price[a:b], scale, lower, upper, vol[a:b])
    return Path(exposure, phi, np.full(price.size, np.inf), float("nan"))
