"""Tables of ``foredrift vault``: what a vault enforces. Figures come ready made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.reports import terminal


def described(result: Mapping[str, Any]) -> None:
    """Print what a vault enforces on chain."""
    title = f"{result['kind']} {result['address'] or 'on paper'}"
    rows = [[r["words"], "on chain" if r["on_chain"] else "not on chain"] for r in result["rules"]]
    terminal.table(title, ["rule", "enforced"], rows)
    terminal.say(result["stolen_key"])
