"""The evidence that a deployment's surfaces have been worth having: what lets a published one decide, or keeps it out.

Its weeks are simulated on the deployment's own record (``policy.comparison.surface_evidence``); here are its verdict,
its hash and how it lies in a manifest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

PROVEN = 4.0  # what a stake of 1 on the surface must have become: a worthless one gets there one time in four at most
LIFE_S = 16 * 86_400  # of evidence, from the end of its last week: one week is judged after another


@dataclass(frozen=True, slots=True)
class Proof:
    """What weeks up to ``until_s`` (Unix) say of surfaces built for the portfolio whose digest is ``terms``.

    ``stakes`` is what a stake of 1 on the surface being cheaper than each rule named has become, ``saved`` the share of
    that rule's cost it has saved, ``weeks`` how many were simulated.
    """

    terms: str
    until_s: int
    weeks: int
    stakes: Mapping[str, float]
    saved: Mapping[str, float]

    @property
    def digest(self) -> str:
        """Sha256 of everything it says."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def decides(self) -> bool:
        """Whether every stake is above PROVEN; without any the surface has nothing to show."""
        return bool(self.stakes) and min(self.stakes.values()) > PROVEN

    def refused(self, now_s: float) -> str | None:
        """Return why no surface may decide at ``now_s`` (Unix) on this evidence; None when one may."""
        if not self.stakes:
            return f"not proven: {self.weeks} whole weeks are recorded; gas_band decides"
        if not 0.0 <= now_s - self.until_s <= LIFE_S:
            return f"its evidence ends {(now_s - self.until_s) / 86_400:.1f} d ago; it holds for {LIFE_S // 86_400} d"
        if self.decides:
            return None
        rule = min(self.stakes, key=lambda name: self.stakes[name])
        return (
            f"not proven: against {rule} a stake of 1 on it has become {self.stakes[rule]:.2f} in {self.weeks} weeks "
            f"({self.saved[rule]:+.1%} of its cost saved), {PROVEN:g} is asked; gas_band decides"
        )

    def json(self) -> dict[str, Any]:
        """Return it for a manifest, with its ``hash`` and whether it ``decides``."""
        return asdict(self) | {"hash": self.digest, "decides": self.decides}


def proof_of(row: object) -> Proof:
    """Return the proof a manifest holds; raises ValueError where it has none, or not the one its hash names."""
    if not isinstance(row, dict):
        raise ValueError("no evidence")  # noqa: TRY004 - a file's content, told as any other damage of it
    found = Proof(
        str(row["terms"]), int(row["until_s"]), int(row["weeks"]), _shares(row["stakes"]), _shares(row["saved"])
    )
    if row["hash"] != found.digest:
        raise ValueError("evidence that is not its hash's")
    return found


def _shares(row: Mapping[str, Any]) -> dict[str, float]:
    out = {str(k): float(v) for k, v in row.items()}
    if not all(math.isfinite(v) for v in out.values()):
        raise ValueError("evidence without numbers")
    return out
