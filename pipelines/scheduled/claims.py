"""Which vaults a keeper's process keeps: those of its shard, and those whose process is gone.

Shards are drawn by the deployment's name, so every process knows the same ones without asking. Who keeps a vault is
decided by its owner's file alone, which one process can hold: a vault is never kept twice, whatever the shards say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from lake.errors import ConfigError
from policy.execution.records.owner import OwnedElsewhere, OwnerFile, ownership, owning

ABSENT = 2  # looks in a row at which nobody holds a vault of another shard before it is taken over
BLOCK_S = 12.0


def shard_of(text: str | None) -> tuple[int, int]:
    """Return (place from 0, processes) of ``I/N``, (0, 1) for None; raises ConfigError for anything else."""
    if text is None:
        return 0, 1
    found = re.fullmatch(r"([1-9]\d{0,3})/([1-9]\d{0,3})", text)
    if found is None or int(found[1]) > int(found[2]):
        raise ConfigError(f"--shard {text!r}: write I/N with 1 <= I <= N, for example 2/4")
    return int(found[1]) - 1, int(found[2])


def place_of(name: str, processes: int) -> int:
    """Return which of ``processes`` (from 0) the vault called ``name`` belongs to."""
    return int.from_bytes(sha256(name.encode()).digest()[:8], "big") % processes


class Claims:
    """Vaults owned by this process out of ``journals`` (by name). A process alone must own all of them.

    Enter it to own those of its shard; raises OwnedElsewhere where it is alone and another keeper lives, or where
    nothing is left to it.
    """

    def __init__(self, journals: Mapping[str, Path], shard: tuple[int, int] = (0, 1)) -> None:
        self._journals, (self._place, self._of) = journals, shard
        self._absent: dict[str, int] = {}
        self._held = ExitStack()
        self.owned: dict[str, OwnerFile] = {}

    def __enter__(self) -> Self:
        for name in self._journals:
            if place_of(name, self._of) == self._place:
                try:
                    self._own(name, 2.0)
                except OwnedElsewhere:
                    if self._of == 1:
                        self._held.close()
                        raise
        if not self.owned:
            self._held.close()
            raise OwnedElsewhere(
                f"shard {self._place + 1}/{self._of} has no vault that another keeper does not keep already; "
                f"there are {len(self._journals)} vaults: start fewer processes, or end the other keeper"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def more(self) -> list[str]:
        """Own vaults that nobody has held for a while, those of this shard at once; return their names."""
        found = []
        for name, journal in self._journals.items():
            if name in self.owned or ownership(journal, BLOCK_S).held:
                self._absent.pop(name, None)
                continue
            self._absent[name] = self._absent.get(name, 0) + 1
            if self._absent[name] < ABSENT and place_of(name, self._of) != self._place:
                continue
            try:
                self._own(name, 0.1)
            except OwnedElsewhere:
                continue  # another process was quicker
            found.append(name)
        return found

    def _own(self, name: str, patience_s: float) -> None:
        self.owned[name] = self._held.enter_context(owning(self._journals[name], patience_s))
        self.owned[name].refresh(0)
