"""Will a weight leave its band? Probabilities from the forecast scale and the shape of past excursions.

A weight that starts at its target p is p exp(d) when its deviation is d, so it leaves p +- tolerance when the
largest d of the horizon passes ln(1 + tolerance/p), or the smallest passes ln(1 - tolerance/p). Excursions divided by
the forecast scale of the horizon have a distribution that hardly depends on state: its survival function is kept as
quantiles, with a power tail beyond the last (Hill 1975), and serves any weight and tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import fftconvolve
from scipy.special import ndtr

from lake.errors import NotEnoughData

Array = npt.NDArray[np.float64]

_LEVELS = np.concatenate([np.linspace(0.0, 0.9, 46), np.linspace(0.905, 0.99, 18), [0.9925, 0.995]])
_TAIL = 0.995  # beyond this level a power law continues
_TAIL_FROM = 0.975  # level from which the tail index is measured
_MIN = 100
LEAST_CHANCE = 1e-4
"""No smaller chance is claimed of what can happen: a year has too few hours to have measured it."""

BETA_DISCRETE = 0.5825971579390106
"""-zeta(1/2)/sqrt(2 pi): steps by which discrete looks shift a barrier (Broadie, Glasserman, Kou 1997)."""


@dataclass(frozen=True, slots=True)
class Excursions:
    """Survival function of the largest standardised excursion to one side over a horizon."""

    quantiles: Array  # (len(_LEVELS),) of the excursion in units of the horizon's scale
    tail_index: float  # P(X > x) falls like x ** -tail_index beyond the last quantile

    def survival(self, x: Array) -> Array:
        """Return P(excursion > x) for ``x`` (...) >= 0; inf gives 0."""
        inner = 1.0 - np.interp(x, self.quantiles, _LEVELS)
        last = max(float(self.quantiles[-1]), 1e-12)
        with np.errstate(over="ignore", divide="ignore"):
            tail = (1.0 - _TAIL) * (np.maximum(x, last) / last) ** -self.tail_index
        return np.asarray(np.where(x > last, tail, inner), dtype=np.float64)

    def plain(self) -> dict[str, Any]:
        """Return the function JSON-able."""
        return {"quantiles": self.quantiles.tolist(), "tail_index": self.tail_index}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Excursions:
        """Rebuild from what ``plain`` returned."""
        return cls(np.asarray(plain["quantiles"], dtype=np.float64), float(plain["tail_index"]))


def fit_excursions(x: Array) -> Excursions:
    """Return the survival function of standardised excursions ``x`` (n,) >= 0; NaN rows are left out.

    Raises NotEnoughData below 100 known excursions.
    """
    known = np.maximum(x[np.isfinite(x)], 0.0)
    if len(known) < _MIN:
        raise NotEnoughData(f"{len(known)} known excursions are too few for a probability; {_MIN} are required")
    quantiles = np.quantile(known, _LEVELS)
    start = np.quantile(known, _TAIL_FROM)
    beyond = known[known > start]
    index = 4.0 if len(beyond) < 10 or start <= 0 else float(1.0 / np.log(beyond / start).mean())
    return Excursions(quantiles, float(np.clip(index, 2.0, 20.0)))


def band_edges(target: Array, tolerance: Array) -> tuple[Array, Array]:
    """Return how far up and down (both >= 0, log) a weight may move from its target before it leaves the band.

    A band that reaches zero weight is never left downwards: inf.
    """
    with np.errstate(divide="ignore"):
        ratio = np.where(target > 0, tolerance / np.maximum(target, 1e-300), np.inf)
        down = np.where(ratio < 1.0, -np.log1p(-np.minimum(ratio, 1.0 - 1e-16)), np.inf)
        return np.log1p(ratio), down


def exit_probability(
    up: Array, down: Array, scale: Array, above: Excursions, below: Excursions, either: Excursions
) -> Array:
    """Return the probability (n,) that a weight passes ``up`` or ``down`` (log distances >= 0) at some hour.

    ``scale`` (n,) is the forecast size of a move over the whole horizon; ``either`` describes the larger of the two
    excursions. The chance of passing both edges is taken at the mean distance, where the three functions tell it.
    """
    u, d = np.maximum(up, 0.0) / scale, np.maximum(down, 0.0) / scale
    mid = (u + d) / 2.0
    both = np.maximum(above.survival(mid) + below.survival(mid) - either.survival(mid), 0.0)
    return _claimed(above.survival(u) + below.survival(d) - both, u, d)


def gaussian_exit_probability(up: Array, down: Array, sigma: Array, steps: int) -> Array:
    """Return the probability (n,) that a driftless Gaussian walk leaves (-down, up) within ``steps`` hourly looks.

    ``sigma`` (n,) is the volatility of one step. Each side is exact for discrete looks (backward recursion); the
    chance of passing both is that of Brownian motion with both barriers moved out by BETA_DISCRETE * sigma.
    """
    distance, survival = _one_sided(steps)
    u, d = (np.minimum(np.maximum(x, 0.0) / sigma, distance[-1]) for x in (up, down))
    sides = np.interp(u, distance, survival) + np.interp(d, distance, survival)
    if steps == 1:
        return _claimed(sides, up, down)
    a, b = ((x + BETA_DISCRETE) / np.sqrt(steps) for x in (u, d))
    both = 2.0 * ndtr(-a) + 2.0 * ndtr(-b) - (1.0 - _stays_inside(a, b))
    return _claimed(sides - np.maximum(both, 0.0), up, down)


def _claimed(chance: Array, up: Array, down: Array) -> Array:
    """Return ``chance`` within LEAST_CHANCE..1, and 0 where neither edge can be reached."""
    possible = np.isfinite(up) | np.isfinite(down)
    return np.asarray(np.where(possible, np.clip(chance, LEAST_CHANCE, 1.0), 0.0), dtype=np.float64)


def _stays_inside(a: Array, b: Array, terms: int = 8) -> Array:
    """Return P(-b < B_t < a for t <= 1) by the method of images (Borodin and Salminen 2002, 1.15.4)."""
    inside = np.zeros_like(a)
    for k in range(-terms, terms + 1):
        move = 2.0 * k * (a + b)
        inside += ndtr(a + move) - ndtr(-b + move) - ndtr(a + 2.0 * b - move) + ndtr(b - move)
    return inside


@cache
def _one_sided(steps: int) -> tuple[Array, Array]:
    """Return distances and P(max of the first ``steps`` standard normal partial sums > distance).

    v_k(y) = integral over y' > 0 of phi(y' - y) v_{k-1}(y') is the chance to stay below a barrier y away for k looks.
    """
    width = 0.02
    cells = int(np.ceil(7.0 * np.sqrt(steps) / width))
    grid, top = (np.arange(cells, dtype=np.float64) + 0.5) * width, cells * width
    far = ndtr(grid - top)  # steps that land beyond the grid stay for certain
    offsets = np.arange(-len(grid) + 1, len(grid)) * width
    kernel = np.exp(-(offsets**2) / 2.0) / np.sqrt(2.0 * np.pi) * width
    stay = np.ones(len(grid))
    for _ in range(steps):
        stay = fftconvolve(stay, kernel)[len(grid) - 1 : 2 * len(grid) - 1] + far
    return grid, np.clip(1.0 - stay, 0.0, 1.0)
