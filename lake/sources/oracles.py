"""Rounds of Chainlink-style price feeds: the newest, and history across aggregator phases.

A proxy numbers rounds phase << 64 | round of that phase's aggregator (AggregatorProxy.sol, addPhase). Within a phase
update times do not fall, so a time range is found by halving; phases are then merged by time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import polars as pl

from lake.answers import quantity
from lake.errors import RpcError
from lake.evm import LAST_TIME_S, Call, head_of, read, try_read
from lake.rpc import Rpc
from lake.tables import TABLES
from lake.universe import Chain

ROUND = "uint80,int256,uint256,uint256,uint80"
PAGE = 200
"""Rounds read at a time; two HTTP batches."""

_PHASE_BITS = 64


@dataclass(frozen=True, slots=True)
class Round:
    """One answer of a feed. ``answer`` is raw, in the feed's decimals, and may be zero or negative: guards judge."""

    id: int
    answer: int
    updated_at: int  # Unix seconds; 0 in a round that never completed

    @property
    def phase(self) -> int:
        """Which of the proxy's aggregators answered; 0 for a bare aggregator."""
        return self.id >> _PHASE_BITS


def latest_round(rpc: Rpc, feed: str, block: int | str = "latest") -> Round:
    """Return the newest round of ``feed`` at ``block``; raises RpcError when the feed reverts."""
    return _round(read(rpc, [Call(feed, "latestRoundData()", ROUND)], block)[0])


def rounds_between(rpc: Rpc, feed: str, start: datetime, end: datetime, block: str = "latest") -> Iterator[Round]:
    """Yield the rounds updated in ``[start, end)`` over all phases, oldest first, as known at ``block`` (a hash).

    Rounds an aggregator never completed (no data, or time 0) are left out.
    """
    newest = latest_round(rpc, feed, block)
    low, high = start.timestamp(), end.timestamp()
    streams = []
    for phase in range(newest.phase, -1, -1):
        last = _last_of_phase(rpc, feed, phase, newest, block)
        if last is None:
            continue
        get = _getter(rpc, feed, phase, block)
        first = _first_after(get, 1, last, low)
        stop = _first_after(get, first, last, high)
        streams.append(_walk(rpc, feed, phase, first, stop, block))
        earliest = get(1)
        if earliest is not None and earliest.updated_at < low:
            break  # older phases ended before the range began
    yield from heapq.merge(*streams, key=lambda r: (r.updated_at, r.id))


@dataclass(frozen=True, slots=True)
class OracleSource:
    """History of one feed of a chain, by its proxy's (or aggregator's) address. Needs no archive node."""

    rpc: Rpc
    chain: Chain
    feed: str
    confirmations: int = 5
    page: int = PAGE

    table: str = "oracle"
    step_s: None = None

    @property
    def name(self) -> str:
        """``oracles:<chain>:<feed>``."""
        return f"oracles:{self.chain.name}:{self.feed}"

    @property
    def series(self) -> Mapping[str, str | int]:
        """Chain id and feed."""
        return {"chain_id": self.chain.chain_id, "feed": self.feed}

    def collect(self, start: datetime, end: datetime) -> Iterator[pl.DataFrame]:
        """Yield oracle rows updated in ``[start, end)``, oldest first, as of a confirmed block."""
        self.rpc.expect_chain(self.chain.chain_id)
        number = max(0, quantity(self.rpc.call("eth_blockNumber")) - self.confirmations)
        header = head_of(self.rpc, number, fees=False)
        held: list[Round] = []
        for found in rounds_between(self.rpc, self.feed, start, end, header.hash):
            held.append(found)
            if len(held) >= self.page and held[-1].updated_at != held[-2].updated_at:
                yield self._rows(held[:-1])
                held = held[-1:]
        if held:
            yield self._rows(held)

    def _rows(self, rounds: list[Round]) -> pl.DataFrame:
        times = [datetime.fromtimestamp(r.updated_at, UTC) for r in rounds]
        return pl.DataFrame(
            {
                "chain_id": [self.chain.chain_id] * len(rounds),
                "feed": [self.feed] * len(rounds),
                "round": [str(r.id) for r in rounds],
                "answer": [str(r.answer) for r in rounds],
                "updated_at": times,
                "available_at": times,
            },
            schema=TABLES["oracle"].columns,
        )


def _round(values: tuple[object, ...]) -> Round:
    number, answer, _, updated, _ = cast("tuple[int, int, int, int, int]", values)
    if updated > LAST_TIME_S:
        raise RpcError(f"round {number} says it was updated at {updated} s, which is no time")
    return Round(number, answer, updated)


def _last_of_phase(rpc: Rpc, feed: str, phase: int, newest: Round, block: str) -> int | None:
    """Return the newest aggregator round of ``phase``; None where the proxy has no such phase or it never answered."""
    if phase == newest.phase:
        return newest.id & ((1 << _PHASE_BITS) - 1)
    found = try_read(rpc, [Call(feed, "phaseAggregators(uint16)", "address", (phase,))], block)[0]
    if isinstance(found, RpcError) or int(str(found[0]), 16) == 0:
        return None
    answer = try_read(rpc, [Call(str(found[0]), "latestRound()", "uint256")], block)[0]
    if isinstance(answer, RpcError):
        return None
    last = cast("int", answer[0])
    return last if last > 0 else None


def _getter(rpc: Rpc, feed: str, phase: int, block: str) -> Callable[[int], Round | None]:
    def get(number: int) -> Round | None:
        return _page(rpc, feed, phase, number, number + 1, block)[0]

    return get


def _page(rpc: Rpc, feed: str, phase: int, first: int, stop: int, block: str) -> list[Round | None]:
    """Return rounds ``first`` .. ``stop`` - 1 of a phase, None for those without data."""
    views = [Call(feed, "getRoundData(uint80)", ROUND, (phase << _PHASE_BITS | n,)) for n in range(first, stop)]
    rounds: list[Round | None] = []
    for answer in try_read(rpc, views, block):
        if isinstance(answer, RpcError):
            if answer.code is None:  # the node failed, not the round
                raise answer
            rounds.append(None)
        else:
            found = _round(answer)
            rounds.append(found if found.updated_at else None)
    return rounds


def _first_after(get: Callable[[int], Round | None], low: int, high: int, moment: float) -> int:
    """Return the first round in ``low`` .. ``high`` updated at or after ``moment``, ``high`` + 1 if none."""
    stop = high + 1
    while low < stop:
        middle = (low + stop) // 2
        probe, found = middle, get(middle)
        while found is None and probe + 1 < stop:  # step over rounds without data
            probe += 1
            found = get(probe)
        if found is None or found.updated_at >= moment:
            stop = middle
        else:
            low = probe + 1
    return low


def _walk(rpc: Rpc, feed: str, phase: int, first: int, stop: int, block: str) -> Iterator[Round]:
    for start in range(first, stop, PAGE):
        yield from (r for r in _page(rpc, feed, phase, start, min(start + PAGE, stop), block) if r is not None)
