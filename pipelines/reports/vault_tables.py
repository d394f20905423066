"""Tables of ``foredrift vault``: what a vault enforces. Figures come ready made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.reports import terminal
from pipelines.reports.check_words import in_words


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


def requests(result: Mapping[str, Any]) -> None:
    """Print the requests of a Lagoon vault, the valuation proposed and what is to be signed next."""
    unit = 10 ** int(result["decimals"])
    figures = [(name, result[key]) for name, key in (
        ("valuation proposed", "nav"), ("last valuation", "valued_at"), ("pushed, not settled", "pushed"),
        ("deposits that wait", "coming"), ("redemptions that wait", "leaving"),
    )]  # fmt: skip
    rows = [[name, None if amount is None else f"{int(amount) / unit:,.6f}"] for name, amount in figures]
    terminal.table(f"Lagoon vault {result['vault']} ({result['asset']})", ["", "amount"], rows)
    checks = [[in_words(v["check"]), "ok" if v["ok"] else "refused", v["words"]] for v in result["verdicts"]]
    if checks:
        terminal.table("Checks of the valuation", ["check", "", "found"], checks, whole=0)
    if result["calls"]:
        calls = [[c["to"], c["words"], c["data"]] for c in result["calls"]]
        terminal.table(f"Next: {result['next']}", ["contract", "what it does", "data"], calls, whole=0)


def settled(result: Mapping[str, Any]) -> None:
    """Print what became of a settlement."""
    if result["transaction"]:
        terminal.say(f"done by {result['transaction']}")
    if result["file"]:
        terminal.say(f"{result['file']}: import it into Safe{{Wallet}}'s transaction builder and let the owners sign")
    terminal.say(f"{result['words']}; next: {result['next']}")
