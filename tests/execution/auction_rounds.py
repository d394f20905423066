"""Auctions on recorded prices: ``make auctions`` runs 50 rounds of each kind on a local chain and prints a table.

Ether's recorded minutes, bridged to blocks of 12 seconds, are the market; the feeds follow it by the rule of most feeds
(half a per cent of deviation, or an hour). A vault of a million dollars buys 20 ether, one heavy in ether sells
them, by turns; orders are priced as the engine does it. Three bidders hedge at 3 bp x U(0.5, 1.5) each and want 1 bp;
one is a block behind the others. What the vault got is counted after the keeper's own gas.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from lake.evm import calldata
from lake.rpc import quantity
from policy.execution.auctions.orders import VenueKind
from policy.execution.auctions.terms import AuctionTerms
from policy.execution.base import Plan
from policy.execution.channel_choice import Largest, order_for
from policy.execution.checks.rules import Mandate
from policy.execution.vaults.reference.adapter import ReferenceVault
from policy.localnet.market import Localnet, start
from policy.localnet.portfolio import reference_vault
from tests.chain_fixtures import CLOCK
from tests.localnet.bidders import Bidder, Bidders

RECORDED = Path(os.environ.get("FOREDRIFT_DATA", "../shared/data")) / "prices_1m_2025_06.parquet"
GWEI = 5.0
ETHER = 20.0
BLOCKS = 60
TARGETS = {"USDC": 5_000, "ETH": 5_000}
WIDE = Mandate(turnover_bps=8_000, cooldown_s=12, loss_budget_ppb=900_000_000, long_budget_ppb=900_000_000,
               life_budget_ppb=900_000_000, strikes=255)  # fmt: skip
SIGMA = 0.6


@dataclass
class Score:
    """What one kind of auction gave: basis points, after the keeper's gas; blocks to the fill."""

    oracle: list[float] = field(default_factory=list)
    market: list[float] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    unfilled: int = 0
    under_floor: int = 0


def recorded(path: Path) -> np.ndarray:
    """Ether's price in USD every 12 seconds: recorded closes a minute apart, and straight lines between."""
    rows = pl.read_parquet(path).filter(pl.col("asset") == "ETH").sort("ts")["close"].to_numpy()
    return np.interp(np.arange((len(rows) - 1) * 5) / 5.0, np.arange(len(rows)), rows)


def feed_of(path: np.ndarray) -> np.ndarray:
    """What a feed shows that posts at half a per cent of deviation, and hourly."""
    shown, last, at = np.empty_like(path), path[0], 0
    for k, price in enumerate(path):
        if abs(math.log(price / last)) > 0.005 or k - at >= 300:
            last, at = price, k
        shown[k] = last
    return shown


@contextmanager
def market(price: float) -> Iterator[Localnet]:
    """A chain on which the vault holds half ether."""
    extra = reference_vault(TARGETS, mandate=WIDE, offers=True)
    with start({"ETH": price, "BTC": 100_000.0, "LINK": 15.0, "UNI": 8.0, "AAVE": 250.0}, extras=[extra], at=CLOCK,
               gas_gwei=GWEI) as net:  # fmt: skip
        yield net


def one_round(net: Localnet, kind: VenueKind, fair: np.ndarray, shown: np.ndarray, chance: random.Random) -> Score:
    """Offer, let bidders act block by block, end the order; what it gave as a score of one."""
    vault = ReferenceVault(net.rpc, net.world.extras["vault"])
    net.advance_prices({"ETH": float(shown[0])}, gas_gwei=GWEI, pools=False)
    net.mine(2, base_fee_wei=int(GWEI * 1e9))
    terms, snapshot = AuctionTerms(), vault.snapshot()
    sells = snapshot.holdings[1] * shown[0] / 1e18 > snapshot.holdings[0] / 1e6
    amount = int(ETHER * 1e18) if sells else int(ETHER * shown[0] * 1e6)
    pair = Largest(int(sells), int(not sells), amount, ETHER * float(shown[0]), 1.0)
    auction = terms.falling(SIGMA, 12.0)
    order = order_for(terms, auction, kind, vault.house().venues.of(kind), snapshot, pair)
    where = ("", snapshot.plan_nonce, order.expiry)
    blank = Plan(where[0], vault.address, net.chain_id, where[1], where[2], 0, (), b"", 0, "")
    plan = vault.offer(blank, order)
    arm = net.send("keeper", vault.address, vault.build(plan).data)
    costs = [3.0 * chance.uniform(0.5, 1.5) for _ in range(3)]
    crowd = [
        Bidder(r, c, latency=k // 2)
        for k, (r, c) in enumerate(zip(("searcher", "trader", "provider"), costs, strict=True))
    ]
    bidders = Bidders(net, vault.address, crowd, next_block=net.node.head().number)
    net.mine(1, base_fee_wei=int(GWEI * 1e9))
    score, filled = Score(), -1
    for k in range(1, BLOCKS):
        if shown[k] != shown[k - 1]:
            net.advance_prices({"ETH": float(shown[k])}, gas_gwei=GWEI, pools=False)
        bidders.act({"USDC": 1.0, "ETH": float(fair[k])})
        head = net.mine(1, base_fee_wei=int(GWEI * 1e9))
        if vault.order_state(plan).filled:
            filled = k
            break
        if head.time > order.expiry:
            break
    end = net.send("keeper", vault.address, vault.disarm(net.chain_id).data)
    net.mine(1, base_fee_wei=int(GWEI * 1e9))
    if filled < 0:
        score.unfilled = 1
        return score
    after = vault.snapshot().holdings
    got = [b - a for a, b in zip(snapshot.holdings, after, strict=True)]
    paid = sum(quantity(net.receipt(t)["gasUsed"]) for t in (arm, end)) * GWEI * 1e-9 * float(fair[filled])

    def worth(price: float) -> float:
        sold, bought = (-got[1] / 1e18 * price, got[0] / 1e6) if sells else (-got[0] / 1e6, got[1] / 1e18 * price)
        return (bought - paid) / sold * 1e4 - 1e4

    score.oracle, score.market, score.blocks = [worth(float(shown[0]))], [worth(float(fair[filled]))], [filled]
    score.under_floor = int(got[int(not sells)] < order.least)
    return score


def rounds(count: int, seed: int, kinds: tuple[VenueKind, ...], fair: np.ndarray) -> dict[VenueKind, Score]:
    """Run ``count`` rounds of each kind over the same stretches of ``fair``, USD every 12 seconds."""
    shown = feed_of(fair)
    found = {kind: Score() for kind in kinds}
    with market(float(fair[0])) as net:
        for kind in kinds:
            chance, at = random.Random(seed), 0
            for number in range(count):
                if number % 2 == 0:  # both ways over one stretch: what the oracle lags by falls out of the mean
                    at = chance.randrange(400, len(fair) - BLOCKS - 1)
                saved = net.snapshot()
                if number % 2:  # every other vault is heavy in ether
                    give = calldata("transfer(address,uint256)", net.world.extras["vault"], 3_000 * 10**18)
                    net.send("provider", net.world.token("ETH").address, give)
                    net.mine()
                one = one_round(net, kind, fair[at : at + BLOCKS], shown[at : at + BLOCKS], chance)
                net.revert(saved)
                total = found[kind]
                for name in ("oracle", "market", "blocks"):
                    getattr(total, name).extend(getattr(one, name))
                total.unfilled += one.unfilled
                total.under_floor += one.under_floor
    return found


def table(found: dict[VenueKind, Score]) -> str:
    """One line a kind."""
    lines = [
        "| order | rounds | filled | oracle, mean bp | market at fill, mean bp | worst | blocks | under its floor |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for kind, s in found.items():
        total = len(s.oracle) + s.unfilled
        lines.append(
            f"| {kind} | {total} | {len(s.oracle)} | {np.mean(s.oracle):.1f} | {np.mean(s.market):.1f} "
            f"| {min(s.market):.1f} | {np.mean(s.blocks):.1f} | {s.under_floor} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Print the table; 1 where the vault got less than it must."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    if not RECORDED.exists():
        print(f"no recorded minutes at {RECORDED}: point FOREDRIFT_DATA at their folder")
        return 1
    found = rounds(given.rounds, given.seed, (VenueKind.DUTCH, VenueKind.PRIORITY), recorded(RECORDED))
    print(table(found))
    least = {VenueKind.DUTCH: -8.0, VenueKind.PRIORITY: -7.0}
    short = [k for k, s in found.items() if min(np.mean(s.market), np.mean(s.oracle)) < least[k] or s.under_floor]
    return int(bool(short))


if __name__ == "__main__":
    sys.exit(main())
