"""The closed-form reservation price: the highest gas at which a rebalance pays now, by distance from the target.

It inverts the band (``policy.solvers.bands``): the band says from which distance a gas is paid, this says which gas a
distance pays. Costs are fractions of NAV; arrays run over vaults, so that a fleet is looked up at once.
"""

from __future__ import annotations

import numpy as np

from policy.base import Vector


def soft(r: Vector, k: Vector, m: Vector, B: Vector) -> tuple[Vector, Vector]:
    """Return (highest gas paid, level traded back to) at distances ``r`` in a soft mandate; 0 where none is paid.

    At the outer radius r the band's two equations leave one quadratic in rho, the way traded:
    ``4 B r (2 r - rho)(r - rho) = k + 2 m rho``, and the gas is ``m rho^2 + B rho^3 (2 r - rho)``.
    """
    a, b, c = 4.0 * B * r, 12.0 * B * r * r + 2.0 * m, 8.0 * B * r**3 - k
    root = np.sqrt(np.maximum(b * b - 4.0 * a * c, 0.0))
    rho = np.where(c > 0.0, 2.0 * np.maximum(c, 0.0) / np.maximum(b + root, 1e-300), 0.0)
    return np.asarray(m * rho**2 + B * rho**3 * (2.0 * r - rho)), np.asarray(np.maximum(r - rho, 0.0))


def hard(r: Vector, usual: Vector, k: Vector, value: Vector) -> Vector:
    """Return the highest gas paid at distances ``r`` (in tolerances) in a hard mandate; infinite at the tolerance.

    ``value`` is the cost rate times the exit time, what a forced trade costs by renewal (``bands.hard_band``): before
    the breach a trade is made where gas below ``usual`` saves more than waiting is worth. Nearer to the target than
    where waiting is worth most (``y`` of the vertex) the fee would be paid for nothing, and no gas is.
    """
    y = 1.0 - r
    vertex = np.maximum(2.0 * value - k, 0.0) / np.maximum(2.0 * value, 1e-300)
    worth = np.maximum(value * y * (2.0 - y) - k * y, 0.0)
    early = np.where(y <= vertex, np.maximum(usual - worth, 0.0), 0.0)
    return np.where(r >= 1.0, np.inf, early)
