"""Why a block is looked at: triggers as pure functions of the head, the marks and the limits. No clock, no chain.

Between triggers a block costs one look-up. What is not a finite number is no trigger of price or gas: it is named by
``unknown``, which forbids every trigger but ``hour`` and so leaves the scheduled decision to find out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Trigger = Literal["gas", "price", "breach", "cash", "oracle", "flight", "hour", "unknown"]
NEAR_BREACH = 0.99  # of a hard tolerance: acted on before it is one
ORDER: tuple[Trigger, ...] = ("flight", "breach", "cash", "price", "gas", "oracle", "hour", "unknown")


@dataclass(frozen=True, slots=True)
class NextBlock:
    """What a block says of the next one. ``next_base_fee_wei`` is exact: it follows from this header."""

    number: int
    timestamp_s: int
    next_base_fee_wei: int
    tip_wei: int


@dataclass(frozen=True, slots=True)
class Marks:
    """The vault at that block: distance in the rule's own measure, deviation in tolerances, and what its logs say.

    ``cash_moved``: a deposit, withdrawal or claim of the vault; ``nonce_moved``: our account's nonce is not the one
    last seen, or a plan missed its block. ``oracle_age_s`` is the age of the newest round, ``new_round`` whether it is
    of this block.
    """

    distance: float
    in_tolerances: float
    cash_moved: bool = False
    nonce_moved: bool = False
    new_round: bool = False
    oracle_age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TriggerLevels:
    """What the marks are held against. ``reserve_gwei`` is the highest gas paid at this distance (0: wait),
    ``outer`` the distance at which the present gas is paid, ``hard`` whether tolerances bind, ``heartbeat_s`` how often
    the feed promises a round, ``epoch_s`` the length of a scheduled decision's hour and ``decided_epoch`` the last one
    decided.
    """

    reserve_gwei: float
    outer: float
    hard: bool
    heartbeat_s: float = 3_600.0
    epoch_s: int = 3_600
    decided_epoch: int = -1


def triggers(head: NextBlock, marks: Marks, limits: TriggerLevels) -> tuple[Trigger, ...]:
    """Return the triggers of a block, the most urgent first; none means nothing is to be done."""
    found: set[Trigger] = set()
    if head.timestamp_s // limits.epoch_s > limits.decided_epoch:
        found.add("hour")
    numbers = (marks.distance, marks.in_tolerances, limits.reserve_gwei, marks.oracle_age_s)
    if not all(math.isfinite(v) for v in numbers) or math.isnan(limits.outer) or head.next_base_fee_wei < 0:
        return tuple(t for t in ORDER if t in found | {"unknown"})
    if marks.nonce_moved:
        found.add("flight")
    if limits.hard and marks.in_tolerances >= NEAR_BREACH:
        found.add("breach")
    if marks.cash_moved:
        found.add("cash")
    if marks.distance >= limits.outer:
        found.add("price")
    if pays(head, limits.reserve_gwei):
        found.add("gas")
    if marks.new_round or marks.oracle_age_s >= NEAR_BREACH * limits.heartbeat_s:
        found.add("oracle")
    return tuple(t for t in ORDER if t in found)


def pays(head: NextBlock, reserve_gwei: float) -> bool:
    """Return whether the next block's price, base fee and tip, is within the reservation price; 0 and below never."""
    return reserve_gwei > 0.0 and head.next_base_fee_wei + head.tip_wei <= reserve_gwei * 1e9
