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


def rotation(result: Mapping[str, Any]) -> None:
    """Print what a rotation of keys changes, and where it stands in every vault."""
    new = result["new"] or "a new key"
    rows = [[v["vault"], c["words"], c["state"], c["ready_at"]] for v in result["vaults"] for c in v["changes"]]
    terminal.say(f"{result['role']}: {result['old']} -> {new}, keystore {result['file']}")
    if rows:
        terminal.table(f"Changes of the {result['role']}", ["vault", "change", "state", "ready"], rows, 4, 1)


def rotated(result: Mapping[str, Any], *, live: bool) -> None:
    """Print what was sent for a rotation, what the old keystore is called now, and what is left to do."""
    if result["new"] not in {None, result["old"]}:
        terminal.say(f"the new {result['role']} is {result['new']}")
    for vault in result["vaults"]:
        if vault["revoked"]:
            terminal.say(f"{vault['vault']}: {result['old']} is the {result['role']} no longer")
        for change in vault["changes"]:
            if change["tx"]:
                terminal.say(f"{change['did']} by {change['tx']}; ready at {change['ready_at']}")
            elif not live and change["state"] != "waiting":
                terminal.say("--live makes it" if change["state"] == "ready" else "--live announces it")
    if result["void"]:
        terminal.say(f"{result['new']} has the role; the old keystore is void: {result['void']}")
    for words in result["do"]:
        terminal.say(words)
