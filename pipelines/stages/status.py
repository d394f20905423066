"""How fresh everything is, for ``foredrift status`` and the metrics port."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import polars as pl

from lake.errors import ForedriftError
from lake.freshness import state_of
from lake.ingest import status as lake_status
from lake.private import STATE
from lake.store import Lake
from lake.units import DAY_S, duration
from pipelines.deployments import Deployment, deployments
from pipelines.monitor import served_keepers
from pipelines.monitor.model_status import FILE, models_in_force
from pipelines.servers.scheduler_api import api_url
from pipelines.servers.stuck_runs import zombies
from pipelines.settings import Settings
from pipelines.settlements.halting import halt_of
from pipelines.settlements.reconcile import owner_of
from pipelines.stages.exposures import greeks_of
from pipelines.stages.hedge_status import last_hedge
from pipelines.stages.surface import surface_state
from pipelines.stages.told_decisions import newest_words
from pipelines.stages.transfers import fleet_advice, fleet_report
from pipelines.vault_setup.transfer_fleet import leader
from pipelines.wiring import lake_of, now
from policy.execution.checks.verdicts import UNTRADABLE
from policy.execution.records.halt import REMEDY

LAST_DECISION = "drift_distance", "loss_budget_left_bp", "gas_gwei"
"""Figures of the last decision that ``figures`` and the metric ``foredrift_value`` have."""


def status(settings: Settings, at: datetime | None = None) -> dict[str, Any]:
    """Return freshness of every series, forecasts and the last decision, with advice in words.

    Keys: ``tables`` (table, series, rows, first, last, age_h, gaps, state, future; see lake.freshness for the states;
    ``age_h``: hours since the newest row was known; ``future`` counts rows known only after now), ``forecasts``
    (target, rows, last, age_h, abstained), ``decision`` (or None), ``figures`` (of the last decision: drift_distance in
    tolerances, loss_budget_left_bp, gas_gwei, and last_execution_h ago; None where unknown),
    ``actions`` (decisions by action), ``models`` (family, version,
    trained_until, age_d) and ``coverage`` (target, horizon_h, coverage90, outcomes) as the last forecast run saw them,
    ``deployments`` (name, vault, chain, policy, live, and its last decision: decision_id, ts, action, drift_distance,
    and that decision as a ``sentence``; and its keeper: held, fresh, age_s, pid, block, head_age_s, refusal, nodes,
    table, order, flight, blind, unknown; and its surface: hash or why it is refused, and its evidence),
    ``hedge`` (of the hedge account's last decision: net delta, band, phi; None without one),
    ``chains``, ``in_transit``, ``transfers``, ``mismatch`` and ``waiting`` of a portfolio on several chains (see
    ``pipelines.vault_setup.transfer_view``; empty on one chain),
    ``served_keepers`` (what ``foredrift serve`` started: vaults, live, state, pid, restarts, why, age_s),
    ``halted`` (since, reason, by; None while trading may go on),
    ``zombies`` (runs whose worker is gone, where PREFECT_API_URL names a scheduler), ``advice`` (sentences).
    """
    at = at or now()
    lake = lake_of(settings)
    stale_h = duration(settings.watch.stale_after).total_seconds() / 3600
    tables = _tables(lake_status(lake, at), stale_h)
    newest = (
        lake.scan("forecasts")
        .group_by("target")
        .agg(rows=pl.len(), last=pl.col("issued_at").max(), abstained=pl.col("abstain").sum())
        .sort("target")
        .collect()
    )
    forecasts = [r | {"age_h": _hours(at, r["last"]), "last": r["last"].isoformat()} for r in newest.to_dicts()]
    project = deployments(settings)
    taken = lake.scan("decisions").collect()
    decisions = (
        taken.filter(~pl.col("vault").is_in([d.label for d in project[1:]]))
        .select("decision_id", "ts", "action", "policy", "expected", "verdicts")
        .sort("ts")
    )
    last = decisions.tail(1).drop("expected", "verdicts").to_dicts()
    sick = _untradable(decisions)
    models = models_in_force(settings.path(FILE), at)
    dead, trouble = _zombies()
    halt = halt_of(settings).read()
    fleet, started = fleet_report(project), served_keepers.read(settings.path(f"{STATE}/{served_keepers.FILE}"))
    return {
        "at": at.isoformat(),
        "halted": None if halt is None else asdict(halt),
        "tables": tables,
        "forecasts": forecasts,
        "decision": {**last[0], "ts": last[0]["ts"].isoformat()} if last else None,
        "figures": _figures(lake, decisions, at),
        "actions": dict(decisions["action"].value_counts().sort("action").iter_rows()),
        **models,
        "hedge": last_hedge(settings.path(settings.hedge.audit)) if settings.hedge.account else None,
        "zombies": dead,
        "untradable": sick,
        "deployments": [
            _deployment(d, taken, i == 0, decisions)
            | {"keeper": _keeper(project, d)}
            | {"surface": surface_state(d, lake, at), "greeks": greeks_of(d, lake, at)}
            | {"sentence": newest_words(d) if halt is None else f"Not trading: {halt.words()}"}
            for i, d in enumerate(project)
        ],
        **fleet,
        "served_keepers": started,
        "advice": ([] if halt is None else [f"{halt.words()}; {REMEDY}"])
        + sick
        + _advice(tables, forecasts, stale_h)
        + fleet_advice(fleet)
        + _silent_keepers(project)
        + served_keepers.advice(started)
        + _old_models(settings.models.expiry, models["models"])
        + trouble,
    }


def _deployment(deployment: Deployment, taken: pl.DataFrame, first: bool, decisions: pl.DataFrame) -> dict[str, Any]:
    """Return a deployment's vault and its last decision; the first one's are those that no other has made."""
    own = decisions if first else taken.filter(pl.col("vault") == deployment.label).sort("ts")
    last = own.row(-1, named=True) if own.height else None
    seen = json.loads(last["expected"] or "{}") if last else {}
    return {
        "name": deployment.name, "vault": deployment.vault.address or deployment.vault.kind,
        "chain": deployment.chain.id, "policy": deployment.policy.kind, "live": deployment.live,
        "decision_id": last and last["decision_id"], "ts": last and last["ts"].isoformat(),
        "action": last and last["action"], "drift_distance": seen.get("drift_distance"),
    }  # fmt: skip


def _keeper(project: Sequence[Deployment], deployment: Deployment) -> dict[str, Any]:
    """Return who keeps the vault block by block (owner, fresh), and what it says of heads, nodes, table and order.

    A portfolio over several chains is kept with its first vault.
    """
    found = owner_of(leader(project, deployment))
    told = found.told if found.held else {}
    names = ("pid", "block", "head_age_s", "refusal", "nodes", "table", "order", "flight", "blind", "unknown")
    age = None if found.age_s is None or not found.held else round(found.age_s, 1)
    return {"held": found.held, "fresh": found.fresh, "age_s": age, **{n: told.get(n) for n in names}}


def _untradable(decisions: pl.DataFrame) -> list[str]:
    """Return what the last decision said about tokens it had to leave alone."""
    rows = json.loads(decisions["verdicts"][-1] or "[]") if decisions.height else []
    return [row["reason"] for row in rows if row["check"] == UNTRADABLE]


def _figures(lake: Lake, decisions: pl.DataFrame, at: datetime) -> dict[str, float | None]:
    """Return what the last decision saw, and how long ago a plan last landed."""
    seen = json.loads(decisions["expected"][-1] or "{}") if decisions.height else {}
    landed = (
        lake.scan("executions")
        .filter(pl.col("status").is_in(["landed", "filled"]))
        .select(pl.col("ts").max())
        .collect()
        .item()
    )
    figures = {name: seen.get(name) for name in LAST_DECISION}
    return figures | {"last_execution_h": None if landed is None else _hours(at, landed)}


def _zombies() -> tuple[list[str], list[str]]:
    """Return a sentence per dead run, and the advice about them; a silent scheduler is advice, not a failure."""
    url = api_url()
    if url is None:
        return [], []
    try:
        dead = [z.text() for z in zombies(url)]
    except ForedriftError as error:
        return [], [f"{error}: is it running at PREFECT_API_URL?"]
    return dead, dead


def _tables(frame: pl.DataFrame, stale_h: float) -> list[dict[str, Any]]:
    rows = []
    for r in frame.to_dicts():
        age_s = None if r["age"] is None else r["age"].total_seconds()
        age = None if age_s is None else round(age_s / 3600, 2)
        daily = r["table"] == "signals"
        state = state_of(age_s, r["future"], (stale_h + (24 if daily else 0)) * 3600)
        rows.append(
            {"table": r["table"], "series": r["key"], "rows": r["rows"], "first": r["first"].isoformat(),
             "last": r["last"].isoformat(), "age_h": age, "gaps": r["gaps"], "state": state, "future": r["future"]}
        )  # fmt: skip
    return rows


def _advice(tables: list[dict[str, Any]], forecasts: list[dict[str, Any]], stale_h: float) -> list[str]:
    advice = []
    if not tables:
        advice.append("the lake is empty: foredrift ingest, or foredrift import TABLE FILE")
    stale = sorted({r["table"] for r in tables if r["state"] == "stale"})
    if stale:
        advice.append(f"older than {stale_h:g} h: {', '.join(stale)}; foredrift ingest (or import newer files)")
    ahead = [f"{r['table']} {r['series']} ({r['future']})" for r in tables if r["state"] in {"future", "none"}]
    if ahead:
        advice.append(
            f"rows known only after now: {', '.join(ahead)}; nothing may rest on them. Check this machine's clock, or "
            "find the import with `foredrift lake imports` and take it out with `foredrift lake undo ID`"
        )
    if tables and not forecasts:
        advice.append("no forecasts yet: foredrift train")
    old = [r["target"] for r in forecasts if r["age_h"] > stale_h]
    if old:
        advice.append(f"forecasts older than {stale_h:g} h ({', '.join(old)}): foredrift forecast")
    return advice


def _old_models(expiry: str, models: list[dict[str, Any]]) -> list[str]:
    allowed_d = duration(expiry).total_seconds() / DAY_S
    old = [r["family"] for r in models if r["age_d"] > allowed_d]
    return [f"models older than {allowed_d:g} d, so they abstain ({', '.join(old)}): foredrift train"] if old else []


def _silent_keepers(project: Sequence[Deployment]) -> list[str]:
    """Return a sentence for each keeper that lives and has seen no block of late, or not all it looks at."""
    found = [(d.name, o) for d in project if (o := owner_of(d)).held]
    silent = [f"{name}: {o.words()}; scheduled runs decide in its stead" for name, o in found if not o.fresh]
    blind = [(name, o.told.get("unknown")) for name, o in found if o.fresh]
    return silent + [f"{name}: its keeper acts at the hour alone: {why}" for name, why in blind if why]


def _hours(at: datetime, then: datetime) -> float:
    return round((at - then).total_seconds() / 3600, 2)
