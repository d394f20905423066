"""Who fills a vault's orders on a local chain: bidders with an inventory cost and a latency.

They see what everybody sees: the transaction that armed an order. Each values what is sold at the market (which the
oracle may lag), less what hedging costs him and his gas, and acts where that pays: on a falling ask in the first block
in which it does, in a batch or one-block auction at once, with the second best setting how far the best must go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eth_abi.abi import decode
from eth_utils.address import to_checksum_address

from lake.evm import calldata, read_logs, selector
from lake.units import WEI_PER_GWEI
from policy.execution.auctions.orders import ARM, MPS, ORDER_TYPE, Order, VenueKind, Venues
from policy.execution.vaults.reference.logs import ARMED, DISARMED
from policy.localnet.auction_venues import BIDDERS
from policy.localnet.market import Localnet
from tests.localnet.fills import Filling, through_reactor, through_settlement

BP = 1e-4
FILL_GAS = 900_000
WEI = 1e18


@dataclass(frozen=True, slots=True)
class Bidder:
    """One filler: the account ``role``, hedging at ``cost_bp``, wanting ``margin_bp``, ``latency`` blocks behind."""

    role: str
    cost_bp: float
    margin_bp: float = 1.0
    latency: int = 0
    gas: int = 230_000

    def value(self, sold_usd: float, gas_usd: float) -> float:
        """Return what the order is worth to him, USD."""
        return sold_usd * (1 - (self.cost_bp + self.margin_bp) * BP) - gas_usd


def crowd(count: int, costs_bp: Sequence[float], latency: Sequence[int] = ()) -> list[Bidder]:
    """Return ``count`` bidders (at most as many as there are accounts for them) with these costs and latencies."""
    roles = BIDDERS[:count]
    behind = [*latency, *[0] * len(roles)]
    return [Bidder(r, c, latency=b) for r, c, b in zip(roles, costs_bp, behind, strict=False)]


@dataclass
class Bidders:
    """The bidders on ``net`` for orders of ``vault``. ``seen``: orders by digest, with the block they were armed in.

    Tell them the market by :meth:`act` before every block; their transactions are in the pool when it is built.
    """

    net: Localnet
    vault: str
    bidders: Sequence[Bidder]
    seen: dict[str, tuple[Order, int]] = field(default_factory=dict)
    next_block: int = 0

    def act(self, usd: Mapping[str, float], block_s: int = 12) -> list[str]:
        """Send what pays at market prices ``usd`` (by asset) in the next block; return the transactions' hashes."""
        self._watch()
        head = self.net.node.head()
        sent: list[str] = []
        for order, armed in self.seen.values():
            able = self._able(order, armed, usd, head.number + 1, head.time + block_s)
            if able:
                sent += self._fill(order, able)
        return sent

    def _watch(self) -> None:
        """Learn of orders armed and ended since the last look."""
        head = self.net.node.head().number
        ask = {"address": self.vault, "topics": [[ARMED, DISARMED]]}
        ask |= {"fromBlock": hex(self.next_block), "toBlock": hex(head)}
        for log in read_logs(self.net.node.admin, ask):
            topics: Any = log["topics"]
            if topics[0] == DISARMED:
                self.seen.pop(topics[2], None)
                continue
            tx: Any = self.net.node.admin.call("eth_getTransactionByHash", [log["transactionHash"]])
            order = order_of(bytes.fromhex(tx["input"][2:]), self._venues())
            self.seen[topics[2]] = order, int(str(log["blockNumber"]))
        self.next_block = head + 1

    def _venues(self) -> Venues:
        extras = self.net.world.extras
        return Venues(extras["venue:cow"], "0x" + "0" * 40, extras["venue:dutch"], extras["venue:priority"])

    def _able(
        self, order: Order, armed: int, usd: Mapping[str, float], block: int, at: int
    ) -> list[tuple[float, Bidder]]:
        """Return who gains by filling, with what he could pay (raw units of what is bought), the most first."""
        if at > order.expiry:
            return []
        sold, bought = self._price(order.sell, usd), self._price(order.buy, usd)
        native = usd.get("ETH", 0.0)
        fee = self.net.node.next_base_fee()
        found = []
        for bidder in self.bidders:
            if block < armed + 1 + bidder.latency:
                continue
            most = bidder.value(order.amount * sold, bidder.gas * fee / WEI * native) / bought
            if most >= order.asks(at):
                found.append((most, bidder))
        return sorted(found, key=lambda row: -row[0])

    def _price(self, token: str, usd: Mapping[str, float]) -> float:
        """Return USD a raw unit."""
        for asset, known in self.net.world.tokens.items():
            if known.address.lower() == token.lower():
                return usd.get(asset, 1.0) / 10.0**known.decimals
        raise KeyError(token)

    def _fill(self, order: Order, able: Sequence[tuple[float, Bidder]]) -> list[str]:
        """Send the fills; one lands, of a falling ask and a one-block auction the others pay for reverting."""
        if order.kind is VenueKind.COW:
            return self._settle(order, able)
        filling = through_reactor(order, self.vault)
        if order.kind is VenueKind.DUTCH:
            return [self._send(b, filling, WEI_PER_GWEI // 10 - k) for k, (_, b) in enumerate(able)]
        second = able[1][0] if len(able) > 1 else float(order.least)
        sent = []
        for k, (most, bidder) in enumerate(able):
            paid = min(most * (1 - BP), max(second * (1 + BP / 10), most * (1 - 2 * BP))) if k == 0 else most * (1 - BP)
            tip = max(0, int((paid / order.least - 1) * MPS / max(order.start, 1)))
            sent.append(self._send(bidder, filling, tip))
        return sent

    def _settle(self, order: Order, able: Sequence[tuple[float, Bidder]]) -> list[str]:
        """The best solver settles a batch at what the second best would have paid, and a little more."""
        most, best = able[0]
        second = able[1][0] if len(able) > 1 else float(order.least)
        out = int(max(order.least, min(most, max(second, most * (1 - 2 * BP)))))
        solver = self.net.accounts[best.role].address
        pay = Filling(order.buy, calldata("transfer(address,uint256)", order.venue, out))
        tip = WEI_PER_GWEI // 10
        return [self._send(best, pay, tip), self._send(best, through_settlement(order, self.vault, solver, out), tip)]

    def _send(self, bidder: Bidder, filling: Filling, tip_wei: int) -> str:
        return self.net.send(bidder.role, filling.to, filling.data, gas=FILL_GAS, tip_wei=tip_wei)


def order_of(data: bytes, venues: Venues) -> Order:
    """Return the order a transaction armed, out of its calldata."""
    assert data[:4] == selector(ARM)
    (row,) = decode([ORDER_TYPE], data[4:])
    venue, sell, buy = (to_checksum_address(a) for a in row[:3])
    amount, least, start, starts, ends, expiry, nonce, charge, app = row[3:]
    return Order(venues.kind(venue), venue, sell, buy, amount, least, expiry, nonce, charge, start, starts, ends, app)
