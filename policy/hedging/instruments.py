"""What a book may hold, as records: quantities are signed, units are in the names, prices are USD per underlying."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Kind = Literal["call", "put"]
Premium = Literal["coin", "usd"]
YEAR_S = 365.0 * 86_400.0  # ACT/365, seconds exact: what reproduces the venue's marks


@dataclass(frozen=True, slots=True)
class Stable:
    """``amount_usd`` of cash."""

    name: str
    amount_usd: float


@dataclass(frozen=True, slots=True)
class Spot:
    """``quantity`` tokens of which each is worth ``rate`` underlying (1; a staking token's exchange rate).

    ``rate_growth`` is the growth of the rate a year as a fraction: carry, no price risk. ``rate_peak`` is the highest
    rate known of late, 0 where none is: a rate below it fell.
    """

    name: str
    asset: str
    quantity: float
    rate: float = 1.0
    rate_growth: float = 0.0
    rate_peak: float = 0.0


@dataclass(frozen=True, slots=True)
class Perp:
    """Linear perpetual: ``quantity`` underlying bought at ``entry`` USD on ``margin_usd``.

    ``funding`` is the fraction of the notional that longs pay shorts each ``funding_interval_h``.
    """

    name: str
    asset: str
    quantity: float
    entry: float
    margin_usd: float
    funding: float = 0.0
    funding_interval_h: float = 8.0
    maintenance: float = 0.01  # of the notional: below it the venue liquidates


@dataclass(frozen=True, slots=True)
class InversePerp:
    """Coin-margined perpetual: ``notional_usd`` (signed) entered at ``entry``, margined with ``margin_coin`` coins.

    Its profit is ``notional (1/entry - 1/S)`` coins, so ``notional (S/entry - 1)`` USD: no gamma in USD. The margin
    is a spot position and has a delta of one a coin.
    """

    name: str
    asset: str
    notional_usd: float
    entry: float
    margin_coin: float
    funding: float = 0.0
    funding_interval_h: float = 8.0
    maintenance: float = 0.01


@dataclass(frozen=True, slots=True)
class Option:
    """European option on ``quantity`` underlying; ``vol`` is the mark's implied volatility a year (0.65 is 65 %).

    ``forward`` is that of its expiry; ``premium`` "coin" is quoted and settled in coins, worth ``Black76 S / F`` USD,
    "usd" is worth ``discount Black76``.
    """

    name: str
    asset: str
    quantity: float
    kind: Kind
    strike: float
    expiry: datetime
    vol: float
    forward: float
    premium: Premium
    discount: float = 1.0


@dataclass(frozen=True, slots=True)
class Pool:
    """Uniswap v3 position of ``liquidity`` between ``lower`` and ``upper`` USD; fees are what it earned lately."""

    name: str
    asset: str
    liquidity: float
    lower: float
    upper: float
    fees_usd_per_day: float = 0.0


Position = Stable | Spot | Perp | InversePerp | Option | Pool
