"""SimulatedVault: the Vault protocol over a :class:`SimChain`, with the reference vault's rules.

Swaps use the router's exact pool arithmetic, so a plan that passes here gives the fills the contracts give. The
same adapter can be put on a recorded state of a real chain to replay what happened there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from lake.errors import DataError
from lake.private import opener, private_folder
from policy.execution.base import (
    AttemptFate,
    Capabilities,
    Leg,
    Plan,
    Quote,
    Receipt,
    Settlement,
    Simulation,
    Snapshot,
    Token,
    UnsignedTx,
    Verdict,
)
from policy.execution.bridges.sim_book import BridgeBook
from policy.execution.checks.rules import (
    Mandate,
    VaultBook,
    after_trading,
    before_trading,
    broken,
    spend,
    stolen_key,
    trade,
    wrong_keeper,
)
from policy.execution.records.codec import leg_json, plan_json, plan_of
from policy.execution.routing.amm import Pool, quote
from policy.execution.submission.gas import NOOP_GAS
from policy.execution.submission.node import BlockHeader
from policy.execution.vaults.common import Shares, require_own, settlement_of, snapshot_of
from policy.execution.vaults.simulated.chain import Genesis, SimBlock, SimChain, SimTx
from policy.execution.vaults.simulated.port import SimulatedPort, VaultSpec, bridge_call
from policy.execution.vaults.simulated.world import SimWorld, world_json, world_of

GAS_BASE = 130_000
GAS_PER_LEG = 145_000
STATE_VERSION = 3
KEPT_RECEIPTS = 50  # in the state file: enough to look up what an interrupted run left
KEPT_PLANS = 8  # in the world: enough to tell what the newest ones of the journal came to
KEPT_BLOCKS = 16  # in the state file: a live cycle mines three or four, so five runs may die one after another


def plan_hash(plan: Plan) -> bytes:
    """Return the hash over legs, nonce, deadline, floor, vault and chain (the contract hashes the same fields)."""
    body = {
        "legs": [leg_json(leg) for leg in plan.legs],
        "nonce": plan.nonce,
        "deadline": plan.deadline,
        "min_nav": str(plan.min_nav),
        "vault": plan.vault,
        "chain_id": plan.chain_id,
    }
    return sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).digest()


def book_of(spec: VaultSpec, world: SimWorld) -> VaultBook:
    """Return the vault's book in ``world``."""
    return VaultBook(
        spec.tokens,
        world.targets_bps,
        tuple(world.prices[t.address][0] for t in spec.tokens),
        tuple(world.balances.get(t.address, 0) for t in spec.tokens),
        world.slack_bps,
    )


def apply(spec: VaultSpec, world: SimWorld, plan: Plan, block: int, now: int) -> tuple[SimWorld, list[Verdict]]:
    """Run ``plan`` on ``world`` at block ``block`` and time ``now``; the world is unchanged when a rule is broken."""
    book = book_of(spec, world)
    failed = before_trading(plan, book, world.clock, spec.mandate, now, block)
    if world.paused:
        failed.append(broken("paused", "the guardian has paused the vault"))
    if plan.plan_hash != plan_hash(plan):
        failed.append(broken("plan hash", "the hash does not belong to the legs"))
    touched = {address for leg in plan.legs for address in (leg.token_in, leg.token_out)}
    for token in (t for t in spec.tokens if t.address in touched):
        price, updated, _ = world.prices[token.address]
        if price <= 0 or updated > now or now - updated > spec.heartbeat_s:
            failed.append(broken("oracle", f"{token.symbol}: no good price", price=price, age_s=now - updated))
    if failed:
        return world, failed
    pools = dict(world.pools)
    after, turnover, failed = trade(
        plan,
        book,
        spec.mandate,
        lambda leg: _swap(leg, pools),
        lambda leg: not spec.targets or leg.target in spec.targets,
    )
    loss, late = after_trading(plan, book, after, turnover, world.clock, spec.mandate, now)
    failed += late
    if failed:
        return world, failed
    clock, pauses = spend(world.clock, spec.mandate, now, loss)
    clock = replace(clock, nonce=clock.nonce + 1, last_block=block, last_time=now)
    balances = {**world.balances, **{t.address: h for t, h in zip(spec.tokens, after.holdings, strict=True)}}
    moved = traded(
        world.bridges,
        block,
        [(t.address, a - b) for t, a, b in zip(spec.tokens, after.holdings, book.holdings, strict=True)],
    )
    return replace(world, balances=balances, pools=pools, clock=clock, paused=pauses, bridges=moved), []


def traded(book: BridgeBook, block: int, changes: Sequence[tuple[str, int]]) -> BridgeBook:
    """Return ``book`` with what a plan moved of the cash noted, where cash moves between chains at all."""
    cash = next((amount for token, amount in changes if token == book.cash), 0)
    return replace(book, moves=(*book.moves, (block, "trade", cash))) if cash else book


def _swap(leg: Leg, pools: dict[str, Pool]) -> tuple[int, int]:
    """Send the leg through its pools, changing them; an unfillable leg gives nothing."""
    amount, spent = leg.amount_in, 0
    after: dict[str, Pool] = {}
    for i, hop in enumerate(leg.path):
        pool = after.get(hop.pool) or pools.get(hop.pool)
        fill = quote(pool, hop.token_in, amount) if pool is not None else None
        if fill is None:
            return 0, 0
        after[hop.pool] = fill.after
        spent = fill.spent if i == 0 else spent
        amount = fill.out
    pools.update(after)
    return spent, amount


def executor(spec: VaultSpec) -> Any:
    """Return the contract code for :class:`SimChain`: a plan for the vault, or a no-op."""

    def execute(world: SimWorld, tx: SimTx, block: int, now: int) -> tuple[SimWorld, int, str | None]:
        called = json.loads(tx.data) if tx.data else {}
        if "bridge_call" in called:
            return bridge_call(spec, world, tx, called, (block, now))
        if tx.to != spec.address or not tx.data:
            return world, NOOP_GAS, None
        plan = plan_of(called)
        gas = GAS_BASE + GAS_PER_LEG * len(plan.legs)
        if gas > tx.gas_limit:
            return world, tx.gas_limit, "out of gas"
        keeper = wrong_keeper(tx.sender, spec.keeper)
        after, failed = apply(spec, world, plan, block, now)
        failed = [*keeper, *failed]
        if failed:
            return world, gas // 3, failed[0].check
        return replace(after, plans=(*world.plans, (plan.plan_hash.hex(), tx.tx_hash))[-KEPT_PLANS:]), gas, None

    return execute


def capabilities(spec: VaultSpec) -> Capabilities:
    """Return what the simulated chain enforces for a vault of ``spec``."""
    return Capabilities(
        kind="simulated",
        atomic_legs=True,
        onchain_price_bound=True,
        loss_budget=True,
        progress_rule=True,
        plan_nonce=True,
        deadline=True,
        async_exit=False,
        in_kind_exit=False,
        pausable=True,
        permissioned=False,
        stolen_key=stolen_key(spec.mandate),
        bridges=True,
    )


class SimulatedVault(SimulatedPort):
    """Vault over a node that shows the simulated world (a :class:`SimChain`, or a faulty view of one)."""

    def describe(self) -> Capabilities:
        """Return what the simulated chain enforces: what the reference vault does, without investors."""
        return capabilities(self.spec)

    def snapshot(self, block: int | str = "latest") -> Snapshot:
        """Read everything at one block."""
        at = self.node.block(block)
        world, head = at.world, at.head
        book = book_of(self.spec, world)
        quotes = [Quote(t.address, *_price_round(world.prices[t.address])) for t in self.spec.tokens]
        what = (head, book, quotes, world.clock, self.spec.mandate)
        return snapshot_of(*what, Shares(self.node.chain_id(), book.nav(), world.paused))

    def pools(self, snapshot: Snapshot) -> tuple[Pool, ...]:
        """Return the pools at the snapshot's block."""
        return tuple(self.node.block(snapshot.block_number).world.pools.values())

    def seal(self, plan: Plan) -> Plan:
        """Return ``plan`` with its hash."""
        return replace(plan, plan_hash=plan_hash(plan))

    def check(self, plan: Plan) -> Sequence[Verdict]:
        """Return the rules ``plan`` would break in the next block."""
        at = self.node.block("latest")
        return apply(self.spec, at.world, plan, at.head.number + 1, at.head.time + 12)[1]

    def build(self, plan: Plan) -> UnsignedTx:
        """Encode the plan as JSON bytes."""
        data = json.dumps(plan_json(plan), sort_keys=True, separators=(",", ":")).encode()
        return UnsignedTx(plan.chain_id, self.spec.address, data)

    def simulate(self, tx: UnsignedTx, sender: str, block: int | str = "latest") -> Simulation:
        """Execute ``tx`` on a block's world without keeping the result."""
        at = self.node.block(block)
        plan = plan_of(json.loads(tx.data))
        failed = [*wrong_keeper(sender, self.spec.keeper)]
        after, broke = apply(self.spec, at.world, plan, at.head.number + 1, at.head.time + 12)
        failed += broke
        deltas = {
            t.address: after.balances.get(t.address, 0) - at.world.balances.get(t.address, 0) for t in self.spec.tokens
        }
        gas = GAS_BASE + GAS_PER_LEG * len(plan.legs)
        return Simulation(not failed, gas, deltas, failed[0].check if failed else None)

    def verify(self, receipt: Receipt, plan: Plan) -> Settlement:
        """Judge a mined plan by the balances before and after its block."""
        before = book_of(self.spec, self.node.block(receipt.block_number - 1).world)
        now = self.node.block(receipt.block_number)
        after = book_of(self.spec, now.world)
        landed = receipt.status == 1 and now.head.hash == receipt.block_hash and now.world.clock.nonce > plan.nonce
        found = () if landed else (broken("landed", "the plan's transaction did not execute the plan"),)
        return settlement_of(receipt, before, after, landed=landed, verdicts=found)

    def executed_by(self, plan: Plan) -> str | None:
        """Return the transaction in which the simulated chain executed ``plan``."""
        made = plan.plan_hash.hex()
        return next((sent for done, sent in self.node.block("latest").world.plans if done == made), None)

    def recover(self, plan: Plan, tx_hashes: Sequence[str]) -> AttemptFate:
        """Look up what became of the plan."""
        require_own(plan, self.spec.address)
        if self.executed_by(plan) is not None:
            return AttemptFate.LANDED
        for tx_hash in tx_hashes:
            receipt = self.node.receipt(tx_hash)
            if receipt is not None and self.node.block_hash(receipt.block_number) == receipt.block_hash:
                return AttemptFate.LANDED if receipt.status == 1 else AttemptFate.VOID
        at = self.node.block("latest")
        if at.world.clock.nonce > plan.nonce or at.head.time > plan.deadline:
            return AttemptFate.VOID
        return AttemptFate.REPLACEABLE


def _price_round(price: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return (price, round id, updated at)."""
    return price[0], price[2], price[1]


def save(path: Path, chain: SimChain, spec: VaultSpec) -> None:
    """Write the vault and the last blocks of its chain to ``path``, whole or not at all.

    With its hash and the one before it, a block still proves what it held: an interrupted run's plan is looked up and
    settled from the file as it would have been in memory.
    """
    receipts = [*chain.past.values(), *(r for b in chain.blocks for r in b.receipts)][-KEPT_RECEIPTS:]
    data = {
        "version": STATE_VERSION,
        "chain_id": chain.id,
        "blocks": [_block_json(b) for b in chain.blocks[-KEPT_BLOCKS:]],
        "receipts": [_receipt_json(r) for r in receipts],
        "vault": {
            "address": spec.address,
            "keeper": spec.keeper,
            "tokens": [[t.symbol, t.address, t.decimals, t.feed] for t in spec.tokens],
            "mandate": {f: getattr(spec.mandate, f) for f in Mandate.__slots__},
            "heartbeat_s": spec.heartbeat_s,
            "targets": sorted(spec.targets),
        },
    }
    private_folder(path.parent)
    scratch = path.with_name(path.name + ".new")
    with open(scratch, "w", opener=opener) as file:
        json.dump(data, file, indent=1)
    scratch.replace(path)


def load(path: Path) -> tuple[SimChain, VaultSpec]:
    """Return the chain and vault :func:`save` wrote; DataError if the file is none of ours."""
    try:
        data = json.loads(path.read_text())
        if data["version"] != STATE_VERSION:
            raise DataError(f"{path} has version {data['version']}, this program reads {STATE_VERSION}")
        vault = data["vault"]
        spec = VaultSpec(
            vault["address"],
            vault["keeper"],
            tuple(Token(*row) for row in vault["tokens"]),
            Mandate(**vault["mandate"]),
            vault["heartbeat_s"],
            frozenset(vault["targets"]),
        )
        receipts = [_receipt_of(row) for row in data["receipts"]]
        blocks = [_block_of(row, receipts) for row in data["blocks"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} holds no simulated vault ({type(error).__name__}); remove it to start anew") from error
    chain = SimChain(blocks[0].world, executor(spec), Genesis(data["chain_id"]))
    chain.blocks = blocks
    first = blocks[0].head.number
    chain.past = {r.tx_hash: r for r in receipts if r.block_number < first}
    return chain, spec


def _block_json(block: SimBlock) -> dict[str, Any]:
    """Return a block without its receipts (they are kept longer) and transactions (they were mined)."""
    return {
        "head": asdict(block.head),
        "parent": block.parent,
        "world": world_json(block.world),
        "nonces": dict(block.nonces),
        "wei": {k: str(v) for k, v in block.wei.items()},
    }


def _block_of(data: dict[str, Any], receipts: Sequence[Receipt]) -> SimBlock:
    head = BlockHeader(**data["head"])
    return SimBlock(
        head, data["parent"], (), tuple(r for r in receipts if r.block_number == head.number), world_of(data["world"]),
        data["nonces"], {k: int(v) for k, v in data["wei"].items()},
    )  # fmt: skip


def _receipt_json(r: Receipt) -> list[Any]:
    return [r.tx_hash, r.block_number, r.block_hash, r.status, r.gas_used, str(r.effective_gas_price_wei)]


def _receipt_of(row: Sequence[Any]) -> Receipt:
    return Receipt(row[0], row[1], row[2], row[3], row[4], int(row[5]))
