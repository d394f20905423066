"""A back-running searcher: takes a pool that a shared swap left off the reference price back towards it.

It sees the swap's logs only, if its sender shows them: they hold the pool's state after the swap. Its profit is valued
at the feeds' prices; most of it is bid to the builder as the tip, of which the sender's share is refunded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from eth_utils.crypto import keccak

from lake.evm import Call, read
from lake.rpc import quantity
from policy.execution.routing.amm import Pool, V2Pool, V3Pool, quote
from policy.localnet.bundles import Backrun, Hint, Log
from policy.localnet.node import LocalNode
from policy.localnet.searcher import V3_SWAP, load_pool, simulate, summit, swap_call, swap_tx, words
from policy.localnet.world import FEED_DECIMALS, PoolRef, World

_SMALL_WEI = 10**15  # where the search for the best size begins: a dollar or two, far below any size that pays
V2_SYNC = "0x" + keccak(text="Sync(uint112,uint112)").hex()


@dataclass(frozen=True, slots=True)
class Correction:
    """The swap that earns most in one pool, in raw units; ``profit_wei`` at the feeds' prices, before gas."""

    ref: PoolRef
    token_in: str
    amount_in: int
    out: int
    profit_wei: int


@dataclass
class ReferenceBackrunner:
    """Back-runs one shared swap a block, where it pays. Appends to ``node.backrunners``.

    ``bid_percent`` of the profit after gas goes to the block's builder; ``done`` lists (shared hash, correction).
    """

    node: LocalNode
    world: World
    bid_percent: int = 90
    done: list[tuple[str, Correction]] = field(default_factory=list)

    def backruns(self, hints: Sequence[Hint], base_fee_wei: int, block: int) -> Sequence[Backrun]:
        """Return the most profitable back-run of what ``hints`` show, if any pays its gas."""
        del block
        refs = {p.address.lower(): p for p in self.world.pools.values()}
        found: list[tuple[int, int, str, Correction]] = []
        for hint in hints:
            for log in hint.logs:
                ref = refs.get(str(log["address"]).lower())
                pool = None if ref is None else self._left(ref, log)
                best = None if ref is None or pool is None else self._best(ref, pool)
                if best is None:
                    continue
                gas = self._gas(best)
                left = best.profit_wei - gas * base_fee_wei
                if left > 0:
                    found.append((left, gas, hint.hash, best))
        if not found:
            return []
        left, gas, name, best = max(found, key=lambda f: f[0])
        self.done.append((name, best))
        tip = left * self.bid_percent // 100 // gas
        call = swap_call(best.ref, best.token_in, best.amount_in)
        return [Backrun(name, (swap_tx(self.node, call, base_fee_wei, tip),))]

    def _left(self, ref: PoolRef, log: Log) -> Pool | None:
        """Return the pool as the swap that wrote ``log`` leaves it; None for other logs."""
        topic, data = str(log["topics"][0]), words(str(log["data"]))
        pool = load_pool(self.node, ref) if topic in {V3_SWAP, V2_SYNC} else None
        if isinstance(pool, V2Pool) and topic == V2_SYNC:
            return replace(pool, reserve0=data[0], reserve1=data[1])
        if isinstance(pool, V3Pool) and topic == V3_SWAP:
            tick = data[4] - 2**256 if data[4] >> 255 else data[4]
            return replace(pool, sqrt_price_x96=data[2], liquidity=data[3], tick=tick)
        return None

    def _best(self, ref: PoolRef, pool: Pool) -> Correction | None:
        worth = self._worth(ref)
        found = []
        for token_in, token_out in ((ref.token0, ref.token1), (ref.token1, ref.token0)):

            def profit(size: int, ends: tuple[str, str] = (token_in, token_out)) -> int:
                fill = quote(pool, ends[0], size)
                if fill is None or fill.spent < size:
                    return -(2**200)
                return int(fill.out * worth[ends[1]] - size * worth[ends[0]])

            size = summit(profit, max(1, int(_SMALL_WEI / worth[token_in])))
            fill = quote(pool, token_in, size)
            if fill is not None and profit(size) > 0:
                found.append(Correction(ref, token_in, size, fill.out, profit(size)))
        return max(found, key=lambda c: c.profit_wei, default=None)

    def _worth(self, ref: PoolRef) -> dict[str, float]:
        """Return wei per raw unit of the pool's tokens, by the feeds."""
        tokens = [t for t in self.world.tokens.values() if t.address in {ref.token0, ref.token1}]
        feeds = [self.world.tokens["ETH"].feed, *[t.feed for t in tokens]]
        answers = read(self.node.admin, [Call(str(f), "latestRoundData()", "uint80,int256") for f in feeds])
        ether, *usd = [int(str(a[1])) / 10**FEED_DECIMALS for a in answers]
        return {t.address: p / 10**t.decimals / ether * 1e18 for t, p in zip(tokens, usd, strict=True)}

    def _gas(self, what: Correction) -> int:
        """Return the gas of the swap, tried on its own: the shared transaction cannot be tried."""
        results = simulate(self.node, [swap_call(what.ref, what.token_in, what.amount_in)])
        return quantity(results[0]["gasUsed"]) if results is not None else 200_000
