"""Venues as rows: what tells one exchange's pools and router from another's. A fork of a known one is a row here.

A package of your own adds one by an entry point of the group ``foredrift.venues`` that names a ``Venue``; where its
router takes other data than the ones known, ``encode`` names the function that writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Literal

from lake.errors import ConfigError

GROUP = "foredrift.venues"
Curve = Literal["pair", "ticks"]
PAIR_CALLS = ("swapExactTokensForTokens(uint256,uint256,address[],address,uint256)",)
"""Exact-input call of Uniswap v2's Router02 and of its forks."""
TICKS_CALLS = (
    "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))",
    "exactInput((bytes,address,uint256,uint256,uint256))",
)
"""Exact-input calls of Uniswap v3's SwapRouter and of its forks."""
ROUTER02_CALLS = (
    "exactInputSingle((address,address,uint24,address,uint256,uint256,uint160))",
    "exactInput((bytes,address,uint256,uint256))",
)
"""The same of Uniswap's SwapRouter02, without a deadline: the vault's own holds."""


@dataclass(frozen=True, slots=True)
class Venue:
    """One exchange: how its pools pay, what they charge, how they are found and what its router is asked.

    ``curve``: "pair" (constant product, ``getReserves()``) or "ticks" (concentrated liquidity, ``slot0()``).
    ``fee_pips``: fixed for all its pools, 1/1,000,000 of the amount sold; None: each pool says. ``finds``: the
    factory's function from tokens (and fee) to pool. ``calls``: the router's functions that a plan may call.
    ``encode``: ``module:function`` that writes such a call (see ``policy.execution.routing.calldata``); empty: the
    one for its curve.
    """

    name: str
    curve: Curve
    fee_pips: int | None
    finds: str
    calls: tuple[str, ...]
    encode: str = ""

    def __post_init__(self) -> None:
        """Refuse a row that nothing could be quoted by."""
        if self.curve not in {"pair", "ticks"} or not self.calls:
            raise ConfigError(f"venue {self.name}: curve is pair or ticks, and calls names what its router is asked")
        if (self.fee_pips is None) != (self.curve == "ticks") or not 0 <= (self.fee_pips or 0) < 1_000_000:
            raise ConfigError(f"venue {self.name}: a pair has fee_pips from 0 to 999,999, a pool with ticks None")


SHARES_CALLS = ("deposit(uint256,address)", "redeem(uint256,address,address)")
"""Making shares of ERC-4626 and turning them back."""
ROWS = (
    Venue("uniswap_v2", "pair", 3_000, "getPair(address,address)", PAIR_CALLS),  # fixed in UniswapV2Library
    Venue("uniswap_v3", "ticks", None, "getPool(address,address,uint24)", TICKS_CALLS),
    Venue(
        "uniswap_v3_router02",
        "ticks",
        None,
        "getPool(address,address,uint24)",
        ROUTER02_CALLS,
        "policy.execution.routing.calldata:ticks_router02",
    ),
    # a yield-bearing token is its own venue: to the router a pair too deep to be moved
    Venue("erc4626", "pair", 0, "asset()", SHARES_CALLS, "policy.execution.routing.yields:shares_call"),
)


@cache
def venues() -> Mapping[str, Venue]:
    """Return every venue by name, shipped ones first; raises ConfigError where an installed one is no Venue."""
    found = {row.name: row for row in ROWS}
    for point in entry_points(group=GROUP):
        row = point.load()
        if not isinstance(row, Venue) or row.name in found:
            raise ConfigError(f"entry point {point.name!r} of {GROUP} must name a Venue with a name of its own")
        found[row.name] = row
    return found


def venue(name: str) -> Venue:
    """Return the venue called ``name``; ConfigError naming those that there are."""
    known = venues()
    if name not in known:
        raise ConfigError(f"venue {name!r}: a venue is {' or '.join(known)}")
    return known[name]
