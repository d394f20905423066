"""Tables of ``foredrift vault deploy``, ``status`` and of the owner's changes. Figures come ready made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.reports import terminal

WEI = 10**18


def plan(result: Mapping[str, Any]) -> None:
    """Print what a deployment makes, by whom, and what it costs."""
    rows = [[s["words"], s["address"], "there" if s["done"] else f"{s['gas']:,} gas"] for s in result["steps"]]
    terminal.table(f"Vault {result['vault']} on chain {result['chain_id']}", ["step", "address", "state"], rows, 3, 1)
    people = [["owner, who pays", result["sender"]], ["keeper", result["keeper"]], ["guardian", result["guardian"]]]
    terminal.table("Roles", ["role", "address"], people, 2)
    terms = result["terms"]
    terminal.say(
        f"changes are announced {result['delay_s'] / 3_600:g} h; shares are held {terms['hold_s'] / 3_600:g} h, entry "
        f"{terms['entry_bps']} bp and exit {terms['exit_bps']} bp stay in the vault"
    )
    terminal.say(
        f"at most {result['gas']:,} gas, {result['cost_wei'] / WEI:.6f} of the chain's coin at the present bid; the "
        f"owner has {result['balance_wei'] / WEI:.6f}"
    )


def done(result: Mapping[str, Any]) -> None:
    """Print what became of a deployment."""
    open_ = [s["words"] for s in result["steps"] if not s["done"]]
    if open_:
        terminal.say(f"{len(open_)} steps are to be made; --live makes them")
        return
    terminal.say(f"the vault stands at {result['vault']}")
    if result["written"]:
        terminal.say(f"its address is in {result['written']}")
    for file in result["verification"]:
        terminal.say(f"for the explorer: {file}")


def changes(result: Mapping[str, Any]) -> None:
    """Print what is to be changed and where each change stands."""
    rows = [[c["words"], c["state"], c["ready_at"]] for c in result["changes"]]
    if rows:
        terminal.table(f"Changes of {result['vault']}", ["change", "state", "ready"], rows, 3, 0)


def changed(result: Mapping[str, Any], *, live: bool) -> None:
    """Print what was sent, and what comes next."""
    if result.get("left_usd") is not None and not result["changes"]:
        terminal.say(f"{result['left_usd']:,.2f} USD of it are to be sold first: foredrift rebalance --live sells them")
    elif not result["changes"]:
        terminal.say("nothing to do: the vault is as wanted")
    for row in result["changes"]:
        if row["did"] == "announced":
            terminal.say(f"announced by {row['tx']}; ready at {row['ready_at']}: run the same command then")
        elif row["did"] == "made":
            terminal.say(f"made by {row['tx']}")
        elif row["state"] == "waiting":
            terminal.say(f"announced already; ready at {row['ready_at']}: run the same command then")
        elif not live:
            terminal.say("--live makes it" if row["state"] in {"ready", "open"} else "--live announces it")


def status(result: Mapping[str, Any]) -> None:
    """Print the vault as the chain has it, and what differs from the settings."""
    rows = [[t["symbol"], t["amount"], f"{t['price_usd']:,.2f}", f"{t['weight_bps'] / 100:.2f} %",
             f"{t['target_bps'] / 100:.2f} %", "ok" if t["good"] else "BAD"] for t in result["tokens"]]  # fmt: skip
    terminal.table(
        f"Vault {result['vault']} at block {result['block']}",
        ["token", "amount", "USD", "weight", "target", "price"], rows,
    )  # fmt: skip
    people = [[r["role"], r["address"], f"{r['gas_money_wei'] / WEI:.6f}"] for r in result["roles"]]
    terminal.table("Roles", ["role", "address", "gas money"], people, 2)
    terminal.say(
        f"value {result['nav']} {result['tokens'][0]['symbol']}, plans so far {result['plans']}, "
        + (f"PAUSED by {result['paused']}" if result["paused"] else "open")
        + f", changes are announced {result['delay_s'] / 3_600:g} h"
    )
    for words in result["differs"]:
        terminal.say(f"differs: {words}")
    if not result["differs"]:
        terminal.say("everything is as the settings say")
