"""The mandate a decision must fit before it becomes a plan: what may move, how much at once, how little is dust."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lake.errors import ConfigError
from policy.base import State, Vector


@dataclass(frozen=True, slots=True)
class Mandate:
    """Bounds on one rebalance.

    ``allowed`` empty means every asset of the portfolio. ``max_turnover`` is one-way, of NAV. ``min_leg_usd``:
    a smaller change of one asset costs more in gas than it matters; raise it with gas, 0 keeps every leg.
    """

    allowed: frozenset[str] = frozenset()
    max_turnover: float = 1.0
    min_leg_usd: float = 0.0


def check_portfolio(assets: Sequence[str], target: Vector, tolerance: Vector) -> None:
    """Raise ConfigError naming everything wrong with a portfolio: sizes, signs, sums and tolerances."""
    wrong = []
    if len(set(assets)) < len(assets) or len(assets) < 2:
        wrong.append(f"assets must be two or more different names, got {list(assets)}")
    if target.shape != (len(assets),) or tolerance.shape != (len(assets),):
        wrong.append(f"targets and tolerances must have {len(assets)} entries, got {target.size} and {tolerance.size}")
    if np.any(target <= 0.0) or abs(float(target.sum()) - 1.0) > 1e-9:
        wrong.append(f"targets must be above 0 and sum to 1, got {target.tolist()} (sum {target.sum():.6f})")
    if np.any((tolerance <= 0.0) | (tolerance > 1.0)):
        wrong.append(f"tolerances must lie in (0, 1], got {tolerance.tolist()}")
    if wrong:
        raise ConfigError("; ".join(wrong))


def fit(state: State, weights: Vector, mandate: Mandate) -> Vector:
    """Return ``weights`` changed as little as needed to fit ``mandate``; they sum to one as ``state.weights`` do.

    Assets not allowed and legs below ``min_leg_usd`` stay where they are, and what they would have moved is taken from
    the other side in proportion; then everything shrinks to ``max_turnover``. Nothing left to move returns the current
    weights.
    """
    change = weights - state.weights
    frozen = np.array([bool(mandate.allowed) and a not in mandate.allowed for a in state.assets])
    for _ in range(len(state.assets) + 1):
        change = _balance(np.where(frozen, 0.0, change))
        dust = (np.abs(change) * state.nav_usd < mandate.min_leg_usd) & (change != 0.0)
        if not dust.any():
            break
        frozen |= dust
    turnover = float(np.abs(change).sum()) / 2
    if turnover > mandate.max_turnover:
        change = change * (mandate.max_turnover / turnover)
    return np.asarray(state.weights + change, dtype=np.float64)


def _balance(change: Vector) -> Vector:
    """Scale the larger side down so that bought and sold are equal."""
    bought, sold = float(change[change > 0].sum()), -float(change[change < 0].sum())
    both = min(bought, sold)
    if both <= 0.0:
        return np.zeros_like(change)
    return np.where(change > 0, change * (both / bought), change * (both / sold))
