"""Adapter of the hedge account (contracts/hedge_account.vy): what the plan machinery needs of it, over JSON-RPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from eth_abi.abi import decode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.answers import quantity, sensible
from lake.evm import Call, calldata, head_of, read, read_logs
from lake.rpc import Rpc
from policy.execution.base import AttemptFate, Plan, Receipt, Settlement, Simulation, UnsignedTx
from policy.execution.submission.node import read_receipt
from policy.execution.submission.reverts import missed
from policy.execution.submission.simulate_tx import dry_run
from policy.execution.vaults.common import require_own
from policy.execution.vaults.hedge.state import (
    E8,
    WAD,
    HedgeLayout,
    HedgeStanding,
    HedgeState,
    read_hedge_layout,
    read_hedge_state,
)
from policy.execution.vaults.reference.adapter import REBALANCE, encode_legs, plan_hash

_STANDING = "(uint256,uint256,int256,int256,uint256)"
_HEDGED_DATA = [_STANDING, _STANDING, "int256", "uint256", "uint256"]
HEDGED = "0x" + keccak(text=f"Hedged(uint256,bytes32,address,{_STANDING},{_STANDING},int256,uint256,uint256)").hex()
PERP_ARGS = ("int256", "uint256")


@dataclass(frozen=True, slots=True)
class Hedged:
    """The account's record of a plan: before, after, the book's delta less what is wanted, price (x 1e8), loss."""

    plan_hash: bytes
    before: HedgeStanding
    after: HedgeStanding
    book: int
    price: int
    loss_ppb: int


class HedgeAccount:
    """The hedge account at ``address``. ``block_time_s``: of the chain, to say when the next block comes."""

    def __init__(self, rpc: Rpc, address: str, *, block_time_s: int = 12) -> None:
        self.rpc = rpc
        self.address = to_checksum_address(address)
        self.block_time_s = block_time_s
        self._layout: HedgeLayout | None = None

    @property
    def layout(self) -> HedgeLayout:
        """What never changes about the account; read once."""
        if self._layout is None:
            chain_id = quantity(self.rpc.call("eth_chainId"))
            self._layout = read_hedge_layout(self.rpc, self.address, chain_id)
        return self._layout

    def state(self, block: int | str = "latest") -> HedgeState:
        """Read the whole account at one block."""
        return read_hedge_state(self.rpc, self.address, self.layout, head_of(self.rpc, block))

    def seal(self, plan: Plan) -> Plan:
        """Return ``plan`` with the hash the contract recomputes."""
        return replace(plan, plan_hash=plan_hash(plan))

    def build(self, plan: Plan) -> UnsignedTx:
        """Encode the plan as a call of ``rebalance``."""
        args = (encode_legs(plan.legs), plan.plan_hash, plan.nonce, plan.deadline, plan.min_nav)
        return UnsignedTx(plan.chain_id, self.address, calldata(REBALANCE, *args))

    def simulate(self, tx: UnsignedTx, sender: str, block: int | str = "latest") -> Simulation:
        """Execute without sending; the change of cash and spot."""
        head = head_of(self.rpc, block)
        tokens = (self.layout.cash, self.layout.asset)
        return dry_run(self.rpc, tx, sender, self.address, tokens, head, self.block_time_s)

    def verify(self, receipt: Receipt, plan: Plan) -> Settlement:
        """Judge a mined plan from the account's own record in the receipt; no state of the past is read."""
        head = head_of(self.rpc, receipt.block_number)
        record = hedged(self.address, receipt.logs, plan.nonce)
        landed = receipt.status == 1 and head.hash == receipt.block_hash
        landed = landed and record is not None and record.plan_hash == plan.plan_hash
        if record is None or not landed:
            return Settlement(
                landed=False, deltas={}, nav_before=0, nav_after=0, gas_used=receipt.gas_used,
                gas_cost_wei=receipt.gas_used * receipt.effective_gas_price_wei, weights_after_bps=(),
                verdicts=(missed(receipt, {}, ""),),
            )  # fmt: skip
        a, b, layout = record.before, record.after, self.layout
        return Settlement(
            landed=True,
            deltas={layout.cash.address: b.cash - a.cash, layout.asset.address: b.spot - a.spot,
                    layout.perp: b.size - a.size},
            nav_before=a.nav, nav_after=b.nav, gas_used=receipt.gas_used,
            gas_cost_wei=receipt.gas_used * receipt.effective_gas_price_wei,
            weights_after_bps=_shares(b),
        )  # fmt: skip

    def executed_by(self, plan: Plan) -> str | None:
        """Return the transaction in which the account's own event says that ``plan`` landed."""
        if self._nonce(head_of(self.rpc, "latest").hash) <= plan.nonce:
            return None
        topics = [HEDGED, f"0x{plan.nonce:064x}", "0x" + plan.plan_hash.hex()]
        ask = {"address": self.address, "topics": topics, "fromBlock": hex(plan.block_number), "toBlock": "latest"}
        found = read_logs(self.rpc, ask)
        return str(found[-1]["transactionHash"]) if found else None

    def _nonce(self, block_hash: str) -> int:
        return cast("int", read(self.rpc, [Call(self.address, "clock()", "uint256,uint256")], block_hash)[0][0])

    def recover(self, plan: Plan, tx_hashes: Sequence[str]) -> AttemptFate:
        """Look up what became of ``plan``: by the account's nonce and log first, then by the known transactions."""
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


def hedged(account: str, logs: Sequence[Mapping[str, Any]], nonce: int) -> Hedged | None:
    """Return the record of plan ``nonce`` among a receipt's logs, None without one."""
    for log in logs:
        topics = [t if isinstance(t, str) else "0x" + bytes(t).hex() for t in log["topics"]]
        mine = str(log["address"]).lower() == account.lower() and len(topics) == 4 and topics[0] == HEDGED
        if mine and int(topics[1], 16) == nonce:
            data = log["data"]
            raw = bytes.fromhex(data[2:]) if isinstance(data, str) else bytes(data)
            with sensible(f"a log of {account}"):
                a, b, book, price, loss = decode(_HEDGED_DATA, raw)
            return Hedged(bytes.fromhex(topics[2][2:]), HedgeStanding(*a), HedgeStanding(*b), book, price, loss)
    return None


def _shares(s: HedgeStanding) -> tuple[int, int, int]:
    """Return cash, spot and equity at the venue in basis points of NAV."""
    if s.nav <= 0:
        return (0, 0, 0)
    spot = s.nav - s.cash - s.equity
    return tuple(10_000 * part // s.nav for part in (s.cash, spot, s.equity))  # type: ignore[return-value]


def in_cash(units_wad: int, state: HedgeState) -> int:
    """Return the worth of ``units_wad`` (x 1e18) of the underlying in raw cash at the oracle's prices, rounded down."""
    unit: int = 10**state.layout.cash.decimals
    return units_wad * state.price * unit // (WAD * state.cash_price)


def usd(raw_cash: int, state: HedgeState) -> float:
    """Return raw cash in USD."""
    return float(raw_cash / 10**state.layout.cash.decimals) * state.cash_price / E8
