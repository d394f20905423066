"""The port of a simulated vault: what it is made of, the calls by which money leaves, arrives and is settled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from policy.execution.base import Token, UnsignedTx
from policy.execution.bridges.base import CashChange, Departed, Departure, PortRoute, Transfer, converted
from policy.execution.bridges.sim_book import BridgeBook, SimDeparture, bridge_fee, depart, message_of, receive, settle
from policy.execution.checks.rules import Mandate, wrong_keeper
from policy.execution.submission.node import Node
from policy.execution.vaults.simulated.chain import SimBlock, SimTx
from policy.execution.vaults.simulated.world import SimWorld

DEPART_GAS, RECEIVE_GAS, SETTLE_GAS = 142_000, 210_000, 60_000
"""Gas of the three calls; a delivery as dear as the real one's that ran out at 200,000."""

Called = tuple[SimWorld, int, str | None]


class SimNode(Node, Protocol):
    """A node that also shows the simulated world at a block."""

    def block(self, number: int | str) -> SimBlock:
        """Return a block with its world."""
        ...


@dataclass(frozen=True, slots=True)
class VaultSpec:
    """What is fixed about a simulated vault: address, keeper, tokens (accounting asset first), limits, feeds."""

    address: str
    keeper: str
    tokens: tuple[Token, ...]
    mandate: Mandate = field(default_factory=Mandate)
    heartbeat_s: int = 3_600
    targets: frozenset[str] = frozenset()  # allow-listed contracts a leg may call; empty: any pool's router


class SimulatedPort:
    """The port of a simulated vault over a node that shows its world; the base of the vault."""

    def __init__(self, spec: VaultSpec, node: SimNode) -> None:
        self.spec = spec
        self.node = node

    def build_departure(self, departure: Departure) -> UnsignedTx:
        """Encode a departure as JSON bytes."""
        return self._call({"bridge_call": "depart", **asdict(departure), "amount": str(departure.amount)})

    def build_settle(self, transfer: Transfer, *, returned: bool) -> UnsignedTx:
        """Encode the call that frees the route's counter."""
        return self._call({"bridge_call": "settle", "saga_id": transfer.saga_id, "returned": returned})

    def port_route(self, route: int, block: int | str = "latest") -> PortRoute | None:
        """Return the row of ``route``."""
        return self.node.block(block).world.bridges.routes.get(route)

    def port_transit(self, route: int, block: int | str = "latest") -> int:
        """Return what the port counts as in transit on ``route``, raw units."""
        return self.node.block(block).world.bridges.transit.get(route, 0)

    def departures(self, first: int, last: int) -> Sequence[Departed]:
        """Return the departures of blocks ``first`` to ``last``, as the chain is at ``last``."""
        made = self.node.block(last).world.bridges.departed.values()
        return tuple(
            Departed(d.route, d.nonce, d.saga_id, d.amount, d.least, d.block, d.tx_hash)
            for d in made
            if first <= d.block <= last
        )

    def cash_moves(self, last: int) -> Sequence[CashChange]:
        """Return what moved the accounting asset up to block ``last``: its start, flows of people, trades."""
        return tuple(CashChange(*m) for m in self.node.block(last).world.bridges.moves if m[0] <= last)

    def forget(self) -> bool:
        """Return False: nothing is remembered between looks."""
        return False

    def _call(self, body: Mapping[str, Any]) -> UnsignedTx:
        return UnsignedTx(self.node.chain_id(), self.spec.address, json.dumps(body, sort_keys=True).encode())


def made_departure(
    spec: VaultSpec, book: BridgeBook, departure: Departure, tx: SimTx, at: tuple[int, int]
) -> SimDeparture:
    """Return what the port itself builds of a departure at ``at`` (block, time): the recipient is the route's."""
    row = book.routes[departure.route]
    fee = bridge_fee(book, departure.amount)
    out, _ = converted(departure.amount - fee, book.decimals[row.token], book.decimals[row.output_token])
    return SimDeparture(
        saga_id=departure.saga_id, route=row.route, kind=row.kind, nonce=departure.nonce, chain_id=tx.chain_id,
        vault=spec.address, token=row.token, destination=row.destination, recipient=row.recipient,
        output_token=row.output_token, amount=departure.amount, fee=fee, least=out, block=at[0], time=at[1],
        tx_hash=tx.tx_hash, fill_deadline=departure.fill_deadline,
    )  # fmt: skip


def bridge_call(spec: VaultSpec, world: SimWorld, tx: SimTx, called: Mapping[str, Any], at: tuple[int, int]) -> Called:
    """Run one call of the port or of a bridge at ``at`` (block, time): the world after it, gas, why it is denied."""
    runs = {"depart": _depart, "receive": _receive, "settle": _settle}
    after, gas, why = runs[called["bridge_call"]](spec, world, tx, called, at)
    if gas > tx.gas_limit:
        return world, tx.gas_limit, "out of gas"
    return after, gas, why


def _depart(spec: VaultSpec, world: SimWorld, tx: SimTx, called: Mapping[str, Any], at: tuple[int, int]) -> Called:
    fields = {k: v for k, v in called.items() if k != "bridge_call"}
    departure = Departure(**{**fields, "amount": int(fields["amount"])})
    denied = wrong_keeper(tx.sender, spec.keeper)
    if denied or departure.route not in world.bridges.routes:
        return world, DEPART_GAS // 3, denied[0].check if denied else "no route"
    made = made_departure(spec, world.bridges, departure, tx, at)
    held = world.balances.get(made.token, 0)
    book = depart(world.bridges, departure, made, held, (world.paused, world.clock.nonce))
    if isinstance(book, str):
        return world, DEPART_GAS // 3, book
    clock = replace(world.clock, nonce=world.clock.nonce + 1)
    balances = {**world.balances, made.token: held - made.amount}
    return replace(world, balances=balances, clock=clock, bridges=book), DEPART_GAS, None


def _receive(spec: VaultSpec, world: SimWorld, _tx: SimTx, called: Mapping[str, Any], at: tuple[int, int]) -> Called:
    done = receive(world.bridges, message_of(called["message"].encode()), at[0])
    if isinstance(done, str):
        return world, RECEIVE_GAS // 3, done
    book, credit = done
    return (
        replace(credited(spec, world, credit.recipient, credit.token, credit.amount), bridges=book),
        RECEIVE_GAS,
        None,
    )


def _settle(spec: VaultSpec, world: SimWorld, tx: SimTx, called: Mapping[str, Any], _at: tuple[int, int]) -> Called:
    denied = wrong_keeper(tx.sender, spec.keeper)
    book = denied[0].check if denied else settle(world.bridges, called["saga_id"])
    if isinstance(book, str):
        return world, SETTLE_GAS // 3, book
    return replace(world, bridges=book), SETTLE_GAS, None


def credited(spec: VaultSpec, world: SimWorld, recipient: str, token: str, amount: int) -> SimWorld:
    """Return the world after money for ``recipient`` landed; only the vault's own is kept in its books."""
    if recipient.lower() != spec.address.lower():
        return world
    return replace(world, balances={**world.balances, token: world.balances.get(token, 0) + amount})
