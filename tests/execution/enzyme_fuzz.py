"""A thief with an Enzyme manager's key: random trades at any price, in pools he moves before, at once and over days.

``python -m tests.execution.enzyme_fuzz --sequences 10000`` (``make enzyme``) prints what the worst sequence took of NAV
at oracle prices; nothing is mined (``tests.execution.sequences``).
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass, field, replace
from typing import Any

from eth_abi.abi import encode

from lake.evm import calldata, head_of, selector
from lake.rpc import Rpc
from policy.execution.checks.rules import Mandate, VaultBook
from policy.execution.vaults.enzyme.adapter import CALL, TAKE_ORDER, EnzymeFund
from policy.localnet.enzyme import enzyme_fund, enzyme_vault
from policy.localnet.market import Localnet, start
from tests.chain_fixtures import CLOCK, into_the_hour
from tests.execution.sequences import Sequence, Tally, asking, left, pushed, simulated

TARGETS = {"USDC": 4_000, "ETH": 3_500, "BTC": 2_500}
TOLERANCE = 0.03
DAY_S = 86_400
POOLS = ("v3:ETH/USDC:500", "v3:ETH/USDC:3000", "v3:BTC/USDC:3000", "v3:BTC/ETH:3000")


@dataclass
class Taken(Tally):
    """The worst share of NAV lost, and the sequences that lost more than they may."""

    worst: float = 0.0
    over: list[str] = field(default_factory=list)

    def words(self) -> str:
        """Return the figures in a line."""
        return f"{super().words()}; worst loss {self.worst:.2%} of NAV; {len(self.over)} beyond the tolerance"


def fuzz(
    net: Localnet, fund: EnzymeFund, sequences: int, tolerance: float, *, seed: int = 0, progress: bool = False
) -> Taken:
    """Try sequences ``seed`` and on; a loss may be at most the ``tolerance`` of a week, which refills over one."""
    found, head, book = Taken(), head_of(fund.rpc), fund.state().book
    keeper = net.accounts["keeper"].address
    made = (thiefs(net, fund, number, book) for number in range(seed, seed + sequences))
    for one, results in simulated(net.node_url, head, made):
        lost = _lost(book, results)
        allowed = tolerance * (1 + one.seconds / DAY_S / 7) + 1e-4
        if lost > allowed:
            found.over.append(f"sequence {one.seed} lost {lost:.4%}, {allowed:.4%} is allowed")
        found.count(one, results, keeper)
        found.worst = max(found.worst, lost)
        if progress:
            found.shown(sequences)
    return found


def _lost(book: VaultBook, results: list[dict[str, Any]]) -> float:
    """Return the share of NAV that is gone, at the prices of the beginning."""
    return max(0.0, 1 - replace(book, holdings=tuple(left(results, book.tokens))).total() / book.total())


def thiefs(net: Localnet, fund: EnzymeFund, seed: int, book: VaultBook | None = None) -> Sequence:
    """Return the thief's sequence of ``seed``; its last calls ask what the fund holds then."""
    rng, book = random.Random(seed), book or fund.state().book
    keeper, thief = net.accounts["keeper"].address, net.accounts["searcher"].address
    now, blocks = 0, []
    pools = [net.world.pools[n] for n in POOLS]
    for _ in range(rng.randint(2, 10)):
        now += rng.choice((12, 12, 600, DAY_S // 2))
        calls = []
        for _ in range(rng.randint(1, 3)):
            pool = rng.choice(pools)
            sell, buy = rng.choice(((pool.token0, pool.token1), (pool.token1, pool.token0)))
            digits = next(t.decimals for t in book.tokens if t.address == sell)
            price = book.prices_e8[book.index(sell)]
            if rng.random() < 0.4:
                push = int(rng.uniform(1e5, 3e7) * 10**digits * 1e8 / price)
                calls.append(pushed(pool, sell, buy, thief, push))
            amount = int(rng.uniform(1e3, 1e6) * 10**digits * 1e8 / price)
            data = order(fund, [sell, buy], [pool.fee_pips], amount)
            calls.append({"from": keeper, "to": fund.fund.comptroller, "data": "0x" + data.hex()})
        blocks.append((now, tuple(calls)))
    return asking(seed, blocks, fund.spec.address, book.tokens)


def order(fund: EnzymeFund, route: list[str], fees: list[int], amount: int, least: int = 1, swapper: str = "") -> bytes:
    """Return the manager's call that sells ``amount`` along ``route`` for at least ``least``."""
    action = encode(["address[]", "uint24[]", "uint256", "uint256"], [route, fees, amount, least])
    args = encode(["address", "bytes4", "bytes"], [swapper or fund.fund.swapper, selector(TAKE_ORDER), action])
    return calldata(CALL, fund.fund.manager, 0, args)


def main() -> int:
    """Run the thief's sequences on a market of its own; exit 1 where one takes more than it may."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with start(extras=[enzyme_fund(TARGETS, tolerance=TOLERANCE)], at=CLOCK) as net:
        into_the_hour(net, 60)
        fund = enzyme_vault(Rpc(net.node_url), net.world, TARGETS, mandate=Mandate(cooldown_s=0))
        found = fuzz(net, fund, given.sequences, TOLERANCE, seed=given.seed, progress=True)
    print("\n".join(found.over[:20]))
    print(f"{found.sequences} sequences, {found.words()}, which is {TOLERANCE:.0%} a week")
    return 1 if found.over else 0


if __name__ == "__main__":
    raise SystemExit(main())
