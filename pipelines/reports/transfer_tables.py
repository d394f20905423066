"""Tables of a portfolio on several chains: where it lies, what is on its way, every transfer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.reports.check_words import said
from pipelines.reports.terminal import say, table

SHORT = 12  # characters of a transfer's id: enough to name it


def fleet(report: Mapping[str, Any]) -> None:
    """Print chains x assets in USD, and what is in transit."""
    chains = report["chains"]
    if chains:
        assets = list(chains[0]["assets_usd"])
        head = ["chain", "deployment", *assets, "usd", "share_%", "cash_floor_usd", "block", "gas_gwei"]
        rows = [
            [
                c["chain"], c["deployment"], *(c["assets_usd"].get(a, 0.0) for a in assets), c["usd"], 100 * c["share"],
                c["floor_usd"], c["block"], c["gas_gwei"],
            ]
            for c in chains
        ]  # fmt: skip
        table("Chains (USD)", head, rows, right_from=2)
    if report["in_transit"]:
        names = ["from", "to", "bridge", "usd", "reported_usd", "state", "age_s", "usual_s"]
        rows = [[r["saga_id"][:SHORT], *(r[n] for n in names)] for r in report["in_transit"]]
        table("In transit", ["transfer", *names], rows, right_from=1)


def whole(result: Mapping[str, Any]) -> None:
    """Print what was decided on a whole portfolio: where it is traded, what cash goes first, or why it waits."""
    said = result.get("portfolio")
    if said is None:
        return
    if said["waits"]:
        say(("the portfolio waits: ", "yellow"), said["waits"])
        return
    made = said["placement"]
    if made is None:
        say("the portfolio waits: the policy wants no trade")
        return
    rows = [[t["chain"], *t["change_usd"]] for t in made["trades"]]
    if rows:
        table("Placed (USD)", ["chain", *result["assets"]], rows, right_from=1)
    for move in made["moves"]:
        say(f"{move['usd']:,.0f} USD of cash from chain {move['from']} to {move['to']} first")
    say(f"{made['action']}: {made['why']}")


def advice(lines: Sequence[str]) -> None:
    """Print what a person should do."""
    for line in lines:
        say(("→ ", "yellow"), line)


def transfers(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print every transfer, newest last."""
    if not rows:
        say("no transfer yet")
        return
    names = ["from", "to", "asset", "amount", "bridge", "state", "age_s", "note"]
    table(
        "Transfers", ["transfer", *names], [[r["saga_id"][:SHORT], *(r[n] for n in names)] for r in rows], right_from=9
    )


def plan(made: Mapping[str, Any] | None) -> None:
    """Print a planned transfer, or why it may not go."""
    if made is None:
        return
    words = f"transfer {made['saga_id'][:SHORT]} from {made['from']} to {made['to']} by {made['bridge']}"
    say(f"{words}: {made['amount']} raw units of {made['asset']}, at least {made['least']} arrive, fee {made['fee']}")
    for verdict in made["verdicts"]:
        say(("refused: ", "red"), said(verdict))
    if not made["verdicts"]:
        say("planned and begun" if made["planned"] else "dry run: nothing was written; --live begins it")
