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


def role(result: Mapping[str, Any]) -> None:
    """Print the keeper's role and what is not installed of it."""
    rows = [[p["function"], p["target"], p["words"]] for p in result["permissions"]]
    terminal.table(f"What {result['keeper']} may do in {result['safe']}", ["function", "of", "how"], rows, whole=2)
    limits = [[a["token"], a["amount"], f"{a['period_s']} s"] for a in result["allowances"]]
    terminal.table("Allowances (smallest units)", ["sold of", "at most", "every"], limits)
    if result["calls"]:
        calls = [[c["to"], c["words"]] for c in result["calls"]]
        terminal.table("To be signed by the Safe's owners", ["contract", "what it does"], calls, whole=1)


def installed(result: Mapping[str, Any]) -> None:
    """Print what became of the installation, and what a stolen key takes."""
    if result["transaction"]:
        terminal.say(f"installed by {result['transaction']}")
    if result["file"]:
        terminal.say(f"{result['file']}: import it into Safe{{Wallet}}'s transaction builder and let the owners sign")
    left = len(result["calls"])
    terminal.say(f"{left} calls are to be signed" if left else "the role is installed as the settings ask for")
    terminal.say(result["stolen_key"])


def rates(result: Mapping[str, Any]) -> None:
    """Print the rates of yield-bearing tokens."""
    rows = [
        [r["symbol"], f"{r['rate']:.8f}", None if r["yield_a_year"] is None else f"{100 * r['yield_a_year']:.2f} %",
         "ok" if r["ok"] else "refused", r["words"]]
        for r in result["rates"]
    ]  # fmt: skip
    terminal.table("Rates (asset a share)", ["token", "rate", "a year", "state", "why"], rows, whole=4)
