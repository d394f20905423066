"""The last looks at all vaults, for the question why not earlier; written beside the audit at each decision."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lake.private import opener, private_folder
from policy.keeping.sights import Glance

LOOKS = 1_024
FIGURES = ("distance", "in_tolerances", "reserve_gwei")


class Ring:
    """The last ``size`` looks at ``vaults``: block number, price of the next block in gwei, and a glance's figures."""

    def __init__(self, vaults: int, size: int = LOOKS) -> None:
        self._block: npt.NDArray[np.int64] = np.zeros(size, dtype=np.int64)
        self._price = np.zeros(size)
        self._figures = np.zeros((size, len(FIGURES), vaults), dtype=np.float32)
        self._count = 0

    def put(self, block: int, price_gwei: float, glance: Glance) -> None:
        """Keep a look, in the place of the oldest."""
        at = self._count % self._block.size
        self._block[at], self._price[at] = block, price_gwei
        self._figures[at] = [getattr(glance, name) for name in FIGURES]
        self._count += 1

    def of(self, vault: int) -> list[list[Any]]:
        """Return the looks at ``vault``, oldest first: [block, price_gwei, distance, in_tolerances, reserve_gwei]."""
        size = self._block.size
        order = np.arange(max(self._count - size, 0), self._count) % size
        figures = self._figures[order, :, vault]
        rows = zip(self._block[order].tolist(), self._price[order].tolist(), figures.tolist(), strict=True)
        return [[b, p, *(v if np.isfinite(v) else None for v in f)] for b, p, f in rows]


def dump(path: Path, looks: list[list[Any]]) -> str:
    """Write ``looks`` to ``path``, whole or not at all, for its owner only; return the sha256 of what was written."""
    data = json.dumps({"columns": ["block", "price_gwei", *FIGURES], "looks": looks}).encode()
    private_folder(path.parent)
    scratch = path.with_name(path.name + ".new")
    with open(scratch, "wb", opener=opener) as file:
        file.write(data)
    scratch.replace(path)
    return sha256(data).hexdigest()
