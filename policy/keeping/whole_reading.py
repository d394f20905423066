"""The portfolio that a kept vault is part of, for a look: its own chain as read at the block, the others as last read.

Between two readings prices and gas of the kept chain move; what lies on the other chains is known to its age, which
whoever reads it bounds. A decision reads every chain anew, so an old reading can only ask for one too early or late.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from lake.units import WEI_PER_GWEI
from policy.base import Vector
from policy.chains.deciding import cheapest
from policy.chains.global_state import USD, GlobalState, Place
from policy.execution.base import Snapshot
from policy.execution.planner import book_of
from policy.keeping.desk import VaultReading


@dataclass(frozen=True, slots=True)
class LastKnown:
    """A portfolio as it was last read, for the keeper of the vault on chain ``here``.

    ``apart`` (n,): whole tokens on all other chains and between them; ``follows``: chains whose trades are paid at the
    gas price of the blocks of ``here``.
    """

    portfolio: GlobalState
    here: int
    apart: Vector
    follows: frozenset[int] = frozenset()


def last_known(
    portfolio: GlobalState, here: int, seen: Mapping[int, Snapshot], follows: frozenset[int] = frozenset()
) -> LastKnown:
    """Return ``portfolio`` with the tokens that lie elsewhere, from the snapshots it was read of, by chain.

    Cash between the chains is counted at the price that the snapshot of ``here`` gives it.
    """
    apart = np.zeros(len(portfolio.assets))
    for chain_id, snapshot in seen.items():
        if chain_id != here:
            apart += [h / 10**t.decimals for t, h in zip(snapshot.tokens, snapshot.holdings, strict=True)]
    apart[portfolio.cash] += portfolio.in_transit / USD / (book_of(seen[here]).prices_e8[portfolio.cash] / 1e8)
    return LastKnown(portfolio, here, apart, follows)


def whole_reading(own: VaultReading, snapshot: Snapshot, known: LastKnown) -> VaultReading:
    """Return ``own``, the reading of ``snapshot``, as that of the whole portfolio.

    With one chain and nothing between it is ``own`` to the last bit.
    """
    book = book_of(snapshot)
    values = tuple(book.value(i, h) for i, h in enumerate(book.holdings))
    market, p = own.state.market, known.portfolio
    here = Place(known.here, values, values[p.cash], market)

    def placed(place: Place) -> Place:
        if place.chain_id == known.here:
            return here
        if place.chain_id not in known.follows:
            return place
        return replace(place, market=replace(place.market, gas_gwei=market.gas_gwei))

    now = replace(
        p, ts=own.state.ts, places=tuple(placed(one) for one in p.places), target=own.state.target,
        tolerance=own.state.tolerance, gamma=own.state.gamma, scenario=own.state.scenario,
        covariance=own.state.covariance, last_trade=own.state.last_trade, max_turnover=own.state.max_turnover,
    )  # fmt: skip
    least = cheapest(now.places)
    foreign = least.chain_id != known.here and least.chain_id not in known.follows
    return replace(
        own, state=now.state(), holdings=own.holdings + known.apart,
        gas_wei=round(least.market.gas_gwei * WEI_PER_GWEI) if foreign else None,
    )  # fmt: skip
