"""A vault whose owner has opened routes: CCTP's double on one chain, with the calls a keeper can make of the port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.evm import read_logs
from lake.rpc import quantity
from policy.execution.checks.port_rules import ACROSS, CCTP, FAST, FINAL, OFT, Ask, PortBook, RouteRow, departure_broken
from policy.execution.vaults.reference.port_state import (
    DEPART,
    SET_BENEFICIARY,
    SET_RATE,
    SET_ROUTE,
    SETTLE,
    depart_data,
    read_port,
)
from policy.localnet.accounts import dev_accounts
from tests.execution.vault_kit import FREE, Bench, bench, make

USD = 10**6
SAGA = b"\x07" * 32
THERE = 3  # CCTP domain of the other chain
ELSEWHERE = "0x" + "5a" * 20
"""Our vault on the other chain."""
OUTPUT = "0x" + "c0" * 20
_BURNT = "DepositForBurn(address,uint256,address,bytes32,uint32,bytes32,bytes32,uint256,uint32,bytes)"
BURNT = "0x" + keccak(text=_BURNT).hex()
BUDGET, WINDOW_S = 20_000 * USD, 86_400


@dataclass
class Harbour:
    """The bench with its bridge. ``row``: route 1, ready at first."""

    b: Bench
    transmitter: str
    messenger: str
    row: RouteRow

    def book(self) -> PortBook:
        """The port as the Python side reads it."""
        return read_port(self.b.rpc, self.b.vault)

    def ask(self, amount: int = 1_000 * USD, **over: Any) -> Ask:
        """A departure over route 1 at the present nonce."""
        return replace(Ask(1, amount, 0, FINAL, 2**40, self.b.view("clock()")), **over)

    def args(self, ask: Ask) -> tuple[Any, ...]:
        """Signature and arguments of its call."""
        return (DEPART, ask.route, ask.amount, ask.fee, ask.speed, ask.deadline, ask.nonce, SAGA)

    def refusal(self, ask: Ask, role: str = "keeper", wait: int = 12) -> str | None:
        """Why the vault denies it in a block ``wait`` seconds on; None when it goes."""
        return self.b.why(role, self.b.vault, *self.args(ask), wait=wait, value=ask.value)

    def expected(self, ask: Ask, wait: int = 12) -> list[str]:
        """The rules it breaks by the Python side, in a block ``wait`` seconds on."""
        state = self.b.adapter().state()
        now, block = state.head.time + wait, state.head.number + 1
        return [v.check for v in departure_broken(ask, self.book(), state.clock, state.mandate, now, block)]

    def depart(self, ask: Ask | None = None) -> dict[str, Any]:
        """Mine a departure."""
        return self.b.send("keeper", self.b.vault, *self.args(ask or self.ask()))

    def settle(self, route: int, amount: int, role: str = "keeper") -> dict[str, Any]:
        """Say that it arrived."""
        return self.b.send(role, self.b.vault, SETTLE, route, amount, False)

    def burnt(self) -> list[tuple[str, int]]:
        """Recipient and amount of everything that ever left over the bridge."""
        logs = read_logs(self.b.rpc, {"address": self.messenger, "fromBlock": "0x0", "topics": [BURNT]})
        words = [[str(log["data"])[2 + 64 * i : 66 + 64 * i] for i in range(2)] for log in logs]
        return [(to_checksum_address("0x" + to[24:]), int(amount, 16)) for amount, to in words]

    def raw(self, role: str, data: bytes, value: int = 0, gas: int = 600_000) -> bool:
        """Send any bytes to the vault; whether it was not reverted."""
        tx = {"from": self.b.who[role], "to": self.b.vault, "data": "0x" + data.hex(), "gas": hex(gas)}
        sent = self.b.rpc.call("eth_sendTransaction", [tx | {"value": hex(value)}])
        return quantity(self.b.receipt(sent)["status"]) == 1

    def try_depart(self, ask: Ask, role: str = "keeper") -> bool:
        """Send a departure, whatever becomes of it."""
        return self.raw(role, depart_data(ask, SAGA), ask.value)


def bridge_on(b: Bench) -> tuple[str, str]:
    """Deploy CCTP's double of this chain, connected to domain :data:`THERE`; return transmitter and messenger."""
    attesters = [b.who["identity"]]
    transmitter = make(b.rpc, "cctp_transmitter", ["uint32", "address[]", "uint256"], [0, attesters, 1])
    messenger = make(b.rpc, "cctp_messenger", ["address", "address"], [transmitter, b.who["trader"]])
    other = bytes(12) + b"\x11" * 20
    connect = "connect(uint32,bytes32,bytes32,address,uint256)"
    b.send("deployer", messenger, connect, THERE, other, bytes(12) + b"\xc0" * 20, b.tokens[0], 10**6 * USD)
    return transmitter, messenger


@contextmanager
def harbour(*, opened: bool = True, **terms: Any) -> Iterator[Harbour]:
    """The bench's vault with CCTP beside it; ``opened``: beneficiary, rate and route 1 are set already."""
    with bench(**{**FREE, **terms}) as b:
        transmitter, messenger = bridge_on(b)
        there = to_checksum_address(ELSEWHERE), to_checksum_address(OUTPUT)
        limits = (6, 5_000 * USD, 12_000 * USD, 15, FAST)
        row = RouteRow(CCTP, to_checksum_address(messenger), to_checksum_address(b.tokens[0]), THERE, *there, *limits)
        made = Harbour(b, transmitter, messenger, row)
        if opened:
            b.change(SET_BENEFICIARY, dev_accounts()["investor"].address)
            b.change(SET_RATE, WINDOW_S, BUDGET)
            b.change(SET_ROUTE, 1, row.encoded())
        yield made


__all__ = ["ACROSS", "CCTP", "OFT", "SAGA", "USD", "Harbour", "harbour"]
