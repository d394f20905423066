"""A vault read in full for a look: the same State that a decision is made on, from its snapshot at the look's block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from policy.execution.base import Snapshot
from policy.execution.routing.amm import Pool
from policy.execution.state_builder import OffchainView, RiskTerms, state_of
from policy.keeping.desk import VaultReading


def reading_of(
    snapshot: Snapshot,
    portfolio: RiskTerms,
    view: OffchainView,
    pools: Sequence[Pool],
    price_wei: int,
    heartbeats: Mapping[str, float],
) -> VaultReading:
    """Return the reading of ``snapshot`` at ``price_wei`` per gas; a feed is named by its address, else its token's.

    ``heartbeats``: seconds by token address, beside what the oracle's oldest answer is held against.
    """
    names = tuple((t.feed or t.address).lower() for t in snapshot.tokens)
    usd = {name: quote.price_e8 / 1e8 for name, quote in zip(names, snapshot.quotes, strict=True)}
    holdings = np.array([h / 10**t.decimals for t, h in zip(snapshot.tokens, snapshot.holdings, strict=True)])
    ages = [
        (snapshot.block_time - q.updated_at, heartbeats.get(t.address, np.inf))
        for t, q in zip(snapshot.tokens, snapshot.quotes, strict=True)
    ]
    age, heartbeat = max(ages, key=lambda one: one[0] / one[1])
    state = state_of(snapshot, portfolio, view, pools, price_wei)
    return VaultReading(state, names, holdings, usd, snapshot.plan_nonce, float(age), float(heartbeat))
