"""Refusals before a departure, by name, of both chains: no plan that any of them stops is ever signed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lake.errors import RpcError
from lake.universe import bridge as bridge_row
from policy.execution.base import Snapshot, Verdict
from policy.execution.bridges.base import Transfer, TransferQuote, converted
from policy.execution.bridges.finality import final_block
from policy.execution.checks.verdicts import refused
from policy.execution.transfers.ends import End, TransferContext, route_key
from policy.execution.transfers.ledger import CashCount, in_transit_usd
from policy.execution.transfers.saga import CLOSED, Saga, SagaState

DAY_S = 86_400
BPS = 10_000


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a departure is judged by: the transfer, its quote, both chains' newest snapshots and the count of cash."""

    transfer: Transfer
    quote: TransferQuote
    snapshots: Mapping[int, Snapshot]
    count: CashCount

    @property
    def sides(self) -> tuple[Snapshot, Snapshot]:
        """The snapshots of the origin and the destination."""
        t = self.transfer
        return self.snapshots[t.origin.chain_id], self.snapshots[t.destination.chain_id]

    def usd(self, raw: int) -> float:
        """Return ``raw`` units of the origin in USD."""
        t = self.transfer
        return float(raw / 10**t.origin.decimals * price_e8(self.sides[0], t.origin.token) / 1e8)


def price_e8(snapshot: Snapshot, token: str) -> int:
    """Return the price of ``token`` in ``snapshot``, 0 where there is none."""
    return next((q.price_e8 for q in snapshot.quotes if q.token.lower() == token.lower()), 0)


def worth_usd(snapshots: Iterable[Snapshot]) -> float:
    """Return the NAV of all chains without what is in transit, USD."""
    return float(sum(s.nav / 10 ** s.tokens[0].decimals * price_e8(s, s.tokens[0].address) / 1e8 for s in snapshots))


def departure_verdicts(ctx: TransferContext, prospect: Prospect) -> tuple[Verdict, ...]:
    """Return every reason not to let the transfer depart; empty where it may. A chain that fails to answer is one."""
    t = prospect.transfer
    origin, destination = ctx.end(t.origin.chain_id), ctx.end(t.destination.chain_id)
    try:
        found = [
            *ctx.bridge(t).preflight(t),
            *_route(origin, destination, prospect),
            *_ready(destination, prospect, ctx),
            *(v for end in (origin, destination) for v in _chain(end, ctx)),
            *_clocks(ctx, prospect),
            *_oracles(ctx, prospect),
            *_caps(ctx, prospect),
            *_sagas(ctx, t),
            *_quote(ctx, prospect),
            *_unfinal(ctx, prospect),
        ]
    except RpcError as error:
        found = [refused("bridge_quote", f"a chain cannot be read: {error}")]
    counted = prospect.count.verdict()
    return tuple(found if counted is None else [*found, counted])


def _route(origin: End, destination: End, p: Prospect) -> list[Verdict]:
    """Compare the port's own row with what is configured: kind, token, destination, recipient."""
    t = p.transfer
    row = origin.vault.port_route(t.route)
    if row is None:
        return [refused("route_mismatch", f"the port on chain {t.origin.chain_id} has no route {t.route}")]
    wanted = (
        ("kind", row.kind, t.kind),
        ("token", row.token, t.origin.token),
        ("destination", row.destination, t.destination.chain_id),
        ("output token", row.output_token, t.destination.token),
    )
    out = [
        refused("route_mismatch", f"route {t.route}: {what} on chain is {has}, configured is {want}")
        for what, has, want in wanted
        if str(has).lower() != str(want).lower()
    ]
    if row.recipient.lower() != destination.address.lower():
        ours = f"our vault on chain {t.destination.chain_id} is {destination.address}"
        out.append(refused("recipient_not_ours", f"route {t.route} pays {row.recipient}, {ours}"))
    if t.amount > row.max_one or origin.vault.port_transit(t.route) + t.amount > row.max_in_transit:
        out.append(refused("bridge_limit", f"route {t.route} lets {row.max_one} leave at once", amount=str(t.amount)))
    if t.max_fee * BPS > t.amount * row.max_fee_bps:
        out.append(refused("bridge_quote", f"a fee of {t.max_fee} is above the route's {row.max_fee_bps} bp"))
    held = _held(p.sides[0], t.origin.token)
    if t.amount > held:
        out.append(
            refused("bridge_limit", f"{t.amount} raw units are more than the {held} that lie there", held=str(held))
        )
    back = destination.vault
    if not any((r := back.port_route(n)) and r.destination == t.origin.chain_id for n in range(1, 17)):
        words = f"the vault on chain {t.destination.chain_id} has no route back to {t.origin.chain_id}"
        out.append(refused("representation_unknown", f"{words}: money there could not come home"))
    return out


def _held(snapshot: Snapshot, token: str) -> int:
    pairs = zip(snapshot.tokens, snapshot.holdings, strict=True)
    return next((h for k, h in pairs if k.address.lower() == token.lower()), 0)


def _ready(destination: End, p: Prospect, ctx: TransferContext) -> list[Verdict]:
    """Return what stops the destination from using the money, before the step that cannot be taken back."""
    t, snapshot = p.transfer, p.sides[1]
    out = []
    if snapshot.paused:
        words = f"the vault on chain {t.destination.chain_id} is paused: money there could not be traded"
        out.append(refused("recipient_not_ours", words))
    if t.destination.token.lower() not in {k.address.lower() for k in snapshot.tokens}:
        out.append(refused("representation_unknown", f"the vault there does not hold {t.destination.token}"))
    if bridge_row(t.kind).receive == "anyone":
        needed = ctx.rules.least_delivery_gas * max(1, snapshot.base_fee_wei * 2)
        money = destination.node.balance(destination.sender)
        if money < needed:
            words = (
                f"{destination.sender} has {money} wei on chain {t.destination.chain_id}, a delivery may need {needed}"
            )
            out.append(refused("gas_money_destination", words))
    return out


def _chain(end: End, ctx: TransferContext) -> list[Verdict]:
    """Return what is wrong with one chain: its sequencer, or a finality that no longer advances."""
    name, out = f"chain {end.chain.chain_id}", []
    said = end.sequencer()
    if said:
        check = "sequencer_grace" if "grace" in said else "sequencer_down"
        out.append(refused(check, f"{name}: {said}"))
    final = final_block(end.node, end.chain)
    if final < 0:
        return [*out, refused("finality", f"{name} has no final block yet")]
    age = end.node.head().time - end.vault.snapshot(final).block_time
    allowed = end.chain.usual_final_s + ctx.rules.final_age_s
    if age > allowed:
        out.append(refused("finality", f"{name}: the newest final block is {age} s old, {allowed:.0f} s are usual"))
    return out


def _clocks(ctx: TransferContext, p: Prospect) -> list[Verdict]:
    a, b = p.sides
    gap = abs(a.block_time - b.block_time)
    if gap <= ctx.rules.clock_gap_s:
        return []
    return [refused("clock", f"the chains' newest blocks are {gap} s apart, at most {ctx.rules.clock_gap_s} s may be")]


def _oracles(ctx: TransferContext, p: Prospect) -> list[Verdict]:
    """Return stale prices of either chain, and assets whose prices differ between the chains."""
    out = []
    prices: dict[str, dict[int, int]] = {}
    for s in p.sides:
        for token, q in zip(s.tokens, s.quotes, strict=True):
            age = s.block_time - q.updated_at
            if q.price_e8 <= 0 or not 0 <= age <= ctx.rules.quote_age_s:
                words = f"{token.symbol} on chain {s.chain_id}: price {q.price_e8}, {age} s old"
                out.append(refused("oracle_stale", words))
            else:
                prices.setdefault(token.symbol, {})[s.chain_id] = q.price_e8
    return out + prices_differ(prices, ctx.rules.oracle_gap)


def prices_differ(prices: Mapping[str, Mapping[int, int]], gap: float) -> list[Verdict]:
    """Return the assets whose prices, 1e-8 USD by chain, lie further apart than the fraction ``gap`` of the lowest."""
    out = []
    for symbol, by_chain in prices.items():
        low, high = (choose(by_chain, key=by_chain.__getitem__) for choose in (min, max))
        if by_chain[high] - by_chain[low] > gap * by_chain[low]:
            words = f"{symbol} is {by_chain[low] / 1e8:g} on chain {low} and {by_chain[high] / 1e8:g} on chain {high}"
            out.append(refused("oracle_differs", f"{words}; {100 * gap:g} % may differ"))
    return out


def _caps(ctx: TransferContext, p: Prospect) -> list[Verdict]:
    """Return the limits L1 and L2 that the transfer would break, as shares of the whole portfolio."""
    t, rules = p.transfer, ctx.rules
    price = {c: price_e8(s, ctx.end(c).cash.address) for c, s in p.snapshots.items()}
    moving, usd = in_transit_usd(p.count, price), p.usd(t.amount)
    whole = worth_usd(p.snapshots.values()) + moving
    out = []
    most = rules.max_usd.get(route_key(t))
    if most is not None and usd > most:
        out.append(refused("bridge_limit", f"{usd:.0f} USD is more than the {most:.0f} set for one transfer"))
    if usd > rules.max_share * whole:
        out.append(
            refused("transit_cap", f"{usd:.0f} USD is more than {rules.max_share:.0%} of the {whole:.0f} in all")
        )
    if moving + usd > rules.max_in_transit_share * whole:
        words = (
            f"{moving:.0f} USD is in transit; {usd:.0f} more is above {rules.max_in_transit_share:.0%} of {whole:.0f}"
        )
        out.append(refused("transit_cap", words))
    now = p.sides[0].block_time
    today = [
        s for s in ctx.log.sagas()
        if s.transfer.kind == t.kind and s.state is not SagaState.VOID and s.planned_at > now - DAY_S
    ]  # fmt: skip
    spent = sum(p.usd(converted(s.transfer.amount, s.transfer.origin.decimals, t.origin.decimals)[0]) for s in today)
    if spent + usd > rules.max_bridge_day_share * whole:
        words = f"{spent:.0f} USD went by {t.kind} in 24 h; {usd:.0f} more is above {rules.max_bridge_day_share:.0%}"
        out.append(refused("bridge_cap", f"{words} of {whole:.0f}"))
    return out


def _sagas(ctx: TransferContext, t: Transfer) -> list[Verdict]:
    """Return what open transfers forbid: the same pair either way, too many in all, a stuck route (L3)."""
    there, back = (t.origin.chain_id, t.destination.chain_id), (t.destination.chain_id, t.origin.chain_id)
    living = [s for s in ctx.log.sagas() if s.state not in CLOSED and s.transfer.saga_id != t.saga_id]
    same = [s for s in living if s.transfer.asset == t.asset and s.key[1:] in {there, back}]
    out = [refused("saga_open", f"transfer {_word(s)} is between these chains") for s in same]
    if not same and len(living) >= ctx.rules.max_open:
        out.append(refused("saga_open", f"{len(living)} transfers are open, {ctx.rules.max_open} may be"))
    out += [
        refused("saga_open", f"transfer {_word(s)} is as much from here: their refunds could not be told apart")
        for s in living
        if s not in same and bridge_row(t.kind).refund == "origin" and _alike(s.transfer, t)
    ]
    lost = [
        s
        for s in ctx.log.sagas()
        if s.state is SagaState.WRITTEN_DOWN and (s.transfer.kind, *s.key) == (t.kind, t.asset, *there)
    ]
    out += [
        refused("route_closed", f"transfer {_word(s)} on this route was written down and has not come") for s in lost
    ]
    return out


def _alike(one: Transfer, other: Transfer) -> bool:
    """Return whether two transfers leave one chain by one kind of bridge with the same amount."""
    rows = [(t.kind, t.origin.chain_id, t.asset, t.amount) for t in (one, other)]
    return rows[0] == rows[1]


def _word(saga: Saga) -> str:
    return f"{saga.transfer.saga_id[:12]} ({saga.state})"


def _quote(ctx: TransferContext, p: Prospect) -> list[Verdict]:
    """Return why the quote is not good enough: less than asked for arrives, or it is dearer than usual."""
    t, quote = p.transfer, p.quote
    out = []
    if quote.amount < t.amount:
        out.append(
            refused("bridge_limit", f"the bridge takes {quote.amount} of {t.amount} raw units", limit=str(quote.limit))
        )
    if quote.least < t.least or quote.fee > t.max_fee:
        out.append(refused("bridge_quote", f"{quote.least} would arrive, the plan says at least {t.least}"))
    past = [s.fee / s.transfer.amount for s in ctx.log.sagas() if s.arrived and s.transfer.kind == t.kind]
    usual = sorted(past)[len(past) // 2] if past else None
    if usual and quote.fee / quote.amount > ctx.rules.dear * usual:
        out.append(refused("bridge_quote", f"the fee is more than {ctx.rules.dear:g} times the usual one"))
    return out


def _unfinal(ctx: TransferContext, p: Prospect) -> list[Verdict]:
    """Return why a fast transfer may not go: it is believed before its departure is final, so it must be small."""
    t = p.transfer
    row = ctx.end(t.origin.chain_id).vault.port_route(t.route)
    if t.speed == "final" or row is None or t.amount <= ctx.rules.fast_part * row.max_one:
        return []
    words = f"{t.amount} raw units before finality are more than {ctx.rules.fast_part:.0%} of the route's {row.max_one}"
    return [refused("finality", words)]
