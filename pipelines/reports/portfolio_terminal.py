"""The portfolio in the terminal: the same things in the same order as the page, whole at 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lake.units import utc
from pipelines.reports.portfolio_words import (
    budget_words,
    drift_words,
    greek_words,
    hedge_words,
    keeper_words,
    place_words,
    slippage_words,
    stretch,
    transfer_words,
    usd,
)
from pipelines.reports.words import ago

BAR = 30  # columns of a bar
Shown = Mapping[str, Any]


def moment(text: str | None, now: datetime) -> str:
    """Return an ISO time as people read it: 3 min ago (06:00 UTC, or with its day where it is another)."""
    if not text:
        return "never"
    then = utc(text)
    form = "%H:%M UTC" if then.date() == now.date() else "%Y-%m-%d %H:%M UTC"
    return f"{ago(then, now)} ({then.strftime(form)})"


def bar(row: Shown) -> Text:
    """Return an asset's weight in and around its band: the band as dots, target as |, weight as a block."""
    bottom, top = stretch(row)
    at = {
        k: min(max(int((row[k] - bottom) / (top - bottom) * BAR), 0), BAR - 1)
        for k in ("low", "high", "target", "weight")
    }
    cells = ["·" if at["low"] <= i <= at["high"] else " " for i in range(BAR)]
    cells[at["target"]] = "|"
    drawn = Text("".join(cells))
    style = "bold red" if row["outside"] else "bold green"
    return Text.assemble(drawn[: at["weight"]], ("█", style), drawn[at["weight"] + 1 :])


def rendered(data: Shown) -> RenderableType:
    """Return the portfolio as something to print."""
    now, nav, cost = utc(data["at"]), data["nav"], data["cost_month"]
    head = Text.assemble(
        ("NAV ", "bold"), (usd(nav["usd"]), "bold"), f"   24 h {usd(nav['change_24h_usd'], signed=True)}",
        f"   30 d {usd(nav['change_30d_usd'], signed=True)}",
    )  # fmt: skip
    weights = Table.grid(padding=(0, 1))
    for row in data["assets"]:
        state = Text("outside", "bold red") if row["outside"] else Text("in band", "green")
        band = f"{row['target']:.1%} ({row['low']:.1%} to {row['high']:.1%})"
        weights.add_row(Text(row["asset"], "bold"), bar(row), Text(f"{row['weight']:.1%}"), Text(f"of {band}"), state)
    step = data["next"]
    lines = Table.grid(padding=(0, 1))
    lines.add_column(min_width=9)
    lines.add_column(overflow="fold")
    for name, said in (
        ("next", Text(step["sentence"], "bold red" if data["halted"] else "bold")),
        ("", Text(f"decided {moment(step['decided_at'], now)}; looks again {moment(step['due'], now)}")),
        ("keeper", Text(keeper_words(data))),
        ("cost", Text(
            f"{usd(cost['total_usd'])} this month: gas {usd(cost['gas_usd'])}, fee {usd(cost['fee_usd'])}, "
            f"impact {usd(cost['impact_usd'])}; {cost['trades']} trades"
        )),
        ("saved", Text(data["saved"]["words"])),
        ("budget", Text(budget_words(data["loss_budget"]))),
        ("outside", Text(data["outside"]["words"])), ("weights", Text(drift_words(data["drift"]))),
        ("swaps", Text(slippage_words(data["slippage"]))), *_further(data),
    ):  # fmt: skip
        lines.add_row(Text(name, "bold"), said)
    decisions = Table.grid(padding=(0, 1))
    decisions.add_column(no_wrap=True)
    decisions.add_column(overflow="fold")
    for row in data["decisions"]:
        decisions.add_row(Text(f"{utc(row['ts']):%m-%d %H:%M}", "dim"), Text(row["sentence"]))
    alerts = [Text(f"{a['says']} What to do: {a['do']}.", "yellow") for a in data["alerts"]]
    title = f"{data['name']}: {data['vault']} vault on chain {data['chain']}, {data['policy']}"
    return Group(
        Text(title, "dim"), head, weights, Text(), lines, *alerts, Text(), Text("last decisions", "bold"), decisions
    )


def _further(data: Shown) -> list[tuple[str, Text]]:
    """Return chains with what is under way between them, and Greeks, where the portfolio has them."""
    said: list[tuple[str, str]] = []
    if data["chains"] is not None:
        rows = [*map(place_words, data["chains"]["places"]), *map(transfer_words, data["chains"]["under_way"])]
        said += [("chains" if i == 0 else "", line) for i, line in enumerate([*rows, data["chains"]["words"]]) if line]
    if data["greeks"] is not None:
        rows = [*map(greek_words, data["greeks"]["assets"]), data["greeks"]["words"]]
        rows += [hedge_words(data["greeks"]["hedge"])] if data["greeks"]["hedged"] else []
        said += [("Greeks" if i == 0 else "", line) for i, line in enumerate(filter(None, rows))]
    return [(name, Text(line)) for name, line in said]
