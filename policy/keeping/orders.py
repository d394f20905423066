"""Orders that wait for a price: a virtual limit order is a wish in memory, decided anew at each block, never sent.

The next block's base fee is known exactly one block ahead, so nothing is signed until the block that takes it is next:
no quote goes stale, no nonce is held, nothing is to be cancelled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

LIFE_S = 6 * 3_600
ARMED_FROM, ARMED_TO = 0.7, 0.6
"""Share of usual gas at which an order is armed, and below which it is let go: it would wait for ever."""


@dataclass(frozen=True, slots=True)
class GasOrder:
    """A trade that is made once the next block's price is at most ``cap_gwei``; dies at ``expiry_s`` (Unix time).

    ``table``: digest of the surface its cap is from, empty for the closed form; ``block``, ``block_hash``: where it was
    armed.
    """

    cap_gwei: float
    expiry_s: int
    reason: str
    block: int
    block_hash: str
    table: str = ""

    def json(self) -> dict[str, Any]:
        """Return the order as JSON values."""
        return {
            "cap_gwei": round(self.cap_gwei, 9), "expiry_s": self.expiry_s, "reason": self.reason, "block": self.block,
            "block_hash": self.block_hash, "table": self.table,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Moment:
    """The block an order is looked at in: its number, hash and time, and the digest of the surface in force."""

    number: int
    block_hash: str
    time_s: int
    table: str = ""


def ordered(
    order: GasOrder | None, at: Moment, reserve_gwei: float, usual_gwei: float, price_gwei: float
) -> tuple[GasOrder | None, str]:
    """Return the order after a look, and why one was armed or let go (empty: neither).

    It is armed where the price now is above the reservation price and that is within reach, its cap follows the
    reservation price, and it is let go at its expiry, with its surface, and where its cap has left the reach. A number
    that is none lets it go.
    """
    reach = reserve_gwei / usual_gwei if usual_gwei > 0.0 else float("nan")
    if order is None:
        if ARMED_FROM <= reach < float("inf") and reserve_gwei < price_gwei:
            reason = f"{reserve_gwei:.2f} gwei or less pays, {price_gwei:.2f} is asked, {usual_gwei:.2f} is usual"
            made = GasOrder(reserve_gwei, at.time_s + LIFE_S, reason, at.number, at.block_hash, at.table)
            return made, reason
        return None, ""
    if at.time_s >= order.expiry_s:
        return None, "it expired"
    if order.table != at.table:
        return None, "another surface is in force"
    if not ARMED_TO <= reach < float("inf"):
        return None, f"{reserve_gwei:.2f} gwei is out of reach of {usual_gwei:.2f} usual"
    return replace(order, cap_gwei=reserve_gwei), ""
