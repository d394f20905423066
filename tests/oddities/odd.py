"""A row of the conformance table: a kind of token, pool, feed, keeper, Safe or node, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from policy.execution.context import EngineContext
from policy.localnet.market import Localnet

TRADED, APART, REFUSED = "traded", "rest traded", "refused"
LATER = "settled by the next step"
BY_VAULT = "traded by a vault that tells its balances, refused for a Safe"
Set = Callable[[Localnet, EngineContext], EngineContext]


@dataclass(frozen=True)
class Odd:
    """One kind: what is set up, what must come of it, and a word that must be said where something is refused.

    ``only``: the adapters it can be had with, all where empty; ``heals``: once its faults are gone, the very next step
    leaves exactly one execution.
    """

    of: str  # token | pool | feed | keeper | safe | node
    name: str
    expected: str
    set_up: Set
    word: str = ""
    leave: Sequence[str] = ()
    only: tuple[str, ...] = ()
    heals: bool = False

    def adapters(self, known: Sequence[str]) -> list[str]:
        """Return those of the ``known`` adapters that it is tried with."""
        return [a for a in known if not self.only or a in self.only]


def market(act: Callable[[Localnet], object]) -> Set:
    """Do something to the market."""

    def acted(net: Localnet, ctx: EngineContext) -> EngineContext:
        act(net)
        return ctx

    return acted
