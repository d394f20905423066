"""Proving a token before it is bought: received, sent, bought, sold back, kept over a day, all simulated.

A token that can be bought is not yet one that can be sold (fees on transfer, shares that round down, sales that
revert), so the whole round is run by ``eth_simulateV1`` on the vault's own account, which also finds a blacklisted
vault. Two requests for any number of tokens; nothing is sent. A node without the method proves nothing, and is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from eth_utils.crypto import keccak

from lake.answers import Fields, fields, rows
from lake.errors import RpcError
from lake.evm import calldata
from lake.rpc import Rpc
from policy.execution.base import Hop, Snapshot, Token, Verdict
from policy.execution.checks.verdicts import refused
from policy.execution.routing.amm import Pool, V2Pool, other, quote
from policy.execution.routing.calldata import swap
from policy.execution.routing.yields import VENUE
from policy.execution.state_builder import usable
from policy.execution.submission.reverts import revert_of
from policy.execution.submission.simulate_tx import NOT_SUPPORTED

PROBE_USD = 100.0
LEAST_UNITS = 100
"""Raw units a probe moves at least: with fewer, a token of 0 decimals could lose a tenth of them and not show it."""
MOST_LOSS = 0.005  # against the exact quotes; the probes of the tokens before move a pool by far less
MOST_TIMES = 10_000  # a probe grows to, until it buys something
SINK = "0x" + keccak(text="foredrift probe")[:20].hex()  # an account nobody has
SHORT = "it takes a fee on transfers, or its balances are shares that round down"
DAY_S = 86_400
WORD = 32
FAR = 2**40
WHAT = "eth_simulateV1"


@dataclass(frozen=True, slots=True)
class Proven:
    """What the probe says: the failed verdict of each sick token by address, and those that could not be proven."""

    sick: Mapping[str, Verdict] = field(default_factory=dict)
    unproven: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Call:
    sender: str
    to: str
    data: bytes

    def json(self) -> dict[str, str]:
        return {"from": self.sender, "to": self.to, "data": "0x" + self.data.hex()}


def prove(rpc: Rpc, holder: str, snapshot: Snapshot, pools: Sequence[Pool]) -> Proven:
    """Return which of the snapshot's tokens ``holder`` cannot trade there and back, at the snapshot's block."""
    deep = usable(snapshot, pools)
    known = (p for p in pools if p.address in deep and p.router.startswith("0x"))
    good = sorted(known, key=lambda p: (p.venue == VENUE, -deep[p.address]))  # a vault of shares only where no pool is
    tokens = {t.address: t for t in snapshot.tokens}
    among = [p for p in good if p.token0 in tokens and p.token1 in tokens]
    sick: dict[str, Verdict] = {}
    homes: dict[str, Pool] = {}
    for token in snapshot.tokens:
        home = next((p for p in good if token.address in {p.token0, p.token1}), None)
        if home is None:
            words = f"{token.symbol}: no configured pool has liquidity for it around its price"
            sick[token.address] = refused("no_pool", words, token=token.address)
        else:
            homes[token.address] = home
    try:
        sick |= _transfers(rpc, holder, snapshot, homes)
        unproven: dict[str, str] = {}
        trips: dict[str, Pool] = {}
        for token in snapshot.tokens:
            if token.address in sick:
                continue
            way = next((p for p in among if _partner(p, token.address) not in {*sick, None}), None)
            if way is None:
                unproven[token.address] = f"{token.symbol}: it has no pool with another healthy token of the vault"
            else:
                trips[token.address] = way
        sick |= _round_trips(rpc, holder, snapshot, trips)
    except RpcError as error:
        if error.code not in NOT_SUPPORTED:
            raise
        return Proven(sick, {t: f"{tokens[t].symbol}: the node has no {WHAT} to prove it with" for t in homes})
    return Proven(sick, unproven)


def _partner(pool: Pool, token: str) -> str | None:
    return other(pool, token) if token in {pool.token0, pool.token1} else None


def _transfers(rpc: Rpc, holder: str, snapshot: Snapshot, homes: Mapping[str, Pool]) -> dict[str, Verdict]:
    """Send each token from its pool to the holder and on to an empty account: all of it must arrive."""
    calls: list[_Call] = []
    places: list[tuple[Token, int]] = []
    for token in snapshot.tokens:
        if token.address in homes and homes[token.address].venue != VENUE:  # nobody holds shares to send: see the trip
            amount = _amount(snapshot, token)
            places.append((token, amount))
            calls += _moves(token.address, homes[token.address].address, holder, amount)
            calls += _moves(token.address, holder, SINK, amount)[1:]
    found = _simulated(rpc, snapshot, [calls])[0] if calls else []
    sick: dict[str, Verdict] = {}
    for number, (token, amount) in enumerate(places):
        own = found[5 * number : 5 * number + 5]
        fault = _received(own, amount)
        if fault:
            sick[token.address] = refused("token_transfer", f"{token.symbol}: {fault}", token=token.address)
    return sick


def _moves(token: str, sender: str, receiver: str, amount: int) -> list[_Call]:
    """Balance of the receiver, the transfer, the balance again."""
    ask = _Call(sender, token, calldata("balanceOf(address)", receiver))
    return [ask, _Call(sender, token, calldata("transfer(address,uint256)", receiver, amount)), ask]


def _received(own: Sequence[Fields], amount: int) -> str:
    """Return what is wrong with a token's two transfers, empty when nothing is."""
    before, came, after, went, sunk = own
    refusal = _refusal(came)
    if refusal:
        return f"the vault cannot receive it: {refusal}"
    if after.quantity("status", 1) != 1 or len(after.data("returnData")) < WORD:
        return "it does not tell a balance"
    got = _word(after) - _word(before)
    if got < amount:
        return f"of {amount} raw units sent {got} arrive: {SHORT}"
    if got > amount:
        return f"{got} raw units arrive of {amount} sent: its balance changes by itself, a rebasing token"
    refusal = _refusal(went)
    if refusal:
        return f"the vault cannot send it: {refusal}"
    sent = _word(sunk)
    return "" if sent == amount else f"of {amount} raw units the vault sends {sent} arrive: {SHORT}"


def _refusal(transfer: Fields) -> str:
    """Return why a transfer did not go through, empty when it did; no answer at all is taken for yes, as routers do."""
    if transfer.quantity("status", 1) != 1:
        return revert_of(transfer)
    told = transfer.data("returnData")
    return "its transfer answers false" if told and not int.from_bytes(told[:WORD], "big") else ""


def _round_trips(rpc: Rpc, holder: str, snapshot: Snapshot, trips: Mapping[str, Pool]) -> dict[str, Verdict]:
    """Buy each token with another one and sell it back; then look at its balance a day later."""
    tokens = {t.address: t for t in snapshot.tokens}
    plans = []
    sick: dict[str, Verdict] = {}
    calls: list[_Call] = []
    for address, pool in trips.items():
        made = _trip(snapshot, tokens[address], tokens[other(pool, address)], pool, holder)
        if made is None:
            words = f"{tokens[address].symbol}: pool {pool.address} cannot take {PROBE_USD:.0f} USD"
            sick[address] = refused("no_pool", words, token=address, pool=pool.address)
        else:
            plans.append((tokens[address], pool, *made))
            calls += made[0]
    later = [_Call(holder, t.address, calldata("balanceOf(address)", holder)) for t, *_ in plans]
    if not calls:
        return sick
    blocks = _simulated(rpc, snapshot, [[*calls, *later], later])
    for number, (token, pool, own, bought, back) in enumerate(plans):
        n = len(own)
        fault = _traded(blocks[0][n * number : n * number + n], bought, back)
        now, then = blocks[0][len(calls) + number], blocks[1][number]
        if not fault and then.data("returnData") != now.data("returnData"):
            fault = "its balance changes by itself within a day: a rebasing token"
        if fault:
            where = f"{token.symbol} in pool {pool.address}: {fault}"
            sick[token.address] = refused("round_trip", where, token=token.address, pool=pool.address)
    return sick


def _trip(
    snapshot: Snapshot, token: Token, partner: Token, pool: Pool, holder: str
) -> tuple[list[_Call], int, int] | None:
    """Return the calls of a round trip, what the exact quotes say is bought and what comes back; None: no quote."""
    spend = _amount(snapshot, partner)
    buy = quote(pool, partner.address, spend)
    least = LEAST_UNITS if token.decimals else 1
    while (buy is None or buy.out < least) and spend < _amount(snapshot, partner) * MOST_TIMES:
        spend *= 10
        buy = quote(pool, partner.address, spend)
    if buy is None or buy.spent != spend:
        return None
    back = quote(buy.after, token.address, buy.out)
    if back is None:
        return None
    calls = [_Call(pool.address, partner.address, calldata("transfer(address,uint256)", holder, spend))]
    if isinstance(pool, V2Pool):  # its reserves follow what was taken out for the probe
        calls.append(_Call(holder, pool.address, calldata("sync()")))
    else:
        calls.append(_Call(holder, partner.address, calldata("balanceOf(address)", holder)))
    for sold, bought, amount in ((partner, token, spend), (token, partner, buy.out)):
        hop = Hop(pool.venue, pool.address, sold.address, bought.address, pool.fee_pips)
        ask = _Call(holder, bought.address, calldata("balanceOf(address)", holder))
        calls += [
            _Call(holder, sold.address, calldata("approve(address,uint256)", pool.router, amount)),
            ask,
            _Call(holder, pool.router, swap([hop], amount, 0, holder, FAR)),
            ask,
        ]
    return calls, buy.out, back.out


def _traded(own: Sequence[Fields], bought: int, back: int) -> str:
    """Return what is wrong with a round trip, empty when nothing is."""
    funded = own[0]
    if funded.quantity("status", 1) != 1:
        return ""  # the other token's fault, found by its own transfers
    words = ("", "", "it cannot be approved", "", "it cannot be bought", "", "it cannot be approved for sale", "",
             "it can be bought and not sold")  # fmt: skip
    for place in (2, 4, 6, 8):
        if own[place].quantity("status", 1) != 1:
            return f"{words[place]}: {revert_of(own[place])}"
    got, paid = _word(own[5]) - _word(own[3]), _word(own[9]) - _word(own[7])
    if got < bought * (1 - MOST_LOSS):
        return f"a purchase of {bought} raw units brings {got}: it takes a fee on purchases"
    if paid < back * (1 - MOST_LOSS):
        return f"its sale brings {paid} of {back} raw units: it takes a fee on sales"
    return ""


def _amount(snapshot: Snapshot, token: Token) -> int:
    """Return raw units worth PROBE_USD at the oracle's price, and no fewer than LEAST_UNITS."""
    price = next((q.price_e8 for q in snapshot.quotes if q.token == token.address), 0)
    worth = int(PROBE_USD * 1e8) * 10**token.decimals // price if price > 0 else 0
    return max(worth, LEAST_UNITS if price > 0 and token.decimals else 1)


def _simulated(rpc: Rpc, snapshot: Snapshot, blocks: Sequence[Sequence[_Call]]) -> list[list[Fields]]:
    """Return what each call of each simulated block answers, the blocks a day apart after the snapshot's."""
    body = {
        "blockStateCalls": [
            {
                "blockOverrides": {
                    "number": hex(snapshot.block_number + 1 + i),
                    "time": hex(snapshot.block_time + 1 + i * DAY_S),
                },
                "calls": [c.json() for c in calls],
            }
            for i, calls in enumerate(blocks)
        ],
        "validation": False,
    }
    answer = rows(rpc.call(WHAT, [body, hex(snapshot.block_number)]), WHAT, len(blocks))
    return [
        [fields(row, WHAT) for row in fields(block, WHAT).rows("calls", len(calls))]
        for block, calls in zip(answer, blocks, strict=False)
    ]


def _word(row: Fields) -> int:
    return int.from_bytes(row.data("returnData")[:WORD], "big")
