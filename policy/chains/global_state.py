"""One portfolio whose assets lie on several chains, and the State a policy sees of it.

A weight is a sum over chains and cash in transit, so every policy of one chain decides for all of them unchanged; where
its trade is made is ``placement``'s part. Values are integers: moving cash between chains changes no bit of the State.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from lake.errors import ConfigError
from policy.base import Bools, Market, Matrix, Scenario, State, Vector
from policy.chains.in_transit import Crossing, counted
from policy.costs import gas_lines

USD = 10**18
"""Units of value in one USD, those of the vaults' books."""


@dataclass(frozen=True, slots=True)
class Place:
    """What lies on one chain and what acting there costs.

    ``holdings`` has the value of every asset of the portfolio in 1e-18 USD, the cash asset's included; ``cash``, at
    most that, is what may be spent or sent now. Money in transit is part of neither.
    """

    chain_id: int
    holdings: tuple[int, ...]
    cash: int
    market: Market

    @property
    def usd(self) -> Vector:
        """(n,) holdings in USD."""
        return np.array([float(v) for v in self.holdings]) / USD

    @property
    def spendable_usd(self) -> float:
        """``cash`` in USD."""
        return self.cash / USD


@dataclass(frozen=True, slots=True)
class GlobalState:
    """One portfolio at one moment over its ``places``; fields as in State, ``in_transit`` in 1e-18 USD.

    Raises ConfigError for an unknown cash asset, no place, a chain named twice, or amounts that cannot be.
    """

    ts: datetime
    assets: tuple[str, ...]
    cash_asset: str
    places: tuple[Place, ...]
    in_transit: int
    target: Vector
    tolerance: Vector
    gamma: float
    scenario: Scenario
    covariance: Matrix
    last_trade: datetime | None = None
    max_turnover: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no portfolio."""
        if self.cash_asset not in self.assets:
            raise ConfigError(f"cash asset {self.cash_asset!r} is none of {', '.join(self.assets)}; name one of them")
        ids = [p.chain_id for p in self.places]
        if not ids or len(set(ids)) < len(ids):
            raise ConfigError(f"a portfolio lies on one or more chains, each named once; given: {ids or 'none'}")
        if self.in_transit < 0:
            raise ConfigError(f"{self.in_transit} in transit: cannot be below 0")
        for p in self.places:
            if len(p.holdings) != len(self.assets) or min(p.holdings) < 0:
                raise ConfigError(
                    f"chain {p.chain_id} has values {p.holdings} of {len(self.assets)} assets; "
                    "give one at or above 0 each"
                )
            if not 0 <= p.cash <= p.holdings[self.cash]:
                raise ConfigError(
                    f"chain {p.chain_id} may spend {p.cash} of {p.holdings[self.cash]} {self.cash_asset}; "
                    "give 0 to all of it"
                )

    @property
    def cash(self) -> int:
        """Position of the cash asset."""
        return self.assets.index(self.cash_asset)

    @property
    def nav_usd(self) -> float:
        """USD on all chains and in transit."""
        return (sum(sum(p.holdings) for p in self.places) + self.in_transit) / USD

    def state(self) -> State:
        """Return the State of the whole: on one chain with nothing in transit that chain's own, to the last bit.

        Over several chains gas and fee are those of the chain where one swap costs least, depth is the sum, and an
        asset can be traded that can be traded somewhere.
        """
        values = [sum(p.holdings[i] for p in self.places) for i in range(len(self.assets))]
        values[self.cash] += self.in_transit
        whole = np.array([float(v) for v in values])
        total = whole.sum()
        return State(
            self.ts, self.assets, whole / total if total > 0 else whole, self.target, self.tolerance, self.nav_usd,
            self.gamma, self.scenario, self.covariance, self._market(), self.last_trade, self.max_turnover,
        )  # fmt: skip

    def _market(self) -> Market:
        if len(self.places) == 1:
            return self.places[0].market
        cheapest = min(self.places, key=lambda p: one_swap_usd(p.market)).market
        depth = np.sum([p.market.depth_usd for p in self.places], axis=0)
        given = [p.market.tradable is not None for p in self.places]
        somewhere = np.any([_open(p, len(self.assets)) for p in self.places], axis=0) if any(given) else None
        return replace(cheapest, depth_usd=depth, tradable=somewhere)

    def recounted(self, crossings: Iterable[Crossing], read_at: Mapping[int, int]) -> GlobalState:
        """Return the portfolio with cash in transit counted once, for places read at block ``read_at`` of each chain.

        ``crossings`` are in 1e-18 USD. What a place still shows of a transfer that has arrived elsewhere is taken off
        it. Raises ConfigError where that is more than the place has: its balance is of another block than said.
        """
        seen = counted(crossings, read_at)
        return replace(
            self,
            in_transit=seen.amount,
            places=tuple(self._less(p, seen.twice.get(p.chain_id, 0)) for p in self.places),
        )

    def _less(self, place: Place, amount: int) -> Place:
        if not amount:
            return place
        held = place.holdings[self.cash] - amount
        if held < 0:
            raise ConfigError(
                f"chain {place.chain_id} shows {place.holdings[self.cash]} {self.cash_asset}, but {amount} that "
                "arrived elsewhere left it since: its balance is of another block; read it again"
            )
        holdings = tuple(held if i == self.cash else v for i, v in enumerate(place.holdings))
        return replace(place, holdings=holdings, cash=max(0, place.cash - amount))


def one_swap_usd(market: Market) -> float:
    """Return USD of gas of a rebalance of one swap."""
    base, leg = gas_lines(market.fees, market.gas_gwei, market.native_usd)
    return float(base) + float(leg)


def _open(place: Place, n: int) -> Bools:
    given = place.market.tradable
    return np.ones(n, dtype=np.bool_) if given is None else given
