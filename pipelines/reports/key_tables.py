"""Tables of ``foredrift keys``: roles, files and addresses; nothing secret ever comes here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.reports import terminal


def keys(result: Sequence[Mapping[str, Any]]) -> None:
    """Print whose key each keystore holds."""
    rows = [[r["role"], r["address"] or "no file yet", r["file"]] for r in result]
    terminal.table("Keys", ["role", "address", "keystore"], rows, whole=2)
    made = [str(r["role"]) for r in result if r.get("made")]
    if made:
        terminal.say(
            f"made: {', '.join(made)}. Keep a copy of these files and of the passphrase; nobody can restore them"
        )
