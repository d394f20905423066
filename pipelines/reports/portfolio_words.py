"""What the portfolio page and the terminal say in the same words: keeper, forecasts, chains, Greeks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.reports.words import ago_words, as_sentence, gwei_words, lasting

Shown = Mapping[str, Any]
ACTIONS = {"wait": "to wait", "trade": "to trade", "split": "to trade a part", "forced": "a forced trade",
           "margin": "to move margin", "refuse": "to refuse", "abstain": "to abstain"}  # fmt: skip
SHORT = 12  # characters of a pool's or a transfer's id: enough to name it


def usd(value: float | None, *, signed: bool = False) -> str:
    """Return USD without cents from a hundred on; a dash where it is not known."""
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 100 else 2
    return f"{value:+,.{digits}f} USD" if signed else f"{value:,.{digits}f} USD"


def keeper_words(data: Shown) -> str:
    """Return who keeps the vault and with what money, in sentences."""
    keeper, told, money = data["keeper"], data["keeper"]["told"], data["gas_money"]
    block = f"block {told['block']:,}" if isinstance(told.get("block"), int) else "no block yet"
    if not keeper["held"]:
        said = ["Nobody keeps it block by block: scheduled runs decide."]
    elif keeper["fresh"]:
        said = [f"It is kept block by block, now at {block}."]
    else:
        when = "" if keeper["age_s"] is None else f", {ago_words(keeper['age_s'])}"
        said = [f"The keeper is silent (its last word was of {block}{when}): scheduled runs decide in its stead."]
    if told.get("refusal"):
        said.append(as_sentence(f"it refuses: {told['refusal']}"))
    if told.get("unknown"):
        said.append(as_sentence(f"it acts at the hour alone: {told['unknown']}"))
    if told.get("order"):
        said.append(f"An order waits for gas of {gwei_words(float(told['order'].get('cap_gwei', 0.0)))} or less.")
    if money["native"] is None:
        return " ".join([*said, as_sentence(f"its gas money is {money['words']}")])
    worth = "" if money["usd"] is None else f" ({usd(money['usd'])})"
    return " ".join([*said, f"{money['words']}{worth} is left for gas."])


def budget_words(budget: Shown) -> str:
    """Return the loss budget left, in words."""
    if budget["left_bp"] is None:
        return f"{budget['of_bp']:g} bp of NAV a day (not read yet)"
    return f"{budget['left_bp']:.1f} of {budget['of_bp']:g} bp of NAV a day left"


def stretch(row: Shown, *others: str) -> tuple[float, float]:
    """Return the weights (fractions) at the two ends of an asset's bar: its band, as much again, and all it marks."""
    pad = max((row["high"] - row["low"]) / 2, 0.001)
    marks = [row[k] for k in ("weight", *others)]
    return max(min(row["low"] - pad, *(m - pad / 4 for m in marks)), 0.0), max(
        row["high"] + pad, *(m + pad / 4 for m in marks)
    )


def coverage_rows(coverage: Sequence[Shown]) -> tuple[list[int], list[tuple[str, list[float | None]]]]:
    """Return the horizons (hours) and a row a target: its name, the share of outcomes inside by horizon or None."""
    hours = sorted({int(c["horizon_h"]) for c in coverage})
    known = {(str(c["target"]), int(c["horizon_h"])): float(c["coverage90"]) for c in coverage}
    targets = list(dict.fromkeys(str(c["target"]) for c in coverage))
    return hours, [(t.replace("_", " "), [known.get((t, h)) for h in hours]) for t in targets]


def range_words(low: float, high: float) -> str:
    """Return an interval of weights (fractions) in per cent."""
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def drift_words(ahead: Shown) -> str:
    """Return where the weights are expected, as one sentence; why it is not known otherwise."""
    if not ahead["rows"]:
        return str(ahead["words"])
    rows = ", ".join(f"{r['asset']} {range_words(r['q05'], r['q95'])}" for r in ahead["rows"])
    return f"Without a trade, in {ahead['hours']} h, with 90 %: {rows}."


def swap_name(row: Shown) -> str:
    """Return the asset that a pool trades, or the pool where that is not known."""
    return str(row["asset"] or row["pool"][:SHORT])


def slippage_words(ahead: Shown) -> str:
    """Return what a swap is expected to cost, as one sentence; why it is not known otherwise."""
    if not ahead["rows"]:
        return str(ahead["words"])
    rows = ", ".join(f"{swap_name(r)} {r['q50']:.1f} bp ({r['q05']:.1f} to {r['q95']:.1f})" for r in ahead["rows"])
    return f"A swap of {usd(ahead['size_usd'])} within {ahead['hours']} h costs, with 90 %: {rows}."


def place_words(row: Shown) -> str:
    """Return one chain of a portfolio: what lies there, and its cash against the floor."""
    short = ", below its floor" if row["cash_usd"] < row["floor_usd"] else ""
    cash = f"cash {usd(row['cash_usd'])} of a floor of {usd(row['floor_usd'])}{short}"
    return f"chain {row['chain']} ({row['deployment']}): {usd(row['usd'])}, {row['share']:.1%}; {cash}"


def transfer_words(row: Shown) -> str:
    """Return one transfer under way: between which chains, how much, since when, and what is usual."""
    usual = "" if not row["usual_s"] else f", usually {lasting(row['usual_s'] / 60)}"
    way = f"{usd(row['usd'])} from chain {row['from']} to {row['to']} by {row['bridge']}"
    return f"{way}: {row['state'].replace('_', ' ')}, under way for {lasting(row['age_s'] / 60)}{usual}"


def greek_words(row: Shown) -> str:
    """Return the Greeks of one underlying of a book, USD."""
    return (
        f"{row['asset']}: delta {usd(row['delta_usd'], signed=True)} ({row['net_exposure']:+.1%} of NAV), gamma "
        f"{usd(row['cash_gamma_usd'], signed=True)}, vega {usd(row['vega_usd_per_point'], signed=True)} a point, theta "
        f"{usd(row['theta_usd_per_day'], signed=True)} a day"
    )


def hedge_words(hedge: Shown | None) -> str:
    """Return what the hedge account decided last; that it decided nothing yet where it has not."""
    if hedge is None:
        return "The hedge account has decided nothing yet."
    net = "" if hedge["net_delta_units"] is None else f" at a net delta of {hedge['net_delta_units']:+,.4g} coins"
    return as_sentence(
        f"the hedge's last decision{net} was {ACTIONS.get(hedge['action'], hedge['action'])}: {hedge['why']}"
    )
