"""Routes and departures of a reference vault's port, as its chain says them."""

from __future__ import annotations

from typing import Any

from eth_utils.address import to_checksum_address

from lake.evm import Call, read
from lake.rpc import Rpc
from policy.execution.bridges.base import Departed
from policy.execution.bridges.events import Log, data_of, event_topic, topics_of
from policy.execution.checks.port_rules import CLOSED, MAX_ROUTES, RouteRow

ROUTE_TYPE = "(uint256,address,address,uint256,address,address,uint256,uint256,uint256,uint256,uint256)"
DEPARTED = event_topic("Departed(uint256,uint256,bytes32,uint256,uint256)")


def row_of(answer: tuple[Any, ...]) -> RouteRow:
    """Return a route as ``route(id)`` of the vault says it."""
    fields, in_transit = answer
    kind, target, token, destination, recipient, output, *limits = fields
    ours = to_checksum_address(target), to_checksum_address(token)
    theirs = to_checksum_address(recipient), to_checksum_address(output)
    return RouteRow(kind, *ours, destination, *theirs, *(*limits, in_transit))


def read_row(rpc: Rpc, vault: str, route: int, block: int | str = "latest") -> RouteRow:
    """Return one route at one block, :data:`CLOSED` with what is on its way still where it is closed."""
    if not 0 <= route < MAX_ROUTES:
        return CLOSED
    return row_of(tuple(read(rpc, [Call(vault, "route(uint256)", f"{ROUTE_TYPE},uint256", (route,))], block)[0]))


def departed_of(log: Log) -> Departed:
    """Return a departure as its log says it."""
    topics, (amount, least) = topics_of(log), data_of(log, "uint256", "uint256")
    place = int(log["blockNumber"]), str(log["transactionHash"])
    return Departed(int(topics[1], 16), int(topics[2], 16), topics[3], amount, least, *place)
