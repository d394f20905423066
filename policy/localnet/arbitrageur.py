"""Keeps the pools at the reference price while history replays, and posts that price to the feeds.

It trades each pool exactly to the reference, fee or not: between two replayed prices lie hours of real arbitrage
and counter-flow, whose average pool price is the market's, not the edge of a fee band.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from lake.errors import ConfigError, ExecutionError
from lake.evm import BlockHeader, Call, calldata, read
from lake.units import WEI_PER_GWEI
from policy.execution.routing.amm import V2Pool, quote
from policy.localnet.accounts import dev_accounts
from policy.localnet.node import LocalNode
from policy.localnet.world import FEED_DECIMALS, NUMERAIRE, SECOND_FEED, PoolRef, World, sqrt_price_x96

CLOSE_ENOUGH = 1e-6
"""Relative price error left alone: a hundredth of a basis point."""

_GAS = hex(600_000)
_NEVER = 2**40  # deadline
_V3_SWAP = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))"
_V2_SWAP = "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)"


@dataclass(frozen=True, slots=True)
class Arbitrageur:
    """Moves feeds and pools of ``world``; its transactions come first in the block it is given."""

    node: LocalNode
    world: World

    def advance(
        self,
        prices: Mapping[str, float],
        *,
        gas_gwei: float | None = None,
        at: datetime | None = None,
        pools: bool = True,
    ) -> BlockHeader:
        """Mine one block with the feeds at ``prices`` and (``pools``) every pool at their ratio; return it.

        Raises ConfigError for an asset the world lacks, ExecutionError when ``at`` is not after the newest block.
        """
        unknown = sorted(set(prices) - set(self.world.tokens))
        if unknown:
            raise ConfigError(f"the local chain has no {', '.join(unknown)}; it has {', '.join(self.world.tokens)}")
        with self.node.lock:
            head = self.node.head()
            seconds = None if at is None else int(at.timestamp()) - head.time
            if seconds is not None and seconds < 1:
                raise ExecutionError(f"block time {at} is not after the newest block's ({head.time})")
            fee = None if gas_gwei is None else round(gas_gwei * WEI_PER_GWEI)
            txs = self.feed_txs(prices) + (self.trades(prices) if pools else [])
            return self.node.mine(1, seconds, fee, first=txs)

    def feed_txs(self, prices: Mapping[str, float]) -> list[dict[str, str]]:
        """Return transactions that post ``prices`` (and 1 for the numeraire) to their feeds."""
        txs = []
        for asset, price in {NUMERAIRE: 1.0, **prices}.items():
            data = calldata("post(int256)", round(price * 10**FEED_DECIMALS))
            feeds = (self.world.tokens[asset].feed, self.world.extras.get(SECOND_FEED + asset))
            txs += [_tx("deployer", feed, data) for feed in feeds if feed is not None]
        return txs

    def trades(self, prices: Mapping[str, float]) -> list[dict[str, str]]:
        """Return swaps that take every pool of the given assets to the ratio of their ``prices``."""
        usd = {NUMERAIRE: 1.0, **prices}
        pools = [p for p in self.world.pools.values() if p.asset in usd and p.quote in usd]
        views = [
            Call(p.address, "slot0()", "uint160")
            if p.venue == "uniswap_v3"
            else Call(p.address, "getReserves()", "uint112,uint112")
            for p in pools
        ]
        trades = []
        for pool, state in zip(pools, read(self.node.admin, views), strict=True):
            target = self._target(pool, usd)
            values = [v for v in state if isinstance(v, int)]
            trade = (
                _v3_trade(pool, values[0], target) if pool.venue == "uniswap_v3" else _v2_trade(pool, values, target)
            )
            trades += [] if trade is None else [trade]
        return trades

    def _target(self, pool: PoolRef, usd: Mapping[str, float]) -> int:
        by_address = {self.world.tokens[a].address: a for a in (pool.asset, pool.quote)}
        sides = [by_address[pool.token0], by_address[pool.token1]]
        price0, price1 = (Fraction(usd[a]) for a in sides)
        decimals0, decimals1 = (self.world.tokens[a].decimals for a in sides)
        return sqrt_price_x96(price0, decimals0, price1, decimals1)


def _v3_trade(pool: PoolRef, root: int, target: int) -> dict[str, str] | None:
    if abs(root / target - 1) < CLOSE_ENOUGH / 2:
        return None
    sell0 = target < root
    ends = (pool.token0, pool.token1) if sell0 else (pool.token1, pool.token0)
    ask = (*ends, pool.fee_pips, _me(), _NEVER, 2**120, 0, target)  # the price limit ends the swap, not the amount
    return _tx("arbitrageur", pool.router, calldata(_V3_SWAP, ask))


def _v2_trade(pool: PoolRef, reserves: list[int], target: int) -> dict[str, str] | None:
    pair = V2Pool(pool.address, pool.token0, pool.token1, reserves[0], reserves[1], pool.fee_pips)
    goal = (target / 2**96) ** 2
    now = reserves[1] / reserves[0]
    if abs(now / goal - 1) < CLOSE_ENOUGH:
        return None
    sell0 = now > goal
    ends = (pool.token0, pool.token1) if sell0 else (pool.token1, pool.token0)
    stock = reserves[0] if sell0 else reserves[1]
    low, high = 0, int(stock * (math.sqrt(max(now / goal, goal / now)) - 1) * 1.01) + 1
    while high - low > 1:  # the fee stays in the pool, so the amount is found by halving, on exact quotes
        middle = (low + high) // 2
        fill = quote(pair, ends[0], middle)
        if fill is None or not isinstance(fill.after, V2Pool):
            low = middle
            continue
        after = fill.after.reserve1 / fill.after.reserve0
        low, high = (middle, high) if (after > goal) == sell0 else (low, middle)
    if quote(pair, ends[0], low) is None:
        return None
    return _tx("arbitrageur", pool.router, calldata(_V2_SWAP, low, 0, list(ends), _me(), _NEVER))


def _tx(role: str, to: str, data: bytes) -> dict[str, str]:
    return {"from": dev_accounts()[role].address, "to": to, "data": "0x" + data.hex(), "gas": _GAS}


def _me() -> str:
    return dev_accounts()["arbitrageur"].address
