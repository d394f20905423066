"""Tables of ``foredrift vault allow | deny | permissioned | holders``. Figures come ready made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.reports import terminal

STEPS = {
    "done": "it is so already", "announce": "to be announced", "wait": "announced, its delay is not over",
    "execute": "announced, ready to be made",
}  # fmt: skip
"""Where an owner's change stands, in words."""


def change(result: Mapping[str, Any]) -> None:
    """Print an owner's change and where it stands."""
    rows = [["change", result["words"]], ["stands", STEPS[result["step"]]], ["owner", result["owner"]],
            ["delay", f"{result['delay_s']} s"], ["call", result["data"]]]  # fmt: skip
    terminal.table(f"Vault {result['vault']}", ["", ""], rows, whole=1)


def changed(result: Mapping[str, Any]) -> None:
    """Print what became of an owner's change, and what is next."""
    if result["transaction"]:
        terminal.say(f"sent as {result['transaction']}")
    if result["step"] == "done":
        terminal.say("done" if result["transaction"] else "nothing is to be done")
    elif result["ready_at"]:
        terminal.say(f"it can be made from {result['ready_at']} on, by the same command")
    if not result["permissioned"]:
        terminal.say("the list is not in force: anyone may hold shares (foredrift vault permissioned on)")


def holders(result: Mapping[str, Any]) -> None:
    """Print the holders of a vault and its list."""
    title = f"Holders of {result['vault']} after block {result['block']} ({result['at']})"
    rows = [[h["account"], h["shares"], f"{h['share_bp'] / 100:.2f} %", "listed" if h["listed"] else "not listed"]
            for h in result["holders"]]  # fmt: skip
    terminal.table(title, ["account", "shares", "of all", "list"], rows)
    told = [[c["account"], "may hold" if c["allowed"] else "struck off", c["at"], c["by"]] for c in result["list"]]
    if told:
        terminal.table("Changes of the list", ["account", "what", "when", "by"], told)
    terminal.say("only listed accounts may hold shares" if result["permissioned"] else "anyone may hold shares")
    if result["strangers"] is not None:
        terminal.say(f"a deposit of a stranger is {'taken' if result['strangers'] else 'refused'} by the vault")
