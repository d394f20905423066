"""Orders of the reference vault that others fill: their calls, where they stand on chain, and what a fill did."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from eth_utils.address import to_checksum_address

from lake.answers import fields, quantity, rows
from lake.errors import RpcError
from lake.evm import Call, calldata, head_of, read, read_logs, try_read
from lake.rpc import Rpc
from policy.execution.auctions.orders import ZERO, Domains, Order, VenueKind, Venues, cow_uid, digest
from policy.execution.base import Leg, Plan, Receipt, Settlement, UnsignedTx, Verdict
from policy.execution.checks.verdicts import passed, refused
from policy.execution.submission.node import read_receipt
from policy.execution.submission.reverts import reason_of
from policy.execution.vaults.common import before_of, settlement_of
from policy.execution.vaults.reference import logs

if TYPE_CHECKING:
    from policy.execution.vaults.reference.state import VaultState

DISARM = "disarm()"
SIGNED = "isValidSignature(bytes32,bytes)"
MAGIC = bytes.fromhex("1626ba7e")
OFFER = "uint256,bytes32,uint256,uint256,uint256,uint256,uint256,uint256,uint256,bool,bool"
KINDS = (VenueKind.COW, VenueKind.DUTCH, VenueKind.PRIORITY)


@dataclass(frozen=True, slots=True)
class OrderState:
    """Where an order stands at one block: armed on the vault, filled by what its venue says; ``paused``: the vault."""

    armed: bool
    filled: bool
    paused: bool


@dataclass(frozen=True, slots=True)
class House:
    """The venues a vault's orders can go to, with the domains of their digests."""

    venues: Venues
    domains: Domains


class Offering(ABC):
    """What the reference vault can do besides plans. Mixed into its adapter."""

    rpc: Rpc
    address: str
    _house: House | None = None

    @abstractmethod
    def state(self, block: int | str = "latest") -> VaultState:
        """Read the whole vault at one block."""

    def house(self) -> House:
        """Return where this vault can offer; RpcError from a vault of before it could."""
        if self._house is None:
            row: Any = read(self.rpc, [Call(self.address, "venues()", "address,address,address,address,address")])[0]
            settlement, _, dutch, priority, permit2 = (to_checksum_address(a) for a in row)
            venues = Venues(settlement, permit2, dutch, priority)
            asks = [Call(settlement, "domainSeparator()", "bytes32"), Call(permit2, "DOMAIN_SEPARATOR()", "bytes32")]
            there = [a for a in asks if a.to != ZERO]
            said: dict[str, Any] = dict(zip((a.to for a in there), read(self.rpc, there), strict=True))
            none = (b"\0" * 32,)
            self._house = House(venues, Domains(said.get(settlement, none)[0], said.get(permit2, none)[0]))
        return self._house

    def offer(self, plan: Plan, order: Order) -> Plan:
        """Return ``plan`` as the offer of ``order``, named by the digest its venue has for it."""
        name = digest(order, self.address, self.house().domains)
        leg = Leg(order.sell, order.buy, order.amount, order.least, order.asks(0) or order.least, (), order.venue)
        return replace(
            plan, legs=(leg,), order=order, nonce=order.nonce, deadline=order.expiry, min_nav=0, plan_hash=name
        )

    def disarm(self, chain_id: int) -> UnsignedTx:
        """Return the keeper's call that ends the armed order, filled or not."""
        return UnsignedTx(chain_id, self.address, calldata(DISARM))

    def order_state(self, plan: Plan, block: int | str = "latest") -> OrderState:
        """Look up where the order of ``plan`` stands at one block, on the vault and at its venue."""
        assert plan.order is not None
        head = head_of(self.rpc, block)
        house = self.house()
        asks = [Call(self.address, "offer()", OFFER), Call(self.address, "paused()", "bool")]
        if plan.order.kind is VenueKind.COW:
            uid = cow_uid(plan.plan_hash, self.address, plan.order.expiry)
            asks.append(Call(house.venues.settlement, "filledAmount(bytes)", "uint256", (uid,)))
        else:
            word = (self.address, plan.nonce >> 8)
            asks.append(Call(house.venues.permit2, "nonceBitmap(address,uint256)", "uint256", word))
        said, (paused,), (spent,) = (tuple[Any, ...](row) for row in read(self.rpc, asks, head.hash))
        filled = bool(spent) if plan.order.kind is VenueKind.COW else bool(int(spent) >> (plan.nonce & 255) & 1)
        return OrderState(bool(said[9]) and said[1] == plan.plan_hash, filled, bool(paused))

    def standing(self, chain_id: int, block: int | str = "latest") -> Plan | None:
        """Return the order that is armed on chain as a plan, None without one (or on a vault that cannot offer).

        What a chain does not keep (when the ask falls, CoW's appData) is left out: enough to look it up and end it.
        """
        head = head_of(self.rpc, block)
        asks = [Call(self.address, "offer()", OFFER), Call(self.address, "tokens()", "address[],uint256[],uint256[]")]
        said, held = try_read(self.rpc, asks, head.hash)
        if isinstance(said, RpcError) or isinstance(held, RpcError):
            return None
        row, tokens = tuple[Any, ...](said), tuple[Any, ...](held)[0]
        if not row[9]:
            return None
        kind = KINDS[row[8]]
        sell, buy = (to_checksum_address(tokens[k]) for k in (row[6], row[7]))
        order = Order(kind, self.house().venues.of(kind), sell, buy, row[2], row[3], row[4], row[0] - 1, row[5])
        leg = Leg(order.sell, order.buy, order.amount, order.least, order.least, (), order.venue)
        name = f"armed-{order.nonce}"
        where = (head.number, head.hash)
        return Plan(name, self.address, chain_id, order.nonce, order.expiry, 0, (leg,), bytes(row[1]), *where, order)

    def judge(self, plan: Plan, sender: str) -> tuple[list[Verdict], int]:
        """Arm the order and ask for the vault's signature without sending; return the verdict and the gas of arming."""
        calls = [
            {"from": sender, "to": self.address, "data": "0x" + self.build(plan).data.hex()},
            {"to": self.address, "data": "0x" + calldata(SIGNED, plan.plan_hash, b"").hex()},
        ]
        body = [{"calls": [calls[0]]}, {"calls": [calls[1]]}]
        what = "eth_simulateV1"
        blocks = rows(self.rpc.call(what, [{"blockStateCalls": body, "validation": False}, "latest"]), what, 2)
        found, gas = [], 0
        for name, block in zip(("arming", "signing"), blocks, strict=False):
            raw: Any = fields(block, what).rows("calls", 1)[0]
            row = fields(raw, what)
            if row.quantity("status", 1) == 1 and (name == "arming" or row.data("returnData")[:4] == MAGIC):
                gas = gas or row.quantity("gasUsed")
                continue
            why = reason_of((raw.get("error") or {}).get("data") or raw.get("returnData"), "no reason given")
            found.append(refused("order", f"{name} the order is refused: {why}", revert=why))
            break
        return found or [passed("order", f"the vault would sign it; arming takes {gas} gas", gas=gas)], gas

    @abstractmethod
    def build(self, plan: Plan) -> UnsignedTx:
        """Encode a plan."""

    def ended(self, receipt: Receipt, plan: Plan) -> bool | None:
        """Return whether the order was filled, by the vault's record of its end; None where the receipt has none."""
        if receipt.status != 1 or head_of(self.rpc, receipt.block_number).hash != receipt.block_hash:
            return None
        return logs.disarmed(self.address, receipt.logs, plan.nonce, plan.plan_hash)

    def ended_elsewhere(self, plan: Plan) -> str | None:
        """Return the transaction that ended the order, whoever sent it; None where the vault has no event of it."""
        topics = [logs.DISARMED, f"0x{plan.nonce:064x}", "0x" + plan.plan_hash.hex()]
        found = read_logs(self.rpc, self._since(plan, self.address, topics))
        return str(found[-1]["transactionHash"]) if found else None

    def fill(self, plan: Plan) -> Receipt | None:
        """Return the transaction that filled the order: the first that took what it sells out of the vault."""
        assert plan.order is not None
        mine = "0x" + self.address[2:].lower().rjust(64, "0")
        for log in read_logs(self.rpc, self._since(plan, plan.order.sell, [logs.TRANSFER, mine])):
            if quantity(log["data"]) != plan.order.amount:
                continue
            receipt = read_receipt(self.rpc, str(log["transactionHash"]))
            if receipt is not None and receipt.status == 1 and self._bought(plan, receipt) >= plan.order.least:
                return receipt
        return None

    def settle_fill(self, plan: Plan, paid: Sequence[Receipt]) -> Settlement:
        """Judge a filled order from its fill's transfers and the balances of now; ``paid``: the keeper's receipts."""
        assert plan.order is not None
        after, found = self.state().book, self.fill(plan)
        addresses = [t.address for t in after.tokens]
        deltas = {} if found is None else logs.moved(self.address, found.logs, addresses)
        odd = []
        if found is None:
            odd = [refused("fill_unseen", "the venue says that the order was filled, its transfers are not found")]
        gas = sum(r.gas_used for r in paid)
        cost = sum(r.gas_used * r.effective_gas_price_wei for r in paid)
        base = Receipt("", 0, "", 1, gas, 0)
        settled = settlement_of(base, before_of(after, deltas), after, landed=True, verdicts=odd)
        return replace(settled, gas_cost_wei=cost)

    def _bought(self, plan: Plan, receipt: Receipt) -> int:
        assert plan.order is not None
        return logs.moved(self.address, receipt.logs, [plan.order.buy])[plan.order.buy]

    def _since(self, plan: Plan, address: str, topics: Sequence[str]) -> dict[str, Any]:
        return {"address": address, "topics": list(topics), "fromBlock": hex(plan.block_number), "toBlock": "latest"}
