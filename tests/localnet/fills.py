"""How an order of a vault is filled, as the calls a filler sends: through a UniswapX reactor or CoW's settlement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lake.evm import calldata
from policy.execution.auctions.orders import Order, reactor_order

EXECUTE = "execute((bytes,bytes))"
SETTLE = (
    "settle(address[],uint256[],(uint256,uint256,address,uint256,uint256,uint32,bytes32,uint256,uint256,uint256,"
    "bytes)[],(address,uint256,bytes)[][3])"
)
_EIP1271 = 2 << 5  # how the order is signed, in CoW's trade flags


@dataclass(frozen=True, slots=True)
class Filling:
    """One transaction: its target and data."""

    to: str
    data: bytes


def through_reactor(order: Order, vault: str) -> Filling:
    """Return the fill of a UniswapX order out of the sender's own balance, which the reactor may take."""
    return Filling(order.venue, calldata(EXECUTE, (reactor_order(order, vault), b"")))


def through_settlement(order: Order, vault: str, solver: str, out: int) -> Filling:
    """Return a batch with this one order at a clearing price of ``out`` raw units bought for all that is sold.

    What is bought has to lie in the settlement contract; what is sold goes on to ``solver``.
    """
    signed = bytes.fromhex(vault[2:])
    trade = (
        *(0, 1, vault, order.amount, order.least, order.expiry, order.app),
        *(0, _EIP1271, order.amount, signed),
    )
    on: Sequence[tuple[str, int, bytes]] = [
        (order.sell, 0, calldata("transfer(address,uint256)", solver, order.amount))
    ]
    tokens, prices = [order.sell, order.buy], [out, order.amount]
    return Filling(order.venue, calldata(SETTLE, tokens, prices, [trade], [[], on, []]))
