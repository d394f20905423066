"""A hedge account on the chain in memory: the rules of contracts/hedge_account.vy in integers, over a faulty node.

It lets thousands of decisions be killed, delayed and reorganised in minutes. Contracts and arithmetic are proven on a
real chain (test_contracts.py, test_hedge_engine.py); here the plan machinery is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from eth_abi.abi import decode, encode

from pipelines.vault_setup.hedge_rule import book_of_lines
from policy.execution.base import AttemptFate, Leg, Plan, Receipt, Settlement, Simulation, Token, UnsignedTx
from policy.execution.routing.amm import V2Pool, quote
from policy.execution.submission.node import BlockHeader
from policy.execution.vaults.hedge.adapter import _HEDGED_DATA, HEDGED, PERP_ARGS, HedgeAccount, _shares, hedged
from policy.execution.vaults.hedge.state import (
    BPS,
    E8,
    EXPIRED,
    GOOD,
    NO_PRICE,
    PPB,
    STALE,
    WAD,
    BookLine,
    HedgeLayout,
    HedgeLimits,
    HedgeStanding,
    HedgeState,
    PerpTerms,
)
from policy.execution.vaults.reference.adapter import plan_hash
from policy.execution.vaults.simulated.chain import Genesis, SimChain, SimTx
from policy.hedging import book as books
from tests.execution.faulty_node import FaultyNode

ACCOUNT, KEEPER, ORACLE, PERP, POOL, ROUTER = ("0x" + digit * 40 for digit in "ABCDEF")
CASH = Token("USDC", "0x" + "1" * 40, 6)
ASSET = Token("WETH", "0x" + "2" * 40, 18)
GAS, MAX_AGE_S = 300_000, 86_400


@dataclass(frozen=True, slots=True)
class Record:
    """What the account logged of a plan: nonce, plan, both standings, book, price, loss."""

    nonce: int
    plan_hash: bytes
    tx_hash: str
    before: HedgeStanding
    after: HedgeStanding
    book: int
    price: int
    loss_ppb: int
    time: int


@dataclass(frozen=True, slots=True)
class HedgeWorld:
    """The account, its book, the venue and the pool at a block; prices x 1e8, sizes x 1e18, cash raw."""

    cash: int
    price: int
    lines: tuple[BookLine, ...]
    posted_at: int
    depth: int  # raw cash in the pool
    terms: PerpTerms
    limits: HedgeLimits = field(default_factory=HedgeLimits)
    spot: int = 0
    size: int = 0
    margin: int = 0
    marked: int = 0  # price that margin is settled to
    nonce: int = 0
    last: int = 0
    lost_ppb: int = 0
    paused: bool = False
    records: tuple[Record, ...] = ()

    def standing(self) -> HedgeStanding:
        """What is held at the world's price."""
        equity = self.margin + self.size * (self.price - self.marked) // WAD * 10**CASH.decimals // E8
        nav = self.cash + self.worth(self.spot) + equity
        return HedgeStanding(self.cash, self.spot, self.size, equity, max(nav, 0))

    def worth(self, units: int) -> int:
        """Worth of ``units`` (x 1e18), raw cash."""
        return units * self.price * 10**CASH.decimals // (WAD * E8)

    def settled(self) -> HedgeWorld:
        """The same with the position's profit in its margin."""
        return replace(self, margin=self.standing().equity, marked=self.price)

    def pool(self) -> V2Pool:
        """The pool, at the oracle's price."""
        base = self.depth * WAD * E8 // (self.price * 10**CASH.decimals)
        return V2Pool(POOL, CASH.address, ASSET.address, self.depth, base, 500, ROUTER)


class Reverted(Exception):
    """Why a plan is refused by the account."""


def need(ok: bool, why: str) -> None:
    if not ok:
        raise Reverted(why)


def run(world: HedgeWorld, tx: SimTx, number: int, time: int) -> tuple[HedgeWorld, int, str | None]:
    """Execute a transaction: a plan, or the no-op that cancels one."""
    del number
    if not tx.data:
        return world, 21_000, None
    try:
        return executed(world, json.loads(tx.data), tx, time), GAS, None
    except Reverted as why:
        return world, GAS // 3, str(why)


def executed(world: HedgeWorld, body: Mapping[str, Any], tx: SimTx, time: int) -> HedgeWorld:
    """Return the world after a plan; Reverted with the contract's word otherwise."""
    need(tx.sender == KEEPER, "keeper")
    need(not world.paused, "paused")
    need(time <= body["deadline"], "deadline")
    need(body["nonce"] == world.nonce, "nonce")
    need(world.price > 0, "oracle")  # as the account does, whose feed is out
    refilled = world.limits.budget_ppb * (time - world.last) // world.limits.window_s
    w = replace(world, nonce=world.nonce + 1, last=time).settled()
    book, verdict = exposure(w, time)
    before = w.standing()
    need(before.nav > 0, "empty")
    for leg in body["legs"]:
        w = perp(w, leg) if leg["target"] == PERP else swapped(w, leg)
    after = w.standing()
    judge(before, after, book, verdict, w)
    need(after.nav >= int(body["min_nav"]), "nav floor")
    loss = -(-max(before.nav - after.nav, 0) * PPB // before.nav)
    lost = max(w.lost_ppb, refilled) - refilled + loss
    need(lost <= w.limits.budget_ppb, "loss budget")
    made = Record(world.nonce, bytes.fromhex(body["hash"]), tx.tx_hash, before, after, book, w.price, loss, time)
    return replace(w, lost_ppb=lost, records=(*w.records, made))


def perp(w: HedgeWorld, leg: Mapping[str, Any]) -> HedgeWorld:
    """Margin in, trade, margin out."""
    size, limit = decode(PERP_ARGS, bytes.fromhex(leg["data"]))
    put_in, out = int(leg["amount_in"]), int(leg["min_out"])
    need(put_in <= w.cash, "transfer")
    margin, cash = w.margin + put_in, w.cash - put_in
    if size:
        need(not w.terms.halted, "halted")
        side = 1 if size > 0 else -1
        fill = w.price * 10**10 * (BPS + side * w.terms.spread_bps) // BPS
        need(fill <= limit if size > 0 else fill >= limit, "limit")
        margin -= w.worth(abs(size)) * (w.terms.fee_bps + w.terms.spread_bps) // BPS + 1
    held = w.size + size
    floor = w.worth(abs(held)) * w.terms.initial_bps // BPS
    need(margin >= floor or (abs(held) <= abs(w.size) and margin >= 0 and not out), "initial margin")
    need(margin - out >= floor or not out, "initial margin")
    return replace(w, cash=cash + out, margin=margin - out, size=held)


def swapped(w: HedgeWorld, leg: Mapping[str, Any]) -> HedgeWorld:
    """One swap in the pool."""
    amount, buys = int(leg["amount_in"]), leg["token_in"] == CASH.address
    fill = quote(w.pool(), leg["token_in"], amount)
    need(fill is not None and amount <= (w.cash if buys else w.spot), "transfer")
    out = fill.out
    need(out >= int(leg["min_out"]) > 0, "min out")
    paid, worth = (amount, w.worth(out)) if buys else (w.worth(amount), out)
    need(worth * BPS >= paid * (BPS - w.limits.leg_loss_bps), "leg value")
    moved = (-amount, out) if buys else (out, -amount)
    return replace(w, cash=w.cash + moved[0], spot=w.spot + moved[1])


def judge(before: HedgeStanding, after: HedgeStanding, book: int, verdict: int, w: HedgeWorld) -> None:
    """The rules on where a plan may lead, as ``_judge`` of the contract."""
    limits, held, holds = w.limits, before.spot + before.size, after.spot + after.size
    net, left = held + book, holds + book
    need(abs(left) <= abs(net), "progress")
    if (left > 0) != (net > 0):
        need(w.worth(abs(left)) * BPS <= limits.cross_bps * before.nav, "crossing")
    if verdict != GOOD:
        need(abs(holds) <= abs(held) and (holds == 0 or (holds > 0) == (held > 0)), "stale")
    if abs(holds) > abs(held):
        need(w.worth(abs(holds)) * BPS <= limits.max_hedge_bps * after.nav, "size")
    if abs(after.size) > abs(before.size):
        need(after.equity * BPS >= limits.margin_bps * w.worth(abs(after.size)), "margin")
    if after.cash < before.cash and after.equity > before.equity:
        need(after.equity * BPS <= limits.venue_bps * after.nav, "venue")


def exposure(w: HedgeWorld, time: int) -> tuple[int, int]:
    """The book's delta (x 1e18) and the verdict on it."""
    if w.price == 0:
        return 0, NO_PRICE
    live = tuple(line for line in w.lines if line.kind > 1 or line.last > time)
    state = _state(w, live, BlockHeader(0, "", time, 0, 0, 1), 31_337)
    made = books.lines(book_of_lines(state, datetime.fromtimestamp(time, UTC)))
    verdict = GOOD if len(live) == len(w.lines) else EXPIRED
    return round(sum(g.delta_units for g in made) * 1e12) * 10**6, verdict if time <= w.posted_at + MAX_AGE_S else STALE


def _state(w: HedgeWorld, lines: tuple[BookLine, ...], head: BlockHeader, chain_id: int) -> HedgeState:
    layout = HedgeLayout(chain_id, CASH, ASSET, ORACLE, PERP)
    need_raw = w.worth(abs(w.size)) * w.terms.maintenance_bps // BPS
    return HedgeState(
        head, layout, w.standing(), 0, w.posted_at, GOOD, E8 if w.price else 0, w.price, w.nonce, w.last, w.limits,
        w.lost_ppb, w.paused, w.terms, need_raw, lines, 0, 0 if w.price else 3,
    )  # fmt: skip


class SimHedgeNode(FaultyNode):
    """The faulty node, with the account's own record in the receipts of its plans."""

    def receipt(self, tx_hash: str) -> Receipt | None:
        """Return the receipt with the account's log."""
        found = super().receipt(tx_hash)
        if found is None or found.status != 1:
            return found
        made = [r for r in self.chain.world.records if r.tx_hash == tx_hash]
        return replace(found, logs=tuple(log_of(r) for r in made))


def log_of(r: Record) -> dict[str, object]:
    """Return a record as the contract logs it."""
    a, b = ((s.cash, s.spot, s.size, s.equity, s.nav) for s in (r.before, r.after))
    topics = [HEDGED, f"0x{r.nonce:064x}", "0x" + r.plan_hash.hex(), KEEPER]
    data = "0x" + encode(_HEDGED_DATA, [a, b, r.book, r.price, r.loss_ppb]).hex()
    return {"address": ACCOUNT, "topics": topics, "data": data}


class SimHedgeAccount(HedgeAccount):
    """The adapter's answers from the world in memory."""

    def __init__(self, node: SimHedgeNode) -> None:
        self.node = node
        self.address = ACCOUNT
        self.block_time_s = 12

    @property
    def layout(self) -> HedgeLayout:
        """What never changes."""
        return HedgeLayout(self.node.chain_id(), CASH, ASSET, ORACLE, PERP)

    def state(self, block: int | str = "latest") -> HedgeState:
        """Read the account at one block."""
        at = self.node.block(block)
        book, verdict = exposure(at.world, at.head.time)
        seen = _state(at.world, at.world.lines, at.head, self.node.chain_id())
        return replace(seen, book=book, source_verdict=verdict)

    def build(self, plan: Plan) -> UnsignedTx:
        """Encode the plan as JSON bytes."""
        legs = [plain(leg) for leg in plan.legs]
        body = {"legs": legs, "hash": plan.plan_hash.hex(), "nonce": plan.nonce, "deadline": plan.deadline,
                "min_nav": str(plan.min_nav)}  # fmt: skip
        assert plan_hash(plan) == plan.plan_hash
        return UnsignedTx(plan.chain_id, self.address, json.dumps(body, sort_keys=True).encode())

    def simulate(self, tx: UnsignedTx, sender: str, block: int | str = "latest") -> Simulation:
        """Execute without sending."""
        at = self.node.block(block)
        call = SimTx(sender, tx.to, tx.data, 0, 10**7, 0, 0, tx.chain_id, "0x")
        _, gas, why = run(at.world, call, at.head.number + 1, at.head.time + 12)
        return Simulation(why is None, gas, {}, why)

    def verify(self, receipt: Receipt, plan: Plan) -> Settlement:
        """Judge a mined plan by the account's record in its receipt."""
        record = hedged(self.address, receipt.logs, plan.nonce) if receipt.status == 1 else None
        cost = receipt.gas_used * receipt.effective_gas_price_wei
        same = self.node.block_hash(receipt.block_number) == receipt.block_hash
        if record is None or record.plan_hash != plan.plan_hash or not same:
            return Settlement(False, {}, 0, 0, receipt.gas_used, cost, ())
        a, b = record.before, record.after
        moved = {CASH.address: b.cash - a.cash, ASSET.address: b.spot - a.spot, PERP: b.size - a.size}
        return Settlement(True, moved, a.nav, b.nav, receipt.gas_used, cost, _shares(b))

    def executed_by(self, plan: Plan) -> str | None:
        """Return the transaction of the account's record of ``plan``."""
        records = self.node.block("latest").world.records
        return next((r.tx_hash for r in records if r.plan_hash == plan.plan_hash), None)

    def recover(self, plan: Plan, tx_hashes: tuple[str, ...]) -> AttemptFate:
        """Look up what became of a plan."""
        if self.executed_by(plan) is not None:
            return AttemptFate.LANDED
        at = self.node.block("latest")
        if at.world.nonce > plan.nonce or at.head.time > plan.deadline:
            return AttemptFate.VOID
        failed = (self.node.receipt(h) for h in tx_hashes)
        return AttemptFate.VOID if any(r is not None and r.status == 0 for r in failed) else AttemptFate.REPLACEABLE


def plain(leg: Leg) -> dict[str, str]:
    """Return what the account reads of a leg."""
    return {"token_in": leg.token_in, "token_out": leg.token_out, "target": leg.target, "data": leg.calldata.hex(),
            "amount_in": str(leg.amount_in), "min_out": str(leg.min_out)}  # fmt: skip


def chain_of(world: HedgeWorld, time: int, base_fee_wei: int) -> SimChain:
    """Return a chain that begins with ``world``."""
    return SimChain(world, run, Genesis(time=time, base_fee_wei=base_fee_wei), wei={KEEPER: 10**21})  # type: ignore[arg-type]
