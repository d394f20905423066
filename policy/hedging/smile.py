"""Implied volatility between the quoted strikes of an expiry: monotone cubic of total variance in log-moneyness.

Total variance ``w = vol^2 tau`` is interpolated by Fritsch-Carlson (no overshoot between quotes) over
``ln(strike / forward)``, flat outside the quotes. Fitted five-parameter smiles were worse on recorded chains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
        from scipy.interpolate import PchipInterpolator  # a quarter of a second, for who prices options

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
