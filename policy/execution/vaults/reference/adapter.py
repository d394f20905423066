"""Adapter of the reference vault (contracts/foredrift_vault.vy): the Vault protocol over JSON-RPC.

A snapshot is one state: every read names the same block hash. ``check`` repeats the chain's arithmetic on raw feed
answers, so it knows what the next block would say; fills are taken as ``amount_in`` and ``quoted_out`` of each leg.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.answers import quantity, sensible
from lake.errors import RpcError
from lake.evm import Call, calldata, head_of, read, read_logs
from lake.rpc import Rpc
from policy.execution.auctions.orders import ARM
from policy.execution.base import (
    AttemptFate,
    Capabilities,
    Leg,
    Plan,
    Receipt,
    Settlement,
    Simulation,
    Snapshot,
    UnsignedTx,
    Verdict,
)
from policy.execution.checks.oracle_rules import GOOD, codes, verdicts
from policy.execution.checks.rules import Mandate, VaultBook, before_trading, broken, stolen_key
from policy.execution.submission.node import read_receipt
from policy.execution.submission.reverts import missed, why_reverted
from policy.execution.submission.simulate_tx import dry_run
from policy.execution.vaults.common import (
    Shares,
    as_quoted,
    before_of,
    quotes_of,
    require_own,
    settlement_of,
    snapshot_of,
)
from policy.execution.vaults.reference import logs
from policy.execution.vaults.reference.offering import Offering
from policy.execution.vaults.reference.porting import Porting
from policy.execution.vaults.reference.state import Layout, VaultState, read_layout, read_state

LEGS = "(address,address,uint256,uint256,address,bytes)[]"
REBALANCE = f"rebalance({LEGS},bytes32,uint256,uint256,uint256)"
MAX_CALLDATA = 512  # bytes of one leg's call
MIN_CALLDATA = 4


def encode_legs(legs: Sequence[Leg]) -> list[tuple[object, ...]]:
    """Return the legs in the contract's order."""
    return [(x.token_in, x.token_out, x.amount_in, x.min_out, x.target, x.calldata) for x in legs]


def plan_hash(plan: Plan) -> bytes:
    """Return keccak256 of abi.encode(legs, nonce, deadline, min_nav, vault, chain id), as the contract computes it."""
    types = [LEGS, "uint256", "uint256", "uint256", "address", "uint256"]
    body = [encode_legs(plan.legs), plan.nonce, plan.deadline, plan.min_nav, plan.vault, plan.chain_id]
    return bytes(keccak(encode(types, body)))


class ReferenceVault(Offering, Porting):
    """The reference vault at ``address``. ``block_time_s``: of the chain, to say when the next block comes."""

    def __init__(self, rpc: Rpc, address: str, *, block_time_s: int = 12) -> None:
        self.rpc = rpc
        self.address = to_checksum_address(address)
        self.block_time_s = block_time_s
        self._layout: Layout | None = None
        self._seen: Layout | None = None  # as it was read the last time

    def describe(self) -> Capabilities:
        """Return what the contract enforces now; ``permissioned`` is whether it has an allow-list."""
        asks = [
            Call(self.address, "permissioned()", "bool"),
            Call(self.address, "mandate()", ",".join(["uint256"] * 6)),
            Call(self.address, "budgets()", ",".join(["uint256"] * 5)),
        ]
        (permissioned,), limits, budgets = read(self.rpc, asks)
        return Capabilities(
            kind="reference",
            atomic_legs=True,
            onchain_price_bound=True,
            loss_budget=True,
            progress_rule=True,
            plan_nonce=True,
            deadline=True,
            async_exit=False,
            in_kind_exit=True,
            pausable=True,
            permissioned=bool(permissioned),
            stolen_key=stolen_key(Mandate(*map(_int, (*limits, *budgets)))),
        )

    def state(self, block: int | str = "latest") -> VaultState:
        """Read the whole vault at one block."""
        head = head_of(self.rpc, block)
        found = read_state(self.rpc, self.address, self._known(head.hash), head)
        if found is None:  # the owner moved the vault to another oracle
            self._layout = self._seen = None
            found = read_state(self.rpc, self.address, self._known(head.hash), head)
            if found is None:
                raise RpcError(f"oracle() of {self.address} answered two things for block {head.number}")
        return found

    def snapshot(self, block: int | str = "latest") -> Snapshot:
        """Read holdings, prices, mandate and budget at one block hash; every bad price is a failed verdict."""
        s = self.state(block)
        quotes = quotes_of(s.book.tokens, s.book.prices_e8, s.evidence.first)
        found = verdicts(
            [t.symbol for t in s.book.tokens], s.book.prices_e8, s.codes, [t.address for t in s.book.tokens]
        )
        what = (s.head, s.book, quotes, s.clock, s.mandate)
        return snapshot_of(*what, Shares(s.layout.chain_id, s.supply, s.paused), found)

    def seal(self, plan: Plan) -> Plan:
        """Return ``plan`` with the hash the contract recomputes."""
        return replace(plan, plan_hash=plan_hash(plan))

    def check(self, plan: Plan, *, now: int | None = None) -> Sequence[Verdict]:
        """Return the rules ``plan`` would break in the next block, mined at ``now`` (default: one block time on).

        Says the same as the chain when each leg spends ``amount_in`` and gets ``quoted_out``. A token without a good
        price stops only the plans that trade it; elsewhere its last good price stands in.
        """
        s = self.state()
        at, number = now or s.head.time + self.block_time_s, s.head.number + 1
        prices, found = codes(s.layout.sources, s.evidence, at, s.layout.grace_s)
        sick = [c != GOOD for c in found]
        book = replace(
            s.book, prices_e8=tuple(x if bad else p for p, x, bad in zip(prices, s.last_good, sick, strict=True))
        )
        failed = [broken("paused", f"{s.pause} has paused the vault")] if s.paused else []
        failed += before_trading(plan, book, s.clock, s.mandate, at, number)
        if plan.plan_hash != plan_hash(plan) or plan.vault != self.address or plan.chain_id != s.layout.chain_id:
            failed.append(broken("plan hash", "the hash does not belong to these legs, this vault and this chain"))
        if failed:
            return failed
        allowed = self._allowed(plan, s)
        return _on_prices(plan, book, verdicts([t.symbol for t in book.tokens], prices, found), sick) + as_quoted(
            plan, book, s.clock, s.mandate, at,
            lambda leg: allowed[leg.target, leg.calldata[:4]] and len(leg.calldata) <= MAX_CALLDATA, s.flows,
        )  # fmt: skip

    def build(self, plan: Plan) -> UnsignedTx:
        """Encode the plan as a call of ``rebalance``, or of ``arm`` where it offers an order."""
        if plan.order is not None:
            return UnsignedTx(plan.chain_id, self.address, calldata(ARM, plan.order.encoded()))
        args = (encode_legs(plan.legs), plan.plan_hash, plan.nonce, plan.deadline, plan.min_nav)
        return UnsignedTx(plan.chain_id, self.address, calldata(REBALANCE, *args))

    def simulate(self, tx: UnsignedTx, sender: str, block: int | str = "latest") -> Simulation:
        """Execute without sending, by eth_simulateV1 or, where a node lacks it, eth_call with eth_estimateGas."""
        head = head_of(self.rpc, block)
        tokens = self._known(head.hash).tokens
        return dry_run(self.rpc, tx, sender, self.address, tokens, head, self.block_time_s)

    def verify(self, receipt: Receipt, plan: Plan) -> Settlement:
        """Judge a mined plan from its receipt, the vault's own record in it and the transfers of its block.

        No state of the past is read, so a node that keeps the newest 128 blocks of it settles what landed long ago.
        """
        head = head_of(self.rpc, receipt.block_number)
        if plan.order is not None:
            on = receipt.status == 1 and head.hash == receipt.block_hash
            on = on and logs.armed(self.address, receipt.logs, plan.nonce, plan.plan_hash)
            now = self.state().book
            return settlement_of(receipt, now, now, landed=on) if on else self._missed(receipt, plan)
        record = logs.rebalanced(self.address, receipt.logs, plan.nonce)
        landed = receipt.status == 1 and head.hash == receipt.block_hash
        landed = landed and record is not None and record.plan_hash == plan.plan_hash
        if not landed or record is None:
            return self._missed(receipt, plan)
        layout = self._known("latest")
        addresses = [t.address for t in layout.tokens]
        legs = logs.leg_deltas(self.address, receipt.logs, plan.nonce)
        with sensible("the vault's record of a plan"):
            after = VaultBook(layout.tokens, (0,) * len(addresses), record.prices_e8, record.balances)
            settled = settlement_of(
                receipt, before_of(after, legs), after, landed=True, nav=(record.nav_before, record.nav_after)
            )
        seen = logs.transfers(self.rpc, self.address, addresses, receipt.block_hash)
        gaps = {a: str(d - legs.get(a, 0)) for a, d in seen.items() if d != legs.get(a, 0)}
        if not gaps:
            return settled
        odd = broken("balances", "balances moved in this block beyond what the legs explain", **gaps)
        return replace(settled, verdicts=(odd,))

    def _missed(self, receipt: Receipt, plan: Plan) -> Settlement:
        """Return the settlement of a transaction that is no execution of ``plan``: as a rule nothing moved."""
        now = self.state().book
        deltas = logs.moved(self.address, receipt.logs, [t.address for t in now.tokens])
        found = [missed(receipt, deltas, self.why(plan, None, receipt) if receipt.status == 0 else "")]
        return settlement_of(receipt, before_of(now, deltas), now, landed=False, verdicts=found)

    def why(self, plan: Plan, revert: str | None, receipt: Receipt | None = None) -> str:
        """Return why ``plan`` reverts in words, with the leg, pair and pool that fail where a replay shows them."""
        return why_reverted(self.rpc, plan, self._known("latest").tokens, revert, receipt)

    def executed_by(self, plan: Plan) -> str | None:
        """Return the transaction in which the vault's own event says that ``plan`` landed, or its order was armed."""
        if plan.order is None and self._nonce(head_of(self.rpc, "latest").hash) <= plan.nonce:
            return None
        topics = logs.rebalanced_topics(plan.nonce, plan.plan_hash)
        topics[0] = logs.REBALANCED if plan.order is None else logs.ARMED
        ask = {"address": self.address, "topics": topics, "fromBlock": hex(plan.block_number), "toBlock": "latest"}
        found = read_logs(self.rpc, ask)
        return str(found[-1]["transactionHash"]) if found else None

    def _nonce(self, block_hash: str) -> int:
        return cast("int", read(self.rpc, [Call(self.address, "clock()", "uint256")], block_hash)[0][0])

    def recover(self, plan: Plan, tx_hashes: Sequence[str]) -> AttemptFate:
        """Look up what became of ``plan``: by the vault's nonce and log first, then by the known transactions."""
        require_own(plan, self.address)
        if self.executed_by(plan) is not None:
            return AttemptFate.LANDED
        head = head_of(self.rpc, "latest")
        if self._nonce(head.hash) > plan.nonce or head.time > plan.deadline:
            return AttemptFate.VOID
        receipts = (read_receipt(self.rpc, tx_hash) for tx_hash in tx_hashes)
        if any(r is not None and r.status == 0 for r in receipts):
            return AttemptFate.VOID
        return AttemptFate.REPLACEABLE

    def pause(self) -> UnsignedTx:
        """Return the guardian's (or owner's) call that stops trading at once."""
        return self._call("pause()")

    def doubt(self, seconds: int) -> UnsignedTx:
        """Return the call that closes deposits and oracle-priced exits for at most a day: the market denies the oracle.

        The keeper, the guardian or the owner may send it; the in-kind exit stays open.
        """
        return self._call("doubt(uint256)", seconds)

    def doubted_until(self, block: int | str = "latest") -> int:
        """Return until when deposits and oracle-priced exits are closed, unix seconds."""
        return cast("int", read(self.rpc, [Call(self.address, "doubted_until()", "uint256")], block)[0][0])

    def revoke(self) -> UnsignedTx:
        """Return the owner's call that takes the keeper's key away at once."""
        return self._call("revoke_keeper()")

    def resume(self) -> tuple[UnsignedTx, UnsignedTx]:
        """Return the owner's two calls that resume: announce it, and make it after the timelock's delay."""
        return self.change("resume()")

    def change(self, signature: str, *args: object) -> tuple[UnsignedTx, UnsignedTx]:
        """Return the owner's two calls for any change: schedule now, execute after the delay."""
        data = calldata(signature, *args)
        return self._call("schedule(bytes)", data), self._call("execute(bytes)", data)

    def _call(self, signature: str, *args: object) -> UnsignedTx:
        chain_id = self._layout.chain_id if self._layout else quantity(self.rpc.call("eth_chainId"))
        return UnsignedTx(chain_id, self.address, calldata(signature, *args))

    def _allowed(self, plan: Plan, s: VaultState) -> dict[tuple[str, bytes], bool]:
        """Return whether each leg's (target, selector) may be called; tokens and the vault never may."""
        pairs = list({(leg.target, leg.calldata[:4]) for leg in plan.legs})
        never = {self.address, *(t.address for t in s.book.tokens)}
        asks = [
            Call(self.address, "call_allowed(address,bytes4)", "bool", (t, d.ljust(MIN_CALLDATA, b"\0")))
            for t, d in pairs
        ]
        listed = [bool(row[0]) for row in read(self.rpc, asks, s.head.hash)]
        return {
            pair: on and pair[0] not in never and len(pair[1]) == MIN_CALLDATA
            for pair, on in zip(pairs, listed, strict=True)
        }

    def _known(self, block_hash: str) -> Layout:
        """Return what does not change, kept from the second time on that it was read alike.

        A long-lived process must not keep for ever what a node said wrong once.
        """
        if self._layout is not None:
            return self._layout
        found = read_layout(self.rpc, self.address, block_hash)
        self._layout = found if found == self._seen else None
        self._seen = found
        return found


def _on_prices(plan: Plan, book: VaultBook, found: Sequence[Verdict], sick: Sequence[bool]) -> list[Verdict]:
    """Return the verdicts on bad prices of tokens the plan trades; ``found`` has one per ``sick`` token, in order."""
    traded = {book.index(address) for leg in plan.legs for address in (leg.token_in, leg.token_out)}
    bad = [i for i, no in enumerate(sick) if no]
    return [verdict for i, verdict in zip(bad, found, strict=True) if i in traded]


def _int(value: object) -> int:
    return int(str(value))
