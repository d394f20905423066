"""Random sequences of calls against one state, each by one ``eth_simulateV1``: nothing is mined, none sees another.

State is read once, several simulations travel in one request, and the next ones are made while the node works; calls
that differ in an amount alone are encoded once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lake.evm import BlockHeader, calldata
from lake.rpc import Rpc

PART = 16
"""Simulations a request: the node makes them side by side, and its answer stays within some megabytes."""
PATIENCE_S = 600.0
MARK = 0xA5 << 248 | 0x5A
"""Stands for the amount while a call is encoded; no other word of one looks like it."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """Blocks of calls, each ``{from, to, data}``, at seconds after the state they start from; ``seed`` names it."""

    seed: int
    blocks: tuple[tuple[int, tuple[dict[str, str], ...]], ...]

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
