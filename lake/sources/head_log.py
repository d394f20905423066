"""What a follower of heads leaves in the lake: confirmed blocks once an hour, and a cursor to go on from.

The cursor is one small file, replaced whole every CURSOR_BLOCKS blocks and at the end: the newest blocks, those that
are not in the lake yet. After a kill at most the blocks since are missing from it; the follower delivers those
again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path

from lake.answers import Fields, fields
from lake.answers import rows as rows_of
from lake.errors import DataError, RpcError
from lake.evm import BlockHeader
from lake.heads import Extended, Head, HeadEvent, Jumped, Reorged
from lake.private import opener, private_folder
from lake.rpc import Rpc
from lake.sources.heads import Tips, head_rows, tips_of
from lake.store import Lake
from lake.units import HOUR_S
from lake.universe import Chain

CURSOR_BLOCKS = 32
CONFIRMED = 64
"""Blocks on top of one before it goes to the lake: two epochs of Ethereum, after which it is final."""

MOST_HELD = 2_000
"""Blocks held before they are written without waiting for the hour, on chains of many blocks."""

_NUMBERS = ("number", "timestamp_s", "base_fee_wei", "gas_used", "gas_limit")


class HeadLog:
    """Books the events of one chain's follower. ``rpc`` is asked for the tips of what is written, None leaves them out.

    ``cursor`` is the file; :attr:`since` are the blocks to follow on from, none without it. Not safe for two processes.
    """

    def __init__(self, lake: Lake, chain: Chain, cursor: Path, rpc: Rpc | None = None) -> None:
        self._lake, self._chain, self._cursor, self._rpc = lake, chain, cursor, rpc
        self._held: list[Head] = []
        self._unsaved = 0
        self.written = 0
        if cursor.exists():
            self._held = self._read()

    @property
    def since(self) -> tuple[Head, ...]:
        """The blocks booked and not written yet, oldest first: for ``HeadFollower(since=...)``."""
        return tuple(self._held)

    def book(self, event: HeadEvent) -> None:
        """Take an event in; writes the lake when an hour of confirmed blocks is held, the cursor every 32 blocks.

        Raises StoreError when the disk refuses; nothing is lost, the next event tries again.
        """
        if isinstance(event, Extended):
            self._append(event.head)
        elif isinstance(event, Reorged):
            gone = {h.hash for h in event.undone}
            self._held = [h for h in self._held if h.hash not in gone]
            for head in event.applied:
                self._append(head)
        elif isinstance(event, Jumped):
            self._jump(event.head)
        held = self._held[: max(len(self._held) - CONFIRMED, 0)]
        if held and (held[-1].timestamp_s - held[0].timestamp_s >= HOUR_S or len(held) > MOST_HELD):
            self._write(held)
        if self._unsaved >= CURSOR_BLOCKS:
            self._save()

    def close(self) -> None:
        """Write what is confirmed and the cursor."""
        self._write(self._held[: max(len(self._held) - CONFIRMED, 0)])
        if self._held:
            self._save()

    def _append(self, head: Head) -> None:
        self._held.append(head)
        self._unsaved += 1

    def _jump(self, head: Head) -> None:
        """Start anew at ``head``: of what was held only blocks that were confirmed are known to have stayed."""
        self._write(self._held[: max(len(self._held) - CONFIRMED, 0)])
        self._held = []
        self._append(head)

    def _write(self, heads: list[Head]) -> None:
        if not heads:
            return
        rows = head_rows([_header(h) for h in heads], self._tips(heads), self._chain.chain_id)
        self._lake.write("heads", rows)
        self.written += rows.height
        self._held = self._held[len(heads) :]
        self._save()

    def _tips(self, heads: list[Head]) -> Tips:
        if self._rpc is None:
            return {}
        try:
            return tips_of(self._rpc, heads[0].number, heads[-1].number)
        except RpcError:
            return {}  # a node that does not say leaves them empty; an ingest of heads fills them in

    def _save(self) -> None:
        private_folder(self._cursor.parent)
        body = {"chain_id": self._chain.chain_id, "heads": [astuple(h)[:7] for h in self._held]}
        fresh = self._cursor.with_name(f"{self._cursor.name}.{os.getpid()}.tmp")
        with open(fresh, "w", opener=opener) as file:
            json.dump(body, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._cursor)
        self._unsaved = 0

    def _read(self) -> list[Head]:
        try:
            body = fields(json.loads(self._cursor.read_text()), str(self._cursor))
            heads = [self._head(row) for row in body.rows("heads")]
        except (ValueError, RpcError) as error:
            raise DataError(
                f"{self._cursor} is damaged ({error}); move it away, heads are followed from now on"
            ) from None
        if body.raw.get("chain_id") != self._chain.chain_id:
            raise DataError(
                f"{self._cursor} is of chain {body.raw.get('chain_id')}, followed is {self._chain.chain_id}; "
                "move it away or correct [chain] id"
            )
        return heads

    def _head(self, row: object) -> Head:
        names = ("number", "hash", "parent", "timestamp_s", "base_fee_wei", "gas_used", "gas_limit")
        raw: Mapping[str, object] = dict(zip(names, rows_of(row, "a head", len(names)), strict=True))
        numbers = {n: raw[n] for n in _NUMBERS}
        if not all(isinstance(v, int) and v >= 0 for v in numbers.values()):
            raise ValueError(f"a head with {numbers}")
        held = Fields("a head", raw)
        return Head(**numbers, hash=held.hash("hash"), parent=held.hash("parent"), market=self._chain)  # type: ignore[arg-type]


def _header(h: Head) -> BlockHeader:
    return BlockHeader(h.number, h.hash, h.timestamp_s, h.base_fee_wei, h.gas_used, h.gas_limit, h.parent)
