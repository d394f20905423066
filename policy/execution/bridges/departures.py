"""What every bridge's look-up shares: its two ends, the blocks it is read at, and the departure by the vault's log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lake.errors import RpcError
from lake.rpc import Rpc
from lake.universe import Chain
from policy.execution.bridges.base import Blocks, Sighting, Transfer, converted, unseen
from policy.execution.bridges.events import data_of, logs_between
from policy.execution.bridges.finality import confirmed_block, final_block
from policy.execution.bridges.routes import DEPARTED
from policy.execution.bridges.services import ServiceDown
from policy.execution.submission.node import JsonNode


@dataclass(frozen=True, slots=True)
class BridgeEnd:
    """One chain of a route, and where it is read."""

    rpc: Rpc
    chain: Chain

    @property
    def node(self) -> JsonNode:
        """The node as look-ups use it."""
        return JsonNode(self.rpc)


def looked_up(
    ends: tuple[BridgeEnd, BridgeEnd], transfer: Transfer, beyond: Callable[[Transfer, Sighting], Sighting]
) -> Sighting:
    """Return the sighting of ``transfer`` at the origin's head and the destination's confirmed block.

    ``beyond`` adds to that of a departure what became of it. A side or a service that does not answer is a sighting
    that knows nothing, and no absence.
    """
    blocks = transfer.since
    try:
        heads = tuple(end.node.head().number for end in ends)
        blocks = (heads[0], confirmed_block(heads[1], ends[1].chain))
        seen = _departure(ends[0], transfer, blocks)
        return beyond(transfer, seen) if seen.departed else seen
    except (RpcError, ServiceDown) as error:
        return unseen(blocks, f"{error}")


def _departure(near: BridgeEnd, transfer: Transfer, blocks: Blocks) -> Sighting:
    """Return the sighting of ``transfer`` on its origin up to ``blocks``: departed or not, and whether for good.

    Two departures of one transfer are a sighting that knows nothing. RpcError where the node does not answer.
    """
    wanted = [DEPARTED, None, None, transfer.saga_id.lower()]
    made = logs_between(near.rpc, transfer.origin.vault, wanted, transfer.since[0], blocks[0])
    if not made:
        return Sighting(blocks, reason="no departure of it is in the origin's chain")
    if len(made) > 1:
        return unseen(blocks, f"{len(made)} departures of one transfer are in the origin's chain; call a person")
    block = int(made[0]["blockNumber"])
    return Sighting(
        blocks,
        departed=True,
        final=block <= final_block(near.node, near.chain),
        tx_hash=str(made[0]["transactionHash"]),
        block=block,
        sent=data_of(made[0], "uint256", "uint256")[0],
    )


def fee_of(transfer: Transfer, sent: int, arrived: int) -> int:
    """Return what was kept on the way of ``sent`` raw units of the origin, where ``arrived`` of the destination came.

    Dust that has no unit there was kept by nobody: it is the difference of one unit.
    """
    got, dust = converted(arrived, transfer.destination.decimals, transfer.origin.decimals)
    return sent - got - (1 if dust else 0)
