"""Saved so far: the live portfolio against gas_band and the 5 % threshold, replayed on the same hours and flows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np

from lake.errors import NotEnoughData
from lake.units import BPS
from pipelines.settlements.live_hours import VaultLook, flow, vault_looks
from pipelines.settlements.reconcile import journal_of
from pipelines.settlements.settled_plan import executions
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.decider import portfolio_at
from pipelines.wiring import lake_of
from policy.comparison.saved import LEAST_WEEKS, LiveHour, SavedAgainst, Spent, savings
from policy.costs import chain_fees
from policy.execution.records.audit import Audit
from policy.simulation.history import History, load
from policy.simulation.planner import prepare
from policy.strategies.reactive import GAS_BAND, REACTIVE

RULES = (GAS_BAND, next(r for r in REACTIVE if r.name == "threshold_5pct"))
WORDS = {"gas_band": "gas_band", "threshold_5pct": "the 5 % threshold"}


def saved(deployment: VaultSettings, at: datetime) -> dict[str, Any]:
    """Return what ``deployment`` saved from its first decision to ``at``, USD, with 95 % intervals.

    Keys: ``since``, ``hours``, ``weeks``, ``soft`` (whether tracking counts), ``trades``, ``hours_outside``,
    ``spent`` (gas, fee, impact, tracking, total), ``gas_factor`` (gas units used over those the settings expect, which
    the rules pay too), ``against`` (rule, usd, low, high, theirs, verdict, words), ``words``. Without a decision, or
    where the market is not recorded, ``against`` is empty and ``words`` says why.
    """
    if not deployment.audit.exists():
        return _none("no decision was taken yet")
    records = [line.body for line in Audit(deployment.audit).records()]
    seen = [
        s for s in vault_looks(deployment, records, executions(journal_of(deployment).flights(), records)) if s.at <= at
    ]
    if not seen:
        return _none("no decision was taken yet")
    try:
        history = load(
            lake_of(deployment), seen[0].at, at, deployment.portfolio.assets, deployment.chain.native,
            chain_id=deployment.chain.history,
        )  # fmt: skip
    except NotEnoughData as error:
        return _none(f"too short to say: {error}")
    return _judged(deployment, history, seen)


def _judged(deployment: VaultSettings, history: History, seen: Sequence[VaultLook]) -> dict[str, Any]:
    factor = gas_factor(deployment, seen)
    fees, given = deployment.costs, portfolio_at(deployment, history.when(len(history.ts) - 1))
    hours = hours_of(history, deployment.portfolio.assets, seen)
    portfolio = replace(
        given, nav_usd=seen[0].nav_usd, start=history.when(hours[0].step),
        max_turnover=deployment.mandate.max_turnover_bps / BPS,
        fees=chain_fees(deployment.chain.id, round(fees.gas_base * factor), round(fees.gas_per_leg * factor)),
    )  # fmt: skip
    case = prepare(history, portfolio)
    mine, found = savings(case, hours, RULES, deployment.compare.bootstrap, deployment.compare.seed)
    soft = portfolio.scenario == "soft"
    rows = [_row(one, mine, soft) for one in found]
    return {
        "since": seen[0].at.isoformat(), "hours": case.last - case.first, "weeks": mine.weekly.shape[0], "soft": soft,
        "trades": mine.trades, "hours_outside": mine.hours_outside, "spent": _split(mine, soft),
        "gas_factor": factor, "against": rows, "words": "; ".join(r["words"] for r in rows),
    }  # fmt: skip


def hours_of(history: History, assets: Sequence[str], seen: Sequence[VaultLook]) -> list[LiveHour]:
    """Return one row an hour of the grid in which something was seen: its first weights, its last, its costs, its flow.

    Times before the first step count to it; several decisions of an hour are one.
    """
    columns = [history.assets.index(a) for a in assets]
    steps = np.searchsorted(history.ts, [int(s.at.timestamp() * 1e6) for s in seen], side="right") - 1
    found: dict[int, LiveHour] = {}
    last: tuple[int, VaultLook] | None = None
    for step, one in zip(np.maximum(steps, history.first).tolist(), seen, strict=True):
        came = None
        if last is not None:
            came = flow(last[1], one, history.close[step, columns] / history.close[last[0], columns] - 1.0)
        last = step, one
        known = found.get(step)
        if known is None:
            found[step] = LiveHour(step, one.weights, one.after, one.nav_usd, one.paid, came)
            continue
        paid = known.paid[0] + one.paid[0], known.paid[1] + one.paid[1], known.paid[2] + one.paid[2]
        both = came if known.flow_usd is None else known.flow_usd if came is None else known.flow_usd + came
        found[step] = replace(known, after=one.after, paid=paid, flow_usd=both)
    return list(found.values())


def gas_factor(deployment: VaultSettings, seen: Sequence[VaultLook]) -> float:
    """Return the gas units that the trades used over those that [costs] expects of them; 1 before any trade."""
    traded = [s for s in seen if s.legs and s.gas_used]
    given = deployment.costs
    expected = sum(given.gas_base + given.gas_per_leg * s.legs for s in traded)
    return sum(s.gas_used for s in traded) / expected if expected else 1.0


def _split(spent: Spent, soft: bool) -> dict[str, float]:
    names = ("gas_usd", "fee_usd", "impact_usd", "tracking_usd")
    return {**dict(zip(names, spent.split, strict=True)), "total_usd": float(spent.total(soft).sum())}


def _row(one: SavedAgainst, mine: Spent, soft: bool) -> dict[str, Any]:
    traded = bool(mine.trades or one.theirs.trades)
    if not traded:
        verdict = "neither traded yet"
    elif one.low is None or one.high is None:
        verdict = f"too short to say: {mine.weekly.shape[0]} of {LEAST_WEEKS} calendar weeks"
    else:
        verdict = "saved" if one.low > 0 else "lost" if one.high < 0 else "within chance"
    interval = "" if one.low is None or one.high is None else f" ({_signed(one.low)} to {_signed(one.high)})"
    return {
        "rule": one.rule, "usd": one.usd, "low": one.low, "high": one.high, "verdict": verdict,
        "theirs": _split(one.theirs, soft) | {"trades": one.theirs.trades, "hours_outside": one.theirs.hours_outside},
        "words": f"{_signed(one.usd)} USD{interval} against {WORDS[one.rule]}, {verdict}{_left(one, mine, soft)}",
    }  # fmt: skip


def _left(one: SavedAgainst, mine: Spent, soft: bool) -> str:
    """Return how long a rule left a hard mandate's band where it did so for longer: it is cheaper by that."""
    theirs, ours = one.theirs.hours_outside, mine.hours_outside
    return "" if soft or theirs <= ours else f" (it left the band for {theirs} h, this one for {ours} h)"


def _signed(usd: float) -> str:
    """Return whole dollars with their sign; nothing has none."""
    return f"{usd:+,.0f}" if abs(usd) >= 0.5 else "0"


def _none(words: str) -> dict[str, Any]:
    return {
        "since": None, "hours": 0, "weeks": 0, "soft": None, "trades": 0, "hours_outside": 0, "spent": None,
        "gas_factor": 1.0, "against": [], "words": words,
    }  # fmt: skip
