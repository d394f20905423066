"""Investors' flows on several chains, drawn from a seed: what the panel of chains is judged under.

On each chain one flow every 72 hours in the mean (Poisson), its size a fraction of the whole net asset value,
lognormal with a median of 1.2 % and a sigma of 0.6 in logs. On Ethereum 62 % of them are withdrawals, on Base 62 % are
deposits, elsewhere half are: money comes in where it is cheap and leaves where it came from. No record of a fund's
flows is public, so these figures are guesses; the sensitivity table moves them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lake.errors import ConfigError
from policy.base import Matrix

EVERY_H = 72.0
MEDIAN, SIGMA = 0.012, 0.6
LEAN: Mapping[int, float] = {1: -0.25, 8453: 0.25}
"""Deposits less withdrawals as a share of all flows, by chain; 0 elsewhere."""


def drawn(hours: int, chains: Sequence[int], seed: int, size: float = 1.0) -> Matrix:
    """Return (hours, C) net flows, fractions of the whole NAV, deposits above 0; ``size`` scales every flow.

    Every chain has a stream of its own: adding one changes no other's flows.
    """
    if hours < 1 or size < 0.0:
        raise ConfigError(f"{hours} hours of flows of size {size}: give 1 or more, and 0 or more")
    out = np.zeros((hours, len(chains)))
    for i, chain_id in enumerate(chains):
        r = np.random.default_rng((seed, chain_id))
        hit = r.random(hours) < 1.0 / EVERY_H
        amount = MEDIAN * np.exp(SIGMA * r.standard_normal(hours))
        into = r.random(hours) < 0.5 + 0.5 * LEAN.get(chain_id, 0.0)
        out[:, i] = size * hit * amount * np.where(into, 1.0, -1.0)
    return out
