"""What a person looked up where no two public sources agree: heartbeats of feeds, and pools by pair and fee.

A pool's address is not typed: it follows from the network's confirmed factory, the tokens and the fee (CREATE2), and
``foredrift doctor`` asks the chain whether it is there. Rows of two sources are never replaced by what is given here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lake.errors import ConfigError
from lake.networks.rows import Network, NetworkFeed, NetworkPool, NetworkToken
from lake.units import duration

BY_HAND = "given to init"
"""The source of such a row, in the place of a public one's name."""
LEAST_S, MOST_S = 60, 2 * 86_400
"""Bounds of a heartbeat, seconds: no published feed of a token in dollars is beyond them."""
FEES = (100, 500, 3_000, 10_000)
"""Fees of Uniswap v3's pools, millionths: those its factory began with, and the one that governance added."""
POOL_CODE = bytes.fromhex("e34f199b19b2b4f47f68442619d555527d244f78a3297ea89325f843f87b8b54")
"""keccak256 of UniswapV3Pool's creation code: POOL_INIT_CODE_HASH of Uniswap's v3-sdk."""


@dataclass(frozen=True, slots=True)
class LookedUp:
    """What was given: ``heartbeats`` in seconds by a token's name, ``pools`` as (token, token, fee in millionths)."""

    heartbeats: Mapping[str, int] = field(default_factory=dict)
    pools: tuple[tuple[str, str, int], ...] = ()


def looked_up(heartbeats: Sequence[str], pools: Sequence[str]) -> LookedUp:
    """Return the values of ``--heartbeat TOKEN=AGE`` and ``--pool TOKEN/TOKEN=FEE``.

    AGE is in seconds, or has its unit (``24h``); FEE in millionths. Raises ConfigError naming every one that is wrong.
    """
    wrong: list[str] = []
    ages: dict[str, int] = {}
    for text in heartbeats:
        name, _, age = (part.strip() for part in text.partition("="))
        try:
            seconds = int(duration(age).total_seconds())
        except ConfigError:
            seconds = 0
        if not name or not LEAST_S <= seconds <= MOST_S:
            wrong.append(
                f"--heartbeat {text}: write TOKEN=AGE, an age of {LEAST_S} s to 48 h, e.g. ETH=86400 or ETH=24h"
            )
        elif name.casefold() in ages:
            wrong.append(f"--heartbeat {text}: {name} is given twice")
        ages[name.casefold()] = seconds
    made: list[tuple[str, str, int]] = []
    for text in pools:
        pair, _, fee = (part.strip() for part in text.partition("="))
        one, _, other = (part.strip() for part in pair.partition("/"))
        if not one or not other or fee not in map(str, FEES):
            wrong.append(
                f"--pool {text}: write TOKEN/TOKEN=FEE, a fee in millionths ({', '.join(map(str, FEES))}), "
                "e.g. WETH/USDC=500"
            )
            continue
        made.append((one, other, int(fee)))
    if wrong:
        raise ConfigError("; ".join(wrong))
    return LookedUp(ages, tuple(made))


def completed(rows: Network, given: LookedUp) -> Network:
    """Return ``rows`` with what was given where they have nothing.

    Raises ConfigError naming each value that names no token or feed of the network, or that the rows have already.
    """
    wrong: list[str] = []
    feeds = list(rows.feeds)
    for name, seconds in given.heartbeats.items():
        token = rows.token(name)
        place = _feed_of(feeds, token)
        if token is None:
            wrong.append(f"--heartbeat {name}: {rows.name} has no such token")
        elif place is None:
            wrong.append(f"--heartbeat {name}: {rows.name} has no feed of {token.asset} that two public sources give")
        elif feeds[place].heartbeat_s is not None:
            wrong.append(
                f"--heartbeat {name}: {feeds[place].pair} on {rows.name} has one already, "
                f"{'given twice' if BY_HAND in feeds[place].heartbeat_sources else 'confirmed by two public sources'}: "
                f"{feeds[place].heartbeat_s} s; leave it out"
            )
        else:
            feeds[place] = replace(feeds[place], heartbeat_s=seconds, heartbeat_sources=(BY_HAND,))
    pools = list(rows.pools)
    for one, other, fee in given.pools:
        first, second = rows.token(one), rows.token(other)
        if first is None or second is None or first is second:
            wrong.append(f"--pool {one}/{other}={fee}: {rows.name} has no two such tokens")
            continue
        pool = NetworkPool((first.symbol, second.symbol), fee, pool_address(rows, first, second, fee), (BY_HAND,))
        if pool.address in {p.address for p in pools}:
            wrong.append(f"--pool {one}/{other}={fee}: {rows.name} has it already; leave it out")
        pools.append(pool)
    if wrong:
        raise ConfigError("; ".join(wrong))
    return replace(rows, feeds=tuple(feeds), pools=tuple(pools))


def pool_address(rows: Network, one: NetworkToken, other: NetworkToken, fee: int) -> str:
    """Return the address that the network's Uniswap v3 factory gives a pool of these tokens and ``fee`` (millionths).

    EIP-1014 with the salt of UniswapV3PoolDeployer: keccak256(abi.encode(token0, token1, fee)).
    """
    from eth_utils.address import to_checksum_address  # late: only who writes a file needs them
    from eth_utils.crypto import keccak

    factory = rows.contract("v3_factory")
    if factory is None:
        raise ConfigError(f"{rows.name} has no confirmed factory of Uniswap v3, from which a pool's address follows")
    low, high = sorted(bytes.fromhex(t.address[2:]) for t in (one, other))
    salt = keccak(low.rjust(32, b"\0") + high.rjust(32, b"\0") + fee.to_bytes(32, "big"))
    return str(to_checksum_address(keccak(b"\xff" + bytes.fromhex(factory[2:]) + salt + POOL_CODE)[12:]))


def _feed_of(feeds: Sequence[NetworkFeed], token: NetworkToken | None) -> int | None:
    """Return the place of the token's feed, None where there is none."""
    return next((i for i, f in enumerate(feeds) if token is not None and f.asset == token.asset), None)
