"""What is said of a deployment's published surface: whether it decides, and on what evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def surface_words(surface: Mapping[str, Any]) -> str:
    """Return whether a published surface decides, and what its evidence says."""
    proof = surface["evidence"]
    if "refused" in surface:
        return f"does not decide; {surface['refused']}"
    stakes = ", ".join(f"{n} {v:.2f} ({proof['saved'][n]:+.1%})" for n, v in proof["stakes"].items())
    return f"{surface['hash'][:12]} decides; stakes (and savings) in {proof['weeks']} weeks against {stakes}"
