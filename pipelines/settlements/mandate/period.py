"""The period of a report, in time and in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from lake.errors import ConfigError
from lake.evm import BlockHeader, head_of
from lake.rpc import Rpc
from policy.execution.vaults.scan import first_block_at


@dataclass(frozen=True, slots=True)
class Period:
    """From ``start`` (included) to ``end`` (not), and the blocks made in it; ``head`` is the newest block there is."""

    start: datetime
    end: datetime
    first: BlockHeader
    last: BlockHeader
    head: BlockHeader

    def covers(self, block: int) -> bool:
        """Return whether a block was made in the period."""
        return self.first.number <= block <= self.last.number


def period_of(rpc: Rpc, start: datetime, end: datetime) -> Period:
    """Return the blocks between two moments.

    Raises ConfigError where the period is empty, not over yet by the chain's clock, or before its first blocks: the
    report of a period that goes on would be another one tomorrow.
    """
    if start >= end:
        raise ConfigError(f"--from {start.isoformat()} must be before --to {end.isoformat()}")
    head = head_of(rpc, fees=False)
    if end.timestamp() > head.time:
        now = datetime.fromtimestamp(head.time, UTC).isoformat()
        raise ConfigError(f"--to {end.isoformat()} is not past yet, the newest block is of {now}: give an earlier end")
    first = first_block_at(rpc, int(start.timestamp()), head.number)
    last = first_block_at(rpc, int(end.timestamp()), head.number) - 1
    if last < first:
        raise ConfigError(f"no block of the chain lies between {start.isoformat()} and {end.isoformat()}")
    return Period(start, end, head_of(rpc, first, fees=False), head_of(rpc, last, fees=False), head)
