"""Money on its way between chains, counted once whichever chain is read first.

The chains of one decision are read one after the other, each at a block of its own. A transfer that moves between two
of these reads is seen at neither end or at both; the blocks of its events say which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lake.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class Crossing:
    """One transfer of cash from chain ``origin`` to ``destination`` as the logs of both chains tell it.

    ``sent`` left the origin's balance at block ``departed``; ``due``, what is left of it after fees, reaches the
    destination's at block ``arrived``, or the origin's at ``returned``. None: not found in the logs read so far.
    Amounts are integers of one unit for both chains.
    """

    origin: int
    destination: int
    sent: int
    due: int
    departed: int | None = None
    arrived: int | None = None
    returned: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no transfer can be."""
        if self.origin == self.destination:
            raise ConfigError(f"a transfer from chain {self.origin} to itself is none: name two chains")
        if not 0 < self.due <= self.sent:
            raise ConfigError(f"a transfer sent {self.sent} and is due {self.due}; required: 0 < due <= sent")


@dataclass(frozen=True, slots=True)
class InTransit:
    """What the balances read do not tell: ``amount`` is in none of them, ``twice`` (by chain) is in two of them.

    ``read_again``: chains whose balance is older than a departure already seen to have arrived elsewhere; a second
    read replaces the deduction of ``twice`` by a fact.
    """

    amount: int = 0
    twice: Mapping[int, int] = field(default_factory=dict)
    read_again: frozenset[int] = frozenset()


def counted(crossings: Iterable[Crossing], read_at: Mapping[int, int]) -> InTransit:
    """Return what is in transit for balances read at block ``read_at`` of each chain.

    balances + ``amount`` - ``twice`` is the money there is, fees of departed transfers gone, for every order of reads.
    Raises ConfigError for a chain that was not read, DataError for a transfer that both arrived and returned.
    """
    amount, twice = 0, dict[int, int]()
    for one in crossings:
        missing = [c for c in (one.origin, one.destination) if c not in read_at]
        if missing:
            raise ConfigError(f"a transfer touches chain {missing[0]}, which was not read; read all chains it touches")
        if one.arrived is not None and one.returned is not None:
            raise DataError(
                f"a transfer of {one.sent} from chain {one.origin} to {one.destination} arrived (block {one.arrived}) "
                f"and returned (block {one.returned}); one of the logs is not canonical: read them again"
            )
        departed = _seen(one.departed, read_at[one.origin])
        landed = _seen(one.arrived, read_at[one.destination])
        if departed and not landed and not _seen(one.returned, read_at[one.origin]):
            amount += one.due
        if landed and not departed:
            twice[one.origin] = twice.get(one.origin, 0) + one.sent
    return InTransit(amount, twice, frozenset(twice))


def _seen(block: int | None, read: int) -> bool:
    return block is not None and block <= read
