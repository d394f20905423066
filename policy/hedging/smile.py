"""Implied volatility between quoted strikes and expiries: monotone cubic of total variance in log-moneyness.

Total variance ``w = vol^2 tau`` is interpolated by Fritsch-Carlson (no overshoot between quotes) over
``ln(strike / forward)``, flat outside the quotes, and linearly in time between expiries at equal log-moneyness (no
calendar arbitrage is added). Fitted five-parameter smiles were worse on recorded chains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from lake.errors import DataError
from policy.base import Vector


@dataclass(frozen=True, slots=True)
class Smile:
    """One expiry: quotes at rising log-moneyness ``k`` (m,) with total variance ``w`` (m,), ``tau`` years ahead."""

    tau: float
    k: Vector
    w: Vector

    def total_variance(self, k: Vector) -> Vector:
        """Return w (n,) at log-moneyness ``k``, flat outside the quotes."""
        if self.k.size == 1:
            return np.full(np.shape(k), self.w[0])
        return np.asarray(PchipInterpolator(self.k, self.w)(np.clip(k, self.k[0], self.k[-1])), dtype=np.float64)

    def vol(self, k: Vector) -> Vector:
        """Return implied volatility (n,) a year at log-moneyness ``k``."""
        return np.asarray(np.sqrt(self.total_variance(k) / self.tau), dtype=np.float64)


def smile(forward: float, tau: float, strikes: Vector, vols: Vector) -> Smile:
    """Return the smile through quotes ``vols`` (m,) at ``strikes`` (m,) USD; equal strikes are averaged.

    Raises DataError where nothing is quoted or a quote is no positive number.
    """
    k, v = np.log(np.asarray(strikes, dtype=np.float64) / forward), np.asarray(vols, dtype=np.float64)
    if k.size == 0:
        raise DataError("a smile needs at least one quoted strike of its expiry")
    if not (tau > 0.0 and np.isfinite(k).all() and np.isfinite(v).all() and (v > 0.0).all()):
        raise DataError("a smile needs positive volatilities, strikes, forward and time to expiry")
    unique, where = np.unique(k, return_inverse=True)
    mean = np.bincount(where, v * v) / np.bincount(where)
    return Smile(tau, unique, mean * tau)


@dataclass(frozen=True, slots=True)
class Surface:
    """Smiles of one underlying by rising time to expiry."""

    smiles: tuple[Smile, ...]

    def vol(self, k: Vector, tau: float) -> Vector:
        """Return implied volatility (n,) at log-moneyness ``k``; nearest expiry's outside the quoted times."""
        times = [s.tau for s in self.smiles]
        if tau <= times[0]:
            return self.smiles[0].vol(k)
        if tau >= times[-1]:
            return self.smiles[-1].vol(k)
        after = int(np.searchsorted(times, tau))
        near, far = self.smiles[after - 1], self.smiles[after]
        share = (tau - near.tau) / (far.tau - near.tau)
        w = (1.0 - share) * near.total_variance(k) + share * far.total_variance(k)
        return np.asarray(np.sqrt(w / tau), dtype=np.float64)


def surface(smiles: list[Smile]) -> Surface:
    """Return the surface of ``smiles``; raises DataError without any or with two of one expiry."""
    ordered = sorted(smiles, key=lambda s: s.tau)
    if not ordered:
        raise DataError("a volatility surface needs at least one expiry with quotes")
    if len({s.tau for s in ordered}) < len(ordered):
        raise DataError("a volatility surface has one smile an expiry; two were given for the same time")
    return Surface(tuple(ordered))
