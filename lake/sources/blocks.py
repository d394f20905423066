"""Base fee, priority fee and fullness of blocks from any EVM node."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median

import polars as pl

from lake.answers import fields, quantity, rows, share
from lake.errors import SourceError, SourceUnavailable
from lake.evm import BlockHeader, head_of, read_head
from lake.rpc import Rpc
from lake.tables import TABLES
from lake.units import WEI_PER_GWEI
from lake.universe import Chain

PERCENTILES = (10.0, 50.0, 90.0)
"""Priority-fee percentiles asked of every block; the table keeps the middle one."""

HISTORY = 1024
"""Most blocks one eth_feeHistory answers (geth's and EIP-1474's limit); a node may answer fewer."""

CHUNK = 4 * HISTORY
"""Blocks fetched before rows are handed over: about 14 hours of Ethereum."""


@dataclass(frozen=True, slots=True)
class Block:
    """What the fee market shows of one block. ``tips_wei`` are the PERCENTILES, None where the block is empty."""

    number: int
    time: int  # Unix seconds
    base_fee_wei: int
    gas_used_ratio: float
    tips_wei: tuple[int, ...] | None


def block_at(rpc: Rpc, number: int | str) -> BlockHeader:
    """Return the header of a block by number or tag; raises RpcError when the node does not have it.

    Blocks from before EIP-1559 count, with base fee 0: what is wanted here is number, hash and time.
    """
    return head_of(rpc, number, fees=False)


def first_block_at_or_after(rpc: Rpc, moment: datetime, newest: int, oldest: int = 0) -> int:
    """Return the number of the first block with time >= ``moment``, ``newest`` + 1 if none (about 25 reads)."""
    wanted = math.ceil(moment.timestamp())
    low, high = oldest, newest + 1
    while low < high:
        middle = (low + high) // 2
        if block_at(rpc, middle).time >= wanted:
            high = middle
        else:
            low = middle + 1
    return low


def fee_history(rpc: Rpc, first: int, last: int) -> list[Block]:
    """Return blocks ``first`` .. ``last`` with fees and times; raises SourceError when the node's answer has holes."""
    calls: list[tuple[str, Sequence[object]]] = []
    for low in range(first, last + 1, HISTORY):
        high = min(low + HISTORY - 1, last)
        calls.append(("eth_feeHistory", [hex(high - low + 1), hex(high), list(PERCENTILES)]))
    headers = [("eth_getBlockByNumber", [hex(n), False]) for n in range(first, last + 1)]
    answers = rpc.batch([*calls, *headers])
    times = {}
    for number, header in zip(range(first, last + 1), answers[len(calls) :], strict=True):
        if header is None:
            raise SourceUnavailable("a node listed a block and then did not have it; ask again")
        times[number] = read_head(header, number, fees=False).time
    blocks: list[Block] = []
    for answer in answers[: len(calls)]:
        blocks += _blocks(answer, times)
    if [b.number for b in blocks] != list(range(first, last + 1)):
        raise SourceError(
            f"eth_feeHistory left out blocks of {first} .. {last}: the node is pruned or limits the range"
        )
    return blocks


def gas_rows(
    blocks: Sequence[Block], chain_id: int, every_s: int | None = None, available_s: float = 0.0
) -> pl.DataFrame:
    """Return gas rows, one a block, or one for each whole interval of ``every_s`` seconds that has blocks.

    An interval's base fee and fullness are means over its blocks, its tip the median over blocks that were not
    empty (an empty block says nothing about tips, though nodes report 0). ``ts`` is the block's time or the start of
    the interval; a row is available ``available_s`` after the block, or at the end of its interval.
    """
    groups: dict[int, list[Block]] = {}
    for block in blocks:
        groups.setdefault(block.time if every_s is None else block.time // every_s * every_s, []).append(block)
    rows = []
    for start, group in sorted(groups.items()):
        tips = [b.tips_wei[1] for b in group if b.tips_wei is not None]
        known = start + (available_s if every_s is None else every_s)
        rows.append(
            {
                "chain_id": chain_id,
                "ts": datetime.fromtimestamp(start, UTC),
                "base_fee_gwei": sum(b.base_fee_wei for b in group) / len(group) / WEI_PER_GWEI,
                "priority_fee_gwei": median(tips) / WEI_PER_GWEI if tips else None,
                "gas_used_ratio": sum(b.gas_used_ratio for b in group) / len(group),
                "block_number": group[-1].number,
                "available_at": datetime.fromtimestamp(known, UTC),
            }
        )
    return pl.DataFrame(rows, schema=TABLES["gas"].columns)


@dataclass(frozen=True, slots=True)
class BlockSource:
    """Gas rows of one chain from its node, the newest ``confirmations`` blocks left out (they may be replaced).

    ``every`` averages blocks over intervals (the table's usual row is an hour); None keeps one row a block.
    """

    rpc: Rpc
    chain: Chain
    every: timedelta | None = timedelta(hours=1)
    confirmations: int = 5  # a reorg on Ethereum beyond 2 blocks is rare; raise it on chains without finality

    table: str = "gas"

    @property
    def name(self) -> str:
        """``blocks:<chain>``."""
        return f"blocks:{self.chain.name}"

    @property
    def series(self) -> Mapping[str, str | int]:
        """The chain id."""
        return {"chain_id": self.chain.chain_id}

    @property
    def step_s(self) -> int | None:
        """Length of an interval; None for one row a block."""
        return None if self.every is None else int(self.every.total_seconds())

    def collect(self, start: datetime, end: datetime) -> Iterator[pl.DataFrame]:
        """Yield gas rows of ``[start, end)``, oldest first, complete intervals only."""
        self.rpc.expect_chain(self.chain.chain_id)
        newest = block_at(self.rpc, "latest").number - self.confirmations
        if newest < 0:
            return
        step = self.step_s
        horizon = block_at(self.rpc, newest).time
        low, high = start.timestamp(), end.timestamp()
        if step is not None:  # an interval is complete once a later block is confirmed
            low, high = math.ceil(low / step) * step, math.ceil(high / step) * step
            high = min(high, horizon // step * step)
        if high <= low:
            return
        first = first_block_at_or_after(self.rpc, datetime.fromtimestamp(low, UTC), newest)
        stop = first_block_at_or_after(self.rpc, datetime.fromtimestamp(high, UTC), newest, first)
        held: list[Block] = []
        for number in range(first, stop, CHUNK):
            held += fee_history(self.rpc, number, min(number + CHUNK, stop) - 1)
            ready = held
            if step is not None and number + CHUNK < stop:  # keep the interval that the next chunk goes on with
                edge = held[-1].time // step * step
                ready, held = [b for b in held if b.time < edge], [b for b in held if b.time >= edge]
            else:
                held = []
            if ready:
                yield gas_rows(ready, self.chain.chain_id, step, self.chain.block_time_s)


def _blocks(answer: object, times: Mapping[int, int]) -> list[Block]:
    what = "eth_feeHistory"
    row = fields(answer, what)
    oldest = row.quantity("oldestBlock")
    ratios = [share(r, f"{what}: gasUsedRatio") for r in row.rows("gasUsedRatio")]
    fees = row.rows("baseFeePerGas", len(ratios))
    rewards = row.rows("reward", len(ratios)) if row.has("reward") else [None] * len(ratios)
    blocks = []
    for i, ratio in enumerate(ratios):
        number = oldest + i
        if number not in times:
            raise SourceError(f"{what} answered for block {number}, which was not asked for")
        tips = None
        if ratio and rewards[i] is not None:
            tips = tuple(quantity(t) for t in rows(rewards[i], f"{what}: reward", len(PERCENTILES)))
        blocks.append(Block(number, times[number], quantity(fees[i]), ratio, tips))
    return blocks
