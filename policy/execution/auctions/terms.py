"""On what terms a vault offers to others: which venues, how its ask falls, whom it expects, what it may lose."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

from policy.auction_cost import Auction, Fillers, decay_for, sigma_block_bp
from policy.execution.auctions.orders import Order, VenueKind

HOUR_S = 3_600


@dataclass(frozen=True, slots=True)
class AuctionTerms:
    """``venues``: kinds that may be used, of those a vault lists the cheapest.

    ``start_bp``: how far over the oracle a dutch ask begins. ``decay_bp``: how far it falls a block; None: as loses
    least at the pair's volatility (arXiv 2406.00113). ``floor_bp``: the worst price, basis points under the oracle.
    ``slack_bp``: how much more than that may be lost at the moment of the fill, since the oracle moves: it is charged
    too. ``lag_bp``: mean absolute lag of the oracle; ``min_saving_bp``: an auction is chosen where it saves at least
    so much. ``mps_per_tip``: priority orders: thousandths of a basis point more per wei of the filler's tip.
    """

    venues: tuple[VenueKind, ...] = (VenueKind.DUTCH,)
    start_bp: float = 60.0
    decay_bp: float | None = None
    fillers: Fillers = field(default_factory=Fillers)
    floor_bp: float = 40.0
    slack_bp: float = 20.0
    lag_bp: float = 15.5
    min_saving_bp: float = 1.0
    delay_s: int = 24
    grace_s: int = 60
    mps_per_tip: int = 1
    block_s: float = 12.0

    def falling(self, sigma_year: float, block_s: float) -> Auction:
        """Return how the ask falls, from ``start_bp`` over to ``floor_bp`` under the oracle, at this volatility."""
        sigma = sigma_block_bp(sigma_year, block_s)
        most = max(2, int((HOUR_S - 2 * self.grace_s - self.delay_s) / block_s) - 1)
        usual = min(40, most)
        decay = self.decay_bp or decay_for(sigma, self.start_bp + self.floor_bp, most_blocks=usual)
        blocks = min(most, math.ceil((self.start_bp + self.floor_bp) / decay) + 1)
        return Auction(self.start_bp, (self.start_bp + self.floor_bp) / (blocks - 1), blocks)

    def open_s(self, kind: VenueKind, auction: Auction, block_s: float) -> int:
        """Return how long an order of ``kind`` is armed, seconds: until its ask is down, and a grace."""
        blocks = 4 if kind is VenueKind.PRIORITY else auction.blocks
        return min(HOUR_S - self.grace_s, int(self.delay_s + blocks * block_s + self.grace_s))


class OrderBook(Protocol):
    """Where orders are published for those who fill them. ``publish`` never raises for an answer or a lost one."""

    def publish(self, order: Order, vault: str, digest: bytes) -> str:
        """Tell of an armed order; return what was said, empty where it was known already."""
        ...
