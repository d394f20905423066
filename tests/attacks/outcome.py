"""What an attack is, and what became of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """``held``: the attacker got nothing he may not have. ``figure``: what was seen, in a few words."""

    held: bool
    figure: str
    harm: float = 0.0  # in any unit of its attack: the worst are told


@dataclass(frozen=True)
class Attack:
    """One attack. ``key`` names it in the table and in the recorded figures; ``short``: runs in the suite.

    ``needs``: "vault" (a local chain with the reference vault, undone afterwards), "listed" (the same with an
    allow-list of holders), "auctions" (one that may offer at every venue), "market" (a local market with pools, and a
    folder), "folder" (an empty folder), "server" (a folder, and a real scheduler is started).
    """

    key: str
    what: str
    needs: str
    run: Callable[[Any], Outcome]
    short: bool = True


def joined(parts: list[Outcome], shown: int = 4) -> Outcome:
    """Return one outcome for several: held where all are, with the figures of the worst."""
    told = sorted(parts, key=lambda p: (p.held, -p.harm))[:shown]
    return Outcome(all(p.held for p in parts), "; ".join(p.figure for p in told), told[0].harm)
