"""From wanted weights to a sealed plan: netted legs in integers, routed, with floors and tolerances.

Weights become parts per 1e12 once; from there on everything is integer arithmetic on raw amounts and USD x 1e18.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lake.units import BPS, Bps
from policy.base import Matrix, Vector
from policy.execution.base import Leg, Plan, Snapshot, Verdict
from policy.execution.checks.rules import E10, VaultBook
from policy.execution.checks.verdicts import passed, refused
from policy.execution.routing.amm import Pool, V3Pool
from policy.execution.routing.calldata import price_limit, swap
from policy.execution.routing.router import RouteFill, Routing, best_execution
from policy.execution.routing.sandwich import ATTACK_GAS, Depth, break_even, depth_of, tolerance_bps
from policy.execution.routing.wholeunits import Whole, in_whole_units
from policy.execution.routing.yields import VENUE

PARTS = 10**12
E18 = 10**18
MOST_SLIPPAGE = Bps(100)
MOST_GAIN = Bps(500)


@dataclass(frozen=True, slots=True)
class PlanRules:
    """How a plan is made.

    ``min_trade_usd``: smaller legs are dropped (gas of a leg over the band's benefit; raise it where gas is expensive).
    ``max_slippage_bps``: most a leg may lose to its minimum. ``max_gain_bps``: a leg whose quote beats the oracle by
    more proves the oracle wrong and is refused (the deviation allowed between two sources of a price). ``deadline_s``:
    a plan can land no later; long enough for several bumps, short against the quotes' life. ``z``: price moves of this
    many deviations over ``wait_blocks`` must not fail a leg. ``hidden``: a private channel can be used; in the open,
    tolerances fall to the attacker's break-even.
    """

    min_trade_usd: float = 50.0
    max_slippage_bps: Bps = MOST_SLIPPAGE
    max_gain_bps: Bps = MOST_GAIN
    max_legs: int = 8
    deadline_s: int = 600
    z: float = 2.33
    wait_blocks: int = 3
    hidden: bool = True
    leg_gas: int = 145_000
    hop_gas: int = 90_000


@dataclass(frozen=True, slots=True)
class Costs:
    """Prices of acting, for routing and profitability: wei per gas, USD per native coin, seconds per block."""

    gas_wei: int
    native_usd: float
    block_time_s: float = 12.0

    def gas_usd(self, gas: int) -> float:
        """Return USD of ``gas`` units."""
        return gas * self.gas_wei / 1e18 * self.native_usd


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan before it is sealed, with what it is expected to cost (USD)."""

    legs: tuple[Leg, ...] = ()
    slippage_usd: float = 0.0  # pool fees and impact against the oracle, by exact quotes
    at_risk_usd: float = 0.0  # what a sandwich can take on the public route
    tolerances_bps: tuple[int, ...] = ()
    break_evens_bps: tuple[int, ...] = ()
    value_usd: float = 0.0  # value sold
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True)
class PriceRisk:
    """What planning knows of the near future: covariance per hour of the tokens, forecast slippage spread by pair."""

    covariance: Matrix
    slippage_spread: Mapping[tuple[int, int], float] = field(default_factory=dict)


def book_of(snapshot: Snapshot) -> VaultBook:
    """Return the snapshot's book, prices in the order of its tokens."""
    prices = {q.token: q.price_e8 for q in snapshot.quotes}
    return VaultBook(
        snapshot.tokens,
        snapshot.targets_bps,
        tuple(max(0, prices.get(t.address, 0)) for t in snapshot.tokens),
        snapshot.holdings,
    )


def pairs(
    book: VaultBook,
    weights: Vector,
    max_turnover_bps: int,
    leave: Collection[int] = (),
    shares: Mapping[int, int] | None = None,
) -> list[tuple[int, int, int]]:
    """Return netted trades (from, to, USD x 1e18) that bring ``book`` to ``weights``: at most n - 1 of them.

    The largest surplus meets the largest lack. Where the turnover would exceed the cap, all trades shrink alike.
    Positions in ``leave`` keep what they have. ``shares``: yield-bearing tokens with the asset each is made of; they
    are turned into it before the others trade, and made of it after them.
    """
    total = book.total()
    parts = [round(float(w) * PARTS) for w in weights]
    parts[int(np.argmax(weights))] += PARTS - sum(parts)
    gaps = [p * total // PARTS - book.value(i, h) for i, (p, h) in enumerate(zip(parts, book.holdings, strict=True))]
    if leave:
        gaps = [0 if i in leave else g for i, g in enumerate(gaps)]
        rest = [i for i in range(len(gaps)) if i not in leave]
        gaps[max(rest, key=lambda i: float(weights[i]))] -= sum(gaps)
    sold = sum(-g for g in gaps if g < 0)
    cap = total * max_turnover_bps // BPS
    if sold > cap:
        gaps = [g * cap // sold if g >= 0 else -(-g * cap // sold) for g in gaps]
    found: list[tuple[int, int, int]] = []
    made: list[tuple[int, int, int]] = []
    for share, asset in (shares or {}).items():
        gap, gaps[share] = gaps[share], 0
        gaps[asset] += gap
        (found if gap < 0 else made).append((share, asset, -gap) if gap < 0 else (asset, share, gap))
    made = [pair for pair in made if pair[2] > 0]
    while True:
        low, high = min(range(len(gaps)), key=gaps.__getitem__), max(range(len(gaps)), key=gaps.__getitem__)
        size = min(-gaps[low], gaps[high])
        if size <= 0:
            return found + made
        found.append((low, high, size))
        gaps[low] += size
        gaps[high] -= size


def draft(
    vault: str,
    snapshot: Snapshot,
    weights: Vector,
    pools: Sequence[Pool],
    outlook: PriceRisk,
    costs: Costs,
    rules: PlanRules,
    leave: Collection[int] = (),
) -> Draft:
    """Return the legs that bring ``vault`` to ``weights``, each routed at the state the legs before it leave.

    Nothing is bought or sold of the tokens at the positions ``leave``.
    """
    book = book_of(snapshot)
    terms = _Terms(vault, snapshot.block_time + rules.deadline_s, outlook, costs, rules)
    legs: list[Leg] = []
    notes: list[Verdict] = []
    slippage = at_risk = sold = 0.0
    tolerances: list[int] = []
    evens: list[int] = []
    state = {p.address: p for p in pools}
    most = min(rules.max_legs, snapshot.max_legs)
    wanted = pairs(book, weights, snapshot.max_turnover_bps, leave, shares_of(book, pools))
    held = list(book.holdings)
    large = [p for p in wanted if p[2] / E18 >= rules.min_trade_usd]
    notes += [_small(book, p) for p in wanted if p not in large]
    notes += [_waits(book, p, most) for p in large[most:]]
    large = large[:most]  # where not every pair gets a leg, the first do: they are the largest
    for rest, (i, j, size) in zip(range(len(large) - 1, -1, -1), large, strict=True):
        usd = size / E18
        symbols = f"{book.tokens[i].symbol} -> {book.tokens[j].symbol}"
        legs_left = most - len(legs) - rest  # one for each pair still to come
        if legs_left <= 0:
            notes.append(_waits(book, (i, j, size), most))
            continue
        amount = min(size * 10 ** book.tokens[i].decimals // (book.prices_e8[i] * 10**10), held[i])
        whole = _whole(book, (i, j, size), amount, state, outlook, costs, rules)
        if whole is not None:
            amount = whole.amount
            notes.append(whole.note)
            if not amount:
                continue
        way = whole.way if whole is not None else None
        way = way or _route(book, i, j, amount, state, costs, rules, legs_left)
        if way is None:
            notes.append(refused("no_route", f"{symbols}: no pool can take {usd:.0f} USD", **ends(book, i, j), usd=usd))
            continue
        for fill in way.fills:
            leg, even, risk = _leg(terms, book, (i, j), fill, state, way)
            legs.append(leg)
            held[i], held[j] = held[i] - leg.amount_in, held[j] + leg.min_out
            evens.append(min(BPS, int(even * BPS)))
            tolerances.append(_tolerance(leg))
            at_risk += risk
        lost = book.value(i, amount) - book.value(j, way.out)
        slippage += lost / E18
        sold += book.value(i, amount) / E18
        state.update(way.after)
        notes += _against_oracle(book, i, j, amount, way.out, rules)
    return Draft(tuple(legs), slippage, at_risk, tuple(tolerances), tuple(evens), sold, tuple(notes))


def shares_of(book: VaultBook, pools: Sequence[Pool]) -> dict[int, int]:
    """Return the places of the yield-bearing tokens with that of the asset each is made of."""
    ends = {p.token0: p.token1 for p in pools if p.venue == VENUE}
    places = {share: (book.index(share), book.index(asset)) for share, asset in ends.items()}
    return {share: asset for share, asset in places.values() if share >= 0 and asset >= 0}


def _waits(book: VaultBook, pair: tuple[int, int, int], most: int) -> Verdict:
    i, j, size = pair
    usd = size / E18
    symbols = f"{book.tokens[i].symbol} -> {book.tokens[j].symbol}"
    return passed("max_legs", f"{symbols}: {usd:.0f} USD waits, a plan has {most} legs", usd=usd)


def _small(book: VaultBook, pair: tuple[int, int, int]) -> Verdict:
    i, j, size = pair
    usd = size / E18
    symbols = f"{book.tokens[i].symbol} -> {book.tokens[j].symbol}"
    return passed("min_trade", f"{symbols}: {usd:.2f} USD is left alone", usd=usd)


def ends(book: VaultBook, i: int, j: int) -> dict[str, str]:
    """Return the addresses of a pair's tokens, as a verdict's figures."""
    return {"token_in": book.tokens[i].address, "token_out": book.tokens[j].address}


def _whole(
    book: VaultBook,
    pair: tuple[int, int, int],
    amount: int,
    state: Mapping[str, Pool],
    outlook: PriceRisk,
    costs: Costs,
    rules: PlanRules,
) -> Whole | None:
    """Return how a pair with a coarse token is traded; None where both tokens divide finely."""
    i, j, size = pair
    room = needed_tolerance(outlook, i, j, costs, rules)
    most = min(amount * (BPS + rules.max_slippage_bps) // BPS, book.holdings[i])
    return in_whole_units(book, i, j, size, most, room, lambda x: _route(book, i, j, x, state, costs, rules, 1))


def _route(
    book: VaultBook,
    i: int,
    j: int,
    amount: int,
    state: Mapping[str, Pool],
    costs: Costs,
    rules: PlanRules,
    legs_left: int,
) -> Routing | None:
    """Return the best execution of ``amount`` of token ``i`` into ``j``, gas counted in token ``j``."""
    if amount <= 0 or legs_left <= 0:
        return None
    per_usd = 10 ** book.tokens[j].decimals * 1e8 / book.prices_e8[j]
    return best_execution(
        tuple(state.values()),
        book.tokens[i].address,
        book.tokens[j].address,
        amount,
        leg_cost_out=costs.gas_usd(rules.leg_gas) * per_usd,
        hop_cost_out=costs.gas_usd(rules.hop_gas) * per_usd,
        most_legs=legs_left,
    )


@dataclass(frozen=True, slots=True)
class _Terms:
    """What holds for every leg of a plan: whose it is, until when it may be mined, and what bounds its tolerance."""

    vault: str
    deadline: int  # Unix seconds
    outlook: PriceRisk
    costs: Costs
    rules: PlanRules


def _leg(
    terms: _Terms, book: VaultBook, pair: tuple[int, int], fill: RouteFill, state: Mapping[str, Pool], way: Routing
) -> tuple[Leg, float, float]:
    """Return the leg, the attacker's break-even (fraction) and USD at risk on the public route."""
    (i, j), rules, deadline = pair, terms.rules, terms.deadline
    even = _break_even(book, i, fill, state, terms.costs)
    needed = needed_tolerance(terms.outlook, i, j, terms.costs, rules)
    tolerance, open_to_attack = tolerance_bps(needed, even, rules.max_slippage_bps, hidden=rules.hidden)
    min_out = -(-fill.out * (BPS - tolerance) // BPS)
    last = way.after[fill.hops[-1].pool]
    single = len(fill.hops) == 1 and isinstance(last, V3Pool)
    limit = price_limit(last, fill.hops[0].token_in, tolerance) if single else 0
    target = state[fill.hops[0].pool].router
    data = swap(fill.hops, fill.amount_in, min_out, terms.vault, deadline, limit) if target.startswith("0x") else b""
    leg = Leg(
        token_in=book.tokens[i].address,
        token_out=book.tokens[j].address,
        amount_in=fill.amount_in,
        min_out=min_out,
        quoted_out=fill.out,
        path=fill.hops,
        target=target,
        calldata=data,
    )
    risk = book.value(j, fill.out - min_out) / E18 if open_to_attack else 0.0
    return leg, even, risk


def _break_even(book: VaultBook, i: int, fill: RouteFill, state: Mapping[str, Pool], costs: Costs) -> float:
    """Return the smallest break-even over the route's pools; raw amounts of each hop's own input."""
    even = 1.0
    amount = float(fill.amount_in)
    usd_per_raw = book.prices_e8[i] / 1e8 / 10 ** book.tokens[i].decimals
    for hop in fill.hops:
        depth: Depth | None = depth_of(state[hop.pool], hop.token_in)
        if depth is None:
            continue
        cost = costs.gas_usd(ATTACK_GAS) / usd_per_raw
        even = min(even, break_even(depth, amount, cost))
        got = depth.y * depth.keep * amount / (depth.x + depth.keep * amount)
        usd_per_raw, amount = usd_per_raw * amount / got, got
    return even


def needed_tolerance(outlook: PriceRisk, i: int, j: int, costs: Costs, rules: PlanRules) -> float:
    """Return the room (fraction) the market needs: forecast slippage spread plus ``z`` deviations of the pair's price
    over the blocks until inclusion.
    """
    c = outlook.covariance
    variance = max(0.0, float(c[i, i] + c[j, j] - 2 * c[i, j]))
    hours = rules.wait_blocks * costs.block_time_s / 3_600
    return float(outlook.slippage_spread.get((i, j), 0.0)) + rules.z * float(np.sqrt(variance * hours))


def _tolerance(leg: Leg) -> int:
    return (leg.quoted_out - leg.min_out) * BPS // leg.quoted_out


def _against_oracle(book: VaultBook, i: int, j: int, amount: int, out: int, rules: PlanRules) -> list[Verdict]:
    """Return a refusal where the quotes lose more against the oracle than allowed, or beat it by more than honest.

    A quote far better than the oracle is no gain: one of the two prices is wrong, and whoever leaves the vault next is
    paid at the wrong one.
    """
    symbols = f"{book.tokens[i].symbol} -> {book.tokens[j].symbol}"
    sold, bought = book.value(i, amount), book.value(j, out)
    loss = -(-(sold - bought) * BPS // sold) if sold else 0
    if -loss > rules.max_gain_bps:
        return [_disproved(book, i, j, amount, out, -loss, rules)]
    if loss > rules.max_slippage_bps:
        reason = f"{symbols}: the best route loses {loss} bp against the oracle, allowed {rules.max_slippage_bps} bp"
        figures = {"loss_bps": loss, "allowed_bps": int(rules.max_slippage_bps)}
        return [refused("slippage", reason, **ends(book, i, j), **figures)]
    return [passed("slippage", f"{symbols}: {loss} bp against the oracle", loss_bps=loss)]


def _disproved(book: VaultBook, i: int, j: int, amount: int, out: int, gain_bps: int, rules: PlanRules) -> Verdict:
    """Return the refusal of a quote that the oracle's prices cannot explain, naming token, feed and both prices.

    The accounting asset (the first) is what the others are measured in, so the other token's feed is the one doubted.
    """
    doubted, held = (i, j) if j == 0 else (j, i)
    given, taken = (amount, out) if doubted == i else (out, amount)
    token, price_e8 = book.tokens[doubted], book.prices_e8[doubted]
    market_e8 = book.value(held, taken) * 10**token.decimals // (given * E10) if given else 0
    reason = (
        f"{token.symbol}: the market trades at {market_e8 / 1e8:.8g} USD, its feed {token.feed or 'unknown'} says "
        f"{price_e8 / 1e8:.8g} USD: {gain_bps} bp better than the oracle, {rules.max_gain_bps} bp are honest"
    )
    figures = {"gain_bps": gain_bps, "allowed_bps": int(rules.max_gain_bps)}
    prices = {"price_e8": price_e8, "market_e8": market_e8, "feed": token.feed or ""}
    return refused("oracle_disproved", reason, token=token.address, **ends(book, i, j), **prices, **figures)


def seal_ready(decision_id: str, vault: str, snapshot: Snapshot, legs: Sequence[Leg], rules: PlanRules) -> Plan:
    """Return the plan without its hash: nonce, deadline and a NAV floor that follows from the legs' minima."""
    book = book_of(snapshot)
    given = sum(book.value(book.index(leg.token_in), leg.amount_in) for leg in legs)
    taken = sum(book.value(book.index(leg.token_out), leg.min_out) for leg in legs)
    total = book.total()
    least = total - max(0, given - taken)
    floor = max(snapshot.nav * least // total - len(legs) - 1, snapshot.nav - snapshot.loss_budget_left)
    return Plan(
        decision_id=decision_id,
        vault=vault,
        chain_id=snapshot.chain_id,
        nonce=snapshot.plan_nonce,
        deadline=snapshot.block_time + rules.deadline_s,
        min_nav=max(0, floor),
        legs=tuple(legs),
        plan_hash=b"",
        block_number=snapshot.block_number,
        block_hash=snapshot.block_hash,
    )
