"""The vault bench with CoW's settlement, Permit2 and the UniswapX reactors, and orders on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from policy.execution.auctions.orders import ARM, Domains, Order, VenueKind, Venues, digest
from policy.execution.checks.rules import Mandate
from policy.localnet.accounts import dev_accounts
from policy.localnet.auction_venues import deploy_venues, domains_of
from policy.localnet.deploy import Deployer
from tests.execution.vault_kit import GAS, HUGE, MANDATE, Bench, bench
from tests.localnet.fills import Filling, through_reactor, through_settlement

SOLVERS = ("searcher", "trader")
CALM = replace(MANDATE, loss_budget_ppb=5_000_000)
USD = 10**6


@dataclass
class House:
    """A funded vault and the venues that may fill its orders."""

    b: Bench
    venues: Venues
    domains: Domains

    def order(
        self, kind: VenueKind = VenueKind.DUTCH, i: int = 0, j: int = 1, loss_bps: int = 20, **over: Any
    ) -> Order:
        """An order that sells 10,000 dollars of token i for token j, at worst ``loss_bps`` under the oracle."""
        b, now = self.b, self.b.now()
        amount = over.pop("amount", 10_000 * 10 ** b.decimals[i] * 10**8 // b.answer(i))
        fair = b.fair(i, j, amount).quoted_out
        least = fair * (10_000 - loss_bps) // 10_000
        made = Order(
            kind, self.venues.of(kind), b.tokens[i], b.tokens[j], amount, least,
            expiry=now + 600, nonce=b.view("clock()"), charge_ppb=loss_bps * 10_000 + 100_000,
        )  # fmt: skip
        if kind is VenueKind.DUTCH:
            made = replace(made, start=fair * 10_030 // 10_000, starts=now + 12, ends=now + 252)
        if kind is VenueKind.PRIORITY:
            made = replace(made, start=1)
        return replace(made, **over)

    def arm(self, order: Order, role: str = "keeper") -> dict[str, Any]:
        """Arm it."""
        return self.b.send(role, self.b.vault, ARM, order.encoded())

    def why_not(self, order: Order, role: str = "keeper", wait: int = 12) -> str | None:
        """Why the vault refuses to arm it."""
        return self.b.why(role, self.b.vault, ARM, order.encoded(), wait=wait)

    def filling(self, order: Order, who: str, out: int | None = None) -> Filling:
        """The fill by ``who``; CoW's at a clearing price of ``out``."""
        if order.kind is VenueKind.COW:
            return through_settlement(order, self.b.vault, self.b.who[who], out or order.least)
        return through_reactor(order, self.b.vault)

    def prepay(self, who: str, token: str, amount: int) -> None:
        """Put what a solver pays with into CoW's settlement."""
        self.b.send(who, token, "transfer(address,uint256)", self.venues.settlement, amount)

    def refused(self, order: Order, who: str = "searcher", out: int | None = None, tip: int = 0) -> bool:
        """Whether a fill in the next block would fail."""
        fill = self.filling(order, who, out)
        return not self._mined(fill, who, tip, keep=False)

    def fill(self, order: Order, who: str = "searcher", out: int | None = None, tip: int = 0) -> bool:
        """Mine the fill; whether it succeeded."""
        return self._mined(self.filling(order, who, out), who, tip, keep=True)

    def _mined(self, fill: Filling, who: str, tip: int, *, keep: bool) -> bool:
        mark = None if keep else self.b.rpc.call("evm_snapshot")
        tx = {"from": self.b.who[who], "to": fill.to, "data": "0x" + fill.data.hex(), "gas": hex(GAS)}
        tx |= {"maxFeePerGas": hex(10**12), "maxPriorityFeePerGas": hex(tip)}
        self.last = self.b.receipt(self.b.rpc.call("eth_sendTransaction", [tx]))
        if mark is not None:
            assert self.b.rpc.call("evm_revert", [mark])
        return int(self.last["status"], 16) == 1

    def digest(self, order: Order) -> bytes:
        """What the venue asks the vault about."""
        return digest(order, self.b.vault, self.domains)


@contextmanager
def house(mandate: Mandate = CALM, *, listed: bool = True, **terms: Any) -> Iterator[House]:
    """A bench whose vault may offer at every venue (``listed``), with fillers that own and approve everything."""
    made: list[Venues] = []

    def venues(rpc: Any) -> tuple[Venues, list[tuple[str, str]]]:
        found = deploy_venues(Deployer(rpc), [dev_accounts()[s].address for s in SOLVERS])
        made.append(found)
        return found, [(found.of(k), ARM) for k in VenueKind] if listed else []

    with bench(mandate, venues=venues, **terms) as b:
        found = made[0]
        for role in SOLVERS:
            for token in b.tokens:
                for spender in (found.dutch, found.priority):
                    b.send(role, token, "approve(address,uint256)", spender, HUGE)
        yield House(b, found, domains_of(b.rpc, found))
