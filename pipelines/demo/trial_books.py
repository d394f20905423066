"""What a keeper's trial writes down of each block, a few bytes each: its own growth would hide the keeper's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lake.head_ring import Extended, Head, HeadEvent, Jumped, Reorged

HASH = 32  # bytes
ABSENT, UNANSWERED, ANSWERED = 0, 1, 2


class Looks(Mapping[int, bool]):
    """Block of each look -> whether it was answered for, a byte a block from the first one on; in rising order."""

    def __init__(self) -> None:
        self._first = -1
        self._told = bytearray()
        self.newest = 0

    def __setitem__(self, block: int, answered: bool) -> None:
        first = block if self._first < 0 else min(block, self._first)
        self._told[:0] = bytes(max(self._first - first, 0))
        self._first, at = first, block - first
        self._told.extend(bytes(max(at + 1 - len(self._told), 0)))
        self._told[at] = ANSWERED if answered else UNANSWERED
        self.newest = max(self.newest, block)

    def __getitem__(self, block: int) -> bool:
        at = block - self._first
        if not 0 <= at < len(self._told) or self._told[at] == ABSENT:
            raise KeyError(block)
        return self._told[at] == ANSWERED

    def __iter__(self) -> Iterator[int]:
        return (self._first + i for i, told in enumerate(self._told) if told != ABSENT)

    def __len__(self) -> int:
        return len(self._told) - self._told.count(ABSENT)


class Followed:
    """The chain as the keeper was told of it, from block ``first`` on: each is applied to an empty place, once.

    A block that is applied again, or over another that was not undone, or undone though it was not there, counts as
    ``twice``.
    """

    def __init__(self, first: int = -1) -> None:
        self.first = first
        self._hashes = bytearray()
        self._twice = 0

    def book(self, event: HeadEvent) -> None:
        """Apply one event of the follower."""
        if isinstance(event, Extended):
            self._apply(event.head)
        elif isinstance(event, Reorged):
            for head in event.undone:
                self._twice += self.hash_at(head.number) != head.hash
                self._put(head.number, bytes(HASH))
            for head in event.applied:
                self._apply(head)
        elif isinstance(event, Jumped):
            self.first, self._hashes, self._twice = event.head.number, bytearray(), 0
            self._apply(event.head)

    def hash_at(self, number: int) -> str | None:
        """Return the hash of the block that stands at ``number``, 0x and lower case; None where none does."""
        at = HASH * (number - self.first)
        found = bytes(self._hashes[at : at + HASH]) if at >= 0 else b""
        return f"0x{found.hex()}" if any(found) else None

    def against(self, truth: Mapping[int, str]) -> dict[str, int]:
        """Return how many blocks are wrong, applied other than once, or missing, from the first one followed."""
        held = {n: self.hash_at(n) for n in truth if n >= self.first}
        return {
            "wrong": sum(h is not None and h != truth[n] for n, h in held.items()),
            "twice": self._twice,
            "missing": sum(h is None for h in held.values()),
        }

    def _apply(self, head: Head) -> None:
        self._twice += self.hash_at(head.number) is not None
        self._put(head.number, bytes.fromhex(head.hash.removeprefix("0x")))

    def _put(self, number: int, found: bytes) -> None:
        at = HASH * (number - self.first)
        self._hashes.extend(bytes(max(at + HASH - len(self._hashes), 0)))
        self._hashes[at : at + HASH] = found
