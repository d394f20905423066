"""The port of the reference vault as transfers use it: departures, settlements, routes, and what was logged of them."""

from __future__ import annotations

from collections.abc import Sequence

from lake.answers import quantity
from lake.errors import ExecutionError
from lake.evm import calldata
from lake.rpc import Rpc
from lake.universe import CHAINS
from policy.execution.base import UnsignedTx
from policy.execution.bridges.base import CashChange, Departed, Departure, PortRoute, Transfer
from policy.execution.bridges.events import logs_between
from policy.execution.bridges.log_memory import LogMemory
from policy.execution.bridges.routes import DEPARTED, departed_of, read_row
from policy.execution.checks.port_rules import ACROSS, CCTP, FAST, FINAL, KINDS, OFT, Ask, RouteRow
from policy.execution.vaults.reference.cash import cash_moves
from policy.execution.vaults.reference.port_state import SETTLE, depart_data

_NAMES = {number: name for name, number in KINDS.items()}
SAGA_BYTES = 32


class Porting:
    """What the reference vault can do towards other chains. Mixed into its adapter."""

    rpc: Rpc
    address: str
    memory: LogMemory | None = None
    """Of logs since the vault's first block; None: every look reads them all."""

    def build_departure(self, departure: Departure) -> UnsignedTx:
        """Encode a departure; the vault writes the bridge's own call. ExecutionError where the route is not open."""
        row = read_row(self.rpc, self.address, departure.route)
        if row.kind == 0:
            raise ExecutionError(f"route {departure.route} of {self.address} is not open; its owner opens it")
        ask = Ask(
            *(departure.route, departure.amount, departure.max_fee, _speed(row, departure)),
            *(departure.deadline, departure.nonce, departure.native_fee_wei),
        )
        saga = bytes.fromhex(departure.saga_id.removeprefix("0x"))
        if len(saga) != SAGA_BYTES:
            raise ExecutionError(f"a transfer is named by {SAGA_BYTES} bytes, {departure.saga_id!r} was given")
        data = depart_data(ask, saga)
        return UnsignedTx(quantity(self.rpc.call("eth_chainId")), self.address, data, departure.native_fee_wei)

    def build_settle(self, transfer: Transfer, *, returned: bool) -> UnsignedTx:
        """Encode the call that frees the route's counter of what is on its way; it moves no money."""
        data = calldata(SETTLE, transfer.route, transfer.amount, returned)
        return UnsignedTx(quantity(self.rpc.call("eth_chainId")), self.address, data)

    def port_route(self, route: int, block: int | str = "latest") -> PortRoute | None:
        """Return the row of ``route``, None where it is closed or leads to a chain nobody knows."""
        row = read_row(self.rpc, self.address, route, block)
        there = chain_at(row)
        if row.kind == 0 or there is None:
            return None
        ends = row.token, there, row.recipient, row.output
        return PortRoute(route, _NAMES[row.kind], row.target, *ends, row.max_one, row.max_transit, row.fee_bps)

    def port_transit(self, route: int, block: int | str = "latest") -> int:
        """Return what the port counts as on its way over ``route``, raw units; of a closed route too."""
        return read_row(self.rpc, self.address, route, block).in_transit

    def departures(self, first: int, last: int) -> Sequence[Departed]:
        """Return the departures logged in blocks ``first`` to ``last``, both included."""
        if self.memory is not None:
            found = self.memory.logs(self.rpc, self.address, [DEPARTED], last)
            return tuple(departed_of(log) for log in found if log["blockNumber"] >= first)
        return tuple(departed_of(log) for log in logs_between(self.rpc, self.address, [DEPARTED], first, last))

    def cash_moves(self, last: int) -> Sequence[CashChange]:
        """Return what moved the accounting asset up to block ``last`` but departures, arrivals and refunds."""
        return cash_moves(self.rpc, self.address, last, self.memory)

    def forget(self) -> bool:
        """Read everything anew at the next look; return whether anything was remembered."""
        known = self.memory is not None and self.memory.remembers
        if self.memory is not None:
            self.memory.forget()
        return known


def chain_at(row: RouteRow) -> int | None:
    """Return the chain id a route leads to: its destination is in the bridge's own numbers."""
    if row.kind == ACROSS:
        return row.destination if row.destination in CHAINS else None
    key = "cctp_domain" if row.kind == CCTP else "lz_eid"
    return next((c.chain_id for c in CHAINS.values() if getattr(c, key) == row.destination), None)


def destination_of(kind: int, chain_id: int) -> int:
    """Return the number of a chain at a bridge of ``kind``; ExecutionError where the bridge does not serve it."""
    row = CHAINS[chain_id]
    found = {CCTP: row.cctp_domain, ACROSS: chain_id, OFT: row.lz_eid}[kind]
    if found is None:
        raise ExecutionError(f"{_NAMES[kind]} does not serve chain {chain_id} ({row.name})")
    return found


def _speed(row: RouteRow, departure: Departure) -> int:
    """Return the contract's ``speed``: finality, the moment a refund is due from, or the gas of the route there."""
    if row.kind == CCTP:
        return FINAL if departure.speed == "final" else FAST
    return departure.fill_deadline if row.kind == ACROSS else row.speed
