"""The choice between swapping in the pools now and offering to others: what each is expected to cost.

An auction moves gas to the filler and needs no depth, but it waits and the keeper pays for arming and ending it. A
forced trade always swaps, and so does the trade after an order that nobody filled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from lake.errors import RpcError
from lake.units import BPS, WEI_PER_GWEI
from policy.auction_cost import Auction, AuctionCost, auction_cost, priority_cost
from policy.base import Decision
from policy.execution.auctions.orders import ZERO, Order, VenueKind
from policy.execution.auctions.terms import AuctionTerms
from policy.execution.base import Plan, Simulation, Snapshot, Verdict
from policy.execution.checks.verdicts import passed, refusals
from policy.execution.context import EngineContext, StepReport
from policy.execution.observation import Seen
from policy.execution.preparation import Ready
from policy.execution.records.journal import ENDINGS
from policy.execution.vaults.reference.offering import House

PPB_A_BP = 100_000
_HOURS_A_YEAR = 8_766.0
_USUAL_SIGMA = 0.6


@runtime_checkable
class Auctioneer(Protocol):
    """A vault that can be asked whether it would sign an order, see ``vaults.reference.offering.Offering``."""

    def house(self) -> House:
        """Return where it can offer."""
        ...

    def offer(self, plan: Plan, order: Order) -> Plan:
        """Return the plan that offers the order."""
        ...

    def judge(self, plan: Plan, sender: str) -> tuple[list[Verdict], int]:
        """Return whether it would sign, and the gas of arming."""
        ...


@dataclass(frozen=True, slots=True)
class Expected:
    """What both ways are expected to cost, basis points of what is sold."""

    pool_bp: float
    auction: AuctionCost


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest pair of a plan: positions of the two tokens, raw amount sold, USD, share of the plan's value."""

    sell: int
    buy: int
    amount: int
    usd: float
    share: float


def choose(ctx: EngineContext, report: StepReport, seen: Seen, decision: Decision, ready: Ready) -> Ready:
    """Return ``ready``, or the offer of its largest pair where that is expected to cost less; says why either way."""
    terms, vault = ctx.auctions, ctx.vault
    if terms is None or not isinstance(vault, Auctioneer):
        return ready
    why = _closed(ctx, seen.snapshot, decision)
    pair = _largest(seen.snapshot, ready.plan)
    if why or pair is None:
        report.verdicts.append(passed("channel_pool", f"the trade swaps in the pools: {why or 'it sells nothing'}"))
        return ready
    pool_bp = report.expected["cost_usd"] * pair.share / pair.usd * BPS
    auction = terms.falling(_sigma(seen, pair), ctx.limits.block_time_s)
    kind, cost = _cheapest(terms, auction, vault, seen, pair)
    figures = {"pool_bp": round(pool_bp, 2)} | ({} if cost is None else {"auction_bp": round(cost.total_bp, 2)})
    if kind is None or cost is None or cost.total_bp + terms.min_saving_bp > pool_bp:
        said = "no venue is listed" if cost is None else f"an auction is expected to cost {cost.total_bp:.1f} bp"
        text = f"the trade swaps in the pools for {pool_bp:.1f} bp: {said}"
        report.verdicts.append(passed("channel_pool", text, **figures))
        return ready
    order = order_for(
        replace(terms, block_s=ctx.limits.block_time_s),
        auction,
        kind,
        vault.house().venues.of(kind),
        seen.snapshot,
        pair,
    )
    return _offered(ctx, report, vault, ready, order, Expected(pool_bp, cost))


def _closed(ctx: EngineContext, snapshot: Snapshot, decision: Decision) -> str:
    """Return why nothing may be offered now, empty where it may."""
    if decision.action == "forced":
        return "a forced trade cannot wait"
    last = ctx.journal.last()
    unfilled = last is not None and last.state in ENDINGS - {"filled"}
    if last is not None and unfilled and snapshot.block_time - last.plan.deadline < ctx.limits.epoch_s:
        return "nobody filled the order before"
    return ""


def _largest(snapshot: Snapshot, plan: Plan) -> Largest | None:
    places = {t.address: k for k, t in enumerate(snapshot.tokens)}
    sums: dict[tuple[int, int], int] = {}
    for leg in plan.legs:
        key = places[leg.token_in], places[leg.token_out]
        sums[key] = sums.get(key, 0) + leg.amount_in
    worth = {key: _usd(snapshot, key[0], amount) for key, amount in sums.items()}
    if not worth or max(worth.values()) <= 0:
        return None
    best = max(worth, key=lambda key: worth[key])
    return Largest(*best, sums[best], worth[best], worth[best] / sum(worth.values()))


def _usd(snapshot: Snapshot, i: int, amount: int) -> float:
    return float(amount) * snapshot.quotes[i].price_e8 / 10.0 ** (8 + snapshot.tokens[i].decimals)


def _cheapest(
    terms: AuctionTerms, auction: Auction, vault: Auctioneer, seen: Seen, pair: Largest
) -> tuple[VenueKind | None, AuctionCost | None]:
    """Return the listed venue that is expected to cost least."""
    try:
        venues = vault.house().venues
    except RpcError:
        return None, None
    there = [kind for kind in terms.venues if venues.of(kind) != ZERO]
    gwei, native = seen.gas_price_wei / WEI_PER_GWEI, seen.view.native_usd
    sigma = _sigma(seen, pair)
    costs = {
        kind: priority_cost(pair.usd, gwei, native_usd=native, fillers=terms.fillers)
        if kind is VenueKind.PRIORITY
        else auction_cost(
            pair.usd, gwei, sigma, terms.lag_bp, native_usd=native, auction=auction, fillers=terms.fillers
        )
        for kind in there
    }
    if not costs:
        return None, None
    best = min(costs, key=lambda kind: costs[kind].total_bp)
    return best, costs[best]


def _sigma(seen: Seen, pair: Largest) -> float:
    """Return the volatility of the pair, a year, by the hourly covariance the decision stands on."""
    cov = np.asarray(seen.view.covariance)
    variance = cov[pair.sell, pair.sell] + cov[pair.buy, pair.buy] - 2 * cov[pair.sell, pair.buy]
    return float(np.sqrt(variance * _HOURS_A_YEAR)) if np.isfinite(variance) and variance > 0 else _USUAL_SIGMA


def order_for(
    terms: AuctionTerms, auction: Auction, kind: VenueKind, venue: str, snapshot: Snapshot, pair: Largest
) -> Order:
    """Return the order of ``pair`` at the oracle's prices of ``snapshot``; its charge covers worst price and slack."""
    sell, buy = snapshot.tokens[pair.sell], snapshot.tokens[pair.buy]
    value = pair.amount * snapshot.quotes[pair.sell].price_e8 * 10**buy.decimals
    fair = value // (snapshot.quotes[pair.buy].price_e8 * 10**sell.decimals)
    falling = kind is VenueKind.DUTCH
    worst_bp = -auction.least_bp if falling else terms.floor_bp
    nav_usd = sum(_usd(snapshot, k, held) for k, held in enumerate(snapshot.holdings))
    lost_bp = max(worst_bp, 0.0) + terms.slack_bp
    begins = snapshot.block_time + terms.delay_s
    order = Order(
        kind=kind, venue=venue, sell=sell.address, buy=buy.address, amount=pair.amount, least=_less(fair, worst_bp),
        expiry=snapshot.block_time + terms.open_s(kind, auction, terms.block_s), nonce=snapshot.plan_nonce,
        charge_ppb=int(lost_bp * PPB_A_BP * pair.usd / nav_usd) + 1,
    )  # fmt: skip
    if falling:
        ends = begins + int((auction.blocks - 1) * terms.block_s)
        return replace(order, start=_less(fair, -auction.start_bp), starts=begins, ends=ends)
    if kind is VenueKind.PRIORITY:
        return replace(order, start=terms.mps_per_tip, starts=snapshot.block_number + 1)
    return order


def _less(amount: int, bp: float) -> int:
    return amount * (BPS * 100 - round(bp * 100)) // (BPS * 100)


def _offered(
    ctx: EngineContext,
    report: StepReport,
    vault: Auctioneer,
    ready: Ready,
    order: Order,
    expected: Expected,
) -> Ready:
    """Return the offer as what is ready to be sent; the pools' plan where the vault would not sign it."""
    pool_bp, cost = expected.pool_bp, expected.auction
    plan = vault.offer(ready.plan, order)
    found, gas = vault.judge(plan, ctx.sender)
    figures = {"pool_bp": round(pool_bp, 2), "auction_bp": round(cost.total_bp, 2), "wait_s": round(cost.wait_s)}
    if refusals(found):
        why = refusals(found)[0].reason
        report.verdicts.append(passed("channel_pool", f"the trade swaps in the pools: {why}", **figures))
        return ready
    report.verdicts += [
        *found,
        passed(
            "channel_auction",
            f"offered as a {order.kind} order for {cost.total_bp:.1f} bp expected; the pools cost {pool_bp:.1f} bp",
            **figures,
        ),
    ]
    report.plan, report.legs, report.channel = plan, plan.legs, "public"
    report.gas_limit = gas * 5 // 4 * (100 + ctx.limits.gas_margin_percent) // 100
    report.expected |= {"auction_bp": cost.total_bp, "pool_bp": pool_bp, "auction_wait_s": cost.wait_s}
    simulation = Simulation(True, gas, {order.sell: -order.amount, order.buy: order.least})
    channel = "public" if "public" in ctx.channels else ready.channel
    return replace(
        ready, plan=plan, simulation=simulation, gas_limit=report.gas_limit, channel=channel, other_cost_usd=0.0
    )
