"""Headers of canonical blocks as rows of table ``heads``: read back from any EVM node, or as a follower heard them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from lake.answers import fields, quantity, rows
from lake.errors import RpcError, SourceUnavailable
from lake.evm import BlockHeader, read_head
from lake.rpc import Rpc
from lake.sources.blocks import HISTORY, block_at, first_block_at_or_after
from lake.tables import TABLES
from lake.universe import Chain

CHUNK = 1_200
"""Headers handed over at a time: four hours of Ethereum."""

TIP_PERCENTILES = (10.0, 50.0)
MOST_WEI = 2**63 - 1

Tips = Mapping[int, tuple[int, int]]
"""By block number the TIP_PERCENTILES of priority fees, wei; blocks without transactions are missing."""


def head_rows(headers: Sequence[BlockHeader], tips: Tips, chain_id: int) -> pl.DataFrame:
    """Return rows of table ``heads``, each known at its block's time; RpcError for a base fee no wallet could pay."""
    absurd = [h.number for h in headers if h.base_fee_wei > MOST_WEI]
    if absurd:
        raise RpcError(f"block {absurd[0]}: a base fee above {MOST_WEI} wei is none")
    at = [datetime.fromtimestamp(h.time, UTC) for h in headers]
    paid = [tips.get(h.number, (None, None)) for h in headers]
    columns = {
        "chain_id": [chain_id] * len(at),
        "number": [h.number for h in headers],
        "ts": at,
        "base_fee_wei": [h.base_fee_wei for h in headers],
        "gas_used": [h.gas_used for h in headers],
        "gas_limit": [h.gas_limit for h in headers],
        "tip_p10_wei": [low for low, _ in paid],
        "tip_p50_wei": [middle for _, middle in paid],
        "available_at": at,
    }
    return pl.DataFrame(columns, schema=TABLES["heads"].columns)


def tips_of(rpc: Rpc, first: int, last: int) -> Tips:
    """Return what the transactions of blocks ``first`` .. ``last`` paid beside the base fee; RpcError without one."""
    found: dict[int, tuple[int, int]] = {}
    for low in range(first, last + 1, HISTORY):
        high = min(low + HISTORY - 1, last)
        ask = [hex(high - low + 1), hex(high), list(TIP_PERCENTILES)]
        row = fields(rpc.call("eth_feeHistory", ask), "eth_feeHistory")
        oldest, used = row.quantity("oldestBlock"), row.rows("gasUsedRatio")
        for i, reward in enumerate(row.rows("reward", len(used)) if row.has("reward") else []):
            if i < len(used) and used[i]:  # an empty block says nothing about tips, though nodes report 0
                low_tip, tip = (quantity(t, MOST_WEI) for t in rows(reward, "eth_feeHistory: reward", 2)[:2])
                found[oldest + i] = (low_tip, tip)
    return found


@dataclass(frozen=True, slots=True)
class HeadSource:
    """Headers of one chain from its nodes, the newest ``confirmations`` blocks left out (they may be replaced)."""

    rpc: Rpc
    chain: Chain
    confirmations: int = 5

    table: str = "heads"

    @property
    def name(self) -> str:
        """``heads:<chain>``."""
        return f"heads:{self.chain.name}"

    @property
    def series(self) -> Mapping[str, str | int]:
        """The chain id."""
        return {"chain_id": self.chain.chain_id}

    @property
    def step_s(self) -> int | None:
        """Blocks are events: no grid of times."""
        return None

    def collect(self, start: datetime, end: datetime) -> Iterator[pl.DataFrame]:
        """Yield rows of the confirmed blocks of ``[start, end)``, oldest first, each the parent of the next."""
        self.rpc.expect_chain(self.chain.chain_id)
        newest = block_at(self.rpc, "latest").number - self.confirmations
        if newest < 0:
            return
        first = first_block_at_or_after(self.rpc, start, newest)
        stop = first_block_at_or_after(self.rpc, end, newest, first)
        for low in range(first, stop, CHUNK):
            high = min(low + CHUNK, stop) - 1
            yield head_rows(self._headers(low, high), tips_of(self.rpc, low, high), self.chain.chain_id)

    def _headers(self, first: int, last: int) -> list[BlockHeader]:
        answers = self.rpc.batch([("eth_getBlockByNumber", [hex(n), False]) for n in range(first, last + 1)])
        if None in answers:
            raise SourceUnavailable("a node listed a block and then did not have it; ask again")
        headers = [read_head(a, n) for n, a in zip(range(first, last + 1), answers, strict=True)]
        if any(b.parent != a.hash for a, b in zip(headers, headers[1:], strict=False)):
            raise SourceUnavailable(f"blocks {first} .. {last} were reorganised while they were read; ask again")
        return headers
