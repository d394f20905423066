"""Random sequences of calls against one state, each by one ``eth_simulateV1``: nothing is mined, none sees another.

State is read once, several simulations travel in one request, and the next ones are made while the node works; calls
that differ in an amount alone are encoded once.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Several
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lake.evm import BlockHeader, Call, calldata
from lake.rpc import Rpc
from policy.execution.base import Token
from policy.execution.vaults.safe.proof import FAR
from policy.execution.vaults.safe.scoping import SINGLE
from policy.localnet.world import PoolRef

PART = 16
"""Simulations a request: the node makes them side by side, and its answer stays within some megabytes."""
PATIENCE_S = 600.0
SHOWN = 500
"""Sequences between two lines of progress."""
Block = tuple[int, tuple[dict[str, str], ...]]
"""Seconds after the state that a sequence starts from, and the calls made then."""
MARK = 0xA5 << 248 | 0x5A
"""Stands for the amount while a call is encoded; no other word of one looks like it."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """Blocks of calls, each ``{from, to, data}``, at seconds after the state they start from; ``seed`` names it."""

    seed: int
    blocks: tuple[Block, ...]

    @property
    def seconds(self) -> int:
        """How long it takes."""
        return self.blocks[-1][0]

    @property
    def calls(self) -> list[dict[str, str]]:
        """Every call of it, in order."""
        return [call for _, calls in self.blocks for call in calls]

    def asked(self, head: BlockHeader) -> list[Any]:
        """Return the parameters of its simulation after ``head``."""
        rows = [
            {
                "blockOverrides": {"number": hex(head.number + 1 + i), "time": hex(head.time + after)},
                "calls": list(calls),
            }
            for i, (after, calls) in enumerate(self.blocks)
        ]
        return [{"blockStateCalls": rows, "validation": False}, hex(head.number)]


def asking(number: int, blocks: Several[Block], holder: str, held: Several[Token]) -> Sequence:
    """Return the sequence of ``blocks``; its last calls ask what ``holder`` has of ``held`` then, see :func:`left`."""
    asks = tuple(Call(t.address, "balanceOf(address)", "uint256", (holder,)).ask for t in held)
    now, calls = blocks[-1]
    return Sequence(number, (*blocks[:-1], (now, (*calls, *asks))))


def left(results: list[dict[str, Any]], held: Several[Token]) -> list[int]:
    """Return what the last calls of :func:`asking` were told."""
    return [int(r["returnData"], 16) for r in results[-len(held) :]]


def pushed(pool: PoolRef, sell: str, buy: str, who: str, amount: int) -> dict[str, str]:
    """Return the trade of ``who`` that moves ``pool``, at any price."""
    data = encoded(SINGLE, (sell, buy, pool.fee_pips, who, FAR, MARK, 0, 0), amount=amount)
    return {"from": who, "to": pool.router, "data": "0x" + data.hex()}


@dataclass
class Tally:
    """Over all sequences: calls with the stolen key, and those that landed."""

    sequences: int = 0
    calls: int = 0
    landed: int = 0

    def words(self) -> str:
        """Return the figures in a line."""
        return f"{self.calls} calls with the stolen key, {self.landed} landed"

    def count(self, one: Sequence, results: list[dict[str, Any]], keeper: str) -> None:
        """Count what became of the calls of ``keeper``."""
        mine = [r for c, r in zip(one.calls, results, strict=True) if c.get("from") == keeper]
        self.sequences += 1
        self.calls += len(mine)
        self.landed += sum(int(r["status"], 16) for r in mine)

    def shown(self, of: int) -> None:
        """Print the figures now and then."""
        if self.sequences % SHOWN == 0:
            print(f"{self.sequences} of {of}: {self.words()}", file=sys.stderr, flush=True)


def simulated(
    url: str, head: BlockHeader, sequences: Iterable[Sequence], part: int = PART
) -> Iterator[tuple[Sequence, list[dict[str, Any]]]]:
    """Yield each sequence with the results of its calls, in order; RpcError where the node does not simulate one."""
    rpc = Rpc(url, timeout=PATIENCE_S, tries=1, patience=PATIENCE_S)
    left = iter(sequences)

    def told(some: list[Sequence]) -> list[object]:
        return rpc.batch([("eth_simulateV1", s.asked(head)) for s in some])

    with ThreadPoolExecutor(1) as node:
        ahead = None
        while True:
            some = list(itertools.islice(left, part))
            following = (some, node.submit(told, some)) if some else None
            if ahead is not None:
                made, answers = ahead
                for one, answer in zip(made, answers.result(), strict=True):
                    yield one, [r for block in answer for r in block["calls"]]  # type: ignore[attr-defined]
            if following is None:
                return
            ahead = following


def encoded(signature: str, *args: object, amount: int) -> bytes:
    """Return ``calldata(signature, *args)`` with ``amount`` (uint256) where MARK stands among the arguments."""
    before, after = _template(signature, args)
    return before + amount.to_bytes(32, "big") + after


@lru_cache(maxsize=4_096)
def _template(signature: str, args: tuple[object, ...]) -> tuple[bytes, bytes]:
    before, mark, after = calldata(signature, *args).partition(MARK.to_bytes(32, "big"))
    assert mark
    assert MARK.to_bytes(32, "big") not in after, "the amount stands there once"
    return before, after
